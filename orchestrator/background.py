"""A thread that takes events off its caller's hands and never lets its troubles reach the caller."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Event = TypeVar("Event")


class Background(Generic[Event]):
    """Hands events to `deliver` in order, many at a time, in a thread of its own.

    `put` and `close` never raise, and `put` never waits: when `capacity` events wait already, the new one is
    dropped, unless it is one to `keep`. A delivery that raises is made again, whole, after a pause that grows
    from `pause` to 60 s, so `deliver` must bear an event twice. Every error, and every event lost, is told to
    `on_trouble`, in whichever thread it happens; `on_end` is called last, in the thread that ends.
    """

    BATCH = 500  # events per delivery
    LONGEST_PAUSE = 60.0  # seconds between deliveries that fail
    LOOK = 0.05  # seconds between two looks at how it goes, while closing

    def __init__(
        self,
        deliver: Callable[[Sequence[Event]], None],
        on_trouble: Callable[[Exception], None],
        on_end: Callable[[], None] = lambda: None,
        *,
        capacity: int = 5_000,
        pause: float = 1.0,
    ) -> None:
        self._deliver, self._on_trouble, self._on_end = deliver, on_trouble, on_end
        self._capacity, self._pause = capacity, pause
        self._waiting: deque[Event] = deque()
        self._changed = threading.Condition()
        self._closing = self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="tiny-subspace mirror", daemon=True)
        self._thread.start()

    def put(self, event: Event, keep: bool = False) -> bool:
        """Whether the event was taken."""
        with self._changed:
            full = self._closing or (len(self._waiting) >= self._capacity and not keep)
            if not full:
                self._waiting.append(event)
                self._changed.notify_all()
        if full:
            self._on_trouble(OverflowError("it takes less than there is to tell"))
        return not full

    def close(
        self, timeout: float, patience: float = math.inf, troubled: Callable[[], bool] = lambda: False
    ) -> bool:
        """Deliver what waits; whether all of it was delivered.

        Waits for `timeout` seconds at most, and no longer than `patience` whenever `troubled()` says that it is
        in vain. A delivery that fails now is made once more, at once.
        """
        begun = time.monotonic()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        while self._thread.is_alive():
            allowed = min(timeout, patience) if troubled() else timeout
            left = allowed - (time.monotonic() - begun)
            if left <= 0:
                break
            self._thread.join(min(left, self.LOOK))
        with self._changed:
            self._abandoned = True
            late, lost = self._thread.is_alive(), len(self._waiting)
        if late:
            self._on_trouble(TimeoutError(f"no answer in time; {lost} messages not delivered"))
        return not late and not lost

    def _run(self) -> None:
        try:
            self._deliver_all()
        finally:
            self._on_end()

    def _deliver_all(self) -> None:
        pause, last = self._pause, False
        while batch := self._next():
            started = time.monotonic()
            try:
                self._deliver(batch)
            except Exception as error:  # whatever it is, it must end in this thread
                self._on_trouble(error)
                if last:
                    return
                last = self._closing
                pause = min(2 * pause, self.LONGEST_PAUSE)
            else:
                self._done(len(batch))
                pause = max(self._pause, time.monotonic() - started)  # half of the time is the caller's
            with self._changed:
                self._changed.wait_for(lambda: self._closing, timeout=pause)

    def _next(self) -> list[Event]:
        """What waits, without taking it away; nothing when it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self._closing)
            if self._abandoned:
                return []
            return [self._waiting[i] for i in range(min(len(self._waiting), self.BATCH))]

    def _done(self, count: int) -> None:
        with self._changed:
            for _ in range(count):
                self._waiting.popleft()
