"""What a sweep makes of a cluster that changes: processes and nodes that die, come, freeze and thaw.

The sweeps with nodes allow no retry: the loss of a node is not the trial's fault and costs it none.
"""

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from cluster import Cluster
from placed import STEPS, Place, placed, places, release, trial
from processes import wait_until

from orchestrator import results
from orchestrator.driver import run_sweep
from orchestrator.executors import Executor
from orchestrator.faults import Fault
from orchestrator.store import ResultStore
from orchestrator.sweep import Resources, Sweep, Trial
from workers.result import Row, TrialResult, TrialStatus
from workers.spec import TrialSpec

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where trials note their steps."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def executor(local_ray: Cluster, data: Path) -> Iterator[Executor]:
    """One for all tests: a process takes seconds to start, and most of it is the import of torch."""
    from orchestrator.ray_executor import RayExecutor

    made = RayExecutor(data=data, folder=HERE, trial_function=trial)
    yield made
    made.close()


class Watch:
    """Calls `act` once, with the place of a trial that has come to its third step on a node of that name. No trial ends
    before.
    """

    def __init__(self, data: Path, node: str, act: Callable[[Place], object]) -> None:
        self._data, self._node, self._act = data, node, act
        self._specs: dict[str, TrialSpec] = {}
        self.hit: TrialSpec | None = None

    def begin(self, sweep: Sweep, left: Sequence[Trial]) -> None:
        self._specs = {each.spec.trial_id: each.spec for each in left}

    def started(self, trial: Trial) -> None: ...

    def row(self, trial_id: str, row: Row) -> None:
        spec = self._specs[trial_id]
        place = places(self._data, spec)[-1]
        if self.hit is None and place.node == self._node and place.step >= 3:
            self.hit = spec
            self._act(place)
            release(self._data, spec)

    def faulted(self, trial_id: str, fault: Fault) -> None: ...

    def finished(self, trial_id: str, result: TrialResult) -> None: ...


class Run:
    """A sweep of three trials, run to its end, and what there is to know of it afterwards."""

    def __init__(self, folder: Path, data: Path, executor: Executor, together: int = 1) -> None:
        self.folder, self._data, self._executor = folder / "results", data, executor
        self.specs = [placed(folder.name, seed, together) for seed in range(3)]

    def go(self, node: str, act: Callable[[Place], object], retries: int = 0) -> TrialSpec:
        """Run it, and `act` in the middle of a trial on that node: this trial."""
        trials = tuple(Trial(spec, Resources()) for spec in self.specs)
        sweep = Sweep("cluster", "", trials, retries, "name: cluster\n", HERE, Path("cluster.yaml"))
        watch = Watch(self._data, node, act)
        outcome = run_sweep(sweep, store=ResultStore(self.folder), executor=self._executor, mirror=watch)
        assert outcome.counts == {TrialStatus.COMPLETED: 3}
        assert watch.hit
        return watch.hit

    def others(self, hit: TrialSpec) -> list[TrialSpec]:
        return [spec for spec in self.specs if spec != hit]

    def nodes(self, spec: TrialSpec) -> list[str]:
        """The nodes on which steps of a trial were made, in that order."""
        return list(dict.fromkeys(place.node for place in self.places(spec)))

    def places(self, spec: TrialSpec) -> list[Place]:
        return places(self._data, spec)

    def attempts(self, spec: TrialSpec) -> int:
        return int(results.trials(self.folder).set_index("trial_id").attempts[spec.trial_id])

    def undisturbed(self, spec: TrialSpec) -> bool:
        """Whether each step was made once, by one process."""
        told = self.places(spec)
        return [place.step for place in told] == list(range(STEPS + 1)) and len({p.pid for p in told}) == 1

    def complete(self) -> bool:
        """Whether each trial has each of its rows once."""
        steps = results.measurements(self.folder).groupby("trial_id").step.agg(sorted)
        return len(steps) == len(self.specs) and all(found == list(range(STEPS + 1)) for found in steps)

    def content(self) -> Mapping[str, bytes]:
        """Every file of the results but checkpoints, which are nobody's result."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.suffix != ".ckpt"]
        return {str(path): path.read_bytes() for path in files}


def test_a_process_killed_in_mid_trial_costs_a_retry(
    cluster: Cluster, executor: Executor, data: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path / "process", data, executor)
    hit = run.go("head", lambda place: os.kill(place.pid, signal.SIGKILL), retries=1)
    assert run.attempts(hit) == 2
    assert len({place.pid for place in run.places(hit)}) == 2
    assert all(map(run.undisturbed, run.others(hit)))
    assert run.complete()


def test_a_node_added_is_used_and_when_it_dies_its_trials_run_elsewhere(
    cluster: Cluster, executor: Executor, data: Path, tmp_path: Path
) -> None:
    # the first two wait for the third, for which there is no place before there is a node more
    run = Run(tmp_path / "added", data, executor, together=3)
    run.go("head", lambda _: cluster.add("b"))
    assert {*map(tuple, map(run.nodes, run.specs))} == {("head",), ("b",)}
    assert all(map(run.undisturbed, run.specs))

    run = Run(tmp_path / "killed", data, executor)
    hit = run.go("b", lambda _: cluster.nodes[0].kill())
    assert run.nodes(hit) == ["b", "head"]
    assert all(map(run.undisturbed, run.others(hit)))
    assert run.complete()


def test_a_node_that_was_frozen_and_thaws_changes_nothing(
    cluster: Cluster, executor: Executor, data: Path, tmp_path: Path
) -> None:
    from orchestrator.ray_cluster import nodes

    node = cluster.add("c").wait()
    wait_until(lambda: len(nodes()) == 2)
    run = Run(tmp_path / "frozen", data, executor)
    hit = run.go("c", lambda _: node.freeze())
    assert run.nodes(hit) == ["c", "head"]
    assert run.complete()
    before, steps = run.content(), len(run.places(hit))
    for pid in node.worker_pids():
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: len(run.places(hit)) > steps)  # it does go on
    node.thaw()
    wait_until(lambda: not node.worker_pids())  # Ray ends what it has given up
    assert run.content() == before
