"""`tiny-subspace plan`: what it says, that it writes nothing, and that it answers at once."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from orchestrator import plan as plan_module
from orchestrator.cli import main
from orchestrator.cost import hessian_products
from orchestrator.plan import as_text, plan
from orchestrator.sweep import load_sweep
from workers import find
from workers.spec import Request

TEXT = """
name: s
description: Two rates.
trial: {architecture: mlp, dataset: mnist5k, steps: 1000, measurement_samples: 2000}
grid: {learning_rate: [0.1, 0.01], seed: {range: 2}}
measure: {loss: {every: 100}, top_eigenpairs: {at: [0, 1000], count: 20}, spectral_density: {at: [1000]}}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(TEXT)
    return Path("s.yaml")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_json(file: Path) -> None:
    result = call("plan", str(file), "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert answer["counts"] == {"trials": 4, "left": 4}
    assert answer["common"] == {
        "architecture": "mlp",
        "dataset": "mnist5k",
        "optimizer": "sgd",
        "batch_size": 64,
        "steps": 1000,
        "loss": "cross_entropy",
        "precision": "float32",
        "initialization": "glorot",
        "measurement_samples": 2000,
        "batch_norm": "eval",
        "measure": {
            "loss": {"every": 100},
            "top_eigenpairs": {"at": [0, 1000], "count": 20},
            "spectral_density": {"at": [1000]},
            "gradient_overlap": {},
        },
        "resources": {"cpus": 1, "gpus": 0},
    }
    assert [trial["varying"] for trial in answer["trials"]] == [
        {"learning_rate": rate, "seed": seed} for rate in (0.1, 0.01) for seed in (0, 1)
    ]
    assert [trial["trial_id"] for trial in answer["trials"]] == [
        t.spec.trial_id for t in load_sweep(file).trials
    ]
    # 2 decompositions of 20 pairs at 4 products, 4 probes of 80 steps; of half the data, 2 gradients each
    products = 2 * 20 * 4 + 4 * 80
    assert answer["trials"][0] | {"trial_id": "", "varying": {}} == {
        "trial_id": "",
        "status": None,
        "varying": {},
        "steps": 1000,
        "measured_steps": 11,
        "hessian_products": products,
        "training_epochs": 16.0,
        "measuring_epochs": products * 2 * 0.5,
        "sample_gradients": (16 + products * 2 * 0.5) * 4000,
    }
    assert answer["to_run"]["steps"] == 4000


def test_resources_are_told_beside_what_differs(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    cases = "cases: [{architecture: mlp}, {architecture: softmax, resources: {gpus: 0.5, memory_gib: 4}}]"
    file.write_text(f"name: s\ntrial: {{dataset: digits, steps: 5}}\n{cases}\n")
    planned = plan(load_sweep(file), {})
    assert "resources" not in planned.common
    assert [trial.varying["resources"] for trial in planned.trials] == [
        {"cpus": 1, "gpus": 0},
        {"cpus": 1, "gpus": 0.5, "memory_gib": 4},
    ]
    assert "gpus: 0.5, memory_gib: 4" in as_text(planned)


def test_what_has_ended_is_not_in_the_cost(file: Path) -> None:
    sweep = load_sweep(file)
    ids = [trial.spec.trial_id for trial in sweep.trials]
    planned = plan(
        sweep, {ids[0]: "completed", ids[1]: "failed", ids[2]: "diverged", "of another sweep": "completed"}
    )
    assert [trial.status for trial in planned.trials] == ["completed", "failed", "diverged", None]
    assert planned.counts() == {"trials": 4, "left": 2, "completed": 1, "failed": 1, "diverged": 1}
    assert planned.total().steps == 2000  # a failed trial is run again
    everything = plan(sweep, dict.fromkeys(ids, "completed"))
    assert everything.total().steps == 0
    assert "0 to run" in as_text(everything)


def test_text(file: Path) -> None:
    result = call("plan", str(file))
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[:2] == ["s: 4 trials, 4 to run", "Two rates."]
    assert "    top_eigenpairs: {at: [0, 1000], count: 20}" in lines
    head = lines.index("trial_id          status  learning_rate  seed  steps  measured  products  epochs")
    first = load_sweep(file).trials[0].spec.trial_id
    assert lines[head + 1] == f"{first}  -       0.1            0     1,000  11        480       16 + 480"
    assert lines[-1] == (
        "To run: 4,000 steps, 1,920 Hessian products; about 64 epochs of training, "
        "and measuring takes as long as 1,920 epochs."
    )


def test_long_lists_are_cut_in_the_text_only(file: Path) -> None:
    file.write_text(TEXT.replace("{range: 2}", "{range: 1000}"))
    assert f"… and {2000 - plan_module.SHOWN:,} more; --json lists all" in call("plan", str(file)).stdout
    assert len(json.loads(call("plan", str(file), "--json").stdout)["trials"]) == 2000


def test_what_is_not_known_is_a_question_mark(file: Path) -> None:
    file.write_text(
        "name: s\ntrial: {architecture: mlp, dataset: {name: npz, path: absent.npz}, epochs: 2}\n"
    )
    assert "?      ?         ?         ? + ?" in call("plan", str(file)).stdout
    assert json.loads(call("plan", str(file), "--json").stdout)["to_run"]["steps"] is None


def test_epochs_become_steps(file: Path) -> None:
    file.write_text("name: s\ntrial: {architecture: mlp, dataset: mnist5k, epochs: 2}\n")
    assert json.loads(call("plan", str(file), "--json").stdout)["to_run"]["steps"] == 126


def test_nothing_is_written(file: Path) -> None:
    call("plan", str(file), "--results", "elsewhere")
    assert os.listdir() == ["s.yaml"]  # noqa: PTH208


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        ({"loss": Request(every=1)}, 0),
        ({"hessian_gradient_overlap": Request(every=50)}, 3),
        ({"top_eigenpairs": Request(at=(0, 100))}, 2 * 80),
        # followers cost nothing where there are eigenpairs, and a decomposition where there are not
        ({"top_eigenpairs": Request(at=(0,)), "gradient_overlap": Request()}, 80),
        ({"top_eigenpairs": Request(at=(0,)), "gradient_overlap": Request(at=(0, 7))}, 2 * 80),
        ({"gradient_overlap": Request(at=(5,))}, 80),
        ({"spectral_density": Request(at=(0,), options={"probes": 2, "lanczos_steps": 30})}, 60),
        ({"smallest_eigenvalue": Request(at=(0, 1))}, 2 * 80),
        ({"hessian_residual": Request(at=(0,))}, 90),
        ({"layer_hessians": Request(at=(0,), options={"count": 2})}, 3 * 18),
        # what is compared with the top of H needs eigenpairs at its steps
        ({"gauss_newton": Request(at=(0,), options={"count": 5})}, 20 + 80),
        (
            {"top_eigenpairs": Request(at=(0, 9), options={"count": 10}), "gradient_covariance": Request()},
            2 * (40 + 80),
        ),
        ({"my.own": Request(every=1)}, 0),
    ],
)
def test_hessian_products(
    measure: dict[str, Request], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = find.constant
    monkeypatch.setattr(
        find, "constant", lambda kind, name, what: None if "." in name else read(kind, name, what)
    )
    assert hessian_products(measure, classes=10, last=100) == expected


def test_own_files_are_not_run(file: Path) -> None:
    Path("own.py").write_text(
        "raise RuntimeError\ndef build(shape, classes): ...\ndef measure(snapshot): ...\n"
    )
    file.write_text(
        TEXT.replace("architecture: mlp", "architecture: own.build").replace("loss:", "own.measure:")
    )
    assert call("plan", str(file)).exit_code == 0


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from orchestrator.cli import main; main(prog_name='tiny-subspace')"
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.parametrize(
    "arguments", [["plan", "s.yaml"], ["plan", "s.yaml", "--json"], ["--help"], ["--version"]]
)
def test_nothing_heavy_is_imported(file: Path, arguments: list[str]) -> None:
    assert file.exists()
    imported = {line.rpartition("|")[2].strip() for line in run(*arguments).stderr.splitlines()}
    assert "click" in imported
    assert not imported & {"torch", "ray", "mlflow", "pandas", "torchvision", "sklearn", "pyarrow"}
    if arguments[0] != "plan":
        assert not imported & {"pydantic", "ruamel.yaml", "numpy", "rich"}


def test_help_answers_at_once() -> None:
    """Its modules take as long as Python itself takes twice to start, 0.04 s; what nobody notices is 0.15 s."""

    def seconds(*command: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
        return time.perf_counter() - start

    call_help = "from orchestrator.cli import main; main(['--help'])"
    assert min(seconds("-c", call_help) for _ in range(5)) < 7 * min(seconds("-c", "pass") for _ in range(5))


def test_help_teaches() -> None:
    text = call("--help").stdout
    for word in ("tiny-subspace plan sweeps/", "TINY_SUBSPACE_DATA", "mnist5k", "Exit codes", "130"):
        assert word in text
    assert call("--version").stdout.startswith("tiny-subspace ")


def test_stored_results_are_known(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator import store

    first = load_sweep(file).trials[0].spec.trial_id

    class Stored:
        def __init__(self, root: str) -> None:
            self.root = root

        def finished(self) -> dict[str, Any]:
            return {first: store.TrialStatus.COMPLETED} if self.root == "results/s" else {}

    monkeypatch.setattr(store, "ResultStore", Stored)
    assert "completed" not in call("plan", str(file)).stdout  # no folder, so nothing is looked up
    Path("results/s").mkdir(parents=True)
    Path("other").mkdir()
    assert "s: 4 trials, 3 to run, 1 completed" in call("plan", str(file)).stdout
    assert "4 to run" in call("plan", str(file), "--results", "other").stdout
