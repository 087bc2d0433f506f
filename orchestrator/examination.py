"""The doctor sent to a cluster: the questions are asked there, in a small job, as a sweep that is submitted would."""

import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator import parcel, versions
from orchestrator.doctor import Check
from orchestrator.submission import new_id, place_options, wrong_address, wrong_places


@dataclass(frozen=True)
class Examination:
    """The doctor as a job: `Sendable`."""

    address: str
    results: str | None = None
    tracking_uri: str | None = None
    data: str | None = None

    def problems(self) -> list[str]:
        """Everything that is wrong with the call, one line each."""
        places = wrong_places(self.results or "", self.tracking_uri, self.data, "doctor")
        return [*wrong_address(self.address), *places]

    def pack(self, target: Path) -> None:
        """This package alone travels."""
        parcel.pack(target, None, ())

    @property
    def entrypoint(self) -> str:
        return shlex.join(["python", "-m", "orchestrator", "doctor", "--address", "auto", *self._places])

    @property
    def environment(self) -> dict[str, str]:
        return {versions.VERSION_VARIABLE: versions.code_version()}

    @property
    def metadata(self) -> dict[str, str]:
        return {"job_name": "doctor"}

    @property
    def command(self) -> str:
        return shlex.join(["tiny-subspace", "doctor", "--address", self.address, *self._places])

    @property
    def _places(self) -> list[str]:
        return place_options(self.results, self.tracking_uri, self.data)


def examine(
    address: str,
    tracking_uri: str | None = None,
    results: str | None = None,
    data: str | None = None,
    write: Callable[[str], object] = lambda text: sys.stdout.write(text),
) -> int:
    """Say the answers of the cluster as they come; 0, or 1 where something failed, 2 for a call that makes no sense."""
    from orchestrator.following import Lost, ending, follow
    from orchestrator.run_command import Refused
    from orchestrator.submit import connect, send

    examination = Examination(address, results, tracking_uri, data)
    if problems := examination.problems():
        for problem in problems:
            sys.stderr.write(f"{problem}\n")
        return 2
    ours, job, heard = versions.versions(), new_id("doctor"), ""

    def say(line: object) -> None:
        write(f"{line}\n")

    def hear(text: str) -> None:
        nonlocal heard
        heard += text
        write(text)

    say(Check("here", True, versions.in_words(ours)))
    try:
        client = connect(address)
        say(Check("jobs", True, f"{address} lets us in; what follows is asked there, by the job {job}"))
        send(client, examination, job)
    except Refused as error:
        say(Check("jobs", False, str(error)))
        return 1

    try:
        code, line = ending(follow(client, job, hear, say))
    except KeyboardInterrupt:
        with suppress(Exception):  # it ends by itself in a minute
            client.stop_job(job)
        return 130
    except Lost as lost:
        code, line = 1, str(lost)
    if line:
        say(Check("job", False, f"{job}: {line}"))
    elif found := versions_in(heard):
        say(Check("compared", True, compared(ours, found)))
    return code


def versions_in(log: str) -> dict[str, str]:
    """The versions that the doctor's first line tells.

    >>> versions_in("ok    versions  python 3.11.9  ray 2.60.0\\nok    kernel    exact")
    {'python': '3.11.9', 'ray': '2.60.0'}
    """
    lines = [
        line.removeprefix("ok    versions  ")
        for line in log.splitlines()
        if line.startswith("ok    versions  ")
    ]
    return dict(word.split(" ", 1) for line in lines for word in line.split("  ")) if lines else {}


def compared(here: dict[str, str], there: dict[str, str]) -> str:
    """How the versions of the cluster differ from ours: a submitted sweep runs with those of the cluster.

    >>> compared({"python": "3.12.1", "ray": "2.60.0"}, {"python": "3.11.9", "ray": "2.60.0"})
    'other than here: python 3.11.9 (here 3.12.1); a sweep that is submitted runs with those of the cluster'
    """
    other = [
        f"{name} {version} (here {here.get(name)})"
        for name, version in there.items()
        if version != here.get(name)
    ]
    if not other:
        return "the same as here"
    return f"other than here: {', '.join(other)}; a sweep that is submitted runs with those of the cluster"
