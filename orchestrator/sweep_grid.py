"""Cases times grid, less what is excluded: the points of a sweep, each the settings of one trial."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Annotated, Any, get_type_hints

from annotated_types import Ge, Gt

from orchestrator.sweep_axes import (
    DEFAULTS,
    FIELDS,
    KINDS,
    LENGTHS,
    Axis,
    Settings,
    refuse_too_many,
    settings,
)
from orchestrator.sweep_items import Item, Problems, elements, entries
from orchestrator.sweep_options import INVALID, checked, component, component_options
from workers.spec import plain


@dataclass(frozen=True)
class Resources:
    """What one trial occupies while it runs; a fraction of a GPU lets small trials share one.

    With `memory_gib` no more trials run on a node than its memory has room for; a trial that takes more is not stopped.
    """

    cpus: Annotated[float, Gt(0)] = 1
    gpus: Annotated[float, Ge(0)] = 0
    memory_gib: Annotated[float, Ge(0)] = 0


RESOURCES = get_type_hints(Resources, include_extras=True)


@dataclass(frozen=True)
class Case:
    """What the trials of one case have in common, `trial` included."""

    item: Item
    settings: Settings
    resources: Resources


@dataclass(frozen=True)
class Point:
    """One combination: every setting of one trial, and the case that it belongs to."""

    case: Case
    settings: Settings


def resources(item: Item, base: Resources, problems: Problems) -> Resources:
    """`base` with what the mapping says instead."""
    given = entries(item, RESOURCES, problems)
    values = {key: checked(entry, RESOURCES[key], problems) for key, entry in given.items()}
    gpus = values.get("gpus", 0)
    if gpus is not INVALID and not _divides(gpus):
        problems.about_value(
            given["gpus"], "must be a whole number, or 1/n for n trials on one GPU, such as 0.5 or 0.25"
        )
    return dataclasses.replace(base, **values)


def _divides(gpus: float) -> bool:
    """Whether the share is whole, or fills a GPU, but for 2 %, when taken n times, as 0.33 and 0.142 do."""
    return float(gpus).is_integer() or (0.001 < gpus < 1 and 0.98 <= gpus * round(1 / gpus) <= 1.0000001)


def cases(item: Item | None, common: Case, problems: Problems) -> list[Case]:
    """The cases of a file; a file without `cases` has one, which sets nothing of its own."""
    if item is None:
        return [common]
    found = []
    for element in elements(item, problems):
        own = settings(element, problems, beside=["resources"])
        refuse_second_places(places(own), places(common.settings), problems)
        needs = common.resources
        if isinstance(element.value, dict) and "resources" in element.value:
            needs = resources(element.value["resources"], needs, problems)
        found.append(Case(element, common.settings | own, needs))
    return found


def places(given: Settings) -> dict[str, Item]:
    """Where the settings stand in the file."""
    return {field: setting.item for field, setting in given.items()}


def refuse_second_places(given: Mapping[str, Item], earlier: Mapping[str, Item], problems: Problems) -> None:
    """Refuse fields that another part of the file sets already."""
    for field, item in given.items():
        if field in earlier:
            there = earlier[field]
            problems.about(
                item, f"also given as {there.path} on line {there.line}; a parameter has one place"
            )


def refuse_incomplete(case: Case, varied: Mapping[str, Item], problems: Problems) -> None:
    """Refuse a case whose trials lack a field, or have not exactly one of steps and epochs.

    `varied` are the fields that grid and search set.
    """
    if not isinstance(case.item.value, dict):
        return
    there = places(case.settings) | dict(varied)
    for field, default in DEFAULTS.items():
        if default is dataclasses.MISSING and field not in there:
            problems.about(case.item, f"{field} is missing")
    lengths = sorted((there[field] for field in LENGTHS if field in there), key=lambda item: item.line)
    if not lengths:
        problems.about(case.item, "steps or epochs is missing")
    if len(lengths) == 2:
        problems.about(lengths[1], f"{lengths[0].path} is given too; a trial has either steps or epochs")


def refuse_repeated(found: Sequence[Case], problems: Problems) -> None:
    """Refuse cases whose trials are those of an earlier case."""
    seen: dict[str, Item] = {}
    for case in found:
        values = {field: plain(s.value) for field, s in case.settings.items() if s.value != DEFAULTS[field]}
        first = seen.setdefault(repr(sorted(values.items())), case.item)
        if first is not case.item:
            problems.about(case.item, f"the same trials as {first.path} on line {first.line}")


def points(
    found: Sequence[Case], axes: Mapping[str, Axis], item: Item, allow_large: bool, problems: Problems
) -> list[Point]:
    """Every combination: cases outermost, then the axes in the order of the file, the last one fastest."""
    count = len(found) * prod(len(axis.values) for axis in axes.values())
    if refuse_too_many(count, item, allow_large, problems):
        return []
    combinations = list(product(*(axis.values for axis in axes.values())))
    return [
        Point(case, case.settings | dict(zip(axes, values, strict=True)))
        for case in found
        for values in combinations
    ]


def exclude(everything: list[Point], item: Item, problems: Problems) -> list[Point]:
    """The points that no element of `exclude` matches. An element that matches none is a problem.

    A component given by its name matches whatever its options; one with options matches where those agree.
    """
    excluded: set[int] = set()
    for element in elements(item, problems):
        given = entries(element, [*FIELDS], problems)
        tests = {field: _test(field, entry, problems) for field, entry in given.items()}
        if element.value == {}:
            problems.about_value(element, "must have at least one parameter")
        if not tests or INVALID in tests.values():
            continue
        matching = {index for index, point in enumerate(everything) if _matches(point.settings, tests)}
        if everything and not matching:
            problems.about_value(element, "matches no trial")
        excluded |= matching
    if everything and len(excluded) == len(everything):
        problems.about(item, "leaves no trial")
    return [point for index, point in enumerate(everything) if index not in excluded]


def _test(field: str, item: Item, problems: Problems) -> Any:
    """A function that says whether a value of the field is meant by `item`; INVALID where that is refused."""
    wanted = (
        component(item, KINDS[field], problems) if field in KINDS else checked(item, FIELDS[field], problems)
    )
    if wanted is INVALID:
        return INVALID
    if field not in KINDS:
        return lambda value: value == wanted
    known = component_options(KINDS[field], wanted.name)
    defaults = {key: plain(known[key].default) for key in wanted.options}
    return lambda value: (
        value.name == wanted.name
        and all(value.options.get(key, defaults[key]) == option for key, option in wanted.options.items())
    )


def _matches(given: Settings, tests: Mapping[str, Callable[[Any], bool]]) -> bool:
    return all(test(given[f].value if f in given else DEFAULTS[f]) for f, test in tests.items())
