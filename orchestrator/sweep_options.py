"""Check values against annotations, and components against the options that their files declare."""

import importlib
import json
import math
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from pydantic import PydanticUserError, TypeAdapter, ValidationError

from orchestrator.sweep_items import Item, Problems, entries, plain_value
from workers import find
from workers.spec import Component, SpecError, plain

INVALID: Any = object()
"""Stands for a value that has been reported as a problem."""

COMMON_OPTIONS = "workers.data.prepare"
"""The function whose options every data set has."""

WORDS = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
    bool: ("true or false", "true or false"),
    types.NoneType: ("null", "nulls"),
    Any: ("a value", "values"),
}


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let dotted names of a user's own files be found in `folder`, the sweep file's."""
    before = sys.path[:]
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before


def described(annotation: Any, plural: bool = False) -> str:
    """What an annotation allows, in words.

    >>> described(Annotated[int, annotated_types.Ge(1)] | None), described(list[float])
    ('a whole number of at least 1 or null', 'a list of numbers')
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in WORDS:
        return WORDS[annotation][plural]
    if origin is Annotated:
        bounds = [words for bound in arguments[1:] for words in _bounds(bound)]
        return " ".join([described(arguments[0], plural), " and ".join(bounds)]).rstrip()
    if origin in (typing.Union, types.UnionType):
        return " or ".join(described(argument, plural) for argument in arguments)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}" if len(arguments) > 1 else str(arguments[0])
    if origin is tuple and arguments[-1] is not ...:
        return f"[{', '.join(map(described, arguments))}]"
    if origin in (list, tuple, Sequence):
        return f"{'lists' if plural else 'a list'} of {described(arguments[0], plural=True)}"
    return f"of the kind {getattr(annotation, '__name__', annotation)}"


def _bounds(bound: Any) -> Iterator[str]:
    match bound:
        case annotated_types.Ge():
            yield f"of at least {bound.ge}"
        case annotated_types.Gt():
            yield f"above {bound.gt}"
        case annotated_types.Le():
            yield f"of at most {bound.le}"
        case annotated_types.Lt():
            yield f"below {bound.lt}"
        case annotated_types.MinLen():
            yield f"with at least {bound.min_length} of them"
        case annotated_types.GroupedMetadata():
            for part in bound:
                yield from _bounds(part)


def checked(item: Item, annotation: Any, problems: Problems) -> Any:
    """The value of `item` as plain JSON when `annotation` allows it, else INVALID and a problem.

    Strict, but a whole number may stand for a number, and 1e3 for 1000.
    """
    value = plain_value(item)
    try:
        result = _adapter(annotation).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        where = replace(item, line=_innermost(item, error).line)
        problems.about_value(where, f"must be {described(annotation)}{_limits(value)}")
        return INVALID
    if _limits(result):
        problems.about_value(item, f"must be {described(annotation)}{_limits(result)}")
        return INVALID
    try:
        json.dumps(result)
    except TypeError:  # a set or the like: the trial gets what the file has
        return value
    return plain(result)


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    """What checks values; an annotation of a user's own that says nothing to pydantic allows any."""
    try:
        adapter = _cached_adapter(annotation)
    except (PydanticUserError, TypeError):  # TypeError: not hashable
        return _cached_adapter(Any)
    return adapter if adapter.pydantic_complete else _cached_adapter(Any)


@cache
def _cached_adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def _innermost(item: Item, error: ValidationError) -> Item:
    """The element of a list that the first error is about, or the item itself."""
    for step in error.errors()[0]["loc"]:
        if isinstance(step, int) and isinstance(item.value, list) and step < len(item.value):
            item = item.value[step]
    return item


def _limits(value: Any) -> str:
    """What to add where a number is one that no result file could hold."""
    if isinstance(value, list | tuple):
        return next(filter(None, map(_limits, value)), "")
    if isinstance(value, Mapping):
        return _limits(list(value.values()))
    if isinstance(value, float) and not math.isfinite(value):
        return ", and finite"
    return ", and below 2**63 in size" if isinstance(value, int) and abs(value) >= 2**63 else ""


def component(item: Item, kind: str, problems: Problems) -> Any:
    """The Component that a name or a mapping with `name` stands for, with all options given; else INVALID."""
    given = {"name": item} if not isinstance(item.value, dict) else dict(item.value)
    named = given.pop("name", None)
    if named is None:
        problems.about(item, "name is missing")
        return INVALID
    if not isinstance(named.value, str):
        problems.about_value(
            named, f"must be a name, or a mapping with a name; there are {', '.join(find.names(kind))}"
        )
        return INVALID
    try:
        known = component_options(kind, named.value)
    except SpecError as error:
        problems.about(named, str(error))
        return INVALID
    options = options_of(Item(given, item.line, item.path), known, problems)
    return INVALID if options is INVALID else Component(named.value, options)


def component_options(kind: str, name: str) -> dict[str, find.Option]:
    """The options of an architecture, data set or optimiser; SpecError where there is no such name."""
    own = find.options(kind, name)
    return find.options(kind, COMMON_OPTIONS) | own if kind == "datasets" else own


def options_of(item: Item, known: Mapping[str, find.Option], problems: Problems) -> Any:
    """The options of a mapping, checked; INVALID where one is wrong or a required one is missing."""
    given = entries(item, known, problems)
    options = {key: checked(entry, known[key].annotation, problems) for key, entry in given.items()}
    missing = [
        key for key, option in known.items() if option.default is find.REQUIRED and key not in item.value
    ]
    for key in missing:
        problems.about(item, f"{key} is missing; it must be {described(known[key].annotation)}")
    wrong = missing or len(given) < len(item.value) or INVALID in options.values()
    return INVALID if wrong else options


def without_defaults(options: Mapping[str, Any], known: Mapping[str, find.Option]) -> dict[str, Any]:
    """The options that say something: those that differ from their defaults.

    >>> without_defaults({"momentum": 0.0, "nesterov": True}, find.options("optimizers", "sgd"))
    {'nesterov': True}
    """
    return {key: value for key, value in options.items() if value != plain(known[key].default)}
