"""A job's log followed: each part once, whatever the connection does, and the exit code of what became of the job."""

import asyncio
import itertools
import os
import re
import signal
import time
from dataclasses import dataclass

import pytest

from orchestrator.following import Lost, absence, ending, follow, leaving, reason

LOG = "Runtime env is setting up.\nfigure-1: 2 of 2 trials to run\n[1/2] completed\n[2/2] completed\n"
CUT = ConnectionResetError("Cannot write to closing transport")


@dataclass(frozen=True)
class Info:
    """As Ray's JobDetails."""

    status: str = "SUCCEEDED"
    driver_exit_code: int | None = None
    message: str | None = None
    error_type: str | None = None


RUNNING, DONE = Info("RUNNING"), Info("SUCCEEDED", 0)


class Cluster:
    """A jobs client. Each stream begins at the log's first line and goes on to a position, where it ends or breaks.

    `streams` are (position, what is raised there or None); the last is repeated. `infos` are answers or exceptions,
    the last repeated. `wholes` are the lengths of the log when it is asked for without a stream.
    """

    def __init__(self, streams, infos, wholes, chunk=7):
        self._wholes = itertools.chain(wholes, itertools.repeat(len(LOG)))
        self._streams = itertools.chain(streams, itertools.repeat(streams[-1]))
        self._infos = itertools.chain(infos, itertools.repeat(infos[-1]))
        self._chunks = itertools.cycle([chunk, chunk + 4])  # never the same pieces again

    async def tail_job_logs(self, job_id):
        end, error = next(self._streams)
        position, size = 0, next(self._chunks)
        while position < end:
            yield LOG[position : min(end, position + size)]
            position += size
        if error == "silence":
            await asyncio.sleep(60)
        elif error:
            raise error

    def get_job_logs(self, job_id):
        return LOG[: next(self._wholes)]

    def get_job_info(self, job_id):
        info = next(self._infos)
        if isinstance(info, Exception):
            raise info
        return info


def followed(streams, infos, wholes=(), **options):
    """What is written and said, and what comes back."""
    written, said = [], []
    settings = {"silence": 0.05, "pause": 0.001, "patience": 60} | options
    begun = time.monotonic()
    info = follow(Cluster(streams, infos, wholes), "job", written.append, said.append, **settings)
    assert (
        time.monotonic() - begun < 30
    )  # of silence there is 0.05 s at most, and of pauses a few milliseconds
    return "".join(written), said, info


@pytest.mark.parametrize(
    ("streams", "infos"),
    [
        ([(len(LOG), None)], [DONE]),
        ([(30, CUT), (10, CUT), (0, CUT), (50, CUT), (len(LOG), None)], [RUNNING] * 4 + [DONE]),
        ([(30, None), (len(LOG), None)], [RUNNING, DONE]),
        ([(30, "silence"), (len(LOG), None)], [RUNNING, DONE]),
        ([(30, CUT), (len(LOG), None)], [DONE]),
        ([(30, None), (len(LOG), None)], [DONE]),
        ([(len(LOG), None)], [RUNNING, RUNNING, DONE]),
    ],
    ids=[
        "undisturbed",
        "cut",
        "ends early",
        "falls silent",
        "cut at the end",
        "ends early at the end",
        "waits for the status",
    ],
)
def test_the_log_is_written_whole_and_each_part_once(streams, infos):
    assert followed(streams, infos) == (LOG, [], DONE)


def test_where_no_stream_gets_through_the_log_is_asked_for():
    written = []
    cluster = Cluster([(0, CUT)], [RUNNING, RUNNING, RUNNING, DONE], (30, 30, 60))
    assert follow(cluster, "job", written.append, written.append, pause=0.001) == DONE
    assert written == [LOG[:30], LOG[30:60], LOG[60:]]


def test_an_outage_is_told_once_and_so_is_its_end():
    refused = OSError("Connection refused")
    streams = [(30, CUT), (0, refused), (0, refused), (len(LOG), None)]
    written, said, info = followed(streams, [refused, refused, RUNNING, refused, DONE])
    assert (written, info) == (LOG, DONE)
    assert len(said) == 4
    assert all(
        "does not answer (Connection refused); whether the job goes on is not known" in line
        for line in said[::2]
    )
    assert said[1::2] == ["the cluster answers again"] * 2


def test_a_cluster_that_stays_away_is_given_up():
    with pytest.raises(Lost, match="has not answered for"):
        followed([(0, CUT)], [OSError("no route")], patience=0.02)


def test_what_became_of_a_job_counts_where_its_log_is_lost():
    class Logless(Cluster):
        def get_job_logs(self, job_id):
            raise RuntimeError("Request failed with status code 500: no such node")

    said = []
    info = follow(
        Logless([(0, CUT)], [DONE], ()), "job", said.append, said.append, pause=0.001, patience=0.02
    )
    assert info == DONE
    assert said[-1].startswith("the rest of the log cannot be had: Request failed")


def test_a_head_that_has_forgotten_the_job_is_told():
    gone = RuntimeError("Request failed with status code 404: Job figure-1-x does not exist.")
    with pytest.raises(Lost, match="no longer knows the job"):
        followed([(30, CUT)], [RUNNING, gone])


def test_a_reader_that_has_gone_ends_it():
    def write(text):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        follow(Cluster([(len(LOG), None)], [RUNNING], ()), "job", write, lambda line: None)


FAILED = (
    "Job entrypoint command failed with exit code {}, last available logs (truncated to 20,000 chars):\n…"
)


@pytest.mark.parametrize(
    ("info", "code", "words"),
    [
        (DONE, 0, None),
        (Info("SUCCEEDED"), 0, None),
        (Info("FAILED", 1, FAILED.format(1), "JOB_ENTRYPOINT_COMMAND_ERROR"), 1, None),
        (Info("FAILED", 2, FAILED.format(2), "JOB_ENTRYPOINT_COMMAND_ERROR"), 2, None),
        (Info("FAILED", 130, FAILED.format(130), "JOB_ENTRYPOINT_COMMAND_ERROR"), 130, None),
        (Info("FAILED", None, FAILED.format(2)), 2, None),
        (Info("STOPPED"), 130, "was stopped"),
        (Info("FAILED", -9), 1, r"was killed \(SIGKILL\)"),
        (Info("FAILED", 137), 1, r"was killed \(SIGKILL\)"),
        (Info("FAILED", 99), 1, "ended with 99"),
        (Info("FAILED", 127), 2, "did not start: .* no command `python`"),
        (
            Info("FAILED", None, "no space left", "RUNTIME_ENV_SETUP_FAILURE"),
            2,
            "did not start: no space left",
        ),
        (Info("FAILED", None, "timeout", "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"), 2, "did not start: timeout"),
        (Info("FAILED", None, "no node", "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE"), 2, "did not start: no node"),
        (Info("FAILED", None, "its node died", "JOB_SUPERVISOR_ACTOR_DIED"), 1, "died: its node died"),
        (Info("FAILED"), 1, "died: Ray does not say why"),
    ],
)
def test_the_exit_code_says_what_became_of_the_trials(info, code, words):
    found, line = ending(info)
    assert found == code
    if words is None:
        assert line is None
    else:
        assert line
        assert re.search(words, line)


def test_a_reason_is_one_short_line():
    assert reason(RuntimeError("first\nsecond")) == "first"
    assert reason(ValueError()) == "ValueError"
    ray_says = "Request failed with status code 500: Traceback (most recent call last):\n…\nValueError: no\n."
    assert reason(RuntimeError(ray_says)) == "ValueError: no"
    assert len(reason("x" * 1000)) == 300


POOL = "HTTPConnectionPool(host='h', port=8265): "


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            POOL
            + "Max retries exceeded with url: /api (Caused by NewConnectionError('<…>: [Errno 111] Connection refused'))",
            "connection refused",
        ),
        (POOL + "Max retries exceeded with url: /api (Caused by ConnectTimeoutError(…))", "no answer"),
        (POOL + "Read timed out. (read timeout=30)", "no answer"),
        ("('Connection aborted.', RemoteDisconnected('Remote end closed connection'))", "no answer"),
        (
            "status code 500: Traceback (most recent call last):\n…\nE: <of RPC that terminated with:\n"
            '\tstatus = UNAVAILABLE\n\tdetails = "failed to connect"\n\tdebug_error_string = "…"\n>\n.',
            "failed to connect",
        ),
        (
            "Request failed with status code 502: Bad Gateway.",
            "Request failed with status code 502: Bad Gateway.",
        ),
    ],
)
def test_why_there_was_no_answer_is_said_in_few_words(text, words):
    assert absence(OSError(text)) == words


def test_the_first_interrupt_tells_and_the_second_leaves():
    told = []
    before = signal.getsignal(signal.SIGINT)
    with leaving(lambda: told.append("it goes on")):
        os.kill(os.getpid(), signal.SIGINT)
        assert told == ["it goes on"]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert told == ["it goes on"]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_reaches_a_log_that_is_silent():
    """The second while the stream waits, which Python's event loop would otherwise keep for itself."""
    told = []

    class Silent:
        async def tail_job_logs(self, job_id):
            yield LOG
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.01)
            assert told
            asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGINT)
            await asyncio.sleep(60)

    with pytest.raises(KeyboardInterrupt), leaving(lambda: told.append("")):
        follow(Silent(), "job", lambda text: None, told.append)
    assert told == [""]
