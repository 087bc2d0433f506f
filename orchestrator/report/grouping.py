"""Which trials share a panel, which of them share a line, and how a line is told from the others.

A *panel* has one architecture and one data set, each with its options. A *setting* is one combination of all
other TrialSpec fields but the seed: trials of one setting differ in the seed only, and make one line, a median
with a band. It has the same colour and marker in every figure. What is measured makes settings of their own where
a seed has been run with one list of measurements and then with another: it would count twice in a median.

    groups = stored.groups
    rows = groups.drawn(stored.measurements)                    # a column `setting` more
    table = quantiles(rows, "f_top", ["setting", "step"])       # columns low, median, high
    for panel in groups.panels:
        for setting in panel.settings:
            own = part(table, setting.number)               # by step; None where nothing was measured
    groups.keys                                                 # what a reader groups by instead of `setting`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from orchestrator.labels import labels
from orchestrator.report.lines import MOST_LINES, chosen, line_labels, natural, plain, ranks, vary
from orchestrator.report.options import KINDS, spelled
from orchestrator.report.style import MARKERS, colors
from workers.spec import spec_columns

MOST_PANELS = 12
PANEL = ("architecture", "architecture_options", "dataset", "dataset_options")


@dataclass(frozen=True)
class Setting:
    """One line of a panel."""

    number: int  # in the column `setting` of `Groups.drawn`
    label: str  # such as lr=0.1; empty where no panel has two
    color: str
    marker: str
    fields: Mapping[str, Any] = field(repr=False)  # every TrialSpec column but seed and measure; None is null


@dataclass(frozen=True)
class Panel:
    """One architecture on one data set."""

    title: str
    classes: int | None  # k; None where no trial came so far
    parameters: int | None  # p
    settings: tuple[Setting, ...]

    @property
    def chance(self) -> float | None:
        """k/p, the share of a random vector in a subspace of dimension k."""
        return self.classes / self.parameters if self.classes and self.parameters else None


@dataclass(frozen=True)
class Groups:
    """Panels and lines of a sweep."""

    keys: list[str]  # the columns whose combinations are the settings of all panels
    panels: tuple[Panel, ...]
    seeds: int  # of the setting that has most
    left_out: str  # a sentence on what is not drawn; empty where all is
    of_trial: Mapping[str, int] = field(repr=False)  # trial_id to the number of a drawn setting

    @property
    def band(self) -> tuple[float, float]:
        """The quantiles between which a band lies: the extremes of 2 to 4 seeds, the quartiles of 5 and more."""
        return (0.0, 1.0) if self.seeds < 5 else (0.25, 0.75)

    @property
    def band_words(self) -> str:
        """A sentence for captions."""
        if self.seeds < 2:
            return "Lines are of one seed."
        extent = "all seeds" if self.seeds < 5 else "the middle half of the seeds"
        return f"Lines are medians over up to {self.seeds} seeds; bands hold {extent}."

    def cells(self) -> list[tuple[str, Panel, Setting]]:
        """Each setting as a panel of its own, with a title: for figures whose lines are something else."""
        found = [(panel, setting) for panel in self.panels for setting in panel.settings]
        return [
            (f"{panel.title} {setting.label}".rstrip(), panel, setting)
            for panel, setting in found[:MOST_PANELS]
        ]

    @property
    def cells_left_out(self) -> str:
        """As `left_out`, of a figure of `cells`."""
        found = sum(len(panel.settings) for panel in self.panels)
        more = f"Of these, the first {MOST_PANELS} of {found} are drawn." if found > MOST_PANELS else ""
        return f"{self.left_out} {more}".strip()

    def drawn(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows of drawn settings, with a column `setting`, the number of theirs."""
        number = rows.trial_id.map(dict(self.of_trial))
        return rows.assign(setting=number)[number.notna()].astype({"setting": int})

    def in_cells(self, rows: pd.DataFrame) -> pd.DataFrame:
        """As `drawn`, of the settings that `cells` has."""
        rows = self.drawn(rows)
        return rows[rows.setting.isin([setting.number for _, _, setting in self.cells()])]

    def __iter__(self) -> Iterator[tuple[Panel, Setting]]:
        return ((panel, setting) for panel in self.panels for setting in panel.settings)


def quantiles(
    rows: pd.DataFrame, column: str, by: Sequence[str], band: tuple[float, float] = (0.0, 1.0)
) -> pd.DataFrame:
    """Columns low, median and high of the values that are there, indexed by `by`; `band` are two quantiles.

    >>> rows = pd.DataFrame({"step": [0, 0, 0, 1], "f_top": [0.5, 0.25, 1.0, None]})
    >>> quantiles(rows, "f_top", ["step"]).to_dict("index")
    {0: {'low': 0.25, 'median': 0.5, 'high': 1.0}}
    """
    grouped = rows[rows[column].notna()].groupby(list(by))[column]
    named = {"low": band[0], "median": 0.5, "high": band[1]}
    return pd.DataFrame({name: grouped.quantile(at) for name, at in named.items()})


def part(table: pd.DataFrame, *key: int | float | str) -> pd.DataFrame | None:
    """The rows whose index begins with `key`, by the rest of the index; None where there are none.

    >>> table = quantiles(pd.DataFrame({"setting": [0, 0], "step": [0, 5], "x": [1.0, 2.0]}), "x", ["setting", "step"])
    >>> list(part(table, 0).index), part(table, 1)
    ([0, 5], None)
    """
    found: Any = table
    for value in key:
        if value not in found.index.get_level_values(0):
            return None
        found = found.loc[value]
    return pd.DataFrame(found)


def group(trials: pd.DataFrame) -> Groups:
    """The panels and lines of the table `trials`, which has at least one row.

    A panel has at most MOST_LINES of its settings, evenly chosen where a single number tells them apart.
    """
    columns = [name for name in spec_columns() if name in trials and name not in ("seed", "measure")]
    if trials.duplicated([*columns, "seed"]).any():
        columns.append("measure")
    panel_columns = [name for name in columns if name in PANEL]
    numbers = trials.groupby(columns, dropna=False, sort=False).ngroup()
    first = trials.loc[~numbers.duplicated()]  # in the order of their numbers
    fields = [plain(row) for row in first[columns].to_dict("records")]
    rows = fields  # as they are told apart
    for component in KINDS:
        rows = spelled(rows, component)
    panel_of = first.groupby(panel_columns, dropna=False, sort=False).ngroup().tolist()
    panels = [[i for i, at in enumerate(panel_of) if at == panel] for panel in range(max(panel_of) + 1)]
    panels.sort(key=lambda members: [natural(rows[members[0]][name]) for name in sorted(panel_columns)])
    others = [name for name in columns if name not in PANEL]
    within = [name for name in others if any(vary(rows, name, members) for members in panels)]
    between = [name for name in others if name not in within and vary(rows, name, range(len(rows)))]

    rank, ordered = ranks(rows, within)
    kept = [chosen(sorted(members, key=rank.__getitem__), ordered) for members in panels[:MOST_PANELS]]
    shown = sorted({i for members in kept for i in members}, key=rank.__getitem__)
    label = line_labels(rows, within)
    names = list(dict.fromkeys(label[i] for i in shown))
    color = dict(zip(names, colors(len(names), ordered), strict=True))
    marker = {name: MARKERS[at % len(MARKERS)] for at, name in enumerate(names)}
    setting = {i: Setting(i, label[i], color[label[i]], marker[label[i]], fields[i]) for i in shown}
    options = [
        name for name in panel_columns if name.endswith("_options") and vary(rows, name, range(len(rows)))
    ]
    heads = [{name: rows[members[0]].get(name) for name in (*PANEL, *between)} for members in panels]
    own = [trials[numbers.isin(members)] for members in panels]
    return Groups(
        keys=["architecture", "dataset", *options, *within],
        panels=tuple(
            Panel(title, _largest(of.classes), _largest(of.parameters), tuple(setting[i] for i in members))
            for title, of, members in zip(labels(heads), own, kept, strict=False)
        ),
        seeds=int(trials.seed.groupby(numbers).nunique().max()),
        left_out=_left_out(len(panels), max(len(members) for members in panels)),
        of_trial={key: n for key, n in zip(trials.trial_id, numbers.tolist(), strict=True) if n in setting},
    )


def _largest(values: pd.Series[Any]) -> int | None:
    """The one value there is, or null."""
    found = values.dropna()
    return int(found.max()) if len(found) else None


def _left_out(panels: int, lines: int) -> str:
    words = []
    if panels > MOST_PANELS:
        words.append(
            f"The first {MOST_PANELS} of {panels} combinations of architecture and data set are drawn."
        )
    if lines > MOST_LINES:
        words.append(f"Of up to {lines} settings of one panel, {MOST_LINES} are drawn.")
    return " ".join(words)
