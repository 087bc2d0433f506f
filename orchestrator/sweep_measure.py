"""The `measure` part of a sweep file, and at which steps a trial measures."""

import math
from collections.abc import Collection, Iterable, Mapping
from itertools import combinations
from typing import Any, get_args, get_type_hints

from orchestrator.sweep_items import Item, Problems, unknown
from orchestrator.sweep_options import INVALID, checked, options_of, without_defaults
from workers import find
from workers.measurements import schedule_of
from workers.spec import Request, SpecError

HINTS = get_type_hints(Request, include_extras=True)
SCHEDULE = {key: get_args(HINTS[key])[0] for key in ("every", "at")}
"""What `every` and `at` may be when they are given."""

IMPLIED = {"top_eigenpairs": "gradient_overlap"}
"""What is measured wherever the other is: it costs no Hessian product."""


def requests(item: Item, problems: Problems) -> dict[str, Request]:
    """What `measure` asks for, by name, with gradient overlaps wherever there are eigenpairs."""
    if not isinstance(item.value, dict) or not item.value:
        problems.about_value(item, "must be a mapping of measurements, such as {loss: {every: 50}}")
        return {}
    found = {name: _request(name, entry, problems) for name, entry in item.value.items()}
    for name, implied in IMPLIED.items():
        if name in found:
            found.setdefault(implied, Request())
    return {name: request for name, request in found.items() if request is not None}


def _request(name: str, item: Item, problems: Problems) -> Request | None:
    try:
        known = find.options("measurements", name)
    except SpecError as error:
        problems.about(item, str(error))
        return None
    given = {} if item.value is None else item.value
    if not isinstance(given, dict):
        problems.about_value(item, "must be a mapping, such as {every: 50} or {at: [0, 100]}")
        return None
    allowed = [*SCHEDULE, *known]
    for key, entry in given.items():
        if key not in allowed:
            problems.about(entry, unknown(key, allowed))
    if SCHEDULE.keys() <= given.keys():
        problems.about(item, "both every and at; a measurement has one of them")
    schedule = {key: checked(given[key], SCHEDULE[key], problems) for key in SCHEDULE if key in given}
    _check_order(given.get("at"), schedule.get("at"), problems)
    own = Item({key: option for key, option in given.items() if key in known}, item.line, item.path)
    options = options_of(own, known, problems)
    if options is INVALID or INVALID in schedule.values():
        return None
    return Request(
        every=schedule.get("every"),
        at=tuple(schedule["at"]) if "at" in schedule else None,
        options=without_defaults(options, known),
    )


def _check_order(item: Item | None, steps: Any, problems: Problems) -> None:
    if item is None or steps is INVALID:
        return
    if not steps:
        problems.about_value(item, "must have at least one step")
    for element, before, step in zip(item.value[1:], steps, steps[1:], strict=False):
        if step <= before:
            problems.about_value(element, "must be larger than the step before it")


def check_steps(
    item: Item, measure: Mapping[str, Request], lasts: Collection[int | None], problems: Problems
) -> None:
    """Refuse steps that no trial reaches, and a `since` at which its measurement is not made.

    `lasts` are the last steps of the trials; where one is not known (None), nothing is refused.
    """
    known = [last for last in lasts if last is not None]
    if len(known) < len(lasts):
        return
    for name, entry in item.value.items():
        for element in _elements(entry, "at"):
            if element.value > max(known):
                problems.about_value(element, f"no trial has so many steps; the longest has {max(known)}")
        schedule = schedule_of(measure, name)
        for element in _elements(entry, "since"):
            step = element.value
            if not any(step <= last and schedule.due(int(step), last) for last in known):
                problems.about_value(
                    element, f"not a step at which {name} is made, so there is nothing to compare with"
                )


def _elements(entry: Item, key: str) -> list[Item]:
    given = entry.value.get(key) if isinstance(entry.value, dict) else None
    return given.value if given is not None and isinstance(given.value, list) else []


def count_due(schedules: Iterable[Request], last: int) -> int:
    """How many of the steps 0 … last at least one of the schedules is due at, without visiting them all.

    Multiples of the periods are counted by inclusion and exclusion; single steps are added to them.

    >>> count_due([Request(every=50), Request(at=(0, 7))], last=120)
    5
    """
    schedules = list(schedules)
    periods = sorted({request.every for request in schedules if request.every is not None})
    periods = [p for i, p in enumerate(periods) if not any(p % smaller == 0 for smaller in periods[:i])]
    multiples = 0
    for size in range(1, len(periods) + 1):
        for some in combinations(periods, size):
            multiples -= (-1) ** size * (last // math.lcm(*some) + 1)
    single = {step for request in schedules for step in _single_steps(request, last)}
    return multiples + sum(all(step % period for period in periods) for step in single)


def _single_steps(request: Request, last: int) -> Iterable[int]:
    if request.at is not None:
        return (step for step in request.at if step <= last)
    if request.every is not None:
        return [last]
    powers = [10**digits for digits in range(len(str(last)))]
    return [0, last, *(m * power for power in powers for m in (1, 2, 5) if m * power <= last)]
