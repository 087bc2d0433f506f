"""The stack of docker/ runs the quickstart, by the commands of docker/README.md."""

import os
import secrets
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pandas as pd
import pytest
from composed import FOLDER, example
from ruamel.yaml import YAML
from stack import Stack
from tracked import all_runs

README = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
RESULTS = "s3://results/quickstart"
STEPS = [0, 5, 20]
TRIALS = 4


@pytest.fixture(scope="module")
def stack():
    """Two workers of one CPU."""
    names = ("RAY_AUTH_TOKEN", "S3_SECRET_KEY", "POSTGRES_PASSWORD")
    given = {name: secrets.token_hex(32) for name in names}  # as README.md makes them
    with (
        tempfile.TemporaryDirectory(prefix="stack-", dir="/tmp", ignore_cleanup_errors=True) as folder,
        Stack(Path(folder), example(WORKERS="2", WORKER_CPUS="1", **given)) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """The quickstart with 20 steps and 400 samples to measure on: with its own 1,000 and 4,000 it takes minutes."""
    sweep = YAML(typ="safe").load(FOLDER.parent / "sweeps/quickstart.yaml")
    sweep["trial"] |= {"steps": STEPS[-1], "measurement_samples": 400}
    sweep["measure"]["top_eigenpairs"]["at"] = STEPS
    sweep["measure"]["subspace_overlap"]["since"] = [STEPS[1]]
    file = tmp_path_factory.mktemp("sweeps") / "quickstart.yaml"
    YAML().dump(sweep, file)
    return file


@pytest.fixture(scope="module")
def laptop(stack, tmp_path_factory):
    """The environment of a user elsewhere: the token, and the store's account to read results."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    home = str(tmp_path_factory.mktemp("home"))
    return {
        **{"PATH": path, "PYTHONPATH": str(FOLDER.parent), "HOME": home, "OMP_NUM_THREADS": "1"},
        **{"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(stack.secret("ray_token"))},
        **{"AWS_ENDPOINT_URL": stack.published("http://127.0.0.1:7070"), "AWS_DEFAULT_REGION": "us-east-1"},
        **{"AWS_ACCESS_KEY_ID": "tiny-subspace", "AWS_SECRET_ACCESS_KEY": "moto takes any"},
    }


@pytest.fixture
def storage(laptop, monkeypatch):
    """The store's account in the environment of this process."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in [name for name in laptop if name.startswith("AWS_")]:
        monkeypatch.setenv(name, laptop[name])


@pytest.fixture(scope="module")
def said(stack, laptop, quickstart):
    """What is said by a doctor in the head, and by `submit` of the quickstart from a laptop, both at once. Submitting needs
    no account of the store.
    """
    without = {name: value for name, value in laptop.items() if not name.startswith("AWS_")}
    with ThreadPoolExecutor() as threads:
        examined = threads.submit(inside, stack, "head tiny-subspace doctor")
        submitted = threads.submit(outside, stack, without, "tiny-subspace submit my-sweep.yaml", quickstart)
        return examined.result(), submitted.result()


@pytest.fixture(scope="module")
def submitted(said, stack):
    """What `submit` says."""
    _, done = said
    assert done.returncode == 0, done.stdout + done.stderr
    if (
        "tiny-subspace mirror" in done.stderr
    ):  # a busy machine's server was slow, and the run's end did not wait for it
        made_up = stack.execute("head", "tiny-subspace", "mirror", RESULTS)
        assert made_up.returncode == 0, made_up.stderr
    return done.stderr


def words_of(start):
    """The words of the line of README.md that begins so, without its comment."""
    (found,) = [line for line in README if line.startswith(start)]
    return shlex.split(found, comments=True)


def outside(stack, environment, start, sweep=None):
    """Run README.md's line on a laptop, with this sweep."""
    words = [stack.published(word).replace("my-sweep.yaml", str(sweep)) for word in words_of(start)]
    words = [word.replace("s3://results/my-sweep", RESULTS) for word in words]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


def inside(stack, start, sweep=None):
    """Run README.md's `docker compose exec …`, with this sweep."""
    *compose, service = words_of(f"docker compose exec {start}")[:4]
    assert compose == ["docker", "compose", "exec"]
    words = words_of(f"docker compose exec {start}")[4:]
    return stack.execute(service, *(word.replace("sweeps/quickstart.yaml", str(sweep)) for word in words))


def test_everything_answers_in_the_head(said):
    examined, _ = said
    assert examined.returncode == 0, examined.stdout + examined.stderr
    assert "auto: 3 nodes with 2 CPUs and 0 GPUs" in examined.stdout
    asked = [line.split()[:2] for line in examined.stdout.splitlines()]
    names = ("here", "jobs", "versions", "cluster", "tracking", "results", "nodes", "compared")
    assert all(["ok", name] in asked for name in names)


def test_who_lacks_the_token_is_refused(stack, laptop, quickstart, tmp_path):
    (tmp_path / "token").write_text(secrets.token_hex(32))
    stranger = laptop | {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    refused = outside(stack, stranger, "tiny-subspace submit my-sweep.yaml", quickstart)
    assert refused.returncode == 2
    assert "the token is not that of the cluster" in refused.stderr


def test_the_quickstart_is_run_by_submit_and_its_state_lies_in_the_store(stack, submitted):
    assert f"quickstart: {TRIALS} of {TRIALS} trials to run" in submitted
    assert f"{TRIALS} completed. Results: {RESULTS}" in submitted
    told = inside(stack, "head tiny-subspace status")
    assert told.returncode == 0, told.stderr
    assert f"{TRIALS} trials: {TRIALS} completed" in told.stdout


@pytest.mark.usefixtures("submitted")
def test_mlflow_shows_the_runs_that_lie_in_postgresql(stack):
    runs = all_runs(stack.published("http://127.0.0.1:5000"), "quickstart")
    trials = [run for run in runs if "trial_id" in run.data.tags]
    assert len(trials) == TRIALS
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.params["learning_rate"] for run in trials} == {"0.1", "0.01"}
    assert all(0 < run.data.metrics["f_top"] < 1 for run in trials)
    asked = "SELECT run_uuid FROM runs WHERE status = 'FINISHED'"
    told = stack.execute("postgres", "psql", "--username=mlflow", "--tuples-only", "--no-align", "-c", asked)
    assert told.returncode == 0, told.stderr
    assert set(told.stdout.split()) == {run.info.run_id for run in runs}


@pytest.mark.usefixtures("submitted", "storage")
def test_parquet_lies_in_the_store_and_mlflows_files_beside_it():
    trials = pd.read_parquet(f"{RESULTS}/trials")
    assert list(trials.status) == ["completed"] * TRIALS
    rows = pd.read_parquet(f"{RESULTS}/measurements").dropna(subset="f_top")
    assert set(rows.trial_id) == set(trials.trial_id)
    assert rows.groupby("trial_id").step.agg(sorted).tolist() == [STEPS] * TRIALS
    assert rows.f_top.between(0, 1).all()
    assert (rows.eigenvalues.map(len) == 20).all()
    artifacts = [found.key for found in boto3.resource("s3").Bucket("mlflow").objects.all()]
    assert any(key.endswith("/artifacts/sweep.yaml") for key in artifacts)


@pytest.mark.usefixtures("submitted")
def test_results_are_read_from_outside(stack, laptop):
    told = outside(stack, laptop, "python -c")
    assert told.returncode == 0, told.stderr
    assert f"[{TRIALS} rows x " in told.stdout


@pytest.mark.usefixtures("submitted")
def test_a_second_submit_finds_nothing_left_to_run(stack, quickstart):
    again = inside(stack, "head tiny-subspace submit", quickstart)
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"quickstart: 0 of {TRIALS} trials to run, {TRIALS} finished earlier" in again.stderr
