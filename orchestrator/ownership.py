"""Who runs a sweep: one driver at a time for each results folder, and a sign of life from it every few seconds."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from orchestrator.heartbeat import STALE_AFTER, Heartbeat, Running
from orchestrator.store import ResultStore, StoreError

PERIOD = 5.0
"""Seconds between two heartbeats."""

LOCK = ".driver.lock"

ANCIENT = timedelta(hours=1)
"""The age of a heartbeat whose driver is dead whatever the clocks say."""


class OwnedError(StoreError):
    """Another driver is at work in the results folder; one line."""


class Ownership:
    """The right to write results, while entered; a thread leaves the heartbeats, however long a trial is silent.

    On a local disk the operating system lets one process have the lock, and takes it back when that dies. Between
    machines, and on object stores, the heartbeat decides: one that changes is alive, one that has not changed for
    STALE_AFTER is not, and one whose process is gone from this machine is dead at once. Entering raises OwnedError
    where another driver lives; `waiting` is told when that takes longer to find out.
    """

    def __init__(
        self,
        store: ResultStore,
        file: str | None = None,
        *,
        period: float = PERIOD,
        stale_after: timedelta = STALE_AFTER,
        waiting: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._store, self._period, self._stale_after = store, period, stale_after
        self._waiting = waiting
        self._lock: FileLock | None = None
        self._mine = Heartbeat(file=file)
        self._running: Mapping[str, Running] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="tiny-subspace heartbeat", daemon=True)
        self._written_at = time.time()
        self.lost: OwnedError | None = None  # set when another driver has taken over

    def __enter__(self) -> Self:
        locked = self._take_lock()
        other = self._store.read_heartbeat()
        if other and not self._gone(other, locked):
            self._outlive(other)
        self._write()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._still_mine():
            self._running = {}
            self._write(ended=True)
        if self._lock:
            self._lock.release()

    def running(self, trials: Mapping[str, Running]) -> None:
        """What the next heartbeats say."""
        self._running = trials

    def confirm(self) -> None:
        """Raise OwnedError where another driver has taken over, as it may while this process was frozen.

        Whoever writes results asks before. (The clock is that of the day, which goes on while a machine sleeps.)
        """
        if self.lost is None and time.time() - self._written_at > 2 * self._period and self._still_mine():
            self._write()
        if self.lost:
            raise self.lost

    def _still_mine(self) -> bool:
        other = self._store.read_heartbeat()
        if other and other.driver != self._mine.driver and not other.ended:
            self.lost = self.lost or OwnedError(self._refusal(other))
        return self.lost is None

    def _take_lock(self) -> bool:
        """Whether there is a lock and it is ours. Raises OwnedError where another has it."""
        folder = self._store.folder
        if not folder.local:
            return False
        with suppress(OSError):  # `begin` says what is the matter
            folder.make()
        if not Path(folder.path).is_dir():
            return False
        lock = FileLock(folder.join(LOCK), timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise OwnedError(self._refusal(self._store.read_heartbeat())) from None
        except (OSError, NotImplementedError):  # a disk without locks, or read-only
            return False
        self._lock = lock
        return True

    @staticmethod
    def _gone(other: Heartbeat, locked: bool) -> bool:
        """Whether a driver of this machine is dead for certain. (In a container each of them is process 1.)"""
        return other.host == socket.gethostname() and (locked or other.pid == os.getpid())

    def _outlive(self, other: Heartbeat) -> None:
        """Wait until it is clear that `other` is dead; OwnedError as soon as it is not.

        Clocks of two machines may differ: only a heartbeat that is older than any clock is slow needs no watching.
        """
        begun, told = time.monotonic(), False
        while other.alive(stale_after=ANCIENT):
            silent = time.monotonic() - begun
            left = self._stale_after.total_seconds() - silent
            if left <= 0:
                return
            now = self._store.read_heartbeat()
            if now != other:
                raise OwnedError(self._refusal(now))
            if not told and silent > 2 * self._period:
                told = True
                self._waiting(
                    f"the driver on {other.host} is silent; taking over in {left:.0f} s unless it speaks"
                )
            time.sleep(min(0.5, self._period / 4))

    def _refusal(self, other: Heartbeat | None) -> str:
        who = (
            f" ({other.host}, process {other.pid}, since {other.started_at:%Y-%m-%d %H:%M} UTC)"
            if other
            else ""
        )
        return (
            f"{self._store}: another driver is at work here{who}; stop it first, or give another folder with "
            "--results. `tiny-subspace status` shows how far it is"
        )

    def _beat(self) -> None:
        while not self._ended.wait(self._period):
            if not self._still_mine():
                return
            self._write()

    def _write(self, ended: bool = False) -> None:
        changes: dict[str, Any] = {"running": self._running, "ended": ended}
        self._store.write_heartbeat(self._mine.now(**changes))
        self._written_at = time.time()
