"""What drivers and workers log for machines: one JSON object a line, with the same fields everywhere."""

import json
import logging
import math
import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any


def json_line(event: str, message: str, level: str = "info", **fields: Any) -> str:
    """One line: `time` (UTC), `level`, `event`, `host`, `message`, then the fields that have a value.

    >>> print(json_line("end", "done", trial_id="1f", seconds=2.5, loss=float("nan")))
    {"time": "...Z", "level": "info", "event": "end", "host": "...", "message": "done", "trial_id": "1f", "seconds": 2.5}
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
    always = {"time": now, "level": level, "event": event, "host": platform.node(), "message": message}
    known = {name: value for name, value in fields.items() if value is not None and not _infinite(value)}
    return json.dumps(always | known, default=str)


class JsonFormatter(logging.Formatter):
    """Log records as such lines, with the event `log`, and what `context` says at the time."""

    def __init__(self, context: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__()
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        traceback = self.formatException(record.exc_info) if record.exc_info else None
        return json_line(
            "log",
            record.getMessage().strip(),
            record.levelname.lower(),
            **self._context(),
            logger=record.name,
            error=traceback,
        )


def _infinite(value: Any) -> bool:
    """JSON has no word for nan and the infinities."""
    return isinstance(value, float) and not math.isfinite(value)
