"""The state of a run: every trial left is waiting, resting after a fault, running, or ended and being committed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.alike import FailingAlike
from orchestrator.attempt import Attempt
from orchestrator.commits import GATHER, Commits, Ended
from orchestrator.events import Event, Failed, Finished, Measured, Started, Underway
from orchestrator.executors import Executor, PlacementError
from orchestrator.faults import MOST_LOSSES, POLICIES, Policy
from orchestrator.heartbeat import Running
from orchestrator.store import ResultStore, StoreError
from orchestrator.sweep import Sweep, Trial
from orchestrator.waiting import Waiting
from orchestrator.watchers import Display, Watcher
from workers.result import TrialResult, TrialStatus

if TYPE_CHECKING:
    from orchestrator.search_supply import Supply

POLL = 0.5
"""Seconds to wait for an event before looking after everything else."""

PATIENCE = 30.0
"""Seconds without a place before it is said that trials have none."""

LONGEST_PAUSE = 60.0
"""Seconds between two attempts of a trial, at most; each pause is twice the last."""


class Run:
    """What `run_sweep` does again and again.

    `supply` has further trials than those `left`, one by one. Those in `stored` have a row, as of a failure.
    `confirm` raises where results are not ours to write any more; `pace` is a factor on all pauses.
    """

    def __init__(
        self,
        sweep: Sweep,
        left: Sequence[Trial],
        store: ResultStore,
        executor: Executor,
        mirror: Watcher | None = None,
        display: Display | None = None,
        *,
        supply: Supply | None = None,
        stored: Collection[str] = (),
        confirm: Callable[[], None] = lambda: None,
        pace: float = 1.0,
    ) -> None:
        self._sweep, self._store, self._executor, self._display = sweep, store, executor, display
        self._supply = supply
        self._watchers: list[Watcher] = [watcher for watcher in (mirror, display) if watcher]
        self._pace, self._stopping = pace, False
        self._waiting = Waiting(left)
        self._resting: list[Attempt] = []
        self._running: dict[str, Attempt] = {}
        self._most: int | None = None  # trials at a time, once memory has run out
        self._commits = Commits(
            store,
            sweep.name,
            stored=stored,
            gather=0.0 if supply else GATHER,
            confirm=confirm,
            note=self.note,
            pace=pace,
        )
        self._next_complaint = time.monotonic() + PATIENCE
        self._said: set[str] = set()
        self.alike = FailingAlike()
        self.hopeless: str | None = None  # why the trials that wait need not be tried
        self.finished: dict[str, TrialStatus] = {}

    @property
    def unfinished(self) -> bool:
        found = self._running or self._resting or self._commits or self._waiting or self._more
        return bool(found)

    @property
    def _more(self) -> bool:
        """Whether the supply may have another trial."""
        return self._supply is not None and self._supply.more

    @property
    def running(self) -> dict[str, Running]:
        """The trials at work, for the heartbeat."""
        return {
            name: Running(a.step, (a.rows or [{}])[-1].get("train_loss")) for name, a in self._running.items()
        }

    def hand_out(self) -> None:
        """Submit trials as long as there is room for them and results can be written."""
        now = time.monotonic()
        for attempt in [a for a in self._resting if a.due <= now]:
            self._resting.remove(attempt)
            self._waiting.put_back(attempt)
        while waiting := self._next():
            self._begin(waiting)
        while trial := self._supplied():
            self._begin(Attempt(trial))

    def take_events(self, timeout: float = POLL) -> None:
        """Wait for something to happen, for `timeout` seconds at most, and act on it."""
        self._complain()
        if not self.unfinished:
            return
        if not self._running:
            now = time.monotonic()
            self._commits.wait(max(0.0, min([timeout, *(attempt.due - now for attempt in self._resting)])))
        for event in self._executor.events(min(timeout, self._commits.due_in)):
            attempt = self._running.get(event.trial_id)
            if attempt:
                self._act(attempt, event)

    def wind_up(self, grace: float) -> None:
        """Stop what runs as soon as it has saved a checkpoint, and commit what ends by itself before."""
        self._stopping = True
        if self._running:
            self.note(
                f"stopping what runs ({len(self._running)}) as soon as it has saved where it is; "
                "Ctrl-C again stops it at once"
            )
        for trial_id in self._running:
            self._executor.cancel(trial_id)
        end = time.monotonic() + grace
        while self._running and time.monotonic() < end:
            self.take_events()
            self.commit_ended()
        self.flush()

    def note(self, text: str, trial_id: str | None = None) -> None:
        if self._display:
            self._display.note(text, trial_id)

    @property
    def unwritten(self) -> int:
        """Trials that have ended and could not be committed."""
        return len(self._commits)

    def _begin(self, attempt: Attempt) -> None:
        attempt.begin()
        self._running[attempt.trial.spec.trial_id] = attempt
        self._executor.submit(attempt.trial)

    def _supplied(self) -> Trial | None:
        """The supply's next trial, if one may begin; while that cannot be put on record it waits, as results do."""
        if not self._more or self._commits or self._commits.resting or not self._may_begin():
            return None
        assert self._supply is not None
        try:
            trial = self._supply.next(self._executor.has_room)
        except StoreError as error:
            self._commits.bear(error, patient=bool(self._running) or not self._stopping)
            return None
        if trial:
            self._commits.ease()
        return trial

    def _may_begin(self) -> bool:
        return self._most is None or len(self._running) < self._most

    def _next(self) -> Attempt | None:
        """The next of the trials that wait, if one may begin; while all fail alike one that may fare better."""
        if not self._waiting or self._commits.stuck or not self._may_begin():
            return None
        preferred = self.alike.untried if self.alike.suspicious else lambda _: False
        return self._waiting.take(self._executor.has_room, preferred)

    def _act(self, attempt: Attempt, event: Event) -> None:
        trial_id = event.trial_id
        match event:
            case Started():
                attempt.placed(event)
                for watcher in self._watchers:
                    watcher.started(attempt.trial)
            case Measured(row=row):
                attempt.rows.append(row)
                attempt.step = row.get("step")
                for watcher in self._watchers:
                    watcher.row(trial_id, row)
                if self._supply and not attempt.pruned and self._supply.row(trial_id, row):
                    attempt.pruned = True
                    self._executor.cancel(trial_id)
            case Underway(step=step, note=note):
                attempt.step = step
                if self._display:
                    self._display.reached(trial_id, step)
                if note and note not in self._said:  # trouble that all trials have is told once
                    self._said.add(note)
                    self.note(note, trial_id)
            case Finished(result=result):
                self._end(attempt, result)
            case Failed() if attempt.pruned:
                self._end(attempt, attempt.cut_short())
            case Failed() if self._stopping:
                del self._running[trial_id]
            case Failed() if self._try_again(attempt, event):
                del self._running[trial_id]
                self._resting.append(attempt)
            case Failed(fault=fault, error_type=error_type, error=error):
                self._end(attempt, attempt.failure(error_type, error, fault))

    def _try_again(self, attempt: Attempt, failed: Failed) -> bool:
        """Whether there is another attempt; then it is due after a pause, with what the fault calls for."""
        policy = POLICIES[failed.fault]
        attempt.faults[failed.fault] += 1
        for watcher in self._watchers:
            watcher.faulted(failed.trial_id, failed.fault)
        if not policy.retried or attempt.exhausted(self._sweep.retries, MOST_LOSSES):
            return False
        pause = min(LONGEST_PAUSE, policy.first_pause * 2 ** (attempt.faults.total() - 1)) * self._pace
        attempt.due = time.monotonic() + pause
        changed = self._make_room(attempt, policy)
        text = f"{policy.words} ({failed.error_type}); attempt {attempt.number + 1} in {pause:g} s{changed}"
        self.note(text, failed.trial_id)
        return True

    def _make_room(self, attempt: Attempt, policy: Policy) -> str:
        """Give the next attempt more memory, as far as there is a way to; what was changed, in words."""
        resources = attempt.trial.resources
        if policy.fewer_trials and len(self._running) > 1:
            if self._most is None or self._most > len(self._running) - 1:
                self._most = len(self._running) - 1
            return f", and from now on at most {self._most} at a time"
        if policy.more_gpu and 0 < resources.gpus < 1:
            wider = replace(resources, gpus=1.0 if resources.gpus > 0.5 else 2 * resources.gpus)
            with suppress(PlacementError):
                self._executor.admit(wider)
                attempt.trial = replace(attempt.trial, resources=wider)
                return f" with {wider.gpus:g} of a GPU"
        return ""

    def _end(self, attempt: Attempt, result: TrialResult) -> None:
        del self._running[attempt.trial.spec.trial_id]
        self._commits.add(attempt, attempt.complete(result))
        if result.status is TrialStatus.FAILED:  # now, before another begins in its place
            self._judge(attempt, result)

    def commit_ended(self) -> bool:
        """Put in place what has ended; whether anything was. While results cannot be written it waits, and none begins."""
        written = self._commits.proceed(patient=bool(self._running) or not self._stopping)
        while self._supply and self._commits and not self._commits.stuck:  # it answers by what is stored
            self._commits.finish()
            written += self._commits.proceed()
        for ended in written:
            self._committed(ended)
        return bool(written)

    def flush(self) -> None:
        """Write everything that has ended now. Raises StoreError where something cannot be."""
        for ended in self._commits.flush():
            self._committed(ended)

    def close(self) -> None:
        """What is being written comes to its end; afterwards nobody writes."""
        for ended in self._commits.close():
            self._committed(ended)

    def _committed(self, ended: Ended) -> None:
        trial, result = ended.attempt.trial, ended.result
        trial_id = trial.spec.trial_id
        self.finished[trial_id] = result.status
        if ended.unfit:
            self._judge(ended.attempt, result)
        if self._supply:
            self._supply.ended(trial_id, result.status, [] if ended.unfit else ended.attempt.rows)
        if result.status is not TrialStatus.FAILED:
            self.alike.ended()
            self._waiting.learn(trial, result)
        for watcher in self._watchers:
            watcher.finished(trial_id, result)

    def _judge(self, attempt: Attempt, result: TrialResult) -> None:
        """Whether the others need not be tried, after this failure."""
        self.alike.failed(attempt.kind, str(result.error_type), result.error or "")
        if not self.alike.suspicious or self._commits.promising:
            return
        kinds = {*self._waiting.kinds, *(self._supply.kinds if self._supply and self._more else ())}
        verdict = self.alike.verdict(kinds) if kinds else None
        if verdict:
            rest = "the others" if self._more else f"{len(self._waiting)} trials"
            self.hopeless = f"{verdict}. {rest} were not begun; mend the cause and run the same command again"

    def _complain(self) -> None:
        """Say so, now and then, when trials wait for a place for long: other jobs hold it, or a node was lost."""
        now = time.monotonic()
        if self._commits.stuck:  # it is storage that they wait for
            return
        if self._running:
            waiting = sum(a.place is None and now - a.begun > PATIENCE for a in self._running.values())
        else:
            waiting = len(self._waiting) + self._more
        if not waiting:
            self._next_complaint = max(self._next_complaint, now + PATIENCE)
        elif now > self._next_complaint:
            self._next_complaint = now + 10 * PATIENCE
            self.note(f"{waiting} trials have no place to run yet")
