"""What is told of a sweep while it runs, on standard error: live lines on a terminal, calm ones elsewhere, or JSON."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from orchestrator.faults import POLICIES, Fault
from orchestrator.json_lines import json_line
from orchestrator.labels import labels
from orchestrator.run_content import last_line
from orchestrator.sweep import Sweep, Trial
from orchestrator.sweep_measure import count_due
from workers.measurements import schedule_of
from workers.result import Row, TrialResult, TrialStatus

LINES = 12
"""Running trials shown at once on a terminal."""

SUMMARY_LINES = 20
"""Trials in the summary."""

LIVE = ("train_loss", "f_top")
"""Columns shown of a running trial."""

SUMMARY = ("train_loss", "test_accuracy", "f_top")
"""Columns in the summary."""

KEPT = {"step", "epoch", *LIVE, *SUMMARY}
"""What is remembered of a trial's rows."""

TOLD = ("status", "steps_done", "seconds", "hessian_products", "attempts", "fault", "error_type")
"""What machines are told of a finished trial, beside those."""

QUIET = 30.0
"""Seconds between two overall lines where there is no terminal."""

COLOURS = {TrialStatus.COMPLETED: "green", TrialStatus.DIVERGED: "yellow", TrialStatus.FAILED: "red"}


@dataclass
class Line:
    """What is known of one trial: its latest values, column by column."""

    label: str
    trial: Trial
    latest: Row = field(default_factory=dict)
    decompositions: int = 0  # steps whose eigenpairs have come
    result: TrialResult | None = None

    @property
    def share(self) -> float:
        """How much of the trial is done, from 0 to 1: of its eigenpairs, which take most of the time, or of its steps."""
        spec = self.trial.spec
        if spec.steps is not None and "top_eigenpairs" in spec.measure:
            due = count_due([schedule_of(spec.measure, "top_eigenpairs")], spec.steps)
            return min(1.0, self.decompositions / due) if due else 0.0
        name, whole = ("step", spec.steps) if spec.epochs is None else ("epoch", spec.epochs)
        return min(1.0, float(self.latest.get(name, 0)) / whole) if whole else 0.0

    @property
    def position(self) -> str:
        spec = self.trial.spec
        if spec.epochs is not None:
            return f"epoch {self.latest.get('epoch', 0.0):.1f}/{spec.epochs}"
        return f"step {self.latest.get('step', 0)}/{spec.steps}"


class Progress:
    """The display that `run_sweep` tells of a sweep; live while it is entered, and only on a terminal.

    With `as_json` every line is an object of orchestrator/json_lines.py, and nothing is live. `asked` says how many of
    the sweep's trials the run is for, where it is not for all of them.
    """

    def __init__(
        self, console: Console | None = None, as_json: bool = False, asked: int | None = None
    ) -> None:
        self._asked = asked
        self._console, self._json, self._sweep = console or error_console(), as_json, ""
        self._labels: dict[str, str] = {}
        self._trials: dict[str, Trial] = {}
        self._lines: dict[str, Line] = {}  # of trials that have begun and not ended
        self._running: dict[str, Line] = {}
        self._done: Counter[TrialStatus] = Counter()  # in this run
        self._summary: dict[bool, list[Line]] = {True: [], False: []}  # by whether they failed
        self._earlier = self._planned = 0  # trials finished in earlier runs, and those of this one
        self._shown: tuple[str, ...] = LIVE
        self._kept = KEPT
        self._examples: list[dict[str, Any]] = []  # what trials are told apart from that are not known yet
        self._begun = self._last_overall = time.monotonic()
        self._live: Live | None = None
        if self._console.is_terminal and not as_json:
            self._live = Live(console=self._console, get_renderable=self._render, transient=True)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def begin(self, sweep: Sweep, left: Sequence[Trial]) -> None:
        """Nothing raised here or below: a label that cannot be made is no reason to stop a sweep."""
        self._shown = tuple(dict.fromkeys((*LIVE, *(s.method.metric for s in sweep.searches))))
        self._kept = KEPT | {*self._shown}
        self._examples = [spec.columns() for search in sweep.searches for spec in search.examples]
        names = labels([*(_columns(t) for t in sweep.trials), *self._examples])
        self._trials = {t.spec.trial_id: t for t in left}
        by_id = zip((t.spec.trial_id for t in sweep.trials), names, strict=False)
        self._labels = {trial_id: name for trial_id, name in by_id if trial_id in self._trials}
        self._earlier = (self._asked or len(sweep.trials)) - len(left)
        self._planned = (self._asked or sweep.count) - self._earlier
        self._begun = self._last_overall = time.monotonic()
        self._sweep = sweep.name
        finished = f", {self._earlier} finished earlier" if self._earlier else ""
        text = f"{sweep.name}: {self._planned} of {sweep.count} trials to run{finished}"
        self._say("begin", text, trials=sweep.count, left=self._planned)

    def started(self, trial: Trial) -> None:
        trial_id = trial.spec.trial_id
        if trial_id not in self._labels:  # a search has asked for it
            self._labels[trial_id] = labels([*self._examples, _columns(trial)])[-1]
            self._trials[trial_id] = trial
        line = self._line(trial_id)
        line.latest, line.decompositions = {}, 0
        self._running[trial_id] = line
        if self._json:
            self._say("started", line.label, trial_id)

    def row(self, trial_id: str, row: Row) -> None:
        line = self._line(trial_id)
        line.decompositions += row.get("eigenvalues") is not None
        line.latest |= {n: row[n] for n in self._kept if row.get(n) is not None}
        if not self._live and time.monotonic() - self._last_overall >= QUIET:
            self._last_overall = time.monotonic()
            self._say("progress", self.overall(), done=self._done.total(), running=len(self._running))

    def reached(self, trial_id: str, step: int) -> None:
        self._line(trial_id).latest |= {"step": step}

    def faulted(self, trial_id: str, fault: Fault) -> None:
        """It does not run any more; people are told in a note."""
        self._running.pop(trial_id, None)
        if self._json:
            self._say("fault", POLICIES[fault].words, trial_id, "warning", fault=str(fault))

    def finished(self, trial_id: str, result: TrialResult) -> None:
        line = self._line(trial_id)
        for known in (self._lines, self._running):
            known.pop(trial_id, None)
        line.result = result
        self._done[result.status] += 1
        failed = result.status is TrialStatus.FAILED
        if len(self._summary[failed]) < SUMMARY_LINES:
            self._summary[failed].append(line)
        if not self._live or failed:
            self._say(
                "finished",
                f"[{self._done.total()}/{self._planned}] {finished_line(line, self._shown)}",
                trial_id,
                "error" if failed else "info",
                **{name: line.latest.get(name) for name in self._shown},
                **{name: getattr(result, name) for name in TOLD},
            )

    def note(self, text: str, trial_id: str | None = None) -> None:
        """One line; about a trial where one is named."""
        self._say("note", f"{self._labels[trial_id]}: {text}" if trial_id else text, trial_id)

    def _line(self, trial_id: str) -> Line:
        if trial_id not in self._lines:
            self._lines[trial_id] = Line(self._labels[trial_id], self._trials[trial_id])
        return self._lines[trial_id]

    def _say(
        self, event: str, text: str, trial_id: str | None = None, level: str = "info", **fields: Any
    ) -> None:
        """One line; for machines with its fields."""
        if self._json:
            text = json_line(event, text, level, trial_id=trial_id, sweep=self._sweep or None, **fields)
        # `:100:` of a traceback would be an emoji
        self._console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def overall(self) -> str:
        """Counts and the time left, in one line."""
        words = [f"{self._done.total()} of {self._planned} done"]
        shown = (TrialStatus.FAILED, TrialStatus.DIVERGED, TrialStatus.PRUNED)
        words += [f"{self._done[status]} {status}" for status in shown if self._done[status]]
        words.append(f"{len(self._running)} running")
        left = self._seconds_left()
        return ", ".join(words) + (f", about {duration(left)} left" if left is not None else "")

    def summary(self) -> None:
        """A table of this run's trials, failed ones first; for people alone."""
        if self._json:
            return
        if self._done:
            self._console.print(summary_table([*self._summary[True], *self._summary[False]]))
        if self._done.total() > SUMMARY_LINES:
            self.note(f"and {self._done.total() - SUMMARY_LINES} more")

    def _seconds_left(self) -> float | None:
        """From the speed so far, counting parts of running trials; None before there is anything to count."""
        made = self._done.total() + sum(line.share for line in list(self._running.values()))
        elapsed = time.monotonic() - self._begun
        return elapsed * (self._planned - made) / made if made > 0 else None

    def _render(self) -> RenderableType:
        running = list(self._running.values())
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for line in running[:LINES]:
            table.add_row(escape(line.label), line.position, *values(line.latest, self._shown, named=True))
        if len(running) > LINES:
            table.add_row(f"and {len(running) - LINES} more")
        bar = Table.grid(padding=(0, 2))
        bar.add_row(ProgressBar(self._planned or 1, self._done.total(), width=30), self.overall())
        return Group(table, bar)


def _columns(trial: Trial) -> dict[str, Any]:
    return {"trial_id": trial.spec.trial_id} | trial.spec.columns()


def error_console() -> Console:
    """Standard error; wide where it is a file, so that lines stay whole."""
    return Console(stderr=True) if sys.stderr.isatty() else Console(stderr=True, width=160)


def finished_line(line: Line, shown: Sequence[str] = LIVE) -> str:
    """A finished trial in one line; for a failed one with the last line of its error."""
    result = line.result
    assert result is not None
    at = f" at step {result.steps_done}" if result.status is TrialStatus.DIVERGED else ""
    words = [f"{result.status}{at}", line.label, *values(line.latest, shown, named=True)]
    words.append(duration(result.seconds))
    if result.status is TrialStatus.FAILED:
        last = last_line(result.error or "", str(result.error_type))
        words.append(last if str(result.error_type) in last else f"{result.error_type}: {last}")
    return "  ".join(word for word in words if word)


def summary_table(lines: Sequence[Line]) -> Table:
    """One row a trial: label, status, last train_loss, test_accuracy and f_top, seconds."""
    table = Table(box=None, pad_edge=False)
    table.add_column("trial", overflow="fold")
    table.add_column("status")
    for name in (*SUMMARY, "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines[:SUMMARY_LINES]:
        if line.result:
            status = line.result.status
            cells = (*values(line.latest, SUMMARY), duration(line.result.seconds))
            table.add_row(escape(line.label), f"[{COLOURS.get(status, 'default')}]{status}[/]", *cells)
    return table


def values(row: Row, names: Sequence[str], named: bool = False) -> list[str]:
    """Values of a row as short text, empty where there is none.

    >>> values({"f_top": 0.98765}, ("train_loss", "f_top"), named=True)
    ['', 'f_top 0.988']
    """
    return [_value(row.get(name), f"{name} " if named else "") for name in names]


def _value(value: Any, name: str) -> str:
    return f"{name}{value:.3g}" if isinstance(value, int | float) else ""


def duration(seconds: float) -> str:
    """
    >>> duration(0.52), duration(95), duration(3700)
    ('0.5 s', '1 min 35 s', '1 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = int(seconds) // 60
    return f"{minutes} min {int(seconds) % 60} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
