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
    file, reference, results = (
        sweep_file(tmp_path, TRIALS, STEPS),
        tmp_path / "undisturbed",
        tmp_path / "disturbed",
    )
    undisturbed(file, reference)
    faults = ["worker", "driver", "worker", "node"]
    kills = Round(file, results, cluster, faults, random.Random(0), pauses=(0.0, 1.0)).run()
    assert [kill.fault for kill in kills] == faults
    assert all(kill.interrupted for kill in kills)
    assert differences(reference, results) == []
