"""What is sent to a cluster for a sweep: checked, named, described, and found again. Imports no ray."""

import hashlib
import secrets
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from orchestrator import parcel
from orchestrator.files import holds_credentials
from orchestrator.job import COMMAND
from orchestrator.tracking import without_password
from orchestrator.versions import VERSION_VARIABLE, code_version

if TYPE_CHECKING:
    from orchestrator.sweep import Sweep
    from workers.spec import TrialSpec

LIMIT = 100 * 2**20
"""Bytes that Ray takes for a job's files: more is HTTP 413. It sends them as they are, without compression."""

RESERVED = 2 * 2**20
"""Bytes of these for this package and the archive."""

SHOWN = 5
"""Files named where there are too many bytes."""

STOP_SECONDS = 120
"""Seconds that `ray job stop` gives running trials to save where they are; Ray's own three are too few."""


class Sendable(Protocol):
    """What becomes a job."""

    @property
    def address(self) -> str: ...
    @property
    def command(self) -> str: ...
    @property
    def entrypoint(self) -> str: ...
    @property
    def environment(self) -> dict[str, str]: ...
    @property
    def metadata(self) -> dict[str, str]: ...
    def pack(self, target: Path) -> None: ...


@dataclass(frozen=True)
class Submission:
    """A sweep, where it is to run, and the options that go with it, as given."""

    sweep: "Sweep"
    address: str
    results: str | None
    tracking_uri: str | None = None
    data: str | None = None
    checkpoint_every: float = 30.0
    yes: bool = False
    log_format: str = "text"

    def problems(self) -> list[str]:
        """Everything that is wrong with the call, one line each; nothing is asked of the cluster."""
        places = wrong_places(self.results or "", self.tracking_uri, self.data, self.sweep.name)
        return [*wrong_address(self.address), *self._missing(), *places, *self._wrong_files()]

    def pack(self, target: Path) -> None:
        """Copy into `target` what travels: this package, the sweep file and what it names beside it."""
        parcel.pack(target, self.sweep.folder, self._specs)
        (target / self.sweep.path.name).write_text(self.sweep.text, encoding="utf-8")

    @property
    def entrypoint(self) -> str:
        """The driver's command line. It runs in the job's folder, whose copy of this package comes first."""
        words = ["python", "-m", "orchestrator", "run", self.sweep.path.name, "--address", "auto"]
        words += ["--results", self.place, "--checkpoint-every", f"{self.checkpoint_every:g}"]
        return shlex.join([*words, *place_options(None, self.tracking_uri, self.data), *self._rest])

    @property
    def environment(self) -> dict[str, str]:
        """The job's environment variables, which the Jobs API shows to everybody: nothing secret is among them."""
        stop = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}
        return {VERSION_VARIABLE: code_version(), COMMAND: self.command} | stop

    @property
    def _rest(self) -> list[str]:
        """Options that are the same in both command lines."""
        words = [] if self.log_format == "text" else ["--log-format", self.log_format]
        return [*words, *(["--yes"] if self.yes else [])]

    @property
    def metadata(self) -> dict[str, str]:
        """What the job is known by: Ray's own `job_name`, and what tells whether another is the same."""
        return {"job_name": self.sweep.name, "results": self.place, "content": self._content()}

    def is_of(self, metadata: Mapping[str, str] | None) -> bool:
        """Whether a job with this metadata runs this sweep with these results: two would be in each other's way."""
        found = metadata or {}
        return (found.get("job_name"), found.get("results")) == (self.sweep.name, self.place)

    @property
    def place(self) -> str:
        """The results folder, written in one way."""
        return (self.results or "").rstrip("/")

    @property
    def command(self) -> str:
        """The line that submits it again, which resumes."""
        words = ["tiny-subspace", "submit", str(self.sweep.path), "--address", self.address]
        words += place_options(self.place, self.tracking_uri, self.data)
        every = f"{self.checkpoint_every:g}"
        words += ["--checkpoint-every", every] if every != "30" else []
        return shlex.join([*words, *self._rest])

    def hints(self, job: str) -> list[str]:
        """How to watch, stop, resume and follow a job."""
        return [
            f"  results  {self.place}",
            f"  watch    {self.address.rstrip('/')}/#/jobs/{job}",
            f"  status   tiny-subspace status {shlex.quote(self.place)} --address {shlex.quote(self.address)}",
            f"  stop     ray job stop {job} --address {shlex.quote(self.address)}",
            f"  follow, and resume where it has ended:  {self.command}",
        ]

    @property
    def _specs(self) -> list["TrialSpec"]:
        return self.sweep.examples

    def _content(self) -> str:
        """A hash of the sweep file and of what travels with it."""
        found = hashlib.sha256(self.sweep.text.encode())
        for path, _ in self._files():
            found.update(str(path.relative_to(self.sweep.folder)).encode() + path.read_bytes())
        return found.hexdigest()[:16]

    def _files(self) -> list[tuple[Path, int]]:
        """The user's own files that travel, and their bytes."""
        own = parcel.own_files(self.sweep.folder, self._specs)
        return [(path, path.stat().st_size) for path in parcel.files_within(own)]

    def _missing(self) -> Iterator[str]:
        if not self.results:
            yield (
                "--results: is missing: there is no default that every cluster could keep; give a URI such as "
                f"s3://bucket/{self.sweep.name}, or the full path of a folder that every node sees"
            )

    def _wrong_files(self) -> Iterator[str]:
        """What the trials name and cannot travel."""
        for value in parcel.left_behind(self.sweep.folder, self._specs):
            yield (
                f"{self.sweep.path}: {value}: lies outside the folder of the sweep file and stays here; put it beside "
                "the sweep file, or name it by the full path that it has on every node"
            )
        files = sorted(self._files(), key=lambda file: -file[1])
        total = sum(size for _, size in files)
        if total > LIMIT - RESERVED:
            largest = ", ".join(
                f"{path.relative_to(self.sweep.folder)} ({size / 2**20:.1f} MiB)"
                for path, size in files[:SHOWN]
            )
            yield (
                f"{self.sweep.path}: the files beside it that its trials need are {total / 2**20:.1f} MiB, and Ray "
                f"takes {LIMIT / 2**20:.0f} MiB with a job: {largest}. Put what is large on every node and name it by "
                "its full path"
            )


def new_id(name: str) -> str:
    """A submission id that nobody else has: Ray answers HTTP 500 to one that was used before."""
    return f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"


def place_options(results: str | None, tracking_uri: str | None, data: str | None) -> list[str]:
    """The places that are given, as words of a command line."""
    given = {"--results": results, "--tracking-uri": tracking_uri, "--data": data}
    return [word for option, place in given.items() if place for word in (option, place)]


def wrong_address(address: str) -> Iterator[str]:
    """What is wrong with the address of a cluster that is to take jobs."""
    if urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).hostname:
        yield (
            f"--address: {without_password(address)}: must be that of the cluster's dashboard, such as "
            "http://HEAD:8265"
        )
    elif holds_credentials(address):
        yield "--address: one with credentials is refused, since it is shown; RAY_AUTH_TOKEN_PATH is for Ray's token"


def wrong_places(results: str, tracking_uri: str | None, data: str | None, name: str) -> Iterator[str]:
    """Places that a job cannot keep anything in, and URIs that should not be shown; empty ones are not asked about."""
    lost = "a relative path would lie in the job's folder on the head, which is deleted with the job"
    if holds_credentials(results):
        yield (
            "--results: a URI with credentials is refused, since the Jobs API shows it; they belong into the "
            "environment of the cluster's nodes: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    elif results and "://" not in results and not results.startswith("/"):
        yield (
            f"--results: {results}: {lost}; give a URI such as s3://bucket/{name}, or the full path of a folder "
            "that every node sees"
        )
    if tracking_uri and holds_credentials(tracking_uri):
        yield (
            "--tracking-uri: a URI with credentials is refused, since the Jobs API shows it; they belong into the "
            "environment of the head: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    elif tracking_uri and is_relative_store(tracking_uri):
        yield f"--tracking-uri: {tracking_uri}: {lost}; give that of a server, or none"
    if data and not data.startswith(("/", "~")):
        yield f"--data: {data}: {lost}; give the full path of a folder on the nodes"


def is_relative_store(uri: str) -> bool:
    """Whether an MLflow store lies relative to wherever its user happens to be.

    >>> [is_relative_store(uri) for uri in ("http://mlflow:5000", "sqlite:////data/mlflow.db", "none")]
    [False, False, False]
    >>> is_relative_store("sqlite:///mlflow.db"), is_relative_store("mlruns")
    (True, True)
    """
    path = uri.removeprefix("sqlite:///")
    named = "://" in path or path in ("none", "databricks")
    return not named and not path.startswith("/")
