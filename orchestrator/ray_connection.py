"""Ray of our own on this machine, or the way into a cluster: what travels there, and one line where there is none."""

from __future__ import annotations

import logging
import os
import re
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from orchestrator import job, parcel
from workers.spec import TrialSpec

OBJECT_STORE = 256 * 2**20
"""Bytes of shared memory of a local Ray: rows are small."""


def connect(
    address: str | None, folder: Path | None = None, specs: Iterable[TrialSpec] = (), **local: Any
) -> None:
    """Start a quiet Ray on this machine, or connect to a cluster and send along what the trials need.

    `local` goes to `ray.init` for a Ray of our own. Raises ConnectionError in one line.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray prints pages about every death on standard output; the driver says it in a line and keeps what Ray told
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:  # "local": without it Ray attaches to whatever a stale file names
        settings = {"include_dashboard": False, "object_store_memory": OBJECT_STORE} | quiet | local
        ray.init(address="local", **settings)
        return
    knock(address)
    with tempfile.TemporaryDirectory(prefix="tiny-subspace-") as staging:
        environment = None
        if not job.inside():  # a job has a working directory, and Ray refuses a second
            parcel.pack(Path(staging), folder, specs)
            environment = {"working_dir": staging}
        try:
            ray.init(address=address, runtime_env=environment, **quiet)
        except (RayError, ConnectionError, RuntimeError, ValueError) as error:
            raise ConnectionError(f"{address}: no Ray cluster: {_reason(error)}") from error


def knock(address: str) -> None:
    """Raise ConnectionError where nobody listens at HOST:PORT: Ray itself takes minutes to say so."""
    host, _, port = address.rpartition(":")
    if "://" in address:
        raise ConnectionError(
            f"{address}: must be HOST:PORT of a Ray cluster that this machine belongs to, or auto"
        )
    if port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError as error:
            raise ConnectionError(f"{address}: no Ray cluster: {error.strerror or error}") from error


def _reason(error: BaseException) -> str:
    """The first line of an error, or what to do about the one that Ray hides behind others."""
    causes: list[BaseException] = [error]
    while cause := causes[-1].__cause__:
        causes.append(cause)
    if any("AuthenticationError" in f"{type(cause).__name__} {cause}" for cause in causes):
        return "it asks for an authentication token: set RAY_AUTH_MODE=token, with the token where Ray looks for it"
    return plain_text(error).strip().partition("\n")[0]


def travelled(folder: Path) -> Path:
    """The sweep's folder as a job's workers find it: within their own copy of the job's directory, or as it is.

    >>> travelled(Path.cwd() / "mine"), travelled(Path("/sweep"))
    (PosixPath('mine'), PosixPath('/sweep'))
    """
    here = Path.cwd().resolve()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def plain_text(error: BaseException) -> str:
    """An error's text without the colours that Ray gives it."""
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error))
