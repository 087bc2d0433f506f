"""The `search` part of a sweep file: what is searched, how, and by which column. Imports no optuna."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal, get_type_hints

from annotated_types import Ge

from orchestrator.labels import labels
from orchestrator.search_space import Parameters, Range, Space
from orchestrator.sweep_axes import Setting, refuse_too_many
from orchestrator.sweep_grid import Point, Resources
from orchestrator.sweep_items import Item, Problems, entries, unknown
from orchestrator.sweep_options import INVALID, checked
from orchestrator.sweep_space import space_of
from workers import find
from workers.result import Moment
from workers.spec import Component, Request, TrialSpec

KINDS: dict[str, Any] = {
    "sampler": Literal["tpe", "random", "cmaes", "qmc", "grid"],
    "trials": Annotated[int, Ge(1)],
    "metric": str,
    "direction": Literal["maximize", "minimize"],
    "pruner": Literal["none", "median", "hyperband"],
    "seed": Annotated[int, Ge(0)],
}
"""The keys of `search` beside `space`, and what they may be."""

DEFAULTS: dict[str, Any] = {"sampler": "tpe", "pruner": "none", "seed": 0}

LEAST_NUMBERS = 2
"""CMA-ES adapts the covariance of numbers; Optuna's needs so many."""


@dataclass(frozen=True)
class Method:
    """How a search goes, the same for every search of a sweep."""

    sampler: str  # tpe, random, cmaes, qmc, grid
    trials: int  # different ones, of each search
    metric: str  # a column of measurements; its last value counts
    direction: Literal["maximize", "minimize"]
    pruner: str  # none, median, hyperband
    seed: int  # of the sampler: asked one by one, the same trials come again
    space: Space

    @property
    def maximize(self) -> bool:
        return self.direction == "maximize"


@dataclass(frozen=True)
class Search:
    """What the trials of one search have in common. A sweep has a search for each point of its cases and grid."""

    method: Method
    fixed: Mapping[str, Any]  # field to value
    measure: Mapping[str, Request]
    resources: Resources
    longest: int | None  # steps of its longest trial, where that is known
    name: str = ""  # tells it from the others of its sweep

    @cached_property
    def key(self) -> str:
        """Names what is fixed: a search whose space, sampler or metric is edited goes on from the same trials."""
        absent = {"architecture": Component(""), "dataset": Component("")}
        return TrialSpec(**absent | dict(self.fixed), measure=self.measure).trial_id

    def spec(self, parameters: Parameters) -> TrialSpec:
        """The trial of these parameters. OutsideError where the space has no such point."""
        return self._spec(self.method.space.values(parameters))

    def _spec(self, values: Mapping[str, Any]) -> TrialSpec:
        return TrialSpec(**dict(self.fixed) | dict(values), measure=self.measure)

    @cached_property
    def examples(self) -> list[TrialSpec]:
        """Trials in which every choice and both ends of every range come at least once."""
        return [self._spec(values) for _, values in self.method.space.examples()]


def method_of(item: Item, allow_large: bool, problems: Problems) -> tuple[Method | None, dict[str, Item]]:
    """The method, or None where something is wrong with it, and where the fields that it varies stand."""
    given = entries(item, [*KINDS, "space"], problems)
    values: dict[str, Any] = DEFAULTS | {
        k: checked(entry, KINDS[k], problems) for k, entry in given.items() if k in KINDS
    }
    space = space_of(given["space"], problems) if "space" in given else None
    if isinstance(item.value, dict):
        needed = ["metric", "direction", "space", *(["trials"] if values["sampler"] != "grid" else [])]
        for key in needed:
            if key not in given:
                problems.about(item, f"{key} is missing")
    places = dict(given["space"].value) if "space" in given and isinstance(given["space"].value, dict) else {}
    if space is None or INVALID in values.values() or not KINDS.keys() - {"trials"} <= values.keys():
        return None, places
    if values["sampler"] == "grid":
        _refuse_endless(space, given["space"], problems)
    if values["sampler"] == "cmaes":
        numbers = [name for name, found in space.always.items() if isinstance(found, Range)]
        if len(numbers) < LEAST_NUMBERS:
            problems.about(
                given["sampler"],
                f"'cmaes': needs at least {LEAST_NUMBERS} numbers to search in every trial; choices it leaves to chance",
            )
    trials = values.get("trials")
    if space.size is not None:
        trials = min(trials or space.size, space.size)
    if trials is None:
        return None, places
    refuse_too_many(trials, given.get("trials", item), allow_large, problems)
    return Method(**values | {"trials": trials, "space": space}), places


def _refuse_endless(space: Space, item: Item, problems: Problems) -> None:
    for name, found in space.parameters.items():
        if isinstance(found, Range) and found.values is None:
            place = item.value[name.partition(".")[0]]
            problems.about(
                place, "a grid needs values that can be counted: {choice: [values]} or {int: [low, high]}"
            )


def check_metric(search: Item, measure: Mapping[str, Request], problems: Problems) -> None:
    """Refuse a metric that is no scalar column of what is measured."""
    item = search.value.get("metric") if isinstance(search.value, dict) else None
    if item is None or not isinstance(item.value, str):
        return
    hints = get_type_hints(Moment)
    columns = [name for name, kind in hints.items() if name != "step" and _scalar(kind)]
    for name in measure:
        columns += [column for column, kind in find.record(name).items() if _scalar(kind)]
    if item.value in columns:
        return
    for name in find.names("measurements"):
        if _scalar(find.record(name).get(item.value)):
            problems.about_value(item, f"is not measured; add {name} to measure")
            return
    problems.about_value(item, unknown(item.value, columns))


def _scalar(kind: Any) -> bool:
    return kind in (float, int, float | None, int | None)


def expanded(points: Sequence[Point], method: Method, places: Mapping[str, Item]) -> list[Point]:
    """Points with every choice and both ends of every range, for checks that need whole trials."""
    examples = [values for _, values in method.space.examples()]
    settings = [{name: Setting(value, places[name]) for name, value in e.items()} for e in examples]
    return [Point(point.case, point.settings | varied) for point in points for varied in settings]


def searches_of(
    points: Iterable[Point], method: Method, measure: Mapping[str, Request], longest: int | None
) -> tuple[Search, ...]:
    """A search for each point of cases and grid, with a name that tells it from the others."""
    found = [
        Search(
            method,
            {field: setting.value for field, setting in point.settings.items()},
            measure,
            point.case.resources,
            longest,
        )
        for point in points
    ]
    if len(found) == 1:
        return tuple(found)
    varied = {column for name in method.space.fields for column in (name, f"{name}_options")}
    rows = [
        {name: value for name, value in search.examples[0].columns().items() if name not in varied}
        for search in found
    ]
    return tuple(replace(search, name=name) for search, name in zip(found, labels(rows), strict=True))
