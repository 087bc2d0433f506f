"""The columns of a table as pyarrow types, from the Python annotations that declare them."""

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Literal

import pyarrow as pa

_SCALARS: dict[Any, pa.DataType] = {
    str: pa.string(),
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    datetime: pa.timestamp("us", tz="UTC"),
}


class ColumnError(ValueError):
    """A value that does not fit its column, or a column that the table has not; the message names it."""


def arrow_type(annotation: Any) -> pa.DataType:
    """The pyarrow type of one annotation; `X | None` has that of X, since every column may hold nulls.

    Raises TypeError for an annotation that has no column type, such as a mapping.

    >>> arrow_type(list[float] | None)
    ListType(list<item: double>)
    >>> arrow_type(datetime)
    TimestampType(timestamp[us, tz=UTC])
    """
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return arrow_type(arguments[0])
    if origin is Literal and all(isinstance(value, str) for value in arguments):
        return pa.string()
    if origin in (typing.Union, types.UnionType):
        inner = {arrow_type(argument) for argument in arguments if argument is not type(None)}
        if len(inner) == 1:
            return inner.pop()
    if origin is list or (origin is tuple and arguments[1:] == (...,)):
        return pa.list_(arrow_type(arguments[0]))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return pa.string()
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        hints = typing.get_type_hints(annotation, include_extras=True)
        return pa.struct(
            [pa.field(f.name, arrow_type(hints[f.name])) for f in dataclasses.fields(annotation)]
        )
    raise TypeError(f"{annotation!r} has no column type")


def schema(columns: Mapping[str, Any]) -> pa.Schema:
    """Column names and annotations as a schema, in the same order.

    Raises TypeError, naming the column, where an annotation has no column type.

    >>> schema({"step": int, "f_top": float | None}).names
    ['step', 'f_top']
    """
    fields = []
    for name, annotation in columns.items():
        try:
            fields.append(pa.field(name, arrow_type(annotation)))
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from error
    return pa.schema(fields)


def table(rows: Iterable[Mapping[str, Any]], of: pa.Schema) -> pa.Table:
    """Rows as a table with exactly the columns of `of`; what a row lacks is null.

    Raises ColumnError for a column that `of` does not have and for a value that would be changed by its
    column, such as 1.5 among whole numbers.

    >>> table([{"step": 1}], schema({"step": int, "f_top": float | None})).to_pylist()
    [{'step': 1, 'f_top': None}]
    """
    rows = list(rows)
    unknown = sorted(set().union(*rows) - set(of.names)) if rows else []
    if unknown:
        raise ColumnError(f"{unknown[0]}: there is no such column")
    arrays = []
    for field in of:
        values = [row.get(field.name) for row in rows]
        if pa.types.is_integer(field.type):
            _refuse_fractions(field.name, values)  # pyarrow would cut 1.5 down to 1 in silence
        try:
            arrays.append(pa.array([_plain(value) for value in values], type=field.type))
        except (pa.ArrowException, OverflowError, TypeError) as error:
            raise ColumnError(f"{field.name}: {error}") from error
    return pa.Table.from_arrays(arrays, schema=of)


def _refuse_fractions(name: str, values: list[Any]) -> None:
    for value in values:
        if isinstance(value, float) and not value.is_integer():
            raise ColumnError(f"{name}: {value!r}: must be a whole number")


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value
