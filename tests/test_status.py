"""How far a sweep has come: counts, what runs now, and what failed, with the command that runs it again."""

import json
import os
import shlex
import socket

import pytest
import samples

from orchestrator.heartbeat import Heartbeat, Running
from orchestrator.status import planned_trials, status
from orchestrator.store import ResultStore, StoreError
from workers.result import TrialStatus

REAL = """
name: sample
trial: {architecture: mlp, dataset: digits, steps: 5}
grid: {seed: {range: 4}}
measure: {loss: {every: 5}}
"""


@pytest.fixture
def sweep():
    return samples.sweep(5)


@pytest.fixture
def store(tmp_path, sweep, monkeypatch):
    made = ResultStore(tmp_path / "out")
    made.begin(sweep)
    monkeypatch.setattr("orchestrator.status.planned_trials", lambda _: [t.spec for t in sweep.trials])
    return made


def commit(store, sweep, *statuses):
    for trial, final in zip(sweep.trials, statuses, strict=False):
        store.commit(trial.spec, "sample", samples.result(final), samples.rows())


def test_every_trial_is_counted_once(store, sweep):
    commit(store, sweep, TrialStatus.COMPLETED, TrialStatus.DIVERGED)
    running = {sweep.trials[2].spec.trial_id: Running(40, 0.25), sweep.trials[3].spec.trial_id: Running()}
    store.write_heartbeat(Heartbeat(running=running))
    found = status(str(store))
    assert (found.trials, found.pending, found.driver is None) == (5, 1, False)
    assert found.finished == {"completed": 1, "diverged": 1, "failed": 0, "pruned": 0}
    assert [(t.label, t.step, t.loss) for t in found.running] == [
        ("mlp mnist5k seed=2", 40, 0.25),
        ("mlp mnist5k seed=3", None, None),
    ]
    lines = found.text().splitlines()
    assert lines[0] == f"sample in {store}"
    assert lines[1] == "5 trials: 1 completed, 1 diverged, 2 running, 1 pending"
    assert lines[2] == f"a driver is at work: {Heartbeat().host}, process {os.getpid()}"
    assert lines[3].endswith("mlp mnist5k seed=2  step 40  loss 0.25")


def test_a_sweep_that_has_just_begun_says_so(store):
    assert status(str(store)).text().splitlines()[1] == "5 trials: 5 pending"


def test_a_failure_has_its_last_line_and_the_command_that_runs_it_again(store, sweep):
    commit(store, sweep, TrialStatus.FAILED)
    (failure,) = status(str(store)).failures
    trial_id = sweep.trials[0].spec.trial_id
    assert (failure.trial_id, failure.error_type, failure.reason) == (
        trial_id,
        "ValueError",
        "ValueError: no",
    )
    assert failure.traceback.startswith("Traceback")
    assert shlex.split(failure.rerun) == [
        "tiny-subspace", "run", f"{store}/sweep.yaml", "--executor", "local", "--debug", "--only", trial_id,
        "--results", str(store),
    ]  # fmt: skip
    assert failure.rerun in status(str(store)).text()


def test_the_command_names_the_file_that_was_given_while_it_says_the_same(store, sweep, tmp_path):
    commit(store, sweep, TrialStatus.FAILED)
    given = tmp_path / "given.yaml"
    given.write_text(sweep.text)
    store.write_heartbeat(Heartbeat(file=str(given)))
    assert f"run {given} " in status(str(store)).failures[0].rerun
    given.write_text("name: other")
    assert f"run {store}/sweep.yaml " in status(str(store)).failures[0].rerun


def test_results_in_their_usual_place_need_no_option(store, sweep, tmp_path, monkeypatch):
    commit(store, sweep, TrialStatus.FAILED)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "out").rename(tmp_path / "results" / "sample")
    assert "--results" not in status("results/sample").failures[0].rerun


def test_a_failed_trial_that_runs_again_is_running(store, sweep):
    commit(store, sweep, TrialStatus.FAILED)
    store.write_heartbeat(Heartbeat(running={sweep.trials[0].spec.trial_id: Running(1, 2.0)}))
    found = status(str(store))
    assert (len(found.running), len(found.failures), found.finished["failed"], found.pending) == (1, 0, 0, 4)


def test_a_trial_that_has_ended_since_the_last_heartbeat_is_finished(store, sweep):
    store.write_heartbeat(Heartbeat(running={sweep.trials[0].spec.trial_id: Running(1, 2.0)}))
    commit(store, sweep, TrialStatus.COMPLETED)
    assert status(str(store)).running == []


def test_what_a_dead_driver_ran_is_pending(store, sweep):
    running = {sweep.trials[0].spec.trial_id: Running(1, 2.0)}
    store.write_heartbeat(Heartbeat(running=running, pid=2**22 + 1))  # beyond Linux's largest process id
    found = status(str(store))
    assert (found.running, found.driver, found.pending) == ([], None, 5)


def test_json_is_one_object_with_the_same_content(store, sweep):
    commit(store, sweep, TrialStatus.FAILED)
    found = json.loads(status(str(store)).json())
    assert found["finished"]["failed"] == 1
    assert found["pending"] == 4
    assert found["failures"][0]["reason"] == "ValueError: no"


def test_without_its_sweep_file_it_says_what_is_known(store, sweep, monkeypatch):
    monkeypatch.setattr("orchestrator.status.planned_trials", lambda _: None)
    commit(store, sweep, TrialStatus.FAILED)
    found = status(str(store))
    assert (found.trials, found.pending, found.failures[0].label) == (None, None, "mlp mnist5k seed=0")
    assert "how many are left is not known" in found.text()


def test_the_stored_sweep_file_says_which_trials_there_are(tmp_path):
    store = ResultStore(tmp_path / "out")
    store.begin(samples.sweep(text=REAL))
    assert [spec.seed for spec in planned_trials(store)] == [0, 1, 2, 3]
    assert status(str(store)).pending == 4


def test_a_sweep_file_that_needs_what_is_not_here_says_nothing_of_trials(tmp_path):
    store = ResultStore(tmp_path / "out")
    store.begin(samples.sweep(text=REAL.replace("mlp", "my_models.net")))
    assert planned_trials(store) is None


def test_a_folder_without_results_is_a_line(tmp_path):
    with pytest.raises(StoreError, match=f"^{tmp_path}: no results of a sweep here"):
        status(tmp_path)


def test_half_finished_trials_a_dead_driver_and_damaged_files_are_told(store, sweep):
    commit(store, sweep, TrialStatus.COMPLETED, TrialStatus.COMPLETED)
    ids = [trial.spec.trial_id for trial in sweep.trials]
    for step in (100, 250):
        store.folder.write(f"checkpoints/{ids[3]}-{step:012d}-0a0a0a0a.ckpt", b"")
    store.write_heartbeat(Heartbeat(pid=2**22 + 1, host=socket.gethostname()))
    store.folder.write(f"measurements/{ids[0]}.parquet", b"PAR1")
    found = status(str(store))
    assert (found.finished["completed"], found.pending) == (1, 4)
    assert found.half_finished == {ids[3]: 250}
    assert found.damaged == [f"measurements/{ids[0]}.parquet"]
    assert found.died == f"{socket.gethostname()}, process {2**22 + 1}"
    lines = found.text().splitlines()
    assert "1 of the pending go on from checkpoints" in lines
    assert f"its driver has died ({found.died}); to go on: {found.resume}" in lines
    assert any(line.startswith(f"damaged: measurements/{ids[0]}.parquet") for line in lines)
    assert ids[0] not in store.finished()
