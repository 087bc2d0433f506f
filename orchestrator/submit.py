"""The verb `submit`: a sweep becomes a Ray job, which does not depend on whoever follows it."""

import logging
import os
import shlex
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from orchestrator.following import Client, Lost, ending, follow, leaving, reason
from orchestrator.job import COMMAND
from orchestrator.relay import Relay
from orchestrator.run_command import Refused
from orchestrator.status import Job
from orchestrator.submission import LIMIT, Sendable, Submission, new_id

OLDEST = (2, 50)
"""The first version of Ray that runs this package; pyproject.toml says the same."""

OVERRIDING = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Environment variables that Ray's client obeys whatever address it is given."""

TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""Loggers of Ray that tell of every upload."""


def submit(submission: Submission, following: bool = True) -> int:
    """Send the sweep to the cluster, or find the job that runs it, and follow it; the exit code of contracts.

    Raises Refused, in one line, where the cluster is not there or does not take the job.
    """
    job, relay = "the job", Relay(submission.log_format == "json")
    say = relay.say
    try:
        client = connect(submission.address)
        found = running(client, submission)
        job = found.submission_id or "" if found else new_id(submission.sweep.name)
        if found is None:
            send(client, submission, job)
            say(f"{job}: submitted; it goes on whatever becomes of this command")
        else:
            say(f"{job}: runs this sweep with these results already; no second job was started")
            if (found.metadata or {}).get("content") != submission.metadata["content"]:
                say(
                    "the sweep file or its modules have changed since: when it has ended, submit again for what is new"
                )
            if relay.as_json and "--log-format json" not in found.entrypoint:
                say("it was submitted with its log as text: its lines come as messages of the event `log`")
    except KeyboardInterrupt:
        say(
            f"interrupted; should the cluster have taken {job} already, this command follows it: {submission.command}"
        )
        return 130
    for line in submission.hints(job):
        say(line)
    return watch(client, submission, job, relay) if following else 0


def watch(client: Client, submission: Submission, job: str, relay: Relay) -> int:
    """Follow a job to its end, or until it is left."""
    say = relay.say

    def first() -> None:
        say(f"Ctrl-C does not stop {job}; a second one ends this command, not the job")
        for line in submission.hints(job):
            say(line)

    try:
        with leaving(first):
            info = follow(client, job, relay.write, say)
    except KeyboardInterrupt:
        say(f"{job} was not stopped. To follow it again: {submission.command}")
        return 130
    except Lost as lost:
        say(f"{job}: {lost}. To follow it, or to resume: {submission.command}")
        return 1
    finally:
        relay.end()
    code, line = ending(info)
    if line:
        say(f"{job}: {line}. To go on: {submission.command}")
    return code


def connect(address: str) -> JobSubmissionClient:
    """The cluster's Jobs API. Raises Refused where there is none that we can use."""
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    knock(address)
    try:
        with only(address):
            client = JobSubmissionClient(address)
    except AuthenticationError as error:
        raise Refused(f"{address}: {unauthorized(error)}") from error
    except ValueError as error:  # JSON was expected
        raise Refused(f"{address}: what answers there is no Ray dashboard") from error
    except (OSError, RuntimeError) as error:  # those of `requests` are OSErrors
        raise Refused(f"{address}: no Ray cluster to submit to: {reason(error)}") from error
    version = client._server_ray_version or ""
    if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < OLDEST:
        raise Refused(
            f"{address}: the cluster has Ray {version}; {'.'.join(map(str, OLDEST))} or later is needed"
        )
    return client


def knock(address: str) -> None:
    """Refuse an address at which nobody listens: Ray's client would wait for minutes."""
    parts = urlsplit(address)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if parts.scheme in getproxies() and not proxy_bypass(host):  # it cannot be reached directly
        return
    try:
        socket.create_connection((host, port), timeout=10).close()
    except OSError as error:
        raise Refused(
            f"{address}: no Ray cluster: {error.strerror or error}; is the head running, and is this its dashboard's port "
            "(8265 by default), or a tunnel to it?"
        ) from error


@contextmanager
def only(address: str) -> Iterator[None]:
    """Let Ray's client take this address and no other."""
    before = {name: os.environ.pop(name) for name in OVERRIDING if name in os.environ}
    os.environ[OVERRIDING[0]] = address
    try:
        yield
    finally:
        del os.environ[OVERRIDING[0]]
        os.environ.update(before)


def unauthorized(error: AuthenticationError) -> str:
    """What to do where the cluster does not let us in."""
    where = "RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token or RAY_AUTH_TOKEN"
    if "Authentication required" in str(error):
        return f"the cluster asks for a token: set RAY_AUTH_MODE=token, with its token in {where}"
    if "Authentication failed" in str(error):
        return f"the token is not that of the cluster; it was taken from {where}"
    return f"RAY_AUTH_MODE=token is set, and there is no token in {where}"


def running(client: JobSubmissionClient, submission: Submission) -> JobDetails | None:
    """The job that runs this sweep with these results now, if there is one."""
    with asked(submission.address, submission.command):
        for job in client.list_jobs():
            if job.submission_id and not job.status.is_terminal() and submission.is_of(job.metadata):
                return job
    return None


def jobs(address: str, results: str) -> list[Job]:
    """The jobs that work with these results, the last first: all that have not ended, or else the last that has."""
    place = results.rstrip("/")
    client = connect(address)
    again = shlex.join(["tiny-subspace", "status", results, "--address", address])
    with asked(address, again, "did not list its jobs"):
        found = [each for each in client.list_jobs() if (each.metadata or {}).get("results") == place]
    found.sort(key=lambda each: each.start_time or 0, reverse=True)
    live = [each for each in found if not each.status.is_terminal()]
    return [job_of(address, each) for each in live or found[:1]]


def job_of(address: str, details: JobDetails) -> Job:
    """What is told of a job."""
    ended = details.status.is_terminal()
    at = details.end_time if ended else details.start_time
    name = details.submission_id or details.job_id or ""
    return Job(
        name,
        str(details.status),
        datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="seconds") if at else None,
        f"{address.rstrip('/')}/#/jobs/{name}",
        ending(details)[1] if ended else None,
        ((details.runtime_env or {}).get("env_vars") or {}).get(COMMAND),
    )


def send(client: JobSubmissionClient, submission: Sendable, job: str) -> None:
    """Submit the job with its files."""
    with (
        tempfile.TemporaryDirectory(prefix="tiny-subspace-") as staging,
        asked(submission.address, submission.command),
    ):
        submission.pack(Path(staging))
        client.submit_job(
            entrypoint=submission.entrypoint,
            submission_id=job,
            runtime_env={"working_dir": staging, "env_vars": submission.environment},
            metadata=submission.metadata,
        )


@contextmanager
def asked(address: str, again: str, failed: str = "did not take the job") -> Iterator[None]:
    """Raise Refused where the cluster does not do what it is asked; `again` is the command that asks again."""
    try:
        yield
    except AuthenticationError as error:
        raise Refused(f"{address}: {unauthorized(error)}") from error
    except (OSError, RuntimeError, ValueError) as error:
        if "status code 413" in str(error):
            limit = f"{LIMIT / 2**20:.0f} MiB"
            raise Refused(f"{address}: the sweep's files are too large for the cluster ({limit})") from error
        raise Refused(f"{address}: the cluster {failed}: {reason(error)}. To try again: {again}") from error
