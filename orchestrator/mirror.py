"""MLflow kept up to date: beside a running sweep and never in its way, or afterwards from Parquet alone."""

import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator import results, run_content, tracking
from orchestrator.background import Background
from orchestrator.faults import Fault
from orchestrator.mlflow_mirror import refused
from orchestrator.mlflow_runs import SweepRuns
from orchestrator.pulse import Pulse
from orchestrator.status import planned_trials
from orchestrator.store import ResultStore
from orchestrator.sweep import Sweep, Trial
from workers.result import Row, TrialResult, TrialStatus
from workers.spec import TrialSpec

LEAST_PATIENCE, SHARE = 0.5, 0.01
"""With a server in trouble the end of a run waits for that many seconds, or that share of the run's duration."""


class _Opened(NamedTuple):
    pass


class _Started(NamedTuple):
    columns: Mapping[str, Any]
    at: int  # milliseconds, as in all of MLflow


class _Measured(NamedTuple):
    trial_id: str
    step: int
    metrics: Mapping[str, float]
    at: int


class _Finished(NamedTuple):
    trial_id: str
    result: Mapping[str, Any]
    at: int


class _Owed(NamedTuple):
    trial_id: str


class _Ended(NamedTuple):
    status: str


_Event = _Opened | _Started | _Measured | _Finished | _Owed | _Ended


class Mirror:
    """Tells MLflow about a sweep while it runs, from a thread of its own.

    Nothing here raises or waits, whatever the server does, except `close`, which waits for a bounded time. A
    server that is down, slow or refusing gives one warning, with the command that makes up for it later;
    meanwhile the mirror keeps what it can within bounds and tries again now and then. Trials of which it had
    to drop something, and those with more than one attempt, get what Parquet says when they have ended.

    `path` is the results folder, which `ResultStore.begin` has made ready. `warn` is called at most once, from any thread.
    """

    def __init__(
        self,
        tracking_uri: str,
        path: str | Path,
        *,
        warn: Callable[[str], object] = lambda line: sys.stderr.write(f"{line}\n"),
        capacity: int = 5_000,
        pause: float = 1.0,
    ) -> None:
        self._uri, self._path, self._warn, self._warned = tracking_uri, str(path), warn, False
        self._runs: SweepRuns | None = None
        self._pulse, self._begun, self._failed = Pulse(), time.monotonic(), False
        self._doubtful: set[str] = set()  # trials of which something was dropped
        self._owed: set[str] = set()  # trials that have ended and are to be told from Parquet
        self._environment = ExitStack()
        self._background: Background[_Event] = Background(
            self._deliver, self._trouble, self._environment.close, capacity=capacity, pause=pause
        )

    def begin(self, sweep: Sweep, left: Sequence[Trial]) -> None:  # noqa: ARG002
        """The sweep runs, from here on; nothing is made or asked before."""
        self._sweep, self._begun = sweep, time.monotonic()
        self._environment.enter_context(tracking.impatient())  # until the thread ends
        self._background.put(_Opened(), keep=True)

    def started(self, trial: Trial) -> None:
        """A trial, or another attempt at it, is under way."""
        self._put(trial.spec.trial_id, lambda: _Started(_columns(trial.spec), _now()))

    def row(self, trial_id: str, row: Row) -> None:
        """A trial has yielded a row. One that was told before, by an earlier attempt, changes nothing."""
        self._put(trial_id, lambda: _Measured(trial_id, int(row["step"]), run_content.metrics(row), _now()))

    def faulted(self, trial_id: str, fault: Fault) -> None:
        """The trial's run stays as it is: its next attempt goes on in it, or it is finished."""

    def finished(self, trial_id: str, result: TrialResult) -> None:
        """A trial has ended and is stored."""
        if not self._put(trial_id, lambda: _Finished(trial_id, asdict(result), _now())):
            self._background.put(_Owed(trial_id), keep=True)

    def close(self, status: str = "FINISHED", timeout: float = 30.0) -> None:
        """The sweep has ended: FINISHED, FAILED (some trial has) or KILLED (interrupted).

        Waits for what is left to be told: as long as the server answers well, `timeout` seconds at most, and
        otherwise for a hundredth of the run's duration.
        """
        patience = max(LEAST_PATIENCE, SHARE * (time.monotonic() - self._begun))
        self._background.put(_Ended(status), keep=True)
        self._background.close(timeout, patience, lambda: self._pulse.troubled)

    def _put(self, trial_id: str, make: Callable[[], _Event]) -> bool:
        try:
            event = make()
        except Exception as error:  # a row that MLflow cannot hold is no reason to stop a driver
            self._trouble(error)
            return True
        taken = self._background.put(event)
        if not taken:
            self._doubtful.add(trial_id)
        return taken

    def _deliver(self, events: Sequence[_Event]) -> None:
        runs = self._runs = self._runs or self._make_runs()
        try:
            runs.open()
            if runs.artifact_error:
                self._trouble(runs.artifact_error)
            self._tell(runs, events)
            runs.release()
        except BaseException:
            self._failed = True
            runs.forget()
            raise

    def _make_runs(self) -> SweepRuns:
        note = run_content.sweep_note(self._sweep.description, self._path)
        columns = [_columns(spec) for spec in self._sweep.examples]
        return SweepRuns(self._uri, self._sweep.name, self._sweep.text, note, columns, self._pulse)

    def _tell(self, runs: SweepRuns, events: Iterable[_Event]) -> None:
        points: dict[str, dict[int, tuple[Mapping[str, float], int]]] = {}
        ending = None
        for event in events:
            match event:
                case _Opened():
                    runs.reopen()
                    self._owed |= runs.unfinished()  # a killed driver's
                    self._settle(runs)
                    runs.close_unfinished()
                case _Started(columns, at):
                    self._attempt(runs.start, columns, at)
                case _Measured(trial_id, step, metrics, at):
                    points.setdefault(trial_id, {})[step] = (metrics, at)
                case _Finished(trial_id, result, at):
                    waiting = points.pop(trial_id, {})
                    doubtful = trial_id in self._doubtful or not runs.all_told_here(trial_id)
                    if doubtful or result["attempts"] > 1:
                        self._owed.add(trial_id)
                    else:
                        self._attempt(runs.log, trial_id, waiting)
                        self._attempt(runs.finish, trial_id, result, at)
                case _Owed(trial_id):
                    points.pop(trial_id, None)
                    self._owed.add(trial_id)
                case _Ended(status):
                    ending = status
        for trial_id, waiting in points.items():
            self._attempt(runs.log, trial_id, waiting)
        self._settle(runs)
        if ending:
            self._end(runs, ending)

    def _settle(self, runs: SweepRuns) -> None:
        """The trials that are owed and finished get exactly what Parquet says."""
        if not self._owed:
            return
        with suppress(FileNotFoundError):
            for trial, rows in results.by_trial(self._path, only=self._owed):
                self._attempt(runs.sync, trial, rows)
        self._doubtful -= self._owed
        self._owed.clear()

    def _end(self, runs: SweepRuns, status: str) -> None:
        if self._failed:  # a request that was given up may have made a run after all
            runs.forget()
            runs.open()
        runs.end(status)

    def _attempt(self, call: Callable[..., None], *arguments: Any) -> None:
        """What is refused for what it says must not hold up the rest; any other error is the batch's."""
        try:
            call(*arguments)
        except KeyError as error:
            self._trouble(error)
        except Exception as error:
            if not refused(error):
                raise
            self._trouble(error)

    def _trouble(self, error: Exception) -> None:
        if self._warned:
            return
        self._warned = True
        where, why = tracking.without_password(self._uri), tracking.reason(error)
        repair = repair_command(self._path, self._uri)
        with suppress(Exception):  # what warns may be gone, as a closed terminal is
            self._warn(f"mlflow: {where}: {why}; the sweep goes on without it. Afterwards: {repair}")


def repair_command(path: str, uri: str) -> str:
    """The command that makes or repairs the runs of a results folder."""
    return shlex.join(["tiny-subspace", "mirror", path, "--tracking-uri", tracking.without_password(uri)])


def mirror(path: str | Path, tracking_uri: str, report: Path | None = None) -> int:
    """Make or repair the MLflow runs of a results folder from what lies in it; the number of trials.

    `report` is a folder whose page and figures are put into the sweep's run; by default `report` of the results
    folder, if there is one.

    Doing it again changes nothing. A run gets what it lacks; one that says anything else than the stored
    rows, or is there twice, is deleted and made again. Runs of trials that are not finished are closed unless
    a driver is alive. Raises FileNotFoundError or StoreError where there are no results, TrackingError where
    the store does not answer or refuses; what has been mirrored by then is right, and doing it again goes on
    from there.
    """
    store = ResultStore(path)
    name, text = store.sweep_name(), store.sweep_text()
    columns = [_columns(spec) for spec in planned_trials(store) or ()]
    planned = {trial["trial_id"] for trial in columns}
    statuses = store.finished()
    columns += [trial for trial in results.trial_rows(path) if trial["trial_id"] not in planned]
    heartbeat = store.read_heartbeat()
    live = heartbeat is not None and heartbeat.alive() and bool(heartbeat.running)
    note = run_content.sweep_note(store.description(), str(path))
    try:
        with tracking.impatient():
            runs = SweepRuns(tracking_uri, name, text, note, columns)
            runs.open()
            for trial, rows in results.by_trial(path):
                runs.sync(trial, rows)
            if not live:
                runs.close_unfinished()
                runs.end(_ending(statuses, planned))
            report = report or Path(path) / "report"
            if (report / "index.html").is_file():
                runs.attach(report)
    except Exception as error:
        where = tracking.without_password(tracking_uri)
        raise tracking.TrackingError(f"{where}: {tracking.reason(error)}") from error
    if runs.artifact_error:
        why = tracking.reason(runs.artifact_error)
        raise tracking.TrackingError(f"all is there except sweep.yaml; the store of artifacts says: {why}")
    return len(statuses)


def _ending(statuses: Mapping[str, TrialStatus], planned: Iterable[str]) -> str:
    if TrialStatus.FAILED in statuses.values():
        return "FAILED"
    return "KILLED" if set(planned) - statuses.keys() else "FINISHED"


def _columns(spec: TrialSpec) -> dict[str, Any]:
    return {"trial_id": spec.trial_id, **spec.columns()}


def _now() -> int:
    return time.time_ns() // 1_000_000
