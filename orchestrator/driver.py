"""run_sweep: what is left, retries, interrupts. The one loop, and the only writer of results."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from orchestrator.attempt import Attempt
from orchestrator.events import Event, Failed, Finished, Measured, Started
from orchestrator.executors import Executor
from orchestrator.heartbeat import Heartbeat, Running
from orchestrator.interrupt import Interrupt
from orchestrator.schema import ColumnError
from orchestrator.store import ResultStore, StoreError
from orchestrator.sweep import Resources, Sweep, Trial
from workers.result import Row, TrialResult, TrialStatus

POLL = 0.5
"""Seconds to wait for an event before looking after everything else."""

HEARTBEAT = 5.0
"""Seconds between two heartbeats."""

GRACE = 10.0
"""Seconds that cancelled trials have to come to their next row."""

PATIENCE = 30.0
"""Seconds without a place before it is said that trials have none."""

LONGEST_PAUSE = 60.0
"""Seconds between two attempts of a trial, at most; each pause is twice the last."""


class Watcher(Protocol):
    """Who is told what happens to a sweep, as the mirror is. No method raises, and none waits."""

    def begin(self, sweep: Sweep, left: Sequence[Trial]) -> None:
        """Of the sweep's trials, these are left to run; the store is ready."""

    def started(self, trial: Trial) -> None:
        """An attempt begins; those before it, and their rows, no longer count."""

    def row(self, trial_id: str, row: Row) -> None: ...

    def finished(self, trial_id: str, result: TrialResult) -> None:
        """The result is committed."""


class Display(Watcher, Protocol):
    """A watcher for people."""

    def note(self, text: str, trial_id: str | None = None) -> None:
        """One line, about a trial or about the run."""


@dataclass(frozen=True)
class Outcome:
    """How a run of a sweep ended. `counts` covers all of its trials, those finished earlier too."""

    counts: Mapping[TrialStatus, int]
    interrupted: bool = False
    error: str | None = None  # why it stopped early, other than by an interrupt

    @property
    def exit_code(self) -> int:
        """130 interrupted; 1 some trial failed, or results could not be written; else 0."""
        if self.interrupted:
            return 130
        return 1 if self.error or self.counts.get(TrialStatus.FAILED) else 0


def run_sweep(
    sweep: Sweep,
    *,
    store: ResultStore,
    executor: Executor,
    mirror: Watcher | None = None,
    progress: Display | None = None,
    only: Collection[str] | None = None,
    command: str | None = None,
    grace: float = GRACE,
    first_pause: float = 1.0,
) -> Outcome:
    """Run what is not finished of a sweep, or of its trials in `only`, and commit each trial as it ends.

    Failed trials are run again; every other finished one is left alone. `command` is the line that resumes.
    The caller closes the executor and the mirror. Nothing is started where PlacementError, StoreError or, for
    a trial_id in `only` that the sweep has not, ValueError is raised.
    """
    earlier = store.finished()
    left = remaining(sweep, earlier, only)
    for resources in dict.fromkeys(trial.resources for trial in left):
        executor.admit(resources)
    store.begin(sweep)
    for watcher in (mirror, progress):
        if watcher:
            watcher.begin(sweep, left)
    run = Run(sweep, left, store, executor, mirror, progress, first_pause)
    interrupted, error = False, None
    try:
        with Interrupt() as interrupt:
            while run.unfinished and not interrupt.requested:
                run.hand_out()
                run.take_events()
                run.beat()
            if run.unfinished:
                interrupted = True
                run.wind_up(grace)
    except KeyboardInterrupt:  # the second Ctrl-C
        interrupted = True
    except StoreError as failure:
        error = f"{failure}; stopped: what was committed before is safe"
        run.note(error)
    finally:
        run.beat(last=True)
    if interrupted:
        again = command or f"tiny-subspace run {sweep.path}"
        run.note(f"interrupted; finished trials are kept. To resume: {again}")
    statuses = earlier | run.finished
    counts = Counter(statuses.get(trial.spec.trial_id, TrialStatus.PENDING) for trial in sweep.trials)
    return Outcome(counts, interrupted, error)


def remaining(
    sweep: Sweep, finished: Mapping[str, TrialStatus], only: Collection[str] | None = None
) -> list[Trial]:
    """The trials to run, in the sweep's order. ValueError where `only` names one that the sweep has not."""
    chosen = {t.spec.trial_id for t in sweep.trials} if only is None else set(only)
    unknown = sorted(chosen - {t.spec.trial_id for t in sweep.trials})
    if unknown:
        raise ValueError(f"only: {unknown[0]!r}: the sweep {sweep.name} has no such trial")
    return [
        trial
        for trial in sweep.trials
        if trial.spec.trial_id in chosen
        and finished.get(trial.spec.trial_id, TrialStatus.FAILED) is TrialStatus.FAILED
    ]


class Run:
    """The state of one `run_sweep`: every trial left is waiting, resting after a failure, or running."""

    def __init__(
        self,
        sweep: Sweep,
        left: Sequence[Trial],
        store: ResultStore,
        executor: Executor,
        mirror: Watcher | None = None,
        display: Display | None = None,
        first_pause: float = 1.0,
    ) -> None:
        self._sweep, self._store, self._executor, self._display = sweep, store, executor, display
        self._watchers: list[Watcher] = [watcher for watcher in (mirror, display) if watcher]
        self._first_pause, self._stopping = first_pause, False
        self._waiting: dict[Resources, deque[Attempt]] = {}
        for trial in left:
            self._waiting.setdefault(trial.resources, deque()).append(Attempt(trial))
        self._resting: list[Attempt] = []
        self._running: dict[str, Attempt] = {}
        self._started_at, self._next_beat, self._next_complaint = (
            datetime.now(UTC),
            0.0,
            time.monotonic() + PATIENCE,
        )
        self.finished: dict[str, TrialStatus] = {}

    @property
    def unfinished(self) -> bool:
        return bool(self._running or self._resting or any(self._waiting.values()))

    def hand_out(self) -> None:
        """Submit trials in order, as long as there is room for their kind."""
        now = time.monotonic()
        for attempt in [a for a in self._resting if a.due <= now]:
            self._resting.remove(attempt)
            self._waiting[attempt.trial.resources].appendleft(attempt)
        for resources, attempts in self._waiting.items():
            while attempts and self._executor.has_room(resources):
                attempt = attempts.popleft()
                attempt.begin()
                self._running[attempt.trial.spec.trial_id] = attempt
                self._executor.submit(attempt.trial)

    def take_events(self, timeout: float = POLL) -> None:
        """Wait for something to happen, for `timeout` seconds at most, and act on it."""
        self._complain()
        if not self._running:
            time.sleep(min([timeout, *(max(0.0, a.due - time.monotonic()) for a in self._resting)]))
        for event in self._executor.events(timeout):
            attempt = self._running.get(event.trial_id)
            if attempt:
                self._act(attempt, event)

    def beat(self, last: bool = False) -> None:
        """Leave a heartbeat if it is time; the last one has nothing running."""
        if not last and time.monotonic() < self._next_beat:
            return
        self._next_beat = time.monotonic() + HEARTBEAT
        latest = {} if last else {name: (a.rows or [{}])[-1] for name, a in self._running.items()}
        running = {name: Running(row.get("step"), row.get("train_loss")) for name, row in latest.items()}
        path = str(self._sweep.path)
        self._store.write_heartbeat(Heartbeat(running=running, file=path, started_at=self._started_at))

    def wind_up(self, grace: float) -> None:
        """Cancel what runs, and commit what ends by itself within `grace` seconds all the same."""
        self._stopping = True
        if self._running:
            self.note(f"stopping {len(self._running)} running trials; Ctrl-C again stops them at once")
        for trial_id in self._running:
            self._executor.cancel(trial_id)
        end = time.monotonic() + grace
        while self._running and time.monotonic() < end:
            self.take_events()

    def note(self, text: str, trial_id: str | None = None) -> None:
        if self._display:
            self._display.note(text, trial_id)

    def _act(self, attempt: Attempt, event: Event) -> None:
        trial_id = event.trial_id
        match event:
            case Started():
                attempt.placed(event)
                for watcher in self._watchers:
                    watcher.started(attempt.trial)
            case Measured(row=row):
                attempt.rows.append(row)
                for watcher in self._watchers:
                    watcher.row(trial_id, row)
            case Finished(result=result):
                self._finish(attempt, result)
            case Failed() if self._stopping:
                del self._running[trial_id]
            case Failed(error_type=error_type, retry=True) if attempt.number <= self._sweep.retries:
                del self._running[trial_id]
                pause = min(LONGEST_PAUSE, self._first_pause * 2 ** (attempt.number - 1))
                attempt.due = time.monotonic() + pause
                self._resting.append(attempt)
                self.note(f"{error_type}; attempt {attempt.number + 1} in {pause:g} s", trial_id)
            case Failed(error_type=error_type, error=error):
                self._finish(attempt, attempt.failure(error_type, error))

    def _finish(self, attempt: Attempt, result: TrialResult) -> None:
        """Commit. A trial whose rows do not fit the schema fails alone; any other StoreError ends the run."""
        spec, rows = attempt.trial.spec, attempt.rows
        result = attempt.complete(result)
        try:
            self._store.commit(spec, self._sweep.name, result, rows)
        except StoreError as error:
            if not isinstance(error.__cause__, ColumnError):
                raise
            result = attempt.complete(attempt.failure(type(error.__cause__).__name__, str(error)))
            self._store.commit(spec, self._sweep.name, result, [])
        del self._running[spec.trial_id]
        self.finished[spec.trial_id] = result.status
        for watcher in self._watchers:
            watcher.finished(spec.trial_id, result)

    def _complain(self) -> None:
        """Say so, now and then, when trials wait for a place for long: other jobs hold it, or a node was lost."""
        now = time.monotonic()
        if self._running:
            waiting = sum(a.place is None and now - a.begun > PATIENCE for a in self._running.values())
        else:
            waiting = sum(map(len, self._waiting.values()))
        if not waiting:
            self._next_complaint = max(self._next_complaint, now + PATIENCE)
        elif now > self._next_complaint:
            self._next_complaint = now + 10 * PATIENCE
            self.note(f"{waiting} trials have no place to run yet")
