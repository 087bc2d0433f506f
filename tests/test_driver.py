"""The loop: what is run again and what is not, retries, failures, interrupts, a folder that cannot be written."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripted import scripted, trial
from standins import HERE, Shelf, Told, sweep

from orchestrator.driver import Outcome, run_sweep
from orchestrator.events import Event, Failed, Finished, Measured, Started
from orchestrator.executors import LocalExecutor, PlacementError
from orchestrator.faults import Fault
from orchestrator.schema import ColumnError
from orchestrator.store import ResultStore, StoreError
from orchestrator.sweep import Resources, Sweep, Trial
from workers.result import Row, TrialResult, TrialStatus
from workers.spec import TrialSpec


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def executor(tmp_path: Path) -> LocalExecutor:
    return LocalExecutor(tmp_path, HERE, trial_function=trial)


def run(some: Sweep, shelf: Any, executor: Any, **more: Any) -> Outcome:
    return run_sweep(some, store=shelf, executor=executor, pace=0.01, **more)


def test_every_trial_is_committed_with_its_rows(shelf: Shelf, executor: LocalExecutor, told: Told) -> None:
    some = sweep(scripted("completes"), scripted("diverges", steps=2))
    outcome = run(some, shelf, executor, mirror=told)
    assert outcome == Outcome({TrialStatus.COMPLETED: 1, TrialStatus.DIVERGED: 1})
    assert outcome.exit_code == 0
    result, rows = shelf.kept[some.trials[0].spec.trial_id]
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert (result.attempts, result.host, result.device) == (1, os.uname().nodename, "cpu")
    assert result.code_version is not None
    assert result.started_at is not None
    assert result.finished_at is not None
    for one, rows_told in zip(some.trials, (3, 2), strict=True):
        of_it = [name for name, trial_id in told.calls if trial_id == one.spec.trial_id]
        assert of_it == ["started", *["row"] * rows_told, "finished"]


def test_finished_trials_are_skipped_and_failed_ones_run_again(
    shelf: Shelf, executor: LocalExecutor, told: Told
) -> None:
    done, diverged, failed, new = specs = [scripted("completes", seed=seed) for seed in range(4)]
    for spec, status in ((done, "completed"), (diverged, "diverged"), (failed, "failed")):
        shelf.kept[spec.trial_id] = TrialResult(status=TrialStatus(status)), []
    outcome = run(sweep(*specs), shelf, executor, progress=told)
    assert told.left == [failed.trial_id, new.trial_id]
    assert outcome.counts == {TrialStatus.COMPLETED: 3, TrialStatus.DIVERGED: 1}
    assert run(sweep(*specs), shelf, executor, progress=told).exit_code == 0
    assert told.left == []


def test_only_some(shelf: Shelf, executor: LocalExecutor) -> None:
    specs = [scripted("completes", seed=seed) for seed in range(3)]
    outcome = run(sweep(*specs), shelf, executor, only=[specs[1].trial_id])
    assert list(shelf.kept) == [specs[1].trial_id]
    assert outcome.counts == {TrialStatus.COMPLETED: 1, TrialStatus.PENDING: 2}
    with pytest.raises(ValueError, match="only: 'abc': the sweep test has no such trial"):
        run(sweep(*specs), shelf, executor, only=["abc"])


def test_one_failure_stops_no_other_and_keeps_its_traceback(shelf: Shelf, executor: LocalExecutor) -> None:
    bad, good = scripted("raises"), scripted("completes")
    outcome = run(sweep(bad, good), shelf, executor)
    assert outcome.counts == {TrialStatus.FAILED: 1, TrialStatus.COMPLETED: 1}
    assert outcome.exit_code == 1
    result, rows = shelf.kept[bad.trial_id]
    assert (result.error_type, result.attempts, result.steps_done) == ("ZeroDivisionError", 1, 2)
    assert "scripted.py" in str(result.error)
    assert len(rows) == 3


def test_a_curable_failure_is_tried_again_and_no_other(
    shelf: Shelf, executor: LocalExecutor, told: Told, tmp_path: Path
) -> None:
    hopeless, bad = scripted("out_of_memory"), scripted("refuses")
    cured = scripted("dies_once", mark=str(tmp_path / "mark"))
    run(sweep(hopeless, cured, bad, retries=2), shelf, executor, mirror=told, progress=told)
    attempts = [shelf.kept[spec.trial_id][0].attempts for spec in (hopeless, cured, bad)]
    assert attempts == [3, 2, 1]
    assert shelf.kept[hopeless.trial_id][0].error_type == "MemoryError"
    result, rows = shelf.kept[cured.trial_id]
    assert result.status is TrialStatus.COMPLETED
    assert [row["step"] for row in rows] == [0, 1, 2]  # of the last attempt alone
    assert Counter(told.notes)[f"{hopeless.trial_id}: out of memory (MemoryError); attempt 3 in 0.1 s"] == 1


def test_no_retries_where_the_sweep_wants_none(shelf: Shelf, executor: LocalExecutor) -> None:
    spec = scripted("out_of_memory")
    run(sweep(spec, retries=0), shelf, executor)
    assert shelf.kept[spec.trial_id][0].attempts == 1


def test_others_run_while_a_trial_waits_for_its_next_attempt(shelf: Shelf, executor: LocalExecutor) -> None:
    resting, other = scripted("out_of_memory"), scripted("completes")
    run_sweep(sweep(resting, other, retries=1), store=shelf, executor=executor, pace=0.3)  # type: ignore[arg-type]
    assert list(shelf.kept) == [other.trial_id, resting.trial_id]


def test_what_can_never_be_placed_is_refused_before_anything_is_written(
    shelf: Shelf, executor: LocalExecutor
) -> None:
    some = sweep(scripted("completes"), resources=Resources(cpus=1, gpus=64))
    with pytest.raises(PlacementError, match="needs 64 GPUs"):
        run(some, shelf, executor)
    assert not shelf.begun


def test_a_refusal_says_how_many_it_is_about(shelf: Shelf, executor: LocalExecutor) -> None:
    some = sweep(scripted("completes"), resources=Resources(gpus=64))
    mixed = replace(some, trials=(*some.trials, *sweep(scripted("completes", seed=1)).trials))
    with pytest.raises(PlacementError, match=r"^sweeps/test.yaml: resources: 1 of 2 trials: needs 64 GPUs, "):
        run(mixed, shelf, executor)


def test_a_full_disk_stops_the_run_and_loses_nothing_committed(
    executor: LocalExecutor, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.commits.STORAGE_PATIENCE", 5.0)

    class Full(Shelf):
        def commit(self, spec: TrialSpec, sweep_name: str, result: TrialResult, rows: Sequence[Row]) -> None:
            if len(self.kept) == 1:
                raise StoreError("results/test: cannot be written: No space left on device")
            super().commit(spec, sweep_name, result, rows)

    full = Full(tmp_path)
    outcome = run(sweep(*(scripted("completes", seed=s) for s in range(3))), full, executor, progress=told)
    assert outcome.exit_code == 1
    assert outcome.counts == {TrialStatus.COMPLETED: 1, TrialStatus.PENDING: 2}
    assert "No space left" in str(outcome.error)
    assert told.notes[-1] == f"{outcome.error}. To resume: tiny-subspace run sweeps/test.yaml"
    assert "2 finished trials could not be written" in str(outcome.error)  # the third had begun before
    assert "finished trials wait in memory" in told.notes[0]


def test_rows_that_do_not_fit_fail_their_trial_alone(executor: LocalExecutor, tmp_path: Path) -> None:
    class Strict(Shelf):
        def commit(self, spec: TrialSpec, sweep_name: str, result: TrialResult, rows: Sequence[Row]) -> None:
            if rows and spec.seed == 0:
                raise StoreError("trial: f_top: 'x' is not a number") from ColumnError("f_top")
            super().commit(spec, sweep_name, result, rows)

    strict = Strict(tmp_path)
    outcome = run(sweep(*(scripted("completes", seed=s) for s in range(2))), strict, executor)
    assert outcome.counts == {TrialStatus.FAILED: 1, TrialStatus.COMPLETED: 1}


def test_the_last_heartbeat_says_that_it_is_the_last(shelf: Shelf, executor: LocalExecutor) -> None:
    run(sweep(scripted("completes")), shelf, executor)
    assert [(beat.ended, dict(beat.running), beat.file) for beat in shelf.beats] == [
        (False, {}, "sweeps/test.yaml"),
        (True, {}, "sweeps/test.yaml"),
    ]


def test_an_exception_of_ctrl_c_inside_a_trial_ends_the_run(
    shelf: Shelf, executor: LocalExecutor, told: Told
) -> None:
    outcome = run(sweep(scripted("completes"), scripted("interrupted")), shelf, executor, progress=told)
    assert (outcome.interrupted, outcome.exit_code) == (True, 130)
    assert outcome.counts == {TrialStatus.COMPLETED: 1, TrialStatus.PENDING: 1}
    assert told.notes[-1].endswith("To resume: tiny-subspace run sweeps/test.yaml")


@pytest.fixture
def own_handler() -> Iterator[object]:
    """A handler of SIGINT of the test's own: the one that a test run inherits may ignore the signal."""

    def handler(*_: object) -> None:
        raise AssertionError("nobody else handles it")

    before = signal.signal(signal.SIGINT, handler)
    yield handler
    signal.signal(signal.SIGINT, before)


def test_the_first_ctrl_c_cancels_what_runs(
    shelf: Shelf, executor: LocalExecutor, own_handler: object
) -> None:
    class Impatient(Told):
        def row(self, trial_id: str, row: Row) -> None:
            if trial_id == endless.trial_id and row["step"] == endless.steps:
                signal.raise_signal(signal.SIGINT)

    told = Impatient()
    endless = scripted("forever")
    some = sweep(scripted("completes"), endless, scripted("completes", seed=1), retries=0)
    outcome = run(some, shelf, executor, progress=told, command="tiny-subspace run x.yaml --results y")
    assert outcome.exit_code == 130
    assert outcome.counts == {TrialStatus.COMPLETED: 1, TrialStatus.PENDING: 2}
    assert "stopping what runs (1)" in told.notes[0]
    assert told.notes[-1].endswith("To resume: tiny-subspace run x.yaml --results y")
    assert signal.getsignal(signal.SIGINT) is own_handler


class Deaf:
    """An executor whose trials end at the n-th look, cancelled or not; at other looks it sends Ctrl-C."""

    def __init__(self, ends_at: int, interrupts_at: Sequence[int] = (), number: int = signal.SIGINT) -> None:
        self.ends_at, self.interrupts_at, self.number = ends_at, interrupts_at, number
        self.running: list[str] = []
        self.cancelled: list[str] = []
        self.looks = 0

    def admit(self, resources: Resources) -> None: ...

    def has_room(self, resources: Resources) -> bool:
        return True

    def submit(self, trial: Trial) -> None:
        self.running.append(trial.spec.trial_id)

    def events(self, timeout: float) -> list[Event]:
        time.sleep(0.01)
        self.looks += 1
        if self.looks in self.interrupts_at:
            signal.raise_signal(self.number)
        if self.looks < self.ends_at:
            return []
        ended, self.running = self.running, []
        return [Finished(trial_id, TrialResult(status=TrialStatus.COMPLETED)) for trial_id in ended]

    def cancel(self, trial_id: str) -> None:
        self.cancelled.append(trial_id)

    def close(self) -> None: ...


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_ends_by_itself_after_ctrl_c_is_kept(shelf: Shelf, number: int) -> None:
    deaf = Deaf(ends_at=9, interrupts_at=[3], number=number)
    outcome = run(sweep(scripted("completes"), scripted("diverges")), shelf, deaf)
    assert len(deaf.cancelled) == 2
    assert outcome.counts == {TrialStatus.COMPLETED: 2}
    assert outcome.exit_code == 130


def test_a_second_ctrl_c_stops_at_once(shelf: Shelf) -> None:
    deaf = Deaf(ends_at=9, interrupts_at=[3, 5])
    outcome = run(sweep(scripted("completes")), shelf, deaf)
    assert deaf.looks == 5
    assert not shelf.beats[-1].running
    assert outcome.counts == {TrialStatus.PENDING: 1}
    assert outcome.exit_code == 130


def test_the_end_of_the_grace_stops_too(shelf: Shelf) -> None:
    outcome = run(sweep(scripted("completes")), shelf, Deaf(ends_at=10**9, interrupts_at=[3]), grace=0.1)
    assert outcome.counts == {TrialStatus.PENDING: 1}
    assert outcome.exit_code == 130


def test_trials_of_another_shape_do_not_wait_behind_one_without_room(shelf: Shelf) -> None:
    class OneGpu(Deaf):
        def has_room(self, resources: Resources) -> bool:
            return not resources.gpus or not self.running

    gpu, cpu = Resources(gpus=1), Resources()
    trials = tuple(Trial(scripted("completes", seed=s), gpu if s < 2 else cpu) for s in range(4))
    some = Sweep("test", "", trials, 0, "name: test\n", HERE, Path("x.yaml"))
    run(some, shelf, OneGpu(ends_at=0))
    assert list(shelf.kept)[-1] == trials[1].spec.trial_id


def test_events_of_an_attempt_that_is_over_are_ignored(shelf: Shelf) -> None:
    class Late(Deaf):
        def events(self, timeout: float) -> list[Event]:
            if not self.running:
                return []
            trial_id = self.running.pop()
            done = Finished(trial_id, TrialResult(status=TrialStatus.COMPLETED))
            late = Failed(trial_id, Fault.CRASH, "X", "x")
            return [Started(trial_id, "host", "cpu"), done, Measured(trial_id, {"step": 1}), late]

    outcome = run(sweep(scripted("completes")), shelf, Late(ends_at=0))
    assert outcome.counts == {TrialStatus.COMPLETED: 1}


def test_a_large_sweep_is_compacted_at_its_end(
    tmp_path: Path, executor: LocalExecutor, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.compaction.LARGE", 2)
    monkeypatch.setattr("orchestrator.commits.BATCH", 1)
    store = ResultStore(tmp_path / "results")
    half = store.folder.join("checkpoints/.tmp-0a0a")  # of a process that was killed
    store.folder.make("checkpoints")
    Path(half).touch()
    store.folder.write("sweep.yaml", b"name: test\n")
    specs = [scripted("diverges", steps=0, seed=seed) for seed in range(3)]
    assert run(sweep(*specs), store, executor, progress=told).exit_code == 0
    assert told.notes == ["3 trials: 6 files are now 2"]
    assert len(store.finished()) == 3
    assert not Path(half).exists()


def test_with_the_store_itself(tmp_path: Path, executor: LocalExecutor) -> None:
    store = ResultStore(tmp_path / "results")
    fits, unfit = (
        scripted("diverges", steps=0),
        scripted("completes"),
    )  # rows of scripts have columns of their own
    assert run(sweep(fits, unfit), store, executor).exit_code == 1
    assert store.finished() == {fits.trial_id: TrialStatus.DIVERGED, unfit.trial_id: TrialStatus.FAILED}
    heartbeat = store.read_heartbeat()
    assert heartbeat is not None
    assert not heartbeat.running
