"""A driver killed or interrupted in the middle of a trial, and started again with the same command."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main

# about four seconds of steps with a row now and then, so that there is something to kill
SWEEP = """\
name: long
trial: {architecture: {name: mlp, widths: [32]}, dataset: {name: digits, classes: 3}, steps: 12000, batch_size: 8}
grid: {seed: {range: 2}}
measure:
  loss: {every: 500}
  top_eigenpairs: {at: [0, 500, 12000], count: 6}
  subspace_overlap: {since: [500]}
"""

WORDS = ["run", "long.yaml", "--executor", "local", "--tracking-uri", "none", "--checkpoint-every", "0.2"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("reference")
    (folder / "long.yaml").write_text(SWEEP)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert again().exit_code == 0
        return rows(folder)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "long.yaml").write_text(SWEEP)
    return tmp_path


def again(*words: str) -> Result:
    return CliRunner().invoke(main, [*WORDS, *words], catch_exceptions=False)


def rows(folder: Path) -> list[dict[str, Any]]:
    order = [("trial_id", "ascending"), ("step", "ascending")]
    found: list[dict[str, Any]] = (
        pq.read_table(folder / "results/long/measurements").sort_by(order).to_pylist()
    )
    return found


@contextmanager
def driver(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A driver in a process of its own, in the middle of a trial that has a checkpoint."""
    # a test run's parent may have it ignored
    interruptible = "import signal, sys; signal.signal(2, signal.default_int_handler); "
    code = interruptible + "from orchestrator.cli import main; main(sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-c", code, *WORDS], cwd=folder, stderr=subprocess.PIPE, text=True
    ) as process:
        end = time.monotonic() + 60
        while not list(folder.glob("results/long/checkpoints/*.ckpt")):
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.02)
        try:
            yield process
        finally:
            process.kill()


def test_a_killed_driver_costs_no_more_than_since_the_last_checkpoint(
    folder: Path, reference: list[dict[str, Any]]
) -> None:
    with driver(folder) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    resumed = again()
    assert resumed.exit_code == 0
    assert "goes on from its checkpoint at step " in resumed.stderr
    assert rows(folder) == reference
    assert not os.listdir(folder / "results/long/checkpoints")  # noqa: PTH208


def test_ctrl_c_saves_where_it_is_and_a_second_driver_is_refused_meanwhile(
    folder: Path, reference: list[dict[str, Any]]
) -> None:
    with driver(folder) as process:
        second = again()
        assert second.exit_code == 2
        assert (
            f"another driver is at work here ({os.uname().nodename}, process {process.pid}" in second.stderr
        )
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopping what runs (1) as soon as it has saved where it is" in said
    assert "To resume: tiny-subspace run long.yaml --executor local" in said
    assert 1 <= len(list(folder.glob("results/long/checkpoints/*.ckpt"))) <= 2
    resumed = again()
    assert resumed.exit_code == 0
    assert "goes on from its checkpoint at step " in resumed.stderr
    assert rows(folder) == reference
