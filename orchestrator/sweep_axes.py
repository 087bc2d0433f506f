"""The parameters that a sweep file sets: one by one, or as an axis of the grid with many values."""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_type_hints

from annotated_types import Ge, Gt

from orchestrator.sweep_items import Item, Problems, elements, entries
from orchestrator.sweep_options import INVALID, checked, component, component_options, without_defaults
from workers.spec import Component, TrialSpec, plain

KINDS = {"architecture": "architectures", "dataset": "datasets", "optimizer": "optimizers"}
"""The fields of a trial whose values are components, and where those are found."""

LENGTHS = ("steps", "epochs")
"""The fields of which a trial has exactly one; null is no value for either."""

HINTS = get_type_hints(TrialSpec, include_extras=True)
FIELDS = {f: get_args(hint)[0] if f in LENGTHS else hint for f, hint in HINTS.items() if f != "measure"}
"""The fields of a trial that a sweep file sets one by one, and their annotations."""

DEFAULTS = {f.name: f.default for f in dataclasses.fields(TrialSpec) if f.name in FIELDS}
"""Their defaults; `dataclasses.MISSING` for those that have none."""

RANGE = Annotated[int, Ge(1)] | tuple[int, int]
LOG = tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)], Annotated[int, Ge(2)]]

MOST_TRIALS = 100_000
"""The most trials of a sweep whose user has not said that so many are meant."""


@dataclass(frozen=True)
class Setting:
    """The value of one field (INVALID where it was refused), and where the file gives it."""

    value: Any
    item: Item


Settings = dict[str, Setting]
"""Field to setting: what one part of the file sets, or one point of the grid."""


@dataclass(frozen=True)
class Axis:
    """One parameter of the grid with its values."""

    item: Item
    values: list[Setting]


def settings(item: Item, problems: Problems, beside: Iterable[str] = ()) -> Settings:
    """The fields that a mapping sets; keys in `beside` are left to somebody else."""
    given = entries(item, [*FIELDS, *beside], problems)
    return {field: setting(field, entry, problems) for field, entry in given.items() if field in FIELDS}


def setting(field: str, item: Item, problems: Problems) -> Setting:
    """One field, checked; a component keeps no option that is at its default."""
    if field not in KINDS:
        return Setting(checked(item, FIELDS[field], problems), item)
    found = component(item, KINDS[field], problems)
    if found is INVALID:
        return Setting(INVALID, item)
    known = component_options(KINDS[field], found.name)
    return Setting(Component(found.name, without_defaults(found.options, known)), item)


def axes(item: Item, problems: Problems, allow_large: bool) -> dict[str, Axis]:
    """The axes of `grid`, in the order of the file."""
    given = entries(item, [*FIELDS], problems)
    return {field: _axis(field, axis, problems, allow_large) for field, axis in given.items()}


def _axis(field: str, item: Item, problems: Problems, allow_large: bool) -> Axis:
    found: dict[str, Setting] = {}
    for element in _elements(field, item, problems, allow_large):
        new = setting(field, element, problems)
        first = found.setdefault(repr(plain(new.value)), new)
        if first is not new and new.value is not INVALID:
            problems.about_value(element, f"the same as {first.item.path}; a value comes once")
    return Axis(item, list(found.values()))


def _elements(field: str, item: Item, problems: Problems, allow_large: bool) -> list[Item]:
    """The values of an axis, written as a list, {range: 5}, {range: [2, 8]} or {log: [low, high, count]}."""
    value: Callable[[int], float]
    match item.value:
        case list():
            return elements(item, problems)
        case {"range": bounds} if len(item.value) == 1:
            given = checked(bounds, RANGE, problems)
            if given is INVALID:
                return []
            start, stop = (0, given) if isinstance(given, int) else given
            count, value = stop - start, lambda index: start + index
        case {"log": bounds} if len(item.value) == 1:
            given = checked(bounds, LOG, problems)
            if given is INVALID:
                return []
            low, high, count = given
            value = lambda index: geometric(low, high, count, index)  # noqa: E731
        case _:
            forms = "" if field in KINDS else ", {range: 5} or {log: [0.01, 1, 5]}"
            problems.about_value(item, f"must be a list of values{forms}")
            return []
    if count < 1:
        problems.about_value(item, "must have at least one value")
    if refuse_too_many(count, item, allow_large, problems):
        return []
    return [Item(value(index), item.line, f"{item.path}[{index}]") for index in range(count)]


def geometric(low: float, high: float, count: int, index: int) -> float:
    """Number `index` of `count` values from `low` to `high` with a constant ratio, rounded to 12 digits.

    >>> [geometric(0.001, 1.0, 4, index) for index in range(4)]
    [0.001, 0.01, 0.1, 1.0]
    """
    if index in (0, count - 1):
        return low if index == 0 else high
    return float(f"{low * (high / low) ** (index / (count - 1)):.12g}")


def refuse_too_many(trials: int, item: Item, allow_large: bool, problems: Problems) -> bool:
    """Whether there are so many trials that the user must say they are meant; then it is a problem."""
    too_many = trials > MOST_TRIALS and not allow_large
    if too_many:
        problems.about(item, f"{trials:,} trials; more than {MOST_TRIALS:,} need --yes")
    return too_many
