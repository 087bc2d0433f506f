"""A user's own files that change between two runs of a sweep are told of."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main

SWEEP = """
name: own
trial: {architecture: mine.build, dataset: digits, steps: 1}
grid: {seed: {range: %d}}
measure: {loss: {at: [1]}}
"""
MODULE = """
import helper
from torch import nn


def build(input_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, helper.WIDTH), nn.Linear(helper.WIDTH, num_classes))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "helper.py").write_text("WIDTH = 4\n")
    return tmp_path


def run(folder: Path, seeds: int, results: str = "results") -> Result:
    (folder / "own.yaml").write_text(SWEEP % seeds)
    options = ["--executor", "local", "--tracking-uri", "none", "--results", results]
    return CliRunner().invoke(main, ["run", "own.yaml", *options])


def test_a_module_that_changed_is_named_as_long_as_its_trials_are_mixed(folder: Path) -> None:
    assert "has changed" not in run(folder, 1).stderr
    assert "has changed" not in run(folder, 2).stderr
    (folder / "helper.py").write_text("WIDTH = 5\n")
    changed = run(folder, 3)
    assert changed.exit_code == 0
    assert (
        "helper.py has changed since trials of these results ran (2 versions so far); the 2 that are"
        in changed.stderr
    )
    assert "mine.py has changed" not in changed.stderr
    assert "helper.py has changed" in run(folder, 3).stderr
    (folder / "helper.py").write_text("WIDTH = 4\n")  # back again: they are mixed all the same
    assert "2 versions" in run(folder, 4).stderr
    assert "has changed" not in run(folder, 1, "elsewhere").stderr
