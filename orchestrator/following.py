"""A job's log followed to its end, whatever becomes of the connection, and what its end means. Imports no ray.

What became of a job is asked of the cluster, never read from the log: the log's stream may end before the job does.
"""

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

SILENCE = 60.0
"""Seconds without a line before the log is asked for anew: a connection that was cut says nothing."""

PATIENCE = 600.0
"""Seconds without an answer from the cluster before it is given up. (The job is not.)"""

PAUSE, LONGEST_PAUSE = 1.0, 15.0
"""Seconds between two attempts to reach the cluster, at first and at most."""

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


class JobInfo(Protocol):
    """What Ray says of a job: the fields of its `JobDetails` that are used here."""

    @property
    def status(self) -> str: ...
    @property
    def message(self) -> str | None: ...
    @property
    def error_type(self) -> str | None: ...
    @property
    def driver_exit_code(self) -> int | None: ...


class Client(Protocol):
    """What is used here of Ray's `JobSubmissionClient`."""

    def get_job_info(self, job_id: str) -> JobInfo: ...
    def get_job_logs(self, job_id: str) -> str: ...
    def tail_job_logs(self, job_id: str) -> AsyncIterator[str]: ...


class Lost(RuntimeError):
    """The job can be followed no longer; one line."""


def follow(
    client: Client,
    job: str,
    write: Callable[[str], object],
    say: Callable[[str], object],
    *,
    silence: float = SILENCE,
    patience: float = PATIENCE,
    pause: float = PAUSE,
) -> JobInfo:
    """Write the whole log of a job, each part once, and return what Ray says of the job when it has ended.

    `say` is told, in a line, when the cluster does not answer and when it does again. Raises Lost.
    """
    log, away_since, wait = Log(client, job, write), 0.0, pause
    while True:
        streamed = log.read(silence)
        wait = pause if streamed else min(LONGEST_PAUSE, 2 * wait)
        info = None
        try:
            info = client.get_job_info(job)
            # lines may have come since the stream ended, and there are networks that let no stream through
            whole = client.get_job_logs(job) if info.status in ENDED or not streamed else ""
        except (
            Exception
        ) as error:  # of Ray, of its HTTP library, or of what a proxy answers: no answer, all of them
            if "404" in str(error) and "does not exist" in str(error):
                raise Lost("the cluster no longer knows the job: its head was started anew") from error
            if not away_since:
                away_since = time.monotonic()
                say(
                    f"the cluster does not answer ({absence(error)}); whether the job goes on is not known until it "
                    f"does; trying for {patience / 60:g} minutes"
                )
            elif time.monotonic() - away_since > patience:
                if info and info.status in ENDED:
                    say(f"the rest of the log cannot be had: {reason(error)}")
                    return info
                raise Lost(f"the cluster has not answered for {patience / 60:g} minutes") from error
        else:
            if away_since:
                say("the cluster answers again")
            away_since = 0.0
            log.catch_up(whole)
            if info.status in ENDED:
                return info
        time.sleep(wait)


class Log:
    """The log of a job. Each stream of it begins at the first line; what was written before is left out."""

    def __init__(self, client: Client, job: str, write: Callable[[str], object]) -> None:
        self._client, self._job, self._write = client, job, write
        self._written = 0  # characters

    def read(self, silence: float) -> bool:
        """Write what is new until the stream ends, in whatever way. False where there was none, or nothing new in it."""
        before = self._written
        try:
            asyncio.run(self._read(silence))
        except BrokenPipeError:  # nobody reads what we write
            raise
        except Exception:  # `follow` finds out whether the cluster answers
            return self._written > before
        return True

    def catch_up(self, whole: str) -> None:
        """Write what is new in the log as it is now."""
        if len(whole) > self._written:
            self._write(whole[self._written :])
            self._written = len(whole)

    async def _read(self, silence: float) -> None:
        position = 0
        chunks = self._client.tail_job_logs(self._job)
        while (chunk := await asyncio.wait_for(anext(chunks, None), silence)) is not None:
            new = chunk[max(0, self._written - position) :]
            position += len(chunk)
            if new:
                self._written = position
                self._write(new)


def ending(info: JobInfo) -> tuple[int, str | None]:
    """The exit code that contracts give to what became of a job, and a line where the log has none."""
    code = exit_code(info)
    if info.status == "SUCCEEDED" or code in (1, 2, 130):
        return code or 0, None
    if info.status == "STOPPED":
        return 130, "the job was stopped; finished trials are kept"
    if code == 127:  # the shell's
        return 2, "the job did not start: where Ray was started on the head, there is no command `python`"
    if code is not None:
        number = -code if code < 0 else code - 128
        known = number in {each.value for each in signal.Signals}
        return (
            1,
            f"the driver was killed ({signal.Signals(number).name})"
            if known
            else f"the driver ended with {code}",
        )
    kind = info.error_type or ""
    why = reason(info.message or kind or "Ray does not say why")
    if any(word in kind for word in ("START", "SETUP", "UNSCHEDULABLE")):
        return 2, f"the job did not start: {why}"
    return 1, f"the job died: {why}"


def exit_code(info: JobInfo) -> int | None:
    """That of the driver, None where it has none; Ray before 2.10 says it in its message only."""
    if info.driver_exit_code is not None:
        return info.driver_exit_code
    found = re.search(r"failed with exit code (-?\d+)", info.message or "")
    return int(found[1]) if found else None


def reason(error: object) -> str:
    """An error in one line of at most 300 characters: the last of a traceback, the first of anything else.

    >>> reason("Request failed with status code 500: Traceback (most recent call last):\\n  File …\\nValueError: no")
    'ValueError: no'
    """
    lines = [line.strip() for line in str(error).splitlines() if re.search(r"\w", line)]
    lines = lines or [type(error).__name__]
    return lines[-1 if "Traceback (most recent call last)" in str(error) else 0][:300]


def absence(error: Exception) -> str:
    """Why there was no answer, in few words: what the system, or gRPC, says deep within what libraries wrap around it.

    >>> absence(OSError("Pool(port=1): Max retries exceeded (Caused by E('[Errno 111] Connection refused'))"))
    'connection refused'
    """
    text = str(error)
    if found := re.search(r"\[Errno -?\d+\] ([\w ]+)", text):
        return found[1].lower()
    if found := re.search(r'details = "(.+)"', text):
        return found[1][:80]
    wrapped = re.search("Max retries exceeded|Connection aborted|[Tt]imed out", text)
    return "no answer" if wrapped else reason(error)


@contextmanager
def leaving(first: Callable[[], object]) -> Iterator[None]:
    """While entered, the first Ctrl-C calls `first` and changes nothing; the second raises KeyboardInterrupt."""
    pressed = False

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        first()

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
