"""MLflow beside the results: the same live and remade, the same twice as once, and never in a trial's way."""

import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import samples
from tracked import Warnings, all_runs, client, content, history, run_of

from orchestrator import tracking
from orchestrator.background import Background
from orchestrator.heartbeat import Heartbeat, Running
from orchestrator.mirror import Mirror, mirror
from orchestrator.run_content import metrics
from orchestrator.store import ResultStore
from workers.result import TrialStatus
from workers.spec import spec_columns

FAST = {"pause": 0.01}


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """The end of a run waits for a store that a busy machine makes slow."""
    monkeypatch.setattr("orchestrator.mirror.LEAST_PATIENCE", 30.0)


DRIVER = """
import sys, samples
from orchestrator import mirror
from orchestrator.mirror import Mirror
from orchestrator.store import ResultStore
mirror.LEAST_PATIENCE = 60
name, folder = sys.argv[1:]
sweep = samples.sweep(2, name=name)
store = ResultStore(f"{folder}/{name}")
store.begin(sweep)
watcher = Mirror(f"sqlite:///{folder}/mlflow.db", str(store))
watcher.begin(sweep, sweep.trials)
for trial in sweep.trials:
    watcher.started(trial)
    watcher.row(trial.spec.trial_id, samples.row(0))
    watcher.finished(trial.spec.trial_id, samples.result())
watcher.close(timeout=60)
"""


@pytest.fixture(scope="session")
def two_drivers(tmp_path_factory):
    """Two processes that mirror to one fresh SQLite file at once: the file, and what each of them said."""
    folder = tmp_path_factory.mktemp("mlflow")
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    both = [
        subprocess.Popen(
            [sys.executable, "-c", DRIVER, name, str(folder)],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        for name in ("one", "two")
    ]
    return folder / "mlflow.db", [process.communicate()[1] for process in both]


@pytest.fixture(scope="session")
def fresh_database(two_drivers):
    """A tracking store to copy: MLflow takes seconds to make its tables."""
    return two_drivers[0]


@pytest.fixture(autouse=True)
def no_tracking_variable(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def uri(tmp_path, fresh_database):
    (tmp_path / "results").mkdir(exist_ok=True)
    shutil.copy(fresh_database, tmp_path / "results" / "mlflow.db")
    return f"sqlite:///{tmp_path}/results/mlflow.db"


@pytest.fixture
def other_uri(tmp_path, fresh_database):
    shutil.copy(fresh_database, tmp_path / "other.db")
    return f"sqlite:///{tmp_path}/other.db"


@pytest.fixture
def sweep():
    return samples.sweep(3)


@pytest.fixture
def store(tmp_path, sweep, monkeypatch):
    made = ResultStore(tmp_path / "results" / "sample")
    made.begin(sweep)
    # the sample's sweep file lists no trials; a real one does
    monkeypatch.setattr("orchestrator.mirror.planned_trials", lambda _: [t.spec for t in sweep.trials])
    return made


def begun(uri, sweep, path, **options):
    watcher = Mirror(uri, path, **options)
    watcher.begin(sweep, sweep.trials)
    return watcher


def run(store, sweep, uri, statuses=None, rows=None, close="FINISHED", warn=None):
    """Tell a mirror of all trials as a driver does, and commit them."""
    statuses = statuses or [TrialStatus.COMPLETED, TrialStatus.DIVERGED, TrialStatus.FAILED]
    warn = Warnings() if warn is None else warn
    watcher = begun(uri, sweep, str(store), warn=warn, **FAST)
    for trial, status in zip(sweep.trials, statuses, strict=True):
        result, told = samples.result(status), samples.rows() if rows is None else rows
        watcher.started(trial)
        for row in told:
            watcher.row(trial.spec.trial_id, row)
        store.commit(trial.spec, sweep.name, result, told)
        watcher.finished(trial.spec.trial_id, result)
    watcher.close(close)
    assert warn == []


def everything(uri):
    """All that could change: ids, times and points too."""
    return [
        (
            run.info.run_id,
            run.info.status,
            run.info.end_time,
            run.data.tags,
            run.data.params,
            history(uri, run),
        )
        for run in all_runs(uri)
    ]


# --- what is there ---


def test_a_run_has_the_trials_parameters_metrics_and_tags(store, sweep, uri):
    run(store, sweep, uri)
    spec = sweep.trials[0].spec
    found = content(uri)[spec.trial_id]
    assert found["name"] == "mlp mnist5k seed=0"
    assert found["status"] == "FINISHED"
    assert found["params"].keys() == spec_columns().keys()
    assert (found["params"]["learning_rate"], found["params"]["epochs"]) == ("0.1", "null")
    assert found["tags"].items() >= {
        "trial_id": spec.trial_id, "sweep": "sample", "status": "completed", "kind": "trial",
        "architecture": "mlp", "dataset": "mnist5k", "parameters": "89610",
    }.items()  # fmt: skip
    expected = {name: [] for name in metrics(samples.row(0))}
    for row in samples.rows():
        for name, value in metrics(row).items():
            expected[name].append((row["step"], value))
    assert found["metrics"] == expected
    assert {"f_top", "eigenvalue_01", "eigenvalue_03", "epoch"} <= expected.keys()
    assert "step" not in expected


def test_the_sweep_has_a_run_with_its_file_above_those_of_its_trials(store, sweep, uri):
    run(store, sweep, uri, close="FAILED")
    (parent,) = [run for run in all_runs(uri) if run.data.tags["kind"] == "sweep"]
    assert (parent.info.run_name, parent.info.status) == ("sample", "FAILED")
    children = [run for run in all_runs(uri) if run.data.tags["kind"] == "trial"]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    artifacts = Path(store.folder.path).parent / "mlartifacts" / "sample" / parent.info.run_id / "artifacts"
    assert (artifacts / "sweep.yaml").read_text() == sweep.text


def test_how_a_trial_ended_is_the_status_of_its_run(store, sweep, uri):
    run(store, sweep, uri, [TrialStatus.DIVERGED, TrialStatus.FAILED, TrialStatus.PRUNED])
    found = content(uri)
    ends = [found[trial.spec.trial_id] for trial in sweep.trials]
    assert [end["status"] for end in ends] == ["FINISHED", "FAILED", "KILLED"]
    assert [end["tags"]["status"] for end in ends] == ["diverged", "failed", "pruned"]
    assert ends[1]["tags"]["error"] == "ValueError: no"
    assert "Traceback" in ends[1]["tags"]["mlflow.note.content"]


def test_values_that_are_not_finite_are_left_out(store, sweep, uri):
    rows = [samples.row(0), samples.row(1, train_loss=float("nan"), eigenvalues=[1.0, float("inf")])]
    run(store, sweep, uri, rows=rows)
    mirror(str(store), uri)
    found = content(uri)[sweep.trials[0].spec.trial_id]["metrics"]
    assert [step for step, _ in found["train_loss"]] == [0]
    assert [step for step, _ in found["eigenvalue_01"]] == [0, 1]
    assert [step for step, _ in found["eigenvalue_02"]] == [0]


def test_more_metrics_than_one_request_takes_go_in_several_that_keep_a_step_together(store, uri, monkeypatch):
    import mlflow

    sent, log_batch = [], mlflow.MlflowClient.log_batch

    def counted(self, run_id, metrics=(), **others):
        sent.append([metric.step for metric in metrics])
        return log_batch(self, run_id, metrics=metrics, **others)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", counted)
    sweep = samples.sweep(1)
    run(store, sweep, uri, [TrialStatus.COMPLETED], [samples.row(step, 1_500) for step in (0, 1)])
    found = content(uri)[sweep.trials[0].spec.trial_id]["metrics"]
    assert [step for step, _ in found["eigenvalue_1500"]] == [0, 1]
    assert max(map(len, sent)) == 1_000
    assert all(len(set(steps)) <= 1 for steps in sent)


# --- live, remade, and twice ---


def test_remade_from_parquet_alone_equals_live(store, sweep, uri, other_uri):
    run(store, sweep, uri, close="FAILED")
    assert mirror(str(store), other_uri) == 3
    assert content(other_uri) == content(uri)


def test_a_second_mirroring_changes_nothing(store, sweep, uri, other_uri):
    run(store, sweep, uri)
    for where in (uri, other_uri):
        mirror(str(store), where)
        once = everything(where)
        mirror(str(store), where)
        assert everything(where) == once


def test_a_resumed_sweep_whose_trials_tell_their_rows_again_has_no_point_twice(store, sweep, uri, other_uri):
    run(store, sweep, uri, close="FAILED")
    run(store, sweep, uri, close="FAILED")
    mirror(str(store), other_uri)
    assert content(uri) == content(other_uri)


def test_nothing_is_made_or_asked_before_the_sweep_begins(store, sweep, uri, monkeypatch):
    made = []
    monkeypatch.setattr("orchestrator.mirror.SweepRuns", lambda *arguments: made.append(arguments))
    watcher = Mirror(uri, str(store), warn=Warnings(), **FAST)
    time.sleep(0.2)  # the thread would have begun
    assert not made
    watcher.begin(sweep, sweep.trials)
    watcher.close(timeout=30)
    assert made


def test_a_retry_that_tells_the_rows_of_its_checkpoint_again_has_no_point_twice(store, sweep, uri):
    trial = sweep.trials[0]
    watcher = begun(uri, sweep, str(store), **FAST)
    for steps in ((0, 1), (0, 1, 10)):
        watcher.started(trial)
        for row in samples.rows(*steps):
            watcher.row(trial.spec.trial_id, row)
        time.sleep(0.3)  # so that both attempts are not one delivery
    watcher.close()
    assert [step for step, _ in history(uri, run_of(uri, trial.spec))["f_top"]] == [0, 1, 10]


def test_what_a_killed_driver_left_running_is_settled_by_the_next(store, sweep, uri):
    finished, cut, _ = (trial.spec for trial in sweep.trials)
    watcher = begun(uri, sweep, str(store), **FAST)
    for trial in sweep.trials[:2]:
        watcher.started(trial)
        watcher.row(trial.spec.trial_id, samples.row(0))
    watcher.close("RUNNING")  # dies; nobody says how it ended
    store.commit(finished, "sample", samples.result(), samples.rows())  # the last thing it did
    before = [run_of(uri, spec).info.run_id for spec in (finished, cut)]
    assert {run.info.status for run in all_runs(uri)} == {"RUNNING"}
    begun(uri, sweep, str(store), **FAST).close("KILLED")
    assert (run_of(uri, finished).info.status, run_of(uri, cut).info.status) == ("FINISHED", "KILLED")
    assert run_of(uri, cut).data.tags["status"] == "pending"
    again = begun(uri, sweep, str(store), **FAST)
    again.started(sweep.trials[1])
    again.close("RUNNING")
    assert (run_of(uri, cut).info.status, run_of(uri, cut).data.tags["status"]) == ("RUNNING", "running")
    assert [step for step, _ in history(uri, run_of(uri, finished))["f_top"]] == [0, 1, 10, 20]
    run(store, sweep, uri)
    assert [run_of(uri, spec).info.run_id for spec in (finished, cut)] == before
    assert content(uri)[cut.trial_id]["tags"]["status"] == "diverged"


def test_a_failed_trial_that_succeeds_loses_its_error(store, sweep, uri, other_uri):
    for status in (TrialStatus.FAILED, TrialStatus.COMPLETED):
        run(store, sweep, uri, [status] * 3)
    mirror(str(store), other_uri)
    assert "error" not in content(uri)[sweep.trials[0].spec.trial_id]["tags"]
    assert content(uri) == content(other_uri)


def test_a_repair_adds_only_what_is_missing(store, sweep, uri, other_uri):
    watcher = begun(uri, sweep, str(store), **FAST)
    for trial in sweep.trials:
        watcher.started(trial)
        watcher.row(trial.spec.trial_id, samples.row(10))
        store.commit(trial.spec, "sample", samples.result(), samples.rows())
    watcher.close("KILLED")
    before = {run.info.run_id for run in all_runs(uri)}
    mirror(str(store), uri)
    mirror(str(store), other_uri)
    assert {run.info.run_id for run in all_runs(uri)} == before
    assert content(uri) == content(other_uri)


@pytest.mark.parametrize("spoil", ["twice", "other", "more"])
def test_a_run_that_says_anything_else_is_made_again(store, sweep, uri, other_uri, spoil):
    run(store, sweep, uri, close="FAILED")
    spec = sweep.trials[0].spec
    spoiled = run_of(uri, spec)
    value = {"twice": samples.row(10)["sharpness"], "other": 5.0, "more": 5.0}[spoil]
    client(uri).log_metric(
        spoiled.info.run_id, "sharpness", value, step=99 if spoil == "more" else 10, timestamp=7
    )
    mirror(str(store), uri)
    mirror(str(store), other_uri)
    assert content(uri) == content(other_uri)
    assert run_of(uri, spec).info.run_id != spoiled.info.run_id


def test_rows_of_another_attempt_than_the_one_stored_are_replaced(store, sweep, uri, other_uri):
    run(store, sweep, uri, close="FAILED")
    spec = sweep.trials[0].spec
    before = run_of(uri, spec).info.run_id
    store.commit(
        spec, "sample", samples.result(), [samples.row(step, f_top=0.125) for step in (0, 1, 10, 20)]
    )
    for where in (uri, other_uri):
        mirror(str(store), where)
    assert content(uri) == content(other_uri)
    assert run_of(uri, spec).info.run_id != before


@pytest.mark.parametrize("what", ["run", "parent", "experiment"])
def test_what_was_deleted_comes_back(store, sweep, uri, other_uri, what):
    run(store, sweep, uri, close="FAILED")
    mirror(str(store), other_uri)
    deleted, found = client(uri), run_of(uri, sweep.trials[0].spec)
    if what == "experiment":
        deleted.delete_experiment(found.info.experiment_id)
    else:
        tags = found.data.tags
        deleted.delete_run(tags["mlflow.parentRunId"] if what == "parent" else found.info.run_id)
    mirror(str(store), uri)
    assert content(uri) == content(other_uri)
    (parent,) = [run.info.run_id for run in all_runs(uri) if run.data.tags["kind"] == "sweep"]
    assert {run.data.tags.get("mlflow.parentRunId", parent) for run in all_runs(uri)} == {parent}


def test_a_trial_that_is_there_twice_keeps_its_first_run(store, sweep, uri, other_uri):
    run(store, sweep, uri, close="FAILED")
    first = run_of(uri, sweep.trials[0].spec)
    client(uri).create_run(first.info.experiment_id, tags=first.data.tags)
    mirror(str(store), uri)
    mirror(str(store), other_uri)
    assert run_of(uri, sweep.trials[0].spec).info.run_id == first.info.run_id
    assert content(uri) == content(other_uri)


def test_an_extended_sweep_renames_its_runs_so_that_names_still_tell_them_apart(store, sweep, uri):
    run(store, sweep, uri)
    more = tuple(samples.SampleTrial(dataclasses.replace(t.spec, batch_size=8)) for t in sweep.trials)
    begun(uri, dataclasses.replace(sweep, trials=sweep.trials + more), str(store), **FAST).close()
    assert run_of(uri, sweep.trials[0].spec).info.run_name == "mlp mnist5k bs=64 seed=0"


@pytest.mark.parametrize("alive", [True, False])
def test_a_repair_leaves_the_runs_of_a_live_driver_open(store, sweep, uri, alive):
    trial = sweep.trials[0]
    watcher = begun(uri, sweep, str(store), **FAST)
    watcher.started(trial)
    watcher.close("RUNNING")
    store.write_heartbeat(Heartbeat(running={trial.spec.trial_id: Running()} if alive else {}))
    mirror(str(store), uri)
    assert {run.info.status for run in all_runs(uri)} == {"RUNNING" if alive else "KILLED"}


def test_a_sweep_without_an_experiment_is_mirrored_even_when_nothing_is_finished(store, uri):
    assert mirror(str(store), uri) == 0
    assert [run.info.status for run in all_runs(uri)] == ["KILLED"]


def test_no_results_and_no_server_are_lines(tmp_path, store, uri):
    with pytest.raises(RuntimeError, match="no results of a sweep here"):
        mirror(tmp_path, uri)
    with pytest.raises(tracking.TrackingError, match=r"^http://127\.0\.0\.1:1: Connection refused$"):
        mirror(str(store), "http://127.0.0.1:1")


def test_a_report_belongs_to_the_run_of_its_sweep(store, sweep, uri, tmp_path):
    def figures():
        (run,) = [run for run in all_runs(uri) if run.data.tags["kind"] == "sweep"]
        return sorted(file.path for file in client(uri).list_artifacts(run.info.run_id, "report"))

    mirror(str(store), uri)
    assert figures() == []
    within, elsewhere = Path(str(store)) / "report", tmp_path / "elsewhere"
    for folder, files in ((within, ("index.html", "a.png")), (elsewhere, ("index.html", "b.png"))):
        folder.mkdir()
        for file in files:
            (folder / file).write_text("there")
    mirror(str(store), uri)
    assert figures() == ["report/a.png", "report/index.html"]
    mirror(str(store), uri, elsewhere)
    assert figures() == ["report/a.png", "report/b.png", "report/index.html"]


def test_artifacts_that_cannot_be_stored_do_not_hold_up_the_rest(store, sweep, uri):
    (Path(store.folder.path).parent / "mlartifacts").write_text("a file where the folder should be")
    warned = Warnings()
    watcher = begun(uri, sweep, str(store), warn=warned, **FAST)
    trial = sweep.trials[0]
    watcher.started(trial)
    watcher.row(trial.spec.trial_id, samples.row(0))
    watcher.close()
    assert len(warned) == 1
    assert history(uri, run_of(uri, trial.spec))["f_top"] == [(0, 0.0)]
    with pytest.raises(tracking.TrackingError, match=r"all is there except sweep\.yaml"):
        mirror(str(store), uri)


# --- never in the way ---


@contextmanager
def server(answer):
    """An HTTP server on loopback that does `answer(handler)` with every request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *arguments):
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}"
    finally:
        listening.shutdown()
        listening.server_close()


def status(code):
    def answer(handler):
        handler.send_response(code)
        handler.end_headers()
        handler.wfile.write(b"Invalid Host header")

    return answer


def told(uri, store, sweep, timeout=30.0):
    """The warnings and the seconds that telling, and closing, took."""
    warned = Warnings()
    started = time.monotonic()
    watcher = begun(uri, sweep, str(store), warn=warned, **FAST)
    for trial in sweep.trials:
        watcher.started(trial)
        for step in range(100):
            watcher.row(trial.spec.trial_id, samples.row(step))
        watcher.finished(trial.spec.trial_id, samples.result())
    telling = time.monotonic() - started
    time.sleep(0.2)
    started = time.monotonic()
    watcher.close(timeout=timeout)
    return warned, telling, time.monotonic() - started


@pytest.mark.parametrize(
    ("code", "said"), [(500, "too many 500 error responses"), (403, "403"), (400, "400")]
)
def test_a_server_that_errs_or_refuses_gives_one_warning_with_the_command_that_repairs(
    store, sweep, code, said
):
    import mlflow  # noqa: F401  # so that its import is not what is timed

    with server(status(code)) as uri:
        warned, telling, closing = told(uri, store, sweep)
    assert len(warned) == 1
    assert said in warned[0]
    assert f"tiny-subspace mirror {store} --tracking-uri {uri}" in warned[0]
    assert "\n" not in warned[0]
    assert telling < 10  # 300 rows: nothing waited for a request
    assert closing < 15  # and not for as long as a healthy one, 30 s


def test_a_dead_server_gives_one_warning(store, sweep):
    import mlflow  # noqa: F401

    with socket.socket() as reserved:  # bound and not listening: refuses
        reserved.bind(("127.0.0.1", 0))
        warned, telling, closing = told(f"http://127.0.0.1:{reserved.getsockname()[1]}", store, sweep)
    assert ["Connection refused" in line for line in warned] == [True]
    assert telling < 10
    assert closing < 15


def test_a_server_that_never_answers_delays_the_end_by_no_more_than_was_said(store, sweep):
    gone = threading.Event()
    with server(lambda _: gone.wait(60)) as uri:
        warned, telling, closing = told(uri, store, sweep, timeout=0.5)
        gone.set()
    assert ["no answer in time" in line for line in warned] == [True]
    assert telling < 10  # one request takes 60 s
    assert closing < 10


def test_a_row_that_cannot_be_told_and_a_warning_that_cannot_be_given_reach_nobody(store, sweep, uri):
    def warn(line):
        warned.append(line)
        raise BrokenPipeError

    warned, trial = [], sweep.trials[0]
    watcher = begun(uri, sweep, str(store), warn=warn, **FAST)
    watcher.started(trial)
    watcher.row(trial.spec.trial_id, {"f_top": 0.5})  # without a step
    watcher.row(trial.spec.trial_id, samples.row(1))
    watcher.finished(trial.spec.trial_id, samples.result())
    watcher.close()
    assert len(warned) == 1
    assert [step for step, _ in history(uri, run_of(uri, trial.spec))["f_top"]] == [1]


def test_a_password_is_not_shown(store, sweep):
    warned, _, _ = told("http://me:secret@127.0.0.1:1", store, sweep)
    assert "secret" not in warned[0]
    assert "me:***@" in warned[0]


def test_a_store_that_cannot_be_written_gives_one_warning(store, sweep, tmp_path):
    (tmp_path / "file").write_text("x")
    warned, _, _ = told(f"sqlite:///{tmp_path}/file/mlflow.db", store, sweep)
    assert len(warned) == 1


def test_the_environment_is_as_before_and_nothing_is_said(store, sweep, uri, capfd):
    before = dict(os.environ)
    run(store, sweep, uri)
    assert dict(os.environ) == before
    assert capfd.readouterr() == ("", "")


def test_two_drivers_that_meet_on_a_fresh_file_do_not_ruin_it(two_drivers):
    file, said = two_drivers
    assert said == ["", ""]  # MLflow makes its tables, and is quiet
    for name in ("one", "two"):
        assert len(all_runs(f"sqlite:///{file}", name)) == 3


# --- the background thread ---


def test_events_are_delivered_again_in_order_after_an_error():
    got, failures = [], iter([OSError("down"), OSError("down")])

    def deliver(events):
        for error in failures:
            raise error
        got.extend(events)

    troubles = []
    background = Background(deliver, troubles.append, pause=0.01)
    for number in range(1200):  # more than two deliveries
        background.put(number)
    deadline = time.monotonic() + 10
    while len(got) < 1200 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert background.close(5)
    assert got == list(range(1200))
    assert [str(error) for error in troubles] == ["down", "down"]


def test_events_beyond_the_capacity_are_dropped_and_told():
    release, got, troubles = threading.Event(), [], []

    def deliver(events):
        release.wait(10)
        got.extend(events)

    background = Background(deliver, troubles.append, capacity=10, pause=0.01)
    for number in range(30):
        background.put(number)
    release.set()
    assert background.close(5)
    assert got == list(range(10))
    assert len(troubles) == 20


def test_closing_waits_no_longer_than_asked():
    release, troubles = threading.Event(), []
    background = Background(lambda _: release.wait(10), troubles.append, pause=0.01)
    background.put(1)
    started = time.monotonic()
    assert not background.close(0.1)
    assert time.monotonic() - started < 5
    assert len(troubles) == 1
    release.set()


@pytest.mark.parametrize("failures", [1, 2])
def test_a_delivery_that_fails_while_closing_is_made_once_more(failures):
    closing, got, left = threading.Event(), [], iter([OSError("down")] * failures)

    def deliver(events):
        closing.wait(10)
        for error in left:
            raise error
        got.extend(events)

    troubles = []
    background = Background(deliver, troubles.append, pause=60.0)
    background.put(1)
    ended = threading.Thread(target=background.close, args=(30,))
    ended.start()
    while not background._closing:
        time.sleep(0.005)
    closing.set()
    ended.join()
    assert got == ([1] if failures == 1 else [])
    assert len(troubles) == failures


def test_closing_while_the_store_is_down_does_not_wait_for_it():
    def deliver(_):
        raise OSError("down")

    troubles = []
    background = Background(deliver, troubles.append, pause=5.0)
    background.put(1)
    deadline = time.monotonic() + 5
    while not troubles and time.monotonic() < deadline:
        time.sleep(0.01)
    started = time.monotonic()  # the thread is in a pause of 10 s
    assert not background.close(10)
    assert time.monotonic() - started < 2


# --- where the store is, and its page ---


def test_the_tracking_store_is_the_one_given_else_the_variable_else_beside_the_results(tmp_path, monkeypatch):
    beside = f"sqlite:///{tmp_path}/results/mlflow.db"
    assert tracking.tracking_uri(tmp_path / "results" / "x") == beside
    monkeypatch.chdir(tmp_path)
    assert tracking.tracking_uri("results/x") == beside
    assert tracking.tracking_uri("s3://bucket/x") == beside
    assert tracking.tracking_uri("results/x", "none") is None
    assert tracking.tracking_uri("results/x", "results/mlflow.db") == beside
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:5000")
    assert tracking.tracking_uri("results/x") == "http://there:5000"
    assert tracking.tracking_uri("results/x", "http://other") == "http://other"


def test_the_page_of_a_folder_that_is_not_there_is_not_its_neighbours(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").touch()
    with pytest.raises(tracking.TrackingError, match="no tracking store"):
        tracking.ui_store(tmp_path / "absent")


def test_the_page_of_a_folder_without_a_store_is_a_line(tmp_path):
    with pytest.raises(tracking.TrackingError, match=r"no tracking store \(mlflow\.db\) in or beside it"):
        tracking.serve_ui(tmp_path / "results")


def test_the_page_serves_loopback_only_on_the_next_free_port(tmp_path, monkeypatch):
    (tmp_path / "sample").mkdir()
    (tmp_path / "mlflow.db").touch()
    started, said = [], []
    monkeypatch.setattr("orchestrator.tracking.os.execve", lambda *arguments: started.append(arguments))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        tracking.serve_ui(tmp_path / "sample", port, said.append)
    _, command, environment = started[0]
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert int(command[command.index("--port") + 1]) > port
    assert f"http://127.0.0.1:{command[command.index('--port') + 1]}" in said[0]
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_the_page_of_a_remote_store_is_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@there:5000")
    said = []
    assert tracking.serve_ui(tmp_path, say=said.append) == 0
    assert "http://me:***@there:5000" in said[0]
