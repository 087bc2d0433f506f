"""What a driver leaves in the results folder every few seconds, so that `status` can tell what runs now."""

import json
import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

STALE_AFTER = timedelta(seconds=60)
"""A heartbeat older than this belongs to a driver that is gone, or cut off from the results."""


@dataclass(frozen=True)
class Running:
    """A trial at work: the last step that it reported, with its loss; both None before the first report."""

    step: int | None = None
    loss: float | None = None


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """One driver, alive at `written_at`. Dates are in UTC.

    >>> Heartbeat.from_json(Heartbeat(running={"ab": Running(3, 0.5)}).to_json()).running["ab"].step
    3
    """

    running: Mapping[str, Running] = field(default_factory=dict)  # by trial_id
    file: str | None = None  # the sweep file that the driver was given
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    written_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    driver: str = field(
        default_factory=lambda: uuid.uuid4().hex
    )  # which one, where process numbers come again
    ended: bool = False  # the driver has come to its end

    def alive(self, now: datetime | None = None, stale_after: timedelta = STALE_AFTER) -> bool:
        """Whether that driver still runs: not ended, written within `stale_after` and, on this host, its process exists.

        A clock of another host that is more than `stale_after` away from ours makes a live driver look gone.
        """
        if self.ended or (now or datetime.now(UTC)) - self.written_at > stale_after:
            return False
        return self.host != socket.gethostname() or _exists(self.pid)

    def now(self, **changes: Any) -> "Heartbeat":
        """The next heartbeat of the same driver."""
        return replace(self, written_at=datetime.now(UTC), **changes)

    def to_json(self) -> bytes:
        running = {trial_id: {"step": at.step, "loss": at.loss} for trial_id, at in self.running.items()}
        dates = {"started_at": self.started_at.isoformat(), "written_at": self.written_at.isoformat()}
        driver = {"driver": self.driver, "pid": self.pid, "host": self.host, "file": self.file}
        content = {**driver, **dates, "running": running, "ended": self.ended}
        return json.dumps(content, indent=2).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Heartbeat":
        """Raises ValueError for text that no driver of ours has written."""
        try:
            content: dict[str, Any] = json.loads(text)
            for name in ("started_at", "written_at"):
                content[name] = datetime.fromisoformat(content[name])
            content["running"] = {trial_id: Running(**at) for trial_id, at in content["running"].items()}
            return cls(**content)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not a heartbeat: {error}") from error


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists and is another user's
        return True
    return True
