"""Trials that have ended, on their way into the results folder: together what ends together, and patiently.

A thread writes, while the driver hands out. One trial has files of its own; what has ended since the last commit began,
where that is more than one, is written as a batch.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass

from orchestrator.attempt import Attempt
from orchestrator.checkpoints import remove_checkpoints
from orchestrator.faults import Fault
from orchestrator.schema import ColumnError
from orchestrator.store import ResultStore, StoreError
from workers.result import TrialResult, TrialStatus

GATHER = 0.025
"""Seconds between the beginnings of two commits, at least: in a rush, trials are written by the dozen."""

BATCH = 256
"""Trials that are written at once, at most."""

LONGEST_PAUSE = 60.0
"""Seconds between two tries to write, at most; each pause is twice the last."""

STORAGE_PATIENCE = 600.0
"""Seconds that finished trials wait for storage that cannot be written, before the run ends."""


@dataclass
class Ended:
    """A trial that has ended, and whether its rows did not fit the tables, so that it counts as failed."""

    attempt: Attempt
    result: TrialResult
    unfit: bool = False


class Commits:
    """What is to be committed. `confirm` raises, before each commit, where results are not ours any more.

    `gather`: see GATHER. Trials in `stored` have a row already, which only a file of their own replaces. `pace` is a
    factor on all pauses. `note` is told when results cannot be written.
    """

    def __init__(
        self,
        store: ResultStore,
        sweep: str,
        *,
        stored: Collection[str] = (),
        gather: float = GATHER,
        confirm: Callable[[], None] = lambda: None,
        note: Callable[[str], object] = lambda _: None,
        pace: float = 1.0,
    ) -> None:
        self._store, self._sweep, self._confirm, self._note, self._pace = store, sweep, confirm, note, pace
        self._stored, self._gather = set(stored), gather
        self._waiting: deque[Ended] = deque()
        self._batch: list[Ended] = []  # being written, or to be written again as it is
        self._written: Future[list[Ended]] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tiny-subspace commit")
        self._begun = self._due = self._pause = self._since = 0.0

    def __len__(self) -> int:
        """Trials that have ended and are not committed yet."""
        return len(self._waiting) + len(self._batch)

    @property
    def stuck(self) -> bool:
        """Whether results could not be written when it was last tried."""
        return self._since > 0

    @property
    def resting(self) -> bool:
        """Whether it is too early to try again."""
        return time.monotonic() < self._due

    @property
    def promising(self) -> bool:
        """Whether something is not committed yet that did not fail."""
        return any(one.result.status is not TrialStatus.FAILED for one in (*self._batch, *self._waiting))

    @property
    def due_in(self) -> float:
        """Seconds until the next commit may begin; infinite where nothing waits for that."""
        if self._written or not self:
            return math.inf
        return max(0.0, max(self._due, self._begun + self._gather) - time.monotonic())

    def add(self, attempt: Attempt, result: TrialResult) -> None:
        self._waiting.append(Ended(attempt, result))

    def proceed(self, *, patient: bool = True) -> list[Ended]:
        """Begin to write what waits; what has been written since the last call.

        Raises StoreError where nothing could be written for STORAGE_PATIENCE, or where that fails and we are not
        `patient`; what was not written waits still.
        """
        written, trouble = self._collect()
        if written:
            self.ease()
        elif trouble:
            self.bear(trouble, patient=patient)
        if self and not self._written and not (patient and self.due_in):
            self._confirm()
            self._batch = self._batch or self._next()
            self._begun = time.monotonic()
            self._written = self._thread.submit(self._write, self._batch)
        return written

    def wait(self, seconds: float) -> None:
        """Until something has been written or may be tried again, or for so many seconds."""
        if self._written:
            wait([self._written], seconds)
        else:
            time.sleep(min(seconds, self.due_in))

    def finish(self) -> None:
        """Wait until what is being written has been written, or could not be."""
        if self._written:
            wait([self._written])

    def flush(self) -> Iterator[Ended]:
        """Write everything now; what has been written. Raises StoreError where something cannot be."""
        while self:
            yield from self.proceed(patient=False)
            self.finish()

    def ease(self) -> None:
        """The folder could be written again."""
        self._since = self._pause = self._due = 0.0

    def close(self) -> list[Ended]:
        """Let what is being written come to its end, and say what it was: afterwards nobody writes."""
        self._thread.shutdown()
        return self._collect()[0]

    def bear(self, error: StoreError, *, patient: bool) -> None:
        """The folder could not be written: pause, for longer each time. Raises the error where that is too much."""
        now = time.monotonic()
        if not self.stuck:
            self._since = now
            self._note(
                f"{error}; finished trials wait in memory, and no other begins, until it can be written again "
                f"(for {STORAGE_PATIENCE / 60:g} minutes at most)"
            )
        if now - self._since > STORAGE_PATIENCE * self._pace or not patient:
            raise error
        self._pause = min(LONGEST_PAUSE, 2 * self._pause or 1.0)
        self._due = now + self._pause * self._pace

    def _next(self) -> list[Ended]:
        """What is written next: the first that waits, and with it those after it that may be in a batch."""
        batch = [self._waiting.popleft()]
        while self._waiting and len(batch) < BATCH and self._may_join(batch[0], self._waiting[0]):
            batch.append(self._waiting.popleft())
        return batch

    def _may_join(self, *ended: Ended) -> bool:
        """Failed trials run again, and what replaces a row has a file of its own, as that has."""
        return all(
            one.result.status is not TrialStatus.FAILED
            and one.attempt.trial.spec.trial_id not in self._stored
            for one in ended
        )

    def _collect(self) -> tuple[list[Ended], StoreError | None]:
        """What has been written since the last call, or why it could not be; then it is tried again as it is."""
        if not self._written or not self._written.done():
            return [], None
        future, self._written = self._written, None
        try:
            written = future.result()
        except StoreError as error:
            return [], error
        self._batch = []
        return written, None

    def _write(self, batch: list[Ended]) -> list[Ended]:
        """Raises StoreError. Runs in the thread."""
        if len(batch) > 1:
            try:
                everything = [(one.attempt.trial.spec, one.result, one.attempt.rows) for one in batch]
                self._store.commit_batch(everything, self._sweep)
            except StoreError as error:
                if not isinstance(error.__cause__, ColumnError):
                    raise
                batch = [self._write_alone(one) for one in batch]
        else:
            batch = [self._write_alone(one) for one in batch]
        ended = {o.attempt.trial.spec.trial_id for o in batch if o.result.status is not TrialStatus.FAILED}
        if ended:
            with suppress(OSError):  # what cannot be removed now is removed by the next run
                remove_checkpoints(self._store.folder, ended)
        return batch

    def _write_alone(self, one: Ended) -> Ended:
        """Raises StoreError; but a trial whose rows do not fit the schema fails alone."""
        attempt, spec = one.attempt, one.attempt.trial.spec
        try:
            self._store.commit(spec, self._sweep, one.result, attempt.rows)
        except StoreError as error:
            if not isinstance(error.__cause__, ColumnError):
                raise
            kind = type(error.__cause__).__name__
            result = attempt.complete(attempt.failure(kind, str(error), Fault.CODE))
            self._store.commit(spec, self._sweep, result, [])
            return Ended(attempt, result, unfit=True)
        return one
