"""What every executor promises, tested on each of them; then what only Ray's does."""

import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted import scripted, trial

from orchestrator.events import Event, Failed, Finished, Measured, Started
from orchestrator.executors import EngineLost, Executor, LocalExecutor, PlacementError
from orchestrator.faults import POLICIES, Fault
from orchestrator.sweep import Resources, Trial
from workers.result import TrialStatus
from workers.spec import TrialSpec

HERE = Path(__file__).parent
ONE = Resources(cpus=1, gpus=0)


@pytest.fixture(scope="module")
def on_ray(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    from orchestrator.ray_executor import RayExecutor

    made = RayExecutor(data=tmp_path_factory.mktemp("data"), folder=HERE, trial_function=trial)
    yield made
    made.close()


@pytest.fixture(scope="module", params=["local", "ray"])
def executor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Executor:
    """Each executor in turn. There is one on Ray, because idle processes of a second would be in its way."""
    if request.param == "local":
        return LocalExecutor(tmp_path_factory.mktemp("data"), HERE, trial_function=trial)
    made: Executor = request.getfixturevalue("on_ray")
    return made


def collect(
    executor: Executor,
    trials: list[Trial],
    on_event: Callable[[Event], None] = lambda _: None,
    seconds: float = 180,
) -> dict[str, list[Event]]:
    """Run trials to their ends; the events of each."""
    told: dict[str, list[Event]] = defaultdict(list)
    waiting, running = list(trials), set[str]()
    end = time.monotonic() + seconds
    while waiting or running:
        assert time.monotonic() < end, f"no end after {seconds} s: {told}"
        while waiting and executor.has_room(waiting[0].resources):
            next_trial = waiting.pop(0)
            running.add(next_trial.spec.trial_id)
            executor.submit(next_trial)
        for event in executor.events(0.5):
            told[event.trial_id].append(event)
            on_event(event)
            if isinstance(event, Finished | Failed):
                running.remove(event.trial_id)
    return told


def run(executor: Executor, spec: TrialSpec, resources: Resources = ONE) -> list[Event]:
    return collect(executor, [Trial(spec, resources)])[spec.trial_id]


def rows(events: list[Event]) -> list[dict[str, object]]:
    return [event.row for event in events if isinstance(event, Measured)]


def pids(events: list[Event]) -> set[object]:
    return {row["pid"] for row in rows(events)}


class TestEveryExecutor:
    def test_events_come_in_order_and_end_once(self, executor: Executor) -> None:
        trials = [Trial(scripted("completes", seed=seed), ONE) for seed in range(5)]
        told = collect(executor, trials)
        assert len(told) == 5
        for events in told.values():
            assert [type(event) for event in events] == [Started, Measured, Measured, Measured, Finished]
            assert [row["step"] for row in rows(events)] == [0, 1, 2]
        assert executor.events(0.1) == []

    def test_a_result_arrives_as_it_was_given(self, executor: Executor) -> None:
        last = run(executor, scripted("diverges", steps=2))[-1]
        assert isinstance(last, Finished)
        assert (last.result.status, last.result.steps_done) == (TrialStatus.DIVERGED, 2)

    def test_started_says_where(self, executor: Executor) -> None:
        first = run(executor, scripted("completes"))[0]
        assert isinstance(first, Started)
        assert first.host == os.uname().nodename
        assert first.device == "cpu"

    @pytest.mark.parametrize(
        ("script", "error_type", "fault"),
        [
            ("raises", "ZeroDivisionError", Fault.CODE),
            ("refuses", "SpecError", Fault.SPEC),
            ("exits", "SystemExit", Fault.CODE),
            ("stops_short", "RuntimeError", Fault.CODE),
            ("out_of_memory", "MemoryError", Fault.HOST_MEMORY),
        ],
    )
    def test_an_error_is_told_with_its_traceback(
        self, executor: Executor, script: str, error_type: str, fault: Fault
    ) -> None:
        *before, last = run(executor, scripted(script))
        assert len(rows(before)) == 3
        assert isinstance(last, Failed)
        assert (last.error_type, last.fault) == (error_type, fault)
        assert last.error.startswith("Traceback")
        assert script == "stops_short" or "scripted.py" in last.error

    def test_a_failure_leaves_the_next_trial_alone(self, executor: Executor) -> None:
        trials = [
            Trial(scripted(script), ONE) for script in ("raises", "completes", "out_of_memory", "diverges")
        ]
        told = collect(executor, trials)
        ends = [type(told[t.spec.trial_id][-1]) for t in trials]
        assert ends == [Failed, Finished, Failed, Finished]

    def test_a_trial_that_ended_may_be_submitted_again(self, executor: Executor) -> None:
        for _ in range(2):
            assert isinstance(run(executor, scripted("completes", seed=7))[-1], Finished)

    def test_a_cancelled_trial_ends_at_its_next_row(self, executor: Executor) -> None:
        spec = scripted("forever")

        def cancel(event: Event) -> None:
            if isinstance(event, Measured) and event.row["step"] == 3:
                executor.cancel(spec.trial_id)

        last = collect(executor, [Trial(spec, ONE)], cancel)[spec.trial_id][-1]
        assert isinstance(last, Failed)
        assert last.fault is Fault.CANCELLED
        executor.cancel(spec.trial_id)  # it has ended
        assert isinstance(run(executor, scripted("completes"))[-1], Finished)

    def test_what_can_never_be_placed_is_refused(self, executor: Executor) -> None:
        executor.admit(ONE)
        with pytest.raises(PlacementError, match=r"^needs 64 GPUs, (the largest node|this machine) has \d+$"):
            executor.admit(Resources(cpus=1, gpus=64))

    def test_the_context_and_the_threads(self, executor: Executor) -> None:
        row = rows(run(executor, scripted("tells")))[-1]
        assert row["device"] == "cpu"
        assert row["folder"] == str(HERE)
        assert Path(str(row["data"])).is_dir()
        assert row["threads"] == 1

    def test_close_ends_what_runs(self, executor: Executor) -> None:
        executor.submit(Trial(scripted("forever"), ONE))
        while not any(isinstance(event, Measured) for event in executor.events(1)):
            pass
        executor.close()
        assert executor.events(0.1) == []
        assert executor.has_room(ONE)


class TestLocal:
    def test_debug_raises_what_the_trial_raised(self, tmp_path: Path) -> None:
        executor = LocalExecutor(tmp_path, HERE, trial_function=trial, debug=True)
        with pytest.raises(ZeroDivisionError):
            run(executor, scripted("raises"))
        assert executor.has_room(ONE)

    def test_runs_in_this_process(self, tmp_path: Path) -> None:
        executor = LocalExecutor(tmp_path, HERE, trial_function=trial)
        assert pids(run(executor, scripted("completes"))) == {os.getpid()}


class TestRay:
    def test_a_process_is_used_again_after_success_and_after_errors_of_python(self, on_ray: Executor) -> None:
        seen = [run(on_ray, scripted("raises" if seed == 3 else "completes", seed=seed)) for seed in range(8)]
        assert len(set().union(*map(pids, seen))) == 1

    @pytest.mark.parametrize("script", ["dies", "out_of_memory"])
    def test_a_process_is_not_used_again_after_a_crash(self, on_ray: Executor, script: str) -> None:
        before = pids(run(on_ray, scripted("completes")))
        crashed = run(on_ray, scripted(script))
        assert pids(crashed) == before
        assert not before & pids(run(on_ray, scripted("completes")))

    def test_rows_come_before_the_death_of_their_process(self, on_ray: Executor) -> None:
        events = run(on_ray, scripted("dies", steps=20))
        assert [row["step"] for row in rows(events)] == list(range(20))
        last = events[-1]
        assert isinstance(last, Failed)
        assert (last.error_type, last.fault) == ("ActorDiedError", Fault.CRASH)
        assert "\x1b" not in last.error

    def test_a_process_killed_from_outside(self, on_ray: Executor) -> None:
        spec = scripted("forever", seed=1)

        def kill(event: Event) -> None:
            if isinstance(event, Measured) and event.row["step"] == 3:
                os.kill(event.row["pid"], signal.SIGKILL)

        last = collect(on_ray, [Trial(spec, ONE)], kill)[spec.trial_id][-1]
        assert isinstance(last, Failed)
        assert last.fault is Fault.CRASH

    def test_a_process_killed_while_idle_costs_no_more_than_a_retry(self, on_ray: Executor) -> None:
        (pid,) = pids(run(on_ray, scripted("completes")))
        os.kill(int(str(pid)), signal.SIGKILL)
        first = run(on_ray, scripted("completes", seed=2))[-1]
        assert isinstance(first, Finished) or (isinstance(first, Failed) and POLICIES[first.fault].retried)
        assert isinstance(run(on_ray, scripted("completes", seed=2))[-1], Finished)

    def test_four_halves_of_a_gpu_run_at_once_on_two(self, on_ray: Executor) -> None:
        half = Resources(cpus=0.5, gpus=0.5)
        trials = [Trial(scripted("meets", seed=seed, count=4, meeting="halves"), half) for seed in range(4)]
        told = collect(on_ray, trials)
        assert sorted(str(rows(events)[-1]["cuda"]) for events in told.values()) == ["0", "0", "1", "1"]

    def test_whole_gpus_are_not_shared_and_room_is_what_the_cluster_has(self, on_ray: Executor) -> None:
        whole = Resources(cpus=1, gpus=1)
        trials = [Trial(scripted("meets", seed=seed, count=2, meeting="wholes"), whole) for seed in range(2)]
        assert on_ray.has_room(Resources(cpus=2, gpus=2))  # idle processes of another shape make room
        for t in trials:
            assert on_ray.has_room(whole)
            on_ray.submit(t)
        for wanted in (whole, ONE, Resources(cpus=0.5, gpus=0.5)):
            assert not on_ray.has_room(wanted)
        seen: list[Event] = []
        while sum(isinstance(event, Finished) for event in seen) < 2:
            seen += on_ray.events(1)
        assert on_ray.has_room(whole)
        told = [row for row in rows(seen) if "cuda" in row]
        assert sorted(str(row["cuda"]) for row in told) == ["0", "1"]
        assert {row["device"] for row in told} == {"cpu"}  # a Ray that only believes in its GPUs

    def test_idle_processes_make_room_for_a_trial_without_a_place(
        self, on_ray: Executor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import ray

        from orchestrator import ray_executor

        @ray.remote(num_cpus=1)
        class Other:
            def ready(self) -> None: ...

        on_ray.close()
        other: Any = Other.remote()  # type: ignore[attr-defined]  # another job takes half of the cluster
        ray.get(other.ready.remote())
        monkeypatch.setattr(ray_executor, "PATIENCE", 1.0)
        told = collect(on_ray, [Trial(scripted("completes", seed=seed), ONE) for seed in range(2)])
        ray.kill(other)
        assert all(isinstance(events[-1], Finished) for events in told.values())

    def test_memory_is_shared_as_cpus_are(self, on_ray: Executor) -> None:
        from orchestrator.ray_cluster import nodes

        (node,) = nodes()
        most = Resources(cpus=0.5, memory_gib=0.6 * node.memory / 2**30)
        assert on_ray.has_room(most)
        on_ray.submit(Trial(scripted("forever", seed=40), most))
        assert not on_ray.has_room(most)
        assert on_ray.has_room(Resources(cpus=0.5))
        on_ray.close()
        with pytest.raises(PlacementError, match=r"^needs 1e\+06 GiB of memory, the largest node has "):
            on_ray.admit(Resources(memory_gib=1e6))

    def test_a_cluster_that_grows_is_asked_to_and_what_waits_gets_the_first_place(
        self, on_ray: Executor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No node comes here: the third trial waits for one, and then has the process of the first that ends."""
        from orchestrator.ray_cluster import Autoscaler

        monkeypatch.setattr("orchestrator.ray_cluster.autoscaler", lambda: Autoscaler(True, []))
        monkeypatch.setattr("orchestrator.ray_executor.LOOK", -1.0)
        monkeypatch.setattr("orchestrator.ray_executor.GROWTH", (3, 256))
        on_ray.admit(Resources(cpus=64))  # it may have such nodes to add
        trials = [Trial(scripted("meets", seed=seed, count=2, meeting="growth"), ONE) for seed in range(2)]
        third, fourth = (Trial(scripted("completes", seed=seed), ONE) for seed in (50, 51))
        on_ray.close()
        for one in (*trials, third):
            assert on_ray.has_room(ONE)
            on_ray.submit(one)
        assert not on_ray.has_room(ONE)  # as many wait as may
        monkeypatch.setattr("orchestrator.ray_executor.PATIENCE", 0.0)
        told: dict[str, list[Event]] = defaultdict(list)
        end = time.monotonic() + 60
        while sum(isinstance(event, Finished) for events in told.values() for event in events) < 4:
            assert time.monotonic() < end, told
            for event in on_ray.events(1):
                told[event.trial_id].append(event)
            if fourth.spec.trial_id not in told and on_ray.has_room(ONE):
                told[fourth.spec.trial_id] = []
                on_ray.submit(fourth)
        assert [type(event) for event in told[third.spec.trial_id]].count(Started) == 1

    def test_what_no_node_can_hold_that_may_be_added_ends_the_run(
        self, on_ray: Executor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from orchestrator.ray_cluster import Autoscaler
        from orchestrator.room import shape_of

        wide = Resources(cpus=64)
        monkeypatch.setattr(
            "orchestrator.ray_cluster.autoscaler", lambda: Autoscaler(False, [shape_of(wide)])
        )
        monkeypatch.setattr("orchestrator.ray_executor.LOOK", -1.0)
        monkeypatch.setattr("orchestrator.ray_executor.PATIENCE", 0.0)
        assert on_ray.has_room(wide)
        on_ray.submit(Trial(scripted("completes", seed=52), wide))
        with pytest.raises(
            EngineLost, match="needs 64 CPUs, the largest node has 2, and the cluster's autoscaler"
        ):
            on_ray.events(0.1)
        on_ray.close()

    def test_a_ray_of_our_own_that_has_died_is_told_also_while_a_trial_waits_for_it(
        self, on_ray: Executor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        on_ray.submit(Trial(scripted("forever", seed=30), ONE))
        with monkeypatch.context() as patch:
            patch.setattr(on_ray, "_owner", True)
            patch.setattr("orchestrator.ray_cluster.nodes", list)
            patch.setattr("orchestrator.ray_executor.LOOK", -1.0)
            with pytest.raises(EngineLost, match="the Ray of this run has died"):
                on_ray.has_room(Resources(cpus=0.25, gpus=0))
            patch.setattr("orchestrator.ray_executor.PATIENCE", -1.0)
            with pytest.raises(EngineLost):
                on_ray.events(0.1)
        on_ray.close()

    def test_threads_follow_the_cpus(self, on_ray: Executor) -> None:
        row = rows(run(on_ray, scripted("tells", seed=20), Resources(cpus=2, gpus=0)))[-1]
        assert (row["omp"], row["threads"]) == ("2", min(2, os.cpu_count() or 1))

    def test_refusals_name_what_is_lacking(self, on_ray: Executor) -> None:
        with pytest.raises(PlacementError, match=r"^needs 3 CPUs, the largest node has 2$"):
            on_ray.admit(Resources(cpus=3, gpus=0))
