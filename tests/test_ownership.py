"""One driver at a time: the second is refused while the first lives, and takes over when it is dead."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.heartbeat import Heartbeat, Running
from orchestrator.ownership import OwnedError, Ownership
from orchestrator.store import ResultStore

QUICK: dict[str, Any] = {"period": 0.05, "stale_after": timedelta(seconds=0.6)}


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


def beats(store: ResultStore) -> Heartbeat:
    beat = store.read_heartbeat()
    assert beat is not None
    return beat


def test_the_second_driver_is_told_who_the_first_is(store: ResultStore) -> None:
    with Ownership(store, "x.yaml", **QUICK):
        begun = time.monotonic()
        with pytest.raises(
            OwnedError, match=f"another driver is at work here .*process {os.getpid()}, since"
        ):
            Ownership(store).__enter__()
        assert time.monotonic() - begun < 20  # and does not wait for a minute
        assert beats(store).alive()
    with Ownership(store, **QUICK):
        pass


def test_heartbeats_come_from_a_thread_and_the_last_says_so(store: ResultStore) -> None:
    with Ownership(store, "x.yaml", **QUICK) as ownership:
        first = beats(store)
        ownership.running({"ab": Running(3, 0.5)})
        end = time.monotonic() + 5
        while not beats(store).running and time.monotonic() < end:
            time.sleep(0.02)
        assert beats(store).running["ab"].step == 3
        assert beats(store).driver == first.driver
    assert beats(store).ended
    assert not beats(store).alive()


HOLDS = """
import sys, time
from orchestrator.ownership import Ownership
from orchestrator.store import ResultStore
with Ownership(ResultStore(sys.argv[1]), period=0.05):
    print("owned", flush=True)
    time.sleep(60)
"""


def test_a_killed_driver_is_dead_at_once(store: ResultStore) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(store)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "owned\n"
        with pytest.raises(OwnedError, match=f"process {other.pid}"):
            Ownership(store).__enter__()
        other.kill()
        other.wait()
    begun = time.monotonic()
    with Ownership(store):  # at its usual pace
        assert time.monotonic() - begun < 20  # and not for a minute


class Elsewhere:
    """A driver of another machine, or one that left no lock."""

    def __init__(self, store: ResultStore, **changes: Any) -> None:
        self.store, self.beat = store, Heartbeat(host="elsewhere", pid=1).now(**changes)
        store.folder.make()
        self.speak()

    def speak(self) -> None:
        self.beat = self.beat.now()
        self.store.write_heartbeat(self.beat)


def test_a_driver_of_another_machine_that_speaks_is_alive(store: ResultStore) -> None:
    other = Elsewhere(store)
    said: list[str] = []

    class Speaking(ResultStore):
        def read_heartbeat(self) -> Heartbeat | None:
            other.speak()
            return super().read_heartbeat()

    with pytest.raises(OwnedError, match=r"another driver is at work here \(elsewhere, process 1"):
        Ownership(Speaking(str(store)), waiting=said.append, **QUICK).__enter__()
    assert beats(store).host == "elsewhere"
    assert not said


def test_a_driver_of_another_machine_that_is_silent_is_outlived(store: ResultStore) -> None:
    Elsewhere(store)
    said: list[str] = []
    begun = time.monotonic()
    with Ownership(store, waiting=said.append, period=0.05, stale_after=timedelta(seconds=2)):
        # silent since its heartbeat: a little less than stale_after from now
        assert 1 < time.monotonic() - begun < 30
        assert beats(store).host != "elsewhere"
    assert len(said) == 1
    assert "the driver on elsewhere is silent; taking over in" in said[0]


def test_a_live_driver_whose_clock_is_slow_is_not_taken_for_dead(store: ResultStore) -> None:
    other = Elsewhere(store)

    class Speaking(ResultStore):
        def read_heartbeat(self) -> Heartbeat | None:
            other.beat = replace(other.beat, written_at=datetime.now(UTC) - timedelta(seconds=90))
            self.write_heartbeat(other.beat)
            return super().read_heartbeat()

    with pytest.raises(OwnedError, match="elsewhere"):
        Ownership(Speaking(str(store)), **QUICK).__enter__()


@pytest.mark.parametrize(
    "change",
    [{"ended": True}, {"written_at": datetime(2020, 1, 1, tzinfo=UTC)}, {"host": os.uname().nodename}],
    ids=["ended", "stale", "a process that is this one"],
)
def test_a_driver_that_cannot_be_alive_is_not_waited_for(store: ResultStore, change: dict[str, Any]) -> None:
    store.folder.make()
    store.write_heartbeat(Heartbeat(**{"host": "elsewhere", "pid": os.getpid()} | change))
    begun = time.monotonic()
    with Ownership(store):
        assert time.monotonic() - begun < 20  # and not for a minute


@pytest.fixture
def _no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.ownership.FileLock.acquire", _refuse)


def _refuse(*_: Any, **__: Any) -> None:
    raise NotImplementedError


@pytest.mark.usefixtures("_no_locks")
def test_in_a_container_the_driver_before_had_the_same_process_number(store: ResultStore) -> None:
    store.folder.make()
    store.write_heartbeat(Heartbeat())
    begun = time.monotonic()
    with Ownership(store):
        assert time.monotonic() - begun < 20  # and not for a minute


@pytest.mark.usefixtures("_no_locks")
def test_without_locks_a_dead_process_of_this_machine_is_dead_at_once(store: ResultStore) -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as gone:
        gone.wait()
    store.folder.make()
    store.write_heartbeat(Heartbeat(pid=gone.pid))
    begun = time.monotonic()
    with Ownership(store):
        assert time.monotonic() - begun < 20  # and not for a minute


def test_a_driver_that_was_frozen_finds_another_in_its_place_and_leaves_it_alone(store: ResultStore) -> None:
    with Ownership(store, **QUICK) as frozen:
        other = Elsewhere(store)
        end = time.monotonic() + 5
        while frozen.lost is None and time.monotonic() < end:
            other.speak()
            time.sleep(0.02)
        assert frozen.lost is not None
        assert "another driver is at work here (elsewhere" in str(frozen.lost)
    assert beats(store).driver == other.beat.driver
    assert not beats(store).ended
