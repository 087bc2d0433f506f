"""The short version of chaos.py: no tracking server, and the head stays alive."""

import random
from pathlib import Path

from cluster import Cluster
from disturbed import Round, sweep_file
from same_numbers import differences

from orchestrator.driver import run_sweep
from orchestrator.executors import LocalExecutor
from orchestrator.store import ResultStore
from orchestrator.sweep import load_sweep

TRIALS = 6
STEPS = 1200


def undisturbed(file: Path, results: Path) -> None:
    """The sweep in this process."""
    executor = LocalExecutor(results.parent / "data", file.parent)
    assert run_sweep(load_sweep(file), store=ResultStore(results), executor=executor).exit_code == 0


def test_killing_a_worker_the_driver_and_a_node_changes_no_number(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add("b")
    file, reference = sweep_file(tmp_path, TRIALS, STEPS), tmp_path / "undisturbed"
    undisturbed(file, reference)
    faults, rng = ["worker", "driver", "worker", "node"], random.Random(0)
    for number in range(10):  # where the sweep ends before all have come, it is run again for the rest
        results = tmp_path / f"round-{number}"
        kills = Round(file, results, cluster, faults, rng, pauses=(0.0, 1.0)).run()
        assert [kill.fault for kill in kills] == faults[: len(kills)]
        assert all(kill.interrupted for kill in kills)
        assert differences(reference, results) == []
        faults = faults[len(kills) :]
        if not faults:
            break
    assert faults == []
