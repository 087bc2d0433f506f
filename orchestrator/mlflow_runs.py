"""One sweep in a tracking store: its experiment, a run for the sweep itself, and a child run for each trial.

Runs are found by their tag `trial_id`, so that nothing is there twice, and whatever is to be written is first
compared with what is there. Everything here waits for the server and raises what it raises.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator import run_content, tracking
from orchestrator.labels import labels
from orchestrator.mlflow_mirror import Point, TrackedRun, Tracker
from orchestrator.pulse import Pulse
from workers.result import TrialStatus

Points = Mapping[int, tuple[Mapping[str, float], int]]
"""By step: metrics by name, and the time in milliseconds."""

FILE_TAG, MIRRORED_TAG = "mlflow.tiny_subspace.file", "mlflow.tiny_subspace.mirrored"
"""Digests of the sweep file, and of all points of a run compared with Parquet. The page hides `mlflow.` tags."""


@dataclass
class TrialRun:
    """A trial's run, and how much of it is known to be there."""

    run: TrackedRun
    logged: dict[int, frozenset[str]] | None = None  # metric names by step; None: not known, to be asked for
    made_here: bool = False  # and so nothing of an earlier attempt is in it
    prepared: bool = False  # parameters and tags


class SweepRuns:
    """The runs of a sweep. `columns` are the trials known to it, for names."""

    def __init__(
        self,
        uri: str,
        name: str,
        text: str,
        note: str,
        columns: Sequence[Mapping[str, Any]] = (),
        pulse: Pulse | None = None,
    ) -> None:
        self._uri, self._sweep, self._text, self._note, self._pulse = uri, name, text, note, pulse
        self._columns = list(columns)
        found = labels(self._columns)
        self._names = {str(c["trial_id"]): label for c, label in zip(columns, found, strict=True)}
        self._active: dict[str, dict[str, Any]] = {}  # columns of the trials that are under way here
        self._same_names: dict[frozenset[str], frozenset[str]] = {}
        self._tracker: Tracker | None = None
        self._runs: dict[str, TrialRun] = {}  # by trial_id
        self.artifact_error: Exception | None = None  # the store of files may fail where all else works

    # --- the sweep ---

    def open(self) -> None:
        """Find the experiment and all its runs, or make them. Does nothing when that is done already.

        Of two runs of one trial, or of the sweep, one is deleted: the answer to a request that made it came too
        late or never.
        """
        if self._tracker is not None:
            return
        tracker = Tracker(self._uri, self._sweep, self._pulse)
        flat = f"[all trials with charts]({tracking.trials_page(tracker.experiment)})"
        about = {"mlflow.note.content": self._note.replace(run_content.TRIALS_LINK, flat)}
        tracker.tag_experiment(about | {"mlflow.experimentKind": "custom_model_development"})
        known = {found.run.run_id: found for found in self._runs.values()}
        self._runs = {}
        parent: TrackedRun | None = None
        for run in tracker.runs():
            trial_id = run.tags.get("trial_id", "")
            is_parent = run.tags.get("kind") == run_content.SWEEP
            if (is_parent and parent) or trial_id in self._runs:
                tracker.delete_run(run.run_id)
            elif is_parent:
                parent = run
            elif trial_id:
                earlier = known.get(run.run_id, TrialRun(run))
                self._runs[trial_id] = replace(earlier, run=run, prepared=False)
        if parent is None:
            tags = {"kind": run_content.SWEEP, "sweep": self._sweep, "mlflow.source.name": "tiny-subspace"}
            parent = tracker.create_run(self._sweep, tags)
        self._parent, self._tracker = parent, tracker
        self._tag(parent, about)
        self._store_file()
        for trial_id, found in self._runs.items():
            self._adopt(trial_id, found.run)

    def forget(self) -> None:
        """After an error nobody knows whether the last request has arrived: the next `open` asks again."""
        self._tracker = None

    def release(self) -> None:
        """What is known of the points of trials that have ended is needed no longer."""
        for trial_id in self._runs.keys() - self._active.keys():
            self._runs[trial_id].logged = None

    def all_told_here(self, trial_id: str) -> bool:
        """Whether all points in the trial's run were written by this object."""
        found = self._runs.get(trial_id)
        return found is not None and found.made_here

    def reopen(self) -> None:
        """The sweep runs again."""
        self._set_status(self._parent, "RUNNING")

    def attach(self, report: Path) -> None:
        """The page and the figures of a report belong to the sweep's run."""
        self._open_tracker.folder(self._parent.run_id, report, "report")

    def end(self, status: str) -> None:
        """Say how the sweep ended: FINISHED, FAILED or KILLED."""
        self._set_status(self._parent, status)

    def unfinished(self) -> set[str]:
        """The trials whose runs say that they are under way while nobody here has started them."""
        waiting = ("RUNNING", "SCHEDULED")
        return {key for key, found in self._runs.items() if found.run.status in waiting} - self._active.keys()

    def close_unfinished(self) -> None:
        """What a driver left running when it died is KILLED, and its trial pending again."""
        for trial_id in self.unfinished():
            run = self._runs[trial_id].run
            self._tag(run, {"status": str(TrialStatus.PENDING)})
            self._set_status(run, "KILLED")

    def _store_file(self) -> None:
        digest = _digest(self._text)
        if self._parent.tags.get(FILE_TAG) == digest:
            return
        try:
            self._open_tracker.text(self._parent.run_id, self._text, "sweep.yaml")
        except Exception as error:  # metrics do not need it
            self.artifact_error = error
        else:
            self._tag(self._parent, {FILE_TAG: digest})

    def _adopt(self, trial_id: str, run: TrackedRun) -> None:
        """A run made earlier belongs to the present parent, and has the name that tells it apart now."""
        self._tag(run, {"mlflow.parentRunId": self._parent.run_id})
        name = self._names.get(trial_id)
        if name and run.tags.get("mlflow.runName") != name:
            self._open_tracker.update_run(run.run_id, name=name)

    # --- trials ---

    def start(self, columns: Mapping[str, Any], at: int) -> None:
        """A trial is under way since `at` (milliseconds): its run is there, RUNNING, with its parameters."""
        trial_id = str(columns["trial_id"])
        self._active[trial_id] = dict(columns)
        run = self._run(trial_id, at).run
        if MIRRORED_TAG in run.tags:
            self._untag(run, MIRRORED_TAG)  # no longer compared
        self._tag(run, {"status": str(TrialStatus.RUNNING)})
        self._set_status(run, "RUNNING")

    def log(self, trial_id: str, points: Points) -> None:
        """Write what is not there yet. KeyError for a trial that was neither started nor is there."""
        found = self._run(trial_id)
        logged = found.logged
        if logged is None:
            logged = _by_step(self._open_tracker.history(found.run.run_id))
        new: list[Point] = []
        for step, (metrics, at) in sorted(points.items()):
            there = logged.get(step, frozenset())
            new += [Point(name, value, at, step) for name, value in metrics.items() if name not in there]
            names = there.union(metrics)
            logged[step] = self._same_names.setdefault(names, names)  # one set for all the steps alike
        found.logged = None  # until the answer is here
        self._open_tracker.metrics(found.run.run_id, new)
        found.logged = logged

    def finish(self, trial_id: str, result: Mapping[str, Any], at: int) -> None:
        """A trial has ended: its run says how. KeyError as in `log`."""
        found = self._run(trial_id)
        tags = run_content.outcome_tags(result)
        for key in {"error", "error_type", "mlflow.note.content"} & (found.run.tags.keys() - tags.keys()):
            self._untag(found.run, key)  # of an earlier attempt
        self._tag(found.run, tags)
        self._set_status(found.run, run_content.RUN_STATUS[TrialStatus(result["status"])], at)
        self._active.pop(trial_id, None)

    def sync(self, trial: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """Make a finished trial's run say what its Parquet rows say, adding only what is missing.

        A run with anything else in it, such as a point twice or of another attempt, is deleted and made
        again.
        """
        trial_id = str(trial["trial_id"])
        started, finished = _milliseconds(trial["started_at"]), _milliseconds(trial["finished_at"])
        pace = (finished - started) / max(1, trial["steps_done"] or 0)  # Parquet has no times of rows
        points = {row["step"]: (run_content.metrics(row), int(started + pace * row["step"])) for row in rows}
        wanted = {
            (name, step): value for step, (metrics, _) in points.items() for name, value in metrics.items()
        }
        digest = _digest(json.dumps(sorted(wanted.items())))
        found = self._runs.get(trial_id)
        complete = found is not None and found.run.tags.get(MIRRORED_TAG) == digest
        if found is not None and not complete:
            history = self._open_tracker.history(found.run.run_id)
            found.logged = _by_step(history)
            if not _consistent(history, wanted):
                self._open_tracker.delete_run(found.run.run_id)
                del self._runs[trial_id]
        self._active[trial_id] = dict(trial)
        run = self._run(trial_id, started).run
        if not complete:
            self.log(trial_id, points)
        self.finish(trial_id, trial, finished)
        self._tag(run, {MIRRORED_TAG: digest})
        self._runs[trial_id].logged = None

    def _run(self, trial_id: str, at: int | None = None) -> TrialRun:
        """The trial's run, made where there is none, with all its parameters and tags."""
        columns, found = self._active.get(trial_id), self._runs.get(trial_id)
        if found is not None and (found.prepared or columns is None):
            return found
        if columns is None:
            raise KeyError(trial_id)
        tags = run_content.trial_tags(columns, self._sweep)
        if found is None:
            made = {"mlflow.parentRunId": self._parent.run_id, "mlflow.source.name": "tiny-subspace"}
            made |= tags | {"status": str(TrialStatus.RUNNING)}
            run = self._open_tracker.create_run(self._name(columns), made, at)
            found = self._runs[trial_id] = TrialRun(run, logged={}, made_here=True)
        self._tag(found.run, tags)
        wanted = run_content.parameters(columns)
        if new := {key: value for key, value in wanted.items() if key not in found.run.parameters}:
            self._open_tracker.parameters(found.run.run_id, new)
            found.run.parameters |= new.keys()
        found.prepared = True
        return found

    def _name(self, columns: Mapping[str, Any]) -> str:
        trial_id = str(columns["trial_id"])
        if trial_id not in self._names:
            self._names[trial_id] = labels([*self._columns, columns])[-1]
        return self._names[trial_id]

    @property
    def _open_tracker(self) -> Tracker:
        assert self._tracker is not None, "open first"
        return self._tracker

    def _tag(self, run: TrackedRun, tags: Mapping[str, str]) -> None:
        if new := {key: value for key, value in tags.items() if run.tags.get(key) != value}:
            self._open_tracker.tag(run.run_id, new)
            run.tags |= new

    def _untag(self, run: TrackedRun, key: str) -> None:
        self._open_tracker.untag(run.run_id, key)
        del run.tags[key]

    def _set_status(self, run: TrackedRun, status: str, at: int | None = None) -> None:
        if run.status == status:
            return
        if status == "RUNNING":
            self._open_tracker.update_run(run.run_id, status=status)
        else:
            self._open_tracker.terminate(run.run_id, status, at)
        run.status = status


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _by_step(history: Iterable[Point]) -> dict[int, frozenset[str]]:
    names: dict[int, set[str]] = {}
    for point in history:
        names.setdefault(point.step, set()).add(point.name)
    return {step: frozenset(found) for step, found in names.items()}


def _consistent(history: Sequence[Point], wanted: Mapping[tuple[str, int], float]) -> bool:
    """Whether every point is wanted, with that value, and there once."""
    found = {(point.name, point.step): point.value for point in history}
    return len(found) == len(history) and all(
        key in wanted and math.isclose(wanted[key], value, rel_tol=1e-12) for key, value in found.items()
    )


def _milliseconds(date: datetime | None) -> int:
    return int(date.timestamp() * 1000) if date is not None else 0
