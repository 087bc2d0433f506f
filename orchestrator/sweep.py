"""A sweep file becomes a list of trials, or one line for everything that is wrong with it."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

from orchestrator.cost import UNKNOWN, Cost, Costs
from orchestrator.sweep_axes import axes, refuse_too_many, settings
from orchestrator.sweep_checks import Facts, check_whole, longest
from orchestrator.sweep_grid import (
    Case,
    Point,
    Resources,
    cases,
    exclude,
    places,
    points,
    refuse_incomplete,
    refuse_repeated,
    refuse_second_places,
    resources,
)
from orchestrator.sweep_items import Item, Problems, SweepError, entries
from orchestrator.sweep_measure import requests
from orchestrator.sweep_options import checked, importable
from orchestrator.sweep_search import Search, check_metric, expanded, method_of, searches_of
from orchestrator.sweep_yaml import read_text, read_yaml
from workers.spec import DEFAULT_MEASURE, TrialSpec

__all__ = ["Resources", "Sweep", "SweepError", "Trial", "data_folder", "importable", "load_sweep"]

KEYS = [
    "name",
    "description",
    "trial",
    "cases",
    "grid",
    "exclude",
    "measure",
    "search",
    "resources",
    "retries",
]
NAME = re.compile(r"[a-z0-9-]{1,100}")


@dataclass(frozen=True)
class Trial:
    """What one trial is, and what it occupies while it runs."""

    spec: TrialSpec
    resources: Resources
    cost: Cost = UNKNOWN


@dataclass(frozen=True)
class Sweep:
    """A checked sweep file. Its trials are in order: cases outermost, then the axes, the last one fastest.

    Where it has `searches`, trials come one by one, as `SearchRuns` asks for them; none are known from the file.
    """

    name: str
    description: str
    trials: tuple[Trial, ...]
    retries: int  # per trial, for failures that a retry can cure
    text: str  # the file as given
    folder: Path  # where the file lies, and with it the user's own modules and arrays
    path: Path  # as given
    searches: tuple[Search, ...] = ()

    @property
    def count(self) -> int:
        """How many trials it is to have."""
        return sum(search.method.trials for search in self.searches) if self.searches else len(self.trials)

    @property
    def examples(self) -> list[TrialSpec]:
        """Trials in which everything that it names occurs: all of them, or of a search some."""
        return [trial.spec for trial in self.trials] + [
            s for search in self.searches for s in search.examples
        ]


def data_folder(given: Path | None = None) -> Path:
    """Where data sets lie: as given, else TINY_SUBSPACE_DATA, else `~/.cache/tiny-subspace`."""
    return given or Path(os.environ.get("TINY_SUBSPACE_DATA") or "~/.cache/tiny-subspace").expanduser()


def load_sweep(path: str | Path, *, data: Path | None = None, allow_large: bool = False) -> Sweep:
    """Read and check a sweep file. Imports no torch, unless very many eigenpairs are asked for.

    `data` is where data sets lie (see `data_folder`); of those that are there the sizes are checked too.
    `allow_large` permits more than 100,000 trials.

    Raises SweepError with all errors of the file, one line each: `FILE:LINE: KEY.PATH: VALUE: why`.
    """
    path = Path(path)
    folder = path.absolute().parent  # links are not followed: what lies beside the one given belongs to it
    text = read_text(path)
    problems = Problems(path)
    root = read_yaml(path, text, problems)
    with importable(folder):
        given = entries(root, KEYS, problems)
        if not given:
            problems.stop()
        name = _name(root, given, problems)
        description = checked(given.get("description", Item("")), str, problems)
        retries = checked(given.get("retries", Item(2)), Annotated[int, Ge(0)], problems)
        method, searched = (
            method_of(given["search"], allow_large, problems) if "search" in given else (None, {})
        )
        measure = requests(given["measure"], problems) if "measure" in given else DEFAULT_MEASURE
        if "search" in given and ("measure" not in given or measure.keys() >= given["measure"].value.keys()):
            check_metric(given["search"], measure, problems)
        everything = _points(root, given, searched, allow_large, problems)
        if method:
            refuse_too_many(method.trials * len(everything), given["search"], allow_large, problems)
        problems.stop()
        whole, facts = (
            expanded(everything, method, searched) if method else everything,
            Facts(data_folder(data), folder),
        )
        check_whole(whole, given.get("measure"), measure, facts, problems)
        problems.stop()
        if method:
            searches = searches_of(everything, method, measure, longest(whole, facts))
            return Sweep(name, description, (), retries, text, folder, path, searches)
        costs = Costs(facts)
        trials = tuple(
            Trial(spec, point.case.resources, costs.of(spec))
            for point in everything
            for spec in [TrialSpec(**{f: s.value for f, s in point.settings.items()}, measure=measure)]
        )
    return Sweep(name, description, trials, retries, text, folder, path)


def _name(root: Item, given: Mapping[str, Item], problems: Problems) -> str:
    if "name" not in given:
        problems.about(root, "name is missing")
        return ""
    name = given["name"].value
    if not isinstance(name, str) or not NAME.fullmatch(name):
        problems.about_value(given["name"], "must be a name of a-z, 0-9 and -, such as figure-1")
        return ""
    return name


def _points(
    root: Item,
    given: Mapping[str, Item],
    searched: Mapping[str, Item],
    allow_large: bool,
    problems: Problems,
) -> list[Point]:
    """What is left of cases times grid; nothing where that cannot be said because of a problem."""
    trial = given.get("trial", Item({}, root.line))
    needs = resources(given["resources"], Resources(), problems) if "resources" in given else Resources()
    found = cases(given.get("cases"), Case(trial, settings(trial, problems), needs), problems)
    grid = axes(given["grid"], problems, allow_large) if "grid" in given else {}
    varied = {field: axis.item for field, axis in grid.items()}
    refuse_second_places(searched, varied, problems)
    for case in found:
        refuse_second_places(varied | dict(searched), places(case.settings), problems)
        refuse_incomplete(case, varied | dict(searched), problems)
    everything: list[Point] = []
    if not problems.found:
        refuse_repeated(found, problems)
        everything = points(found, grid, given.get("grid", root), allow_large, problems)
    if "exclude" in given and "search" in given:
        problems.about(given["exclude"], "not beside search; leave the cases or values out themselves")
    elif "exclude" in given:
        return exclude(everything, given["exclude"], problems)
    return everything
