"""What is sent to a cluster: the call checked before anything is asked, what travels, and what others can see of it."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest

from orchestrator import submission as submissions
from orchestrator.cli import main
from orchestrator.examination import Examination
from orchestrator.job import COMMAND, JOB
from orchestrator.submission import Submission, new_id
from orchestrator.sweep import load_sweep
from orchestrator.tracking import tracking_uri
from orchestrator.versions import VERSION_VARIABLE, code_version

SWEEP = """\
name: mine
trial: {architecture: my_models.linear, dataset: {name: npz, path: my.npz}, steps: 4}
"""
ADDRESS = "http://head:8265"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "sweep"
    folder.mkdir()
    (folder / "mine.yaml").write_text(SWEEP)
    (folder / "my_models.py").write_text("import my_layers\ndef linear(input_shape, num_classes): ...\n")
    (folder / "my_layers").mkdir()
    (folder / "my_layers/__init__.py").write_text("")
    (folder / "my_layers/.gitignore").write_text("*.py\n")
    (folder / "unrelated.py").write_text("")
    (folder / ".env").write_text("AWS_SECRET_ACCESS_KEY=secret")
    for name in ("my.npz", "../outside.npz"):
        x, y = np.zeros((4, 2)), np.arange(4) % 2
        np.savez(folder / name, x_train=x, y_train=y, x_test=x, y_test=y)
    return folder


@pytest.fixture
def submission(folder):
    return Submission(load_sweep(folder / "mine.yaml"), ADDRESS, "s3://results/mine")


def test_a_good_call_has_no_problems(submission):
    assert submission.problems() == []
    for address in ("https://ray.lab.example/head", "http://127.0.0.1:8265/"):
        assert replace(submission, address=address).problems() == []
    on_disk = replace(submission, results="/shared/mine", data="~/data", tracking_uri="http://mlflow:5000")
    assert on_disk.problems() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"address": "head:6379"}, "--address: head:6379: must be that of the cluster's dashboard"),
        ({"address": "ray://head:10001"}, "--address: ray://head:10001: must be"),
        ({"address": "auto"}, "--address: auto: must be"),
        ({"address": "http://"}, "--address: http://: must be"),
        ({"address": "http://me:secret@head:8265"}, "--address: one with credentials is refused"),
        ({"address": "ray://me:secret@head"}, "--address: ray://me:***@head"),
        ({"results": None}, "--results: is missing: there is no default"),
        ({"results": "results/mine"}, "--results: results/mine: a relative path"),
        ({"results": "~/results"}, "--results: ~/results: a relative path"),
        ({"results": "s3://secret:secret@bucket/x"}, "--results: a URI with credentials is refused"),
        ({"results": "s3://b/x?secret_key=secret"}, "--results: a URI with credentials is refused"),
        ({"tracking_uri": "https://me:secret@mlflow"}, "--tracking-uri: a URI with credentials is refused"),
        ({"tracking_uri": "sqlite:///mlflow.db"}, "--tracking-uri: sqlite:///mlflow.db: a relative path"),
        ({"tracking_uri": "mlruns"}, "--tracking-uri: mlruns: a relative path"),
        ({"data": "data"}, "--data: data: a relative path"),
    ],
)
def test_a_wrong_call_is_refused_in_one_line_without_its_secrets(submission, changes, words):
    (line,) = replace(submission, **changes).problems()
    assert line.startswith(words)
    assert "secret@" not in line
    assert "=secret" not in line
    assert "\n" not in line


def test_all_that_is_wrong_is_told_at_once(submission):
    wrong = replace(submission, address="head:6379", results=None, data="data", tracking_uri="mlruns")
    assert len(wrong.problems()) == 4


def test_files_that_cannot_travel_are_named(folder, monkeypatch):
    (folder / "mine.yaml").write_text(SWEEP.replace("my.npz", "../outside.npz"))
    outside = Submission(load_sweep(folder / "mine.yaml"), ADDRESS, "/results/mine")
    (line,) = outside.problems()
    assert "../outside.npz: lies outside the folder of the sweep file" in line
    (folder / "mine.yaml").write_text(SWEEP)
    large = Submission(load_sweep(folder / "mine.yaml"), ADDRESS, "/results/mine")
    with (folder / "my.npz").open("ab") as file:
        file.truncate(99 * 2**20)  # bytes that take no place on the disk
    (line,) = large.problems()
    assert (
        "its trials need are 99.0 MiB, and Ray takes 100 MiB with a job: my.npz (99.0 MiB), my_models.py"
        in line
    )


def test_what_travels_is_what_the_trials_name_and_this_package(submission, tmp_path):
    target = tmp_path / "parcel"
    submission.pack(target)
    assert sorted(path.name for path in target.iterdir()) == [
        "mine.yaml", "my.npz", "my_layers", "my_models.py", "orchestrator", "workers"
    ]  # fmt: skip
    assert [path.name for path in (target / "my_layers").iterdir()] == ["__init__.py"]
    assert (target / "mine.yaml").read_text() == SWEEP
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    own = sum((target / name).stat().st_size for name in ("mine.yaml", "my.npz", "my_models.py"))
    assert (
        size - own < submissions.RESERVED
    )  # twice what there is now: the archive adds 100 bytes or so to each file
    code = "import orchestrator, workers; print(orchestrator.__file__, workers.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=target, capture_output=True, text=True, check=True, timeout=60
    )
    assert all(Path(file).is_relative_to(target) for file in done.stdout.split())


def test_what_a_search_may_ask_for_travels_too(folder):
    (folder / "other_models.py").write_text("def linear(input_shape, num_classes): ...\n")
    (folder / "search.yaml").write_text(
        "name: mine\ntrial: {dataset: {name: npz, path: my.npz}, steps: 4}\nmeasure: {loss: {every: 2}}\n"
        "search:\n  {trials: 4, metric: test_accuracy, direction: maximize,\n"
        "   space: {architecture: {choice: [my_models.linear, other_models.linear]}}}\n"
    )
    searching = Submission(load_sweep(folder / "search.yaml"), ADDRESS, "s3://results/mine")
    before = searching.metadata["content"]
    searching.pack(folder / "parcel")
    names = {path.name for path in (folder / "parcel").iterdir()}
    assert names >= {"my.npz", "my_models.py", "my_layers", "other_models.py"}
    (folder / "other_models.py").write_text("1")
    assert searching.metadata["content"] != before


def words_of(command, verb):
    """The options of a command line, as the command understands them."""
    values, _, _ = main.commands[verb].make_parser(click.Context(main.commands[verb])).parse_args(command)
    return values


def test_the_driver_is_run_with_what_was_asked_for(submission):
    python, dash, module, verb, *words = shlex.split(submission.entrypoint)
    assert (python, dash, module, verb) == ("python", "-m", "orchestrator", "run")
    assert words_of(words, "run") == {
        "file": "mine.yaml",
        "address": "auto",
        "results": "s3://results/mine",
        "checkpoint_every": "30",
    }
    options = {"tracking_uri": "http://mlflow:5000", "data": "/my data", "checkpoint_every": 0.5, "yes": True}
    options |= {"log_format": "json"}
    full = replace(submission, **options)
    words = words_of(shlex.split(full.entrypoint)[4:], "run")
    assert {name: words[name] for name in options} == options | {"checkpoint_every": "0.5"}
    program, verb, *words = shlex.split(full.command)
    assert (program, verb) == ("tiny-subspace", "submit")
    again = words_of(words, "submit")
    assert {name: again[name] for name in options} == options | {"checkpoint_every": "0.5"}
    assert (again["address"], again["results"]) == (ADDRESS, "s3://results/mine")
    assert Path(again["file"]) == submission.sweep.path


def test_a_doctor_is_sent_with_what_is_to_be_asked():
    places = {"results": "s3://results/mine", "tracking_uri": "http://mlflow:5000", "data": "/my data"}
    sent = Examination(ADDRESS, **places)
    assert sent.problems() == []
    python, dash, module, verb, *words = shlex.split(sent.entrypoint)
    assert (python, dash, module, verb) == ("python", "-m", "orchestrator", "doctor")
    assert words_of(words, "doctor") == places | {"address": "auto"}
    program, verb, *words = shlex.split(sent.command)
    assert (program, verb) == ("tiny-subspace", "doctor")
    assert words_of(words, "doctor") == places | {"address": ADDRESS}
    hidden = Examination("http://me:secret@h:1", "s3://me:secret@b/x", "http://me:secret@mlflow", "relative")
    assert len(hidden.problems()) == 4
    assert "secret" not in "".join(hidden.problems())


def test_nothing_of_the_users_environment_is_shown(submission, monkeypatch):
    """The Jobs API hands entry point, environment and metadata to everybody."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "topsecret")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:topsecret@mlflow")
    monkeypatch.setenv("TINY_SUBSPACE_DATA", "/home/me/topsecret")
    shown = [submission.entrypoint, submission.environment, submission.metadata, submission.hints("job")]
    assert "topsecret" not in json.dumps(shown)
    assert submission.environment.keys() == {VERSION_VARIABLE, COMMAND, "RAY_JOB_STOP_WAIT_TIME_S"}


def test_the_code_version_travels(submission, monkeypatch):
    here = code_version()
    monkeypatch.setenv(VERSION_VARIABLE, submission.environment[VERSION_VARIABLE])
    monkeypatch.setenv("TINY_SUBSPACE_COMMIT", "that-of-the-image")
    code_version.cache_clear()
    assert code_version() == here
    monkeypatch.undo()
    code_version.cache_clear()


def test_jobs_are_known_by_sweep_and_results(submission, folder):
    assert submission.is_of(submission.metadata)
    assert replace(submission, results="s3://results/mine/", address="http://tunnel:1").is_of(
        submission.metadata
    )
    assert not replace(submission, results="s3://results/other").is_of(submission.metadata)
    assert not submission.is_of(submission.metadata | {"job_name": "other"})
    assert not submission.is_of(None)
    ids = {new_id(submission.sweep.name) for _ in range(100)}
    assert len(ids) == 100
    assert all(name.startswith("mine-") for name in ids)


def test_a_change_of_what_travels_is_noticed(submission, folder):
    before = submission.metadata["content"]
    (folder / "unrelated.py").write_text("1")
    assert submission.metadata["content"] == before
    (folder / "my_layers/__init__.py").write_text("1")
    after = submission.metadata["content"]
    assert after != before
    (folder / "mine.yaml").write_text(SWEEP.replace("4}", "5}"))
    longer = Submission(load_sweep(folder / "mine.yaml"), ADDRESS, "s3://results/mine")
    assert longer.metadata["content"] not in (before, after)


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["--address", "head:6379"], ["--address: head:6379", "--results: is missing"]),
        (
            ["--address", ADDRESS, "--results", "here", "--checkpoint-every", "nan"],
            ["--checkpoint-every: nan"],
        ),
        (["--address", ADDRESS, "--results", "here"], ["--results: here"]),
        (["--help"], []),
    ],
    ids=["address", "nan", "results", "help"],
)
def test_bad_input_is_answered_without_ray(folder, words, lines):
    code = f"""
import sys
from orchestrator.cli import main
try:
    main(["submit", "mine.yaml", *{words!r}])
except SystemExit as end:
    print(end.code, *[name for name in ("ray", "torch", "mlflow") if name in sys.modules], file=sys.stdout)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == ("2" if lines else "0")
    for found, expected in zip(done.stderr.splitlines(), lines, strict=True):
        assert found.startswith(expected)


def test_errors_of_the_sweep_file_come_first_and_all_at_once(folder):
    (folder / "mine.yaml").write_text(SWEEP.replace("steps: 4", "stepps: 4, batch_size: -1"))
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "submit", "mine.yaml", "--address", "http://127.0.0.1:1"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "stepps: unknown; did you mean steps?" in done.stderr
    assert "batch_size: -1" in done.stderr


def test_a_job_keeps_no_tracking_store_in_its_folder(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri("s3://results/mine").startswith("sqlite:///")
    monkeypatch.setenv(JOB, "{}")
    assert tracking_uri("s3://results/mine") is None
    assert tracking_uri("/shared/mine") == "sqlite:////shared/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert tracking_uri("s3://results/mine") == "http://mlflow:5000"


def test_a_cluster_that_lacks_a_library_says_which():
    code = "import runpy, sys; sys.modules['click'] = None; runpy.run_module('orchestrator', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert re.fullmatch(r"import of click halted.* in \S+: install tiny-subspace, .*\n", done.stderr)
