"""The command as a user meets it: a sweep from file to Parquet and MLflow, resumed, extended, failing, refused."""

import json
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from mlflow.tracking import MlflowClient

from orchestrator import results
from orchestrator.cli import main

SWEEP = """\
name: small
trial: {architecture: {name: mlp, widths: [8]}, dataset: {name: digits, classes: 3}, steps: 4, batch_size: 32}
grid:
  learning_rate: [0.1, 0.01]
measure:
  loss: {every: 2}
  top_eigenpairs: {at: [0, 4]}
  subspace_overlap: {since: [0]}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "path", list(sys.path)
    )  # a sweep's folder stays importable in a process that runs it
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "small.yaml").write_text(SWEEP)
    return tmp_path


def call(*words: str) -> Result:
    return CliRunner().invoke(main, words, catch_exceptions=False)


def run(*words: str) -> Result:
    return call("run", "small.yaml", "--executor", "local", "--tracking-uri", "none", *words)


@pytest.mark.usefixtures("local_ray")
def test_a_sweep_from_file_to_parquet_and_mlflow(folder: Path) -> None:
    done = call("run", "small.yaml")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == ""
    assert "2 completed. Results: results/small" in done.stderr
    rows = pd.read_parquet("results/small/measurements")
    assert sorted(rows.step.unique()) == [0, 2, 4]
    assert rows.trial_id.nunique() == 2
    assert rows[rows.step == 4].f_top.between(0, 1).all()
    assert list(pd.read_parquet("results/small/trials").status) == ["completed"] * 2
    assert (folder / "results/small/sweep.yaml").read_text() == SWEEP

    mlflow.set_tracking_uri(f"sqlite:///{folder}/results/mlflow.db")
    client = MlflowClient()
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    children = [child for child in runs if "mlflow.parentRunId" in child.data.tags]
    assert (len(runs), len(children)) == (3, 2)
    assert {child.info.run_name for child in children} == {
        "mlp digits lr=0.1 seed=0",
        "mlp digits lr=0.01 seed=0",
    }
    for child in children:
        assert [point.step for point in client.get_metric_history(child.info.run_id, "f_top")] == [0, 4]
        assert "eigenvalue_06" in child.data.metrics


@pytest.mark.usefixtures("local_ray")
def test_wherever_and_however_many_run_at_once_the_numbers_are_the_same_to_the_bit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(
        "orchestrator.ray_executor.PATIENCE", 1.0
    )  # before the second trial is given the place

    @ray.remote(num_cpus=1)
    class Other:
        def ready(self) -> None: ...

    on_ray = ["run", "small.yaml", "--tracking-uri", "none", "--results"]
    assert call(*on_ray, "two_at_once").exit_code == 0
    other = Other.remote()  # type: ignore[attr-defined]  # takes one of the two places
    ray.get(other.ready.remote())
    assert call(*on_ray, "one_at_once").exit_code == 0
    ray.kill(other)
    assert run("--results", "here").exit_code == 0
    order = [("trial_id", "ascending"), ("step", "ascending")]
    two, one, here = (
        pq.read_table(f"{path}/measurements").sort_by(order).to_pylist()
        for path in ("two_at_once", "one_at_once", "here")
    )
    # exact: the same kernels on the same number of threads
    assert two == one == here


def test_running_again_runs_nothing_and_a_longer_grid_only_what_is_new(folder: Path) -> None:
    assert run().exit_code == 0
    first = results.trials("results/small").set_index("trial_id").finished_at
    again = run()
    assert again.exit_code == 0
    assert "0 of 2 trials to run, 2 finished earlier" in again.stderr
    (folder / "small.yaml").write_text(SWEEP.replace("[0.1, 0.01]", "[0.1, 0.01, 0.001]"))
    longer = run()
    assert "1 of 3 trials to run, 2 finished earlier" in longer.stderr
    after = results.trials("results/small").set_index("trial_id").finished_at
    assert len(after) == 3
    assert (after[first.index] == first).all()


def test_a_divergence_is_a_result(folder: Path) -> None:
    (folder / "small.yaml").write_text(
        SWEEP.replace("[0.1, 0.01]", "[1.e+30]").replace("steps: 4", "steps: 20")
    )
    assert run().exit_code == 0
    (row,) = results.trials("results/small").to_dict("records")
    assert row["status"] == "diverged"
    assert 0 < row["steps_done"] < 20


def test_a_users_own_model_that_fails_fails_alone_with_its_traceback(folder: Path) -> None:
    (folder / "failing_models.py").write_text(
        "from torch import nn\n\n"
        "def good(input_shape, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n\n"
        "def broken(input_shape, num_classes):\n"
        "    raise RuntimeError('no such layer')\n"
    )
    own = SWEEP.replace("{name: mlp, widths: [8]}", "failing_models.good").replace("[0.1, 0.01]", "[0.1]")
    own = own.replace(
        "trial: {architecture: failing_models.good, ",
        "cases: [{architecture: failing_models.good}, {architecture: failing_models.broken}]\ntrial: {",
    )
    (folder / "small.yaml").write_text(own)
    done = run()
    assert done.exit_code == 1
    assert "1 completed, 1 failed" in done.stderr
    status = json.loads(call("status", "results/small", "--json").stdout)
    (failure,) = status["failures"]
    assert "no such layer" in failure["reason"]
    assert "failing_models.py" in failure["traceback"]
    assert (
        failure["rerun"]
        == f"tiny-subspace run {Path('small.yaml')} --executor local --debug --only {failure['trial_id']}"
    )


@pytest.mark.usefixtures("local_ray")
def test_a_users_own_measurement_beside_a_sweep_file_elsewhere(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub/own_norms.py").write_text(
        "from dataclasses import dataclass\n\n"
        "@dataclass(frozen=True)\nclass Record:\n    weight_norm: float | None\n\n"
        "def measure(snapshot):\n    raise NotImplementedError\n\n"
        "def norm(snapshot):\n"
        "    return Record(float(sum(p.square().sum() for p in snapshot.model.parameters())) ** 0.5)\n"
    )
    (folder / "sub/own.yaml").write_text(SWEEP + "  own_norms.norm: {every: 4}\n")
    done = call("run", "sub/own.yaml", "--tracking-uri", "none")
    assert done.exit_code == 0, done.stderr
    rows = pd.read_parquet("results/small/measurements")
    assert (rows[rows.step != 2].weight_norm > 0).all()
    assert rows[rows.step == 2].weight_norm.isna().all()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def measure(snapshot): ...\n", "has no attribute 'Record'"),
        ("raise RuntimeError('no')\ndef measure(snapshot): ...\n", "RuntimeError: no"),
    ],
    ids=["no record", "fails on import"],
)
def test_a_users_own_measurement_that_cannot_be_used_is_refused(
    folder: Path, source: str, message: str
) -> None:
    name = f"own_{abs(hash(source))}"
    (folder / f"{name}.py").write_text(source)
    (folder / "small.yaml").write_text(SWEEP + f"  {name}.measure: {{every: 4}}\n")
    done = run()
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (folder / "results").exists()


def test_status_and_mirror_of_what_was_run(folder: Path) -> None:
    assert run("--only", only_id()).exit_code == 0
    text = call("status", "results/small").stdout
    assert "2 trials: 1 completed, 1 pending" in text
    for _ in range(2):
        done = call("mirror", "results/small")
        assert done.exit_code == 0, done.stderr
    client = MlflowClient(f"sqlite:///{folder}/results/mlflow.db")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 2


def only_id() -> str:
    return str(json.loads(call("plan", "small.yaml", "--json").stdout)["trials"][0]["trial_id"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "absent.yaml"], "absent.yaml"),
        (["run", "small.yaml", "--only", "nonsense"], "--only: 'nonsense': the sweep has no such trial"),
        (["run", "small.yaml", "--executor", "local", "--address", "x:1"], "--address"),
        (["run", "small.yaml", "--debug"], "--debug: is for --executor local"),
        (["run", "small.yaml", "--executor", "cloud"], "'cloud' is not one of 'ray', 'local'"),
        (["status", "absent"], "absent"),
        (["mirror", "absent"], "absent"),
        (["ui", "absent"], "no tracking store"),
    ],
    ids=" ".join,
)
def test_a_wrong_call_ends_with_2_and_writes_nothing(folder: Path, words: list[str], message: str) -> None:
    done = call(*words)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in folder.iterdir()] == ["small.yaml"]


def test_a_refusal_is_json_where_the_log_is(folder: Path) -> None:
    for words in (["absent.yaml"], ["small.yaml", "--debug"], ["small.yaml", "--only", "none such"]):
        done = call("run", *words, "--log-format", "json")
        assert done.exit_code == 2
        (told,) = map(json.loads, done.stderr.splitlines())
        assert (told["event"], told["level"]) == ("refused", "error")


def test_a_folder_of_another_sweep_is_refused_and_left_alone(folder: Path) -> None:
    assert run("--results", "shared").exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in (folder / "shared").rglob("*")}
    (folder / "small.yaml").write_text(SWEEP.replace("name: small", "name: other"))
    done = run("--results", "shared")
    assert done.exit_code == 2
    assert "holds results of the sweep 'small', not of 'other'" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in (folder / "shared").rglob("*")} == before


def test_gpus_that_are_not_there_are_refused_at_once(folder: Path) -> None:
    (folder / "small.yaml").write_text(SWEEP + "resources: {gpus: 1}\n")
    done = run()
    assert done.exit_code == 2
    assert "needs 1 GPU" in done.stderr
    assert not (folder / "results").exists()
