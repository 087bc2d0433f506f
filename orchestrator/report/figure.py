"""What a report is made of: stored results in, figures and tables out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from orchestrator import results
from orchestrator.report.grouping import Groups, group
from orchestrator.search_table import best_of_searches

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

BEST = 4
"""Trials of searches that are lines in figures by step: they differ in all that was searched, so labels are long."""


@dataclass(frozen=True)
class Stored:
    """The results of one sweep, read once. `path` is a folder or URI as the reader would write it in pandas."""

    path: str

    @cached_property
    def loaded(self) -> results.Results:
        return results.load([self.path])

    @property
    def trials(self) -> pd.DataFrame:
        return self.loaded.trials

    @cached_property
    def measurements(self) -> pd.DataFrame:
        """One row per trial and step, by trial and step."""
        return self.loaded.measurements.sort_values(["trial_id", "step"], ignore_index=True)

    @property
    def eigenvalues(self) -> pd.DataFrame:
        """One row per trial, step and index, as `results.eigenvalues`."""
        return self.loaded.eigenvalues

    @property
    def subspace_overlaps(self) -> pd.DataFrame:
        """One row per trial, step and earlier step, as `results.subspace_overlaps`."""
        return self.loaded.subspace_overlaps

    @cached_property
    def groups(self) -> Groups:
        """Panels and lines, the same in every figure; of a search those of its best trials, which are alike seldom."""
        best = best_of_searches(self.searched, BEST)
        if not best:
            return group(self.trials)
        others = ~self.trials.trial_id.isin(self.searched.trial_id)
        found = group(self.trials[others | self.trials.trial_id.isin(best)])
        left_out = (
            f"Of {len(self.searched)} trials of a search the best {len(best)} are drawn. {found.left_out}"
        )
        return replace(found, left_out=left_out.strip())

    @cached_property
    def searched(self) -> pd.DataFrame:
        """One row for each finished trial that a search asked for, as `results.searched`."""
        found = results.searched(self.path)
        return found[found.trial_id.isin(self.trials.trial_id)]

    @cached_property
    def sweep(self) -> str:
        """The sweep's name."""
        return str(self.trials.sweep.iloc[0])

    def has(self, *columns: str) -> bool:
        """Whether each of these columns of `measurements` has a value somewhere."""
        found = self.measurements
        return all(column in found and bool(found[column].notna().any()) for column in columns)


@dataclass(frozen=True, kw_only=True)
class Item:
    """What a report shows, with the words that let it stand alone."""

    name: str  # of its files: f-top gives f-top.png and f-top.svg
    title: str
    caption: str  # what is drawn, its definition in words, and what to compare it with
    code: str  # an import and no more than three pandas lines that leave the drawn numbers in `data`
    rows: pd.DataFrame = field(repr=False, compare=False)  # what it is made of, with `trial_id` and `seed`

    @property
    def trials(self) -> int:
        """How many trials are in it."""
        return int(self.rows.trial_id.nunique())

    @property
    def seeds(self) -> int:
        """How many distinct seeds."""
        return int(self.rows.seed.nunique())


@dataclass(frozen=True, kw_only=True)
class Figure(Item):
    """One drawing."""

    drawing: Drawing


@dataclass(frozen=True, kw_only=True)
class Table(Item):
    """Numbers that people read rather than look at."""

    frame: pd.DataFrame
