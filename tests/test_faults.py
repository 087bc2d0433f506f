"""Each fault: whether it is tried again, after what pause, on which resources, and what people read."""

import errno
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from scripted import scripted
from test_driver import Shelf, Told, sweep

from orchestrator.checkpoints import StorageError
from orchestrator.driver import Outcome, run_sweep
from orchestrator.events import Event, Failed, Finished, Measured, Started, Underway
from orchestrator.executors import EngineLost, PlacementError
from orchestrator.faults import POLICIES, Fault, fault_of
from orchestrator.heartbeat import Heartbeat
from orchestrator.schema import ColumnError
from orchestrator.store import StoreError
from orchestrator.sweep import Resources, Sweep, Trial
from workers.data import DataError
from workers.result import Row, TrialResult, TrialStatus
from workers.spec import SpecError, TrialSpec

DONE = TrialResult(status=TrialStatus.COMPLETED)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (SpecError("no"), Fault.SPEC),
        (DataError("no"), Fault.DATA),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), Fault.DEVICE_MEMORY),
        (MemoryError(), Fault.HOST_MEMORY),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
            Fault.HOST_MEMORY,
        ),
        (RuntimeError("CUDA error: an illegal memory access"), Fault.DEVICE),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), Fault.DEVICE),
        (RuntimeError("CUDA error: out of memory"), Fault.DEVICE_MEMORY),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), Fault.DEVICE_MEMORY),
        (OSError(errno.ESTALE, "Stale file handle"), Fault.STORAGE),
        (ConnectionResetError(), Fault.STORAGE),
        (StorageError("s3://x: no answer"), Fault.STORAGE),
        (FileNotFoundError(errno.ENOENT, "No such file"), Fault.CODE),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), Fault.CODE),
        (KeyError("x"), Fault.CODE),
    ],
    ids=str,
)
def test_an_exception_has_its_fault(error: Exception, fault: Fault) -> None:
    assert fault_of(error) is fault


def test_memory_that_torch_cannot_have_is_the_hosts() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**62, dtype=torch.uint8)
    assert fault_of(caught.value) is Fault.HOST_MEMORY


def test_every_fault_has_a_policy() -> None:
    assert set(POLICIES) == set(Fault)


@dataclass
class Scripted:
    """An executor whose n-th attempt at a trial ends as `ends` says: in a fault, or well where it says no more."""

    ends: dict[str, list[Fault]]
    slots: int = 1
    error: str = "it broke"
    submitted: list[Trial] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    most: int = 0

    def admit(self, resources: Resources) -> None:
        if resources.gpus > 1:
            raise PlacementError("no")

    def has_room(self, resources: Resources) -> bool:
        return len(self.running) < self.slots

    def submit(self, trial: Trial) -> None:
        self.submitted.append(trial)
        self.running.append(trial.spec.trial_id)

    def events(self, timeout: float) -> list[Event]:
        self.most = max(self.most, len(self.running))
        told: list[Event] = []
        for trial_id in self.running:
            ends = self.ends.get(trial_id, [])
            told.append(Started(trial_id, "host", "cpu"))
            told.append(Measured(trial_id, {"step": 0}))
            told.append(
                Failed(trial_id, ends.pop(0), "Broken", self.error) if ends else Finished(trial_id, DONE)
            )
        self.running.clear()
        return told

    def cancel(self, trial_id: str) -> None: ...

    def close(self) -> None: ...


def run(some: Sweep, executor: Any, shelf: Shelf, told: Told | None = None) -> Outcome:
    return run_sweep(some, store=shelf, executor=executor, progress=told, pace=0.001)  # type: ignore[arg-type]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


def test_a_fault_of_the_specs_own_making_fails_once_and_at_once(shelf: Shelf) -> None:
    for fault in (Fault.SPEC, Fault.DATA, Fault.CODE):
        spec = scripted("completes", steps=list(Fault).index(fault) + 1)
        executor = Scripted({spec.trial_id: [fault]})
        run(sweep(spec), executor, shelf)
        result = shelf.kept[spec.trial_id][0]
        assert (result.status, result.fault, result.attempts) == (TrialStatus.FAILED, fault, 1)


@pytest.mark.parametrize("fault", [f for f, policy in POLICIES.items() if policy.retried])
def test_a_passing_fault_is_tried_again_as_often_as_the_sweep_says(fault: Fault, shelf: Shelf) -> None:
    spec, told = scripted("completes"), Told()
    run(sweep(spec, retries=2), Scripted({spec.trial_id: [fault] * 2}), shelf, told)
    assert shelf.kept[spec.trial_id][0].status is TrialStatus.COMPLETED
    assert shelf.kept[spec.trial_id][0].attempts == 3
    assert f"{POLICIES[fault].words} (Broken); attempt 2 in " in told.notes[0]
    other = scripted("completes", seed=1)
    run(sweep(other, retries=2), Scripted({other.trial_id: [fault] * 3}), shelf)
    result = shelf.kept[other.trial_id][0]
    if POLICIES[fault].counted:
        assert (result.status, result.fault, result.error_type) == (TrialStatus.FAILED, fault, "Broken")
    else:
        assert result.status is TrialStatus.COMPLETED


def test_a_trial_that_takes_its_machine_down_each_time_ends_too(shelf: Shelf) -> None:
    spec = scripted("completes")
    run(sweep(spec, retries=2), Scripted({spec.trial_id: [Fault.NODE] * 1000}), shelf)
    assert shelf.kept[spec.trial_id][0].fault == Fault.NODE
    assert shelf.kept[spec.trial_id][0].attempts == 21


@pytest.mark.parametrize(
    ("gpus", "shares"),
    [(0.25, [0.25, 0.5, 1.0, 1.0]), (0.6, [0.6, 1.0, 1.0, 1.0]), (1, [1, 1, 1, 1]), (0, [0] * 4)],
)
def test_out_of_gpu_memory_the_next_attempt_has_a_larger_share(
    gpus: float, shares: list[float], shelf: Shelf
) -> None:
    spec, told = scripted("completes"), Told()
    executor = Scripted({spec.trial_id: [Fault.DEVICE_MEMORY] * 3})
    run(sweep(spec, retries=3, resources=Resources(gpus=gpus)), executor, shelf, told)
    assert [trial.resources.gpus for trial in executor.submitted] == shares
    assert (" with 0.5 of a GPU" in told.notes[0]) == (gpus == 0.25)


def test_out_of_memory_one_trial_fewer_runs_at_a_time(shelf: Shelf) -> None:
    specs = [scripted("completes", seed=seed) for seed in range(9)]
    told, executor = Told(), Scripted({specs[0].trial_id: [Fault.HOST_MEMORY]}, slots=4)
    run(sweep(*specs), executor, shelf, told)
    assert executor.most == 4
    assert "and from now on at most 3 at a time" in told.notes[0]
    executor.most = 0
    assert len(shelf.kept) == 9


def test_after_memory_ran_out_no_more_run_than_was_said(shelf: Shelf) -> None:
    class Counting(Scripted):
        def events(self, timeout: float) -> list[Event]:
            counts.append(len(self.running))
            return super().events(timeout)

    counts: list[int] = []
    specs = [scripted("completes", seed=seed) for seed in range(9)]
    run(sweep(*specs), Counting({specs[0].trial_id: [Fault.HOST_MEMORY]}, slots=4), shelf)
    assert counts[0] == 4
    assert max(counts[1:]) == 3


def test_rows_and_steps_of_an_attempt_that_failed_do_not_count(shelf: Shelf) -> None:
    spec = scripted("completes")
    run(sweep(spec), Scripted({spec.trial_id: [Fault.CRASH]}), shelf)
    assert [row["step"] for row in shelf.kept[spec.trial_id][1]] == [0]


# --- a sweep whose every trial fails the same way ---


def all_fail(
    specs: Sequence[TrialSpec], shelf: Shelf, error: str = "KeyError: 'x'"
) -> tuple[Outcome, list[str]]:
    executor = Scripted({spec.trial_id: [Fault.CODE] for spec in specs}, error=error)
    outcome = run(sweep(*specs), executor, shelf)
    return outcome, [trial.spec.trial_id for trial in executor.submitted]


def test_a_sweep_whose_every_trial_fails_alike_stops_early_and_says_so(shelf: Shelf) -> None:
    outcome, submitted = all_fail([scripted("completes", seed=seed) for seed in range(50)], shelf)
    assert len(submitted) == 5
    assert outcome.exit_code == 1
    assert outcome.error == (
        "all 5 trials so far failed alike: KeyError: 'x'. 45 trials were not begun; mend the cause and run the "
        "same command again"
    )
    assert outcome.counts == {TrialStatus.FAILED: 5, TrialStatus.PENDING: 45}


def test_every_kind_of_trial_is_tried_before_that(shelf: Shelf) -> None:
    specs = [scripted("completes", seed=seed) for seed in range(20)]
    specs += [scripted("diverges", seed=seed) for seed in range(20)]
    _, submitted = all_fail(specs, shelf)
    assert submitted == [spec.trial_id for spec in [*specs[:5], specs[20]]]


def test_one_that_ends_well_or_fails_otherwise_lets_all_others_run(shelf: Shelf) -> None:
    specs = [scripted("completes", seed=seed) for seed in range(20)]
    executor = Scripted({spec.trial_id: [Fault.CODE] for spec in specs[1:]}, error="KeyError: 'x'")
    assert run(sweep(*specs), executor, shelf).error is None
    assert len(executor.submitted) == 20

    class Differs(Scripted):
        def events(self, timeout: float) -> list[Event]:
            self.error = "KeyError: 'y'" if len(self.submitted) == 3 else "KeyError: 'x'"
            return super().events(timeout)

    others = [scripted("completes", seed=seed) for seed in range(30, 50)]
    differs = Differs({spec.trial_id: [Fault.CODE] for spec in others})
    run(sweep(*others), differs, Shelf(shelf.folder.path + "-other"))  # type: ignore[arg-type]
    assert len(differs.submitted) == 20


def test_what_finished_earlier_lets_all_others_run(shelf: Shelf) -> None:
    done = scripted("completes", seed=99)
    shelf.kept[done.trial_id] = DONE, []
    specs = [scripted("completes", seed=seed) for seed in range(20)]
    executor = Scripted({spec.trial_id: [Fault.CODE] for spec in specs})
    run(sweep(done, *specs), executor, shelf)
    assert len(executor.submitted) == 20


# --- storage ---


class Away(Shelf):
    """Cannot be written for the first `times`."""

    def __init__(self, folder: Path, times: int) -> None:
        super().__init__(folder)
        self.times = times

    def commit(self, spec: TrialSpec, sweep_name: str, result: TrialResult, rows: Sequence[Row]) -> None:
        if self.times:
            self.times -= 1
            raise StoreError("results/x.parquet: No space left on device") from OSError(errno.ENOSPC, "full")
        super().commit(spec, sweep_name, result, rows)


def test_while_results_cannot_be_written_finished_trials_wait_and_no_other_begins(tmp_path: Path) -> None:
    away, told = Away(tmp_path, times=4), Told()
    specs = [scripted("completes", seed=seed) for seed in range(4)]

    class Watched(Scripted):
        def submit(self, trial: Trial) -> None:
            assert not 0 < away.times < 4, "nothing new while nothing can be written"
            super().submit(trial)

    outcome = run(sweep(*specs), Watched({}, slots=2), away, told)
    assert outcome.counts == {TrialStatus.COMPLETED: 4}
    assert len([note for note in told.notes if "No space left" in note]) == 1


def test_a_row_that_does_not_fit_is_no_trouble_of_storage(tmp_path: Path) -> None:
    class Strict(Shelf):
        def commit(self, spec: TrialSpec, sweep_name: str, result: TrialResult, rows: Sequence[Row]) -> None:
            if rows:
                raise StoreError("f_top: 'x'") from ColumnError("f_top")
            super().commit(spec, sweep_name, result, rows)

    strict, spec = Strict(tmp_path), scripted("completes")
    run(sweep(spec), Scripted({}), strict)
    assert strict.kept[spec.trial_id][0].fault == Fault.CODE


def test_a_driver_that_was_frozen_commits_nothing_over_its_successor(tmp_path: Path) -> None:
    shelf, spec = Shelf(tmp_path), scripted("completes")
    successor = Heartbeat(host="elsewhere")

    class Thaws(Scripted):
        def events(self, timeout: float) -> list[Event]:
            shelf.write_heartbeat(successor)  # while this process stood still for a minute
            clock[0] += 60
            return super().events(timeout)

    clock = [time.time()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.ownership.time.time", lambda: clock[0])
        outcome = run(sweep(spec, retries=0), Thaws({spec.trial_id: [Fault.CRASH]}), shelf)
    assert not shelf.kept
    assert "another driver is at work here (elsewhere" in str(outcome.error)
    assert shelf.read_heartbeat() is successor


def test_an_engine_that_dies_for_good_ends_the_run(shelf: Shelf) -> None:
    class Dies(Scripted):
        def has_room(self, resources: Resources) -> bool:
            if len(self.submitted) == 2 and not self.running:
                raise EngineLost("the Ray of this run has died")
            return super().has_room(resources)

    told = Told()
    outcome = run(sweep(*(scripted("completes", seed=seed) for seed in range(3))), Dies({}), shelf, told)
    assert outcome.exit_code == 1
    assert outcome.counts == {TrialStatus.COMPLETED: 2, TrialStatus.PENDING: 1}  # also what had just ended
    assert told.notes[-1].startswith("the Ray of this run has died; what was committed is safe")


# --- between rows ---


def test_what_a_trial_says_between_rows_reaches_people(shelf: Shelf) -> None:
    class Talking(Scripted):
        def events(self, timeout: float) -> list[Event]:
            told = super().events(timeout)
            spoken = Underway(told[0].trial_id, 7, "goes on from its checkpoint at step 7") if told else None
            return [*told[:2], spoken, *told[2:]] if spoken else told

    spec, told = scripted("completes"), Told()
    run(sweep(spec), Talking({}), shelf, told)
    assert told.calls[2] == ("reached", spec.trial_id)
    assert told.notes == [f"{spec.trial_id}: goes on from its checkpoint at step 7"]


def test_checkpoints_of_finished_trials_are_removed_and_those_of_failed_ones_kept(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    done, bad, earlier = (scripted("completes", seed=seed) for seed in range(3))
    shelf.kept[earlier.trial_id] = DONE, []
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for spec in (done, bad, earlier):
        (folder / f"{spec.trial_id}-000000000003-0a0a0a0a.ckpt").touch()
    run(sweep(done, bad, earlier), Scripted({bad.trial_id: [Fault.CODE]}), shelf)
    assert [name.split("-")[0] for name in sorted(file.name for file in folder.iterdir())] == [bad.trial_id]
