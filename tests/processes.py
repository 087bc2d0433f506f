"""A command with all that it starts, as one thing that can be killed, frozen, thawed and started again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path


class Command:
    """Python, or another program, with these words, and every process that descends from it.

    What they print goes to `log`. They run in `folder` and as `user`, a number, where these are given.
    """

    def __init__(
        self,
        log: Path,
        *words: str,
        environment: Mapping[str, str],
        program: str = sys.executable,
        folder: Path | None = None,
        user: int | None = None,
    ) -> None:
        self._log, self._words, self._environment = log, [program, *words], environment
        self._folder, self._user = folder, user
        self.start()

    def start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._words,
                env=self._environment,
                cwd=self._folder,
                user=self._user,
                extra_groups=None if self._user is None else [],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # its descendants are known by it, those too whose parents are dead
            )

    def kill(self) -> None:
        """End all of it at once, as where the power fails."""
        while self._signal(signal.SIGKILL):
            time.sleep(0.02)
        self._process.wait()

    def end(self, number: signal.Signals) -> None:
        """Ask the command itself to end, and wait until it has."""
        self._process.send_signal(number)
        self._process.wait()

    def freeze(self) -> None:
        """Stop all of it, as where a network is cut: what others send is read when it goes on."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def exit_code(self, wait: float = 0) -> int | None:
        """None where it runs still after `wait` seconds."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(wait)
        return None

    def output(self) -> str:
        return self._log.read_text()

    def processes(self) -> Iterator[tuple[int, str]]:
        """Number and command line of each process that lives."""
        for folder in Path("/proc").iterdir():
            with suppress(OSError):  # one that has just ended
                if folder.name.isdecimal():
                    # pid (name) state parent group session …, and the name may hold anything
                    state, _, _, family = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                    if int(family) == self._process.pid and state not in "ZX":
                        words = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                        yield int(folder.name), words.decode(errors="replace")

    def _signal(self, number: signal.Signals) -> int:
        """Send a signal to every process; how many there were."""
        found = [pid for pid, _ in self.processes()]
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return len(found)


def wait_until(true: Callable[[], bool], seconds: float = 30) -> None:
    """Return as soon as it is true. TimeoutError where that takes longer."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.05)
