"""A tracking server that is absent, dies, is slow or refuses: no trial waits, all is told, and nothing twice.

The server is MLflow's own, behind a proxy that misbehaves. What is five seconds in life is a fraction of one here.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import samples
from proxy import Proxy
from tracked import Warnings, all_runs, client, content

from orchestrator import mirror as mirror_module
from orchestrator import tracking
from orchestrator.background import Background
from orchestrator.mirror import Mirror, mirror
from orchestrator.pulse import Pulse
from orchestrator.run_content import metrics
from orchestrator.store import ResultStore

SERVER = """
import os, sys
os.environ["_MLFLOW_SERVER_FILE_STORE"] = f"sqlite:///{sys.argv[1]}/mlflow.db"
os.environ["_MLFLOW_SERVER_ARTIFACT_DESTINATION"] = f"{sys.argv[1]}/mlartifacts"
os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = "mlflow-artifacts:/"
os.environ["_MLFLOW_SERVER_SERVE_ARTIFACTS"] = "true"
from mlflow.server import app
from werkzeug.serving import make_server
server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.port, flush=True)
server.serve_forever()
"""

DRIVER = """
import sys, time, test_outage as outage
name, path, uri = sys.argv[1:]
watcher = outage.Telling(name, path, uri)
watcher.begin(0, 1)
for step in range(4):
    watcher.row(0, outage.row(step, train_loss=1 / 3))
outage.quiet(watcher)
watcher.commit(1)
print("told", flush=True)
time.sleep(600)
"""

STEPS = 4


@pytest.fixture(scope="session")
def upstream(tmp_path_factory):
    """MLflow's server, for all tests: its start takes seconds."""
    folder = str(tmp_path_factory.mktemp("server"))
    command = [sys.executable, "-W", "ignore", "-c", SERVER, folder]
    lean = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | lean
    ) as server:
        import mlflow  # noqa: F401  # meanwhile; and no test times it

        uri = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        client(uri).search_experiments()  # makes the tables
        yield uri
        server.kill()


@pytest.fixture
def proxy(upstream, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with Proxy(upstream) as made:
        yield made


def row(step, **changes):
    return {"step": step, "train_loss": 1 / (step + 1), "f_top": 0.5} | changes


class Telling:
    """A sweep of three trials as its driver tells a mirror of it, trial by trial."""

    def __init__(self, name, path, uri, *, begins=True, **options):
        self.sweep = samples.sweep(3, name=name)
        self.store = ResultStore(path)
        if begins:
            self.store.begin(self.sweep)
        self.warned = Warnings()
        self.mirror = Mirror(uri, path, warn=self.warned, **{"pause": 0.01} | options)

    def begin(self, *started):
        """The sweep begins, and those of its trials; all of them if none is given."""
        self.mirror.begin(self.sweep, self.sweep.trials)
        for index in started or range(3):
            self.mirror.started(self.sweep.trials[index])

    def row(self, index, row):
        self.mirror.row(self.sweep.trials[index].spec.trial_id, row)

    def commit(self, index, rows=None, **changes):
        """The trial yields the rows that are given, or all that it has, and ends."""
        spec, result = self.sweep.trials[index].spec, samples.result(**changes)
        if rows is None:
            rows = [row(step) for step in range(STEPS)]
            for each in rows:
                self.mirror.row(spec.trial_id, each)
        self.store.commit(spec, self.sweep.name, result, rows)
        self.mirror.finished(spec.trial_id, result)

    def close(self):
        """Close the mirror; the seconds that took."""
        started = time.monotonic()
        self.mirror.close()
        return time.monotonic() - started


@pytest.fixture
def telling(proxy, tmp_path, request, monkeypatch):
    name = request.node.name.replace("[", "-").replace("]", "")
    made = Telling(name, str(tmp_path / "results"), proxy.uri)
    # the sample's sweep file lists no trials; a real one does
    monkeypatch.setattr("orchestrator.mirror.planned_trials", lambda _: [t.spec for t in made.sweep.trials])
    # a request may take longer than half a second here; tests of patience have their own
    monkeypatch.setattr(mirror_module, "LEAST_PATIENCE", 30.0)
    yield made
    made.mirror._background.close(0)


def until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


def quiet(telling):
    """All that was said has been told."""
    until(lambda: not telling.mirror._background._waiting)


def check(telling, upstream, rows=None):
    """Every trial has one run that is FINISHED, every row is there, and no point is there twice."""
    rows = rows or [row(step) for step in range(STEPS)]
    points = {}
    for each in rows:
        for name, value in metrics(each).items():
            points.setdefault(name, []).append((each["step"], value))
    found = content(upstream, telling.sweep.name)
    assert found.keys() == {"sweep"} | {trial.spec.trial_id for trial in telling.sweep.trials}
    for key, run in found.items():
        assert (key, run["status"]) == (key, "FINISHED")
        assert run["metrics"] == ({} if key == "sweep" else points)
        assert key == "sweep" or run["tags"]["status"] == "completed"


def check_after_mirror(telling, proxy, upstream):
    proxy.delay, proxy.fault = 0.0, lambda method, path: None
    mirror(telling.store.folder.path, proxy.uri)
    check(telling, upstream)


# --- outages after which all is there by itself ---


def test_a_server_that_is_absent_at_the_start_and_comes_is_told_all(telling, proxy, upstream):
    proxy.down()
    telling.begin()
    telling.commit(0)
    until(lambda: telling.warned)
    proxy.up()
    telling.commit(1)
    telling.commit(2)
    assert telling.close() < 30  # all is told, so that nothing is waited for to the end
    assert len(telling.warned) == 1
    check(telling, upstream)


def test_a_server_that_dies_in_the_middle_and_comes_back_is_told_all(telling, proxy, upstream):
    telling.begin()
    telling.commit(0)
    quiet(telling)
    proxy.down()
    telling.commit(1)
    until(lambda: telling.warned)
    proxy.up()
    telling.commit(2)
    telling.close()
    check(telling, upstream)


def test_a_server_that_is_back_only_when_the_run_ends_is_told_all(telling, proxy, upstream):
    telling.mirror._background._pause = 60.0
    proxy.down()
    telling.begin()
    for index in range(3):
        telling.commit(index)
    until(lambda: telling.warned)
    proxy.up()
    assert telling.close() < 30  # and does not wait for the pause of a minute
    check(telling, upstream)


@pytest.mark.parametrize("status", [500, 403])
def test_a_server_that_errs_or_refuses_for_a_while_is_told_all(telling, proxy, upstream, status):
    telling.begin()
    telling.row(0, row(0))
    quiet(telling)
    proxy.fault = lambda method, path: status
    telling.commit(0)
    telling.commit(1)
    until(lambda: telling.warned)
    proxy.fault = lambda method, path: None
    telling.commit(2)
    telling.close()
    assert len(telling.warned) == 1
    check(telling, upstream)


def test_more_than_is_kept_during_an_outage_is_told_from_parquet(telling, proxy, upstream):
    telling.mirror._background._capacity = 10
    proxy.down()
    telling.begin()
    telling.commit(0)
    telling.commit(1)  # its start is told, its end is not
    until(lambda: telling.warned)
    proxy.up()
    quiet(telling)
    telling.commit(2)
    telling.close()
    check(telling, upstream)


# --- requests of which nobody knows whether they arrived ---


@pytest.mark.parametrize("fault", ["lost", "late"])
def test_a_request_without_an_answer_is_not_done_twice(telling, proxy, upstream, fault):
    """The first and third of each kind are done, now or after the next has been, and never answered.

    Up to the end, when nothing is asked again: that the server does not answer then has tests of its own.
    """
    seen = Counter()

    def unanswered(method, path):
        seen[path] += 1
        writes = method == "POST" and "search" not in path
        return fault if writes and seen[path] in (1, 3) else None

    proxy.fault = unanswered
    telling.mirror._background.LONGEST_PAUSE = 0.02
    telling.begin()
    telling.commit(0)
    quiet(telling)
    telling.commit(1)
    telling.commit(2)
    quiet(telling)
    proxy.wait_for_late()
    proxy.fault = lambda method, path: None
    telling.close()
    kinds = {path.removeprefix("/api/2.0/mlflow/") for path in seen}
    assert kinds >= {"experiments/create", "runs/create", "runs/log-batch", "runs/update"}
    check(telling, upstream)
    check_after_mirror(telling, proxy, upstream)


def test_a_run_that_is_made_after_its_request_was_given_up_is_removed_at_the_end(telling, proxy, upstream):
    asked = []

    def second(method, path):
        asked.extend([path] if path.endswith("runs/create") else [])
        return "late" if path.endswith("runs/create") and len(asked) == 2 else None

    proxy.fault = second  # that of the first trial, after the sweep's own
    proxy.lateness = 60.0  # after it has been looked for
    telling.begin()
    for index in range(3):
        telling.commit(index)
    quiet(telling)
    proxy.wait_for_late()
    assert len(all_runs(upstream, telling.sweep.name)) == 5
    telling.close()
    check(telling, upstream)


def test_a_killed_driver_and_the_next_leave_nothing_twice(telling, proxy, upstream):
    """The second goes on from a checkpoint on another machine: a row told before differs by rounding."""
    path = telling.store.folder.path
    here = Path(__file__).parent
    known = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])

    def statuses():
        return {run.info.status for run in all_runs(upstream, telling.sweep.name)}

    first = subprocess.Popen(
        [sys.executable, "-c", DRIVER, telling.sweep.name, path, proxy.uri],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": known},
    )
    with first:
        first.stdout.readline()
        until(lambda: statuses() == {"RUNNING", "FINISHED"})
        first.send_signal(signal.SIGKILL)
    telling.begin(0, 2)
    quiet(telling)  # what the first has left is looked at before anything is committed
    for index in (0, 2):
        telling.commit(index)
    telling.close()
    assert telling.warned == []
    check(telling, upstream)


# --- a trial that is told by more than one attempt ---


def test_a_trial_of_several_attempts_ends_with_the_rows_of_the_last(telling, proxy, upstream):
    telling.begin()
    for step in range(STEPS + 2):  # beyond the checkpoint, and beyond where the last attempt gets
        telling.row(0, row(step, train_loss=(1 + 1e-7) / (step + 1)))
    quiet(telling)
    telling.mirror.started(telling.sweep.trials[0])
    telling.commit(0, attempts=2)
    telling.commit(1)
    telling.commit(2)
    telling.close()
    assert telling.warned == []
    check(telling, upstream)


def test_a_trial_that_failed_and_fails_earlier_keeps_no_row_of_the_first_time(telling, proxy, upstream):
    for index in range(3):
        telling.commit(index, [row(step) for step in range(STEPS)])
    mirror(telling.store.folder.path, proxy.uri)  # compared, and marked so
    telling.begin()
    telling.row(0, row(STEPS))
    quiet(telling)
    telling.commit(0, [row(step) for step in range(STEPS)])
    telling.commit(1)
    telling.commit(2)
    telling.close()
    check(telling, upstream)


# --- the end of a run does not wait for a server in trouble ---


def test_a_slow_server_holds_up_neither_the_telling_nor_the_end(telling, proxy, upstream, monkeypatch):
    monkeypatch.setattr(mirror_module, "LEAST_PATIENCE", 0.1)
    telling.mirror._pulse._prompt = 0.1
    proxy.delay = 0.6
    started = time.monotonic()
    telling.begin()
    for index in range(3):
        telling.commit(index)
    assert time.monotonic() - started < 6  # three commits to disk; the requests alone take 12 s
    until(lambda: len(proxy.requests) >= 3)
    assert telling.close() < 5
    assert len(telling.warned) == 1
    assert "tiny-subspace mirror" in telling.warned[0]
    proxy.delay = 0.0
    telling.mirror._background._thread.join(10)
    check_after_mirror(telling, proxy, upstream)


def test_the_end_waits_for_a_healthy_server_longer_than_for_one_in_trouble(
    telling, proxy, upstream, monkeypatch, capfd
):
    monkeypatch.setattr(mirror_module, "LEAST_PATIENCE", 0.0)
    telling.mirror._pulse._prompt = 30.0  # healthy, also on a busy machine
    proxy.delay = 0.02
    telling.begin()
    for index in range(3):
        telling.commit(index)
    telling.close()
    assert telling.warned == []
    assert capfd.readouterr() == ("", "")
    check(telling, upstream)


def test_a_longer_run_has_more_patience(telling, monkeypatch):
    monkeypatch.setattr(mirror_module, "LEAST_PATIENCE", 0.5)
    waited = []
    telling.begin()
    telling.mirror._begun -= 1_000
    with monkeypatch.context() as patch:
        patch.setattr(Background, "close", lambda self, timeout, patience, *_: waited.append(patience))
        telling.mirror.close()
    assert waited == [pytest.approx(10, abs=0.1)]  # a hundredth, and of the run's few seconds too


def test_a_request_without_end_does_not_hold_up_the_interpreter():
    """One that would wait for ten seconds, MLflow's import apart."""
    code = """
import sys, time, samples, threading
import mlflow
from orchestrator.mirror import Mirror
watcher = Mirror(sys.argv[1], "nowhere", warn=print)
watcher.begin(samples.sweep(1), [])
time.sleep(0.3)
watcher._pulse._prompt = 0.1
watcher.close()
print(time.time(), flush=True)
"""
    here = Path(__file__).parent
    known = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, uri],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": known},
        )
        ended = time.time()
    *said, closed = done.stdout.splitlines()
    assert len(said) == 1
    assert "no answer in time" in said[0]
    assert ended - float(closed) < 8


def test_of_two_mirrors_in_one_process_the_first_to_end_takes_no_protection_from_the_other():
    before = dict(os.environ)
    first, second = tracking.impatient(), tracking.impatient()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    second.__exit__(None, None, None)
    assert dict(os.environ) == before


def test_closing_has_little_patience_when_it_is_in_vain_and_much_when_it_is_not():
    release = threading.Event()
    for troubled, least, most in ((True, 0.1, 2.5), (False, 3, 30)):
        background = Background(lambda _: release.wait(60), lambda _: None, pause=0.01)
        background.put(1)
        started = time.monotonic()
        assert not background.close(3, 0.1, lambda troubled=troubled: troubled)
        assert least <= time.monotonic() - started < most
    release.set()


def test_a_pulse_knows_a_slow_call_under_way_a_failed_one_and_when_all_is_well_again():
    pulse, release = Pulse(prompt=0.05), threading.Event()

    class Client:
        def ask(self, how):
            if how == "slowly":
                release.wait(10)
            if how == "in vain":
                raise OSError("gone")
            return how

    client = pulse.of(Client())
    assert client.ask("well") == "well"
    assert not pulse.troubled
    asking = threading.Thread(target=client.ask, args=("slowly",))
    asking.start()
    until(lambda: pulse.troubled)
    release.set()
    asking.join()
    assert pulse.troubled  # it was slow
    client.ask("well")
    assert not pulse.troubled
    with pytest.raises(OSError, match="gone"):
        client.ask("in vain")
    assert pulse.troubled
