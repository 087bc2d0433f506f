"""Trials that have ended, on their way into the results folder: some at a time, and patiently where it cannot be written."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass

from orchestrator.attempt import Attempt
from orchestrator.checkpoints import remove_checkpoints
from orchestrator.faults import Fault
from orchestrator.schema import ColumnError
from orchestrator.store import ResultStore, StoreError
from workers.result import TrialResult, TrialStatus

WRITERS = 4
"""Trials written at a time: an object store takes a while for each, and has room for many."""

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
    """What is to be committed. Threads write; `confirm` raises, before each, where results are not ours any more.

    `pace` is a factor on all pauses. `note` is told when results cannot be written.
    """

    def __init__(
        self,
        store: ResultStore,
        sweep: str,
        *,
        confirm: Callable[[], None] = lambda: None,
        note: Callable[[str], object] = lambda _: None,
        pace: float = 1.0,
    ) -> None:
        self._store, self._sweep, self._confirm, self._note, self._pace = store, sweep, confirm, note, pace
        self._waiting: deque[Ended] = deque()
        self._writing: dict[Future[Ended], Ended] = {}
        self._threads = ThreadPoolExecutor(WRITERS, thread_name_prefix="tiny-subspace commit")
        self._due = self._pause = self._since = 0.0

    def __len__(self) -> int:
        """Trials that have ended and are not committed yet."""
        return len(self._waiting) + len(self._writing)

    @property
    def stuck(self) -> bool:
        """Whether results could not be written when it was last tried."""
        return self._since > 0

    @property
    def resting(self) -> bool:
        """Whether it is too early to try again."""
        return time.monotonic() < self._due

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
        while self._waiting and len(self._writing) < WRITERS and not (patient and self.resting):
            self._confirm()
            ended = self._waiting.popleft()
            self._writing[self._threads.submit(self._write, ended)] = ended
        return written

    def wait(self, seconds: float) -> None:
        """Until something has been written or may be tried again, or for so many seconds."""
        if self._writing:
            wait(self._writing, seconds, FIRST_COMPLETED)
        else:
            time.sleep(max(0.0, min(seconds, self._due - time.monotonic()) if self._waiting else seconds))

    def finish(self) -> None:
        """Wait until what is being written has been written, or could not be."""
        wait(self._writing)

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
        self._threads.shutdown()
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

    def _collect(self) -> tuple[list[Ended], StoreError | None]:
        """What has been written since the last call, and why something could not be."""
        written, trouble = [], None
        for future in [future for future in self._writing if future.done()]:
            ended = self._writing.pop(future)
            try:
                written.append(future.result())
            except StoreError as error:
                trouble = error
                self._waiting.appendleft(ended)
        return written, trouble

    def _write(self, ended: Ended) -> Ended:
        """Raises StoreError; but a trial whose rows do not fit the schema fails alone. Runs in a thread."""
        attempt, result = ended.attempt, ended.result
        spec = attempt.trial.spec
        try:
            self._store.commit(spec, self._sweep, result, attempt.rows)
        except StoreError as error:
            if not isinstance(error.__cause__, ColumnError):
                raise
            kind = type(error.__cause__).__name__
            result = attempt.complete(attempt.failure(kind, str(error), Fault.CODE))
            self._store.commit(spec, self._sweep, result, [])
            return Ended(attempt, result, unfit=True)
        if result.status is not TrialStatus.FAILED:
            with suppress(OSError):  # what cannot be removed now is removed by the next run
                remove_checkpoints(self._store.folder, {spec.trial_id})
        return ended
