"""The benchmarks run, on something tiny, and what they print of the libraries that are here is right."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cluster import Cluster

FOLDER = Path(__file__).parent / "benchmarks"


def run(tmp_path: Path, command: str, *options: str) -> dict[str, Any]:
    file = tmp_path / "numbers.json"
    done = subprocess.run(
        [sys.executable, FOLDER / command, *options, "--json", file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text(encoding="utf-8"))


def test_eigenpairs(tmp_path: Path) -> None:
    found = run(tmp_path, "eigenpairs.py", "--only", "tiny", "--rounds", "1", "--no-memory")
    assert [problem["moment"] for problem in found["problems"]] == ["initialisation", "after 50 steps"]
    for problem in found["problems"]:
        ours, *peers = problem["rows"]
        assert ours["right"] == problem["count"]
        for row in peers:
            told = row["setting"] and row["setting"] != "defaults"
            absent = row.get("error", "").startswith("not installed")
            # What was told to reach our residual does, or ought to within float32's rounding of 1e-6.
            assert absent or "error" not in row, row
            assert absent or not told or max(row["residuals"]) <= 1e-3 + 1e-5, row


def test_products(tmp_path: Path) -> None:
    found = run(tmp_path, "products.py", "--quick", "--rounds", "1")
    assert [row["samples"] for row in found["time"]] == [1000, 2000]
    peaks = [row["peak_bytes"] for row in found["by_parameters"]]
    # 100,000 parameters against 10,000: the basis alone is ten times larger.
    assert peaks[1] > 2 * peaks[0]
    assert found["budgets"]


def test_reading(tmp_path: Path) -> None:
    found = run(tmp_path, "reading.py", "--trials", "4", "--rows", "3", "--rounds", "1")
    assert (found["files_before"], found["files_after"]) == (8, 2)
    assert found["reads"].keys() == {"own", "compacted", "plain"}


def test_outage(tmp_path: Path) -> None:
    found = run(tmp_path, "outage.py", "--trials", "1", "--steps", "10", "--rounds", "1", "--only", "500")
    without, erring = found["runs"]
    assert (without["condition"], erring["condition"]) == ("none", "500")
    assert erring["warnings"] == 1
    assert erring["left"]["missing"] == erring["left"]["points"] > 0
    assert {erring["mirrored"][what] for what in ("missing", "too_many", "runs_twice")} == {0}


def test_checkpoints(tmp_path: Path) -> None:
    found = run(tmp_path, "checkpoints.py", "--steps", "1000", "--rounds", "1")
    never, _, often = found["settings"]
    assert (never["saves"], never["bytes"]) == (0, 0)
    assert often["saves"] > 0
    assert often["bytes"] > 12 * 4 * 89_610  # weights, momentum and ten eigenvectors


def test_search(tmp_path: Path) -> None:
    found = run(tmp_path, "search.py", "--problem", "valley", "--trials", "3", "--seeds", "2")
    assert [row["sampler"] for row in found["samplers"]] == ["random", "qmc", "tpe", "cmaes"]
    for row in found["samplers"]:
        assert len(row["best"]) == 2
        assert min(row["best"]) > 0


def test_loading(tmp_path: Path) -> None:
    found = run(tmp_path, "loading.py", "--processes", "2", "--samples", "6000")
    assert [one["shared"] for one in found["shared"] + found["control"]] == [True, True, False, False]
    size = found["shared"][0]["bytes"]
    assert found["shared"][-1]["own_bytes"] < size / 2  # of the one that did not make it
    assert min(one["own_bytes"] for one in found["control"]) > size / 2


def test_overhead(tmp_path: Path, local_ray: Cluster) -> None:
    options = ("--trials", "6", "--slots", "2", "--rounds", "1", "--address", local_ray.address)
    found = run(tmp_path, "overhead.py", *options)
    assert [turn["contestant"] for turn in found["turns"]] == ["ours", "tasks", "streams", "tune"]
    for turn in found["turns"]:
        assert turn["milliseconds"] > 0
    assert found["turns"][0]["gap"]["median"] > 0  # one process does one trial at a time


def test_driver_memory(tmp_path: Path) -> None:
    found = run(tmp_path, "driver_memory.py", "--planned", "200", "--ended", "100", "--where")
    (weighed,) = found["sweeps"]
    assert weighed["planned"] == 200
    assert 100 <= weighed["ended"] < 200
    assert 0 < weighed["imported_bytes"] <= weighed["peak_bytes"]
    assert weighed["holders"]


def test_slots(tmp_path: Path, local_ray: Cluster) -> None:
    options = ("--real", "4", "--steps", "20", "--slots", "2", "--address", local_ray.address)
    (found,) = run(tmp_path, "slots.py", *options)["runs"]
    assert (found["trials"], found["used_slots"]) == (4, 2)
    assert 0 < found["training_of_all"] <= 1
    assert found["gap"]["median"] > 0
