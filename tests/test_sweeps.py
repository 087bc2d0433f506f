"""The sweep files that are shipped: each is valid, says what it is for, and has a small sibling that needs no download."""

from pathlib import Path

import pytest

from orchestrator.plan import plan
from orchestrator.search_plan import plan as plan_search
from orchestrator.sweep import load_sweep

FOLDER = Path(__file__).parent.parent / "sweeps"
FILES = sorted(FOLDER.glob("*.yaml"))
EXPERIMENTS = [
    "figure-1", "figure-2", "table-1", "class-count", "solvable-model", "dominant-bulk", "edge-of-stability",
    "class-means", "batch-norm",
]  # fmt: skip
DOWNLOADED = {"mnist", "fashion_mnist", "cifar10", "cifar100"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_shipped_sweep_is_valid_and_says_what_must_come_out(file: Path, tmp_path: Path) -> None:
    sweep = load_sweep(file, data=tmp_path)
    assert sweep.name == file.stem
    planned = plan_search(sweep, [], data=tmp_path) if sweep.searches else plan(sweep, {})
    assert planned.total().steps
    assert "must come out:" in file.read_text(encoding="utf-8").replace("\n# ", " ")


def test_every_experiment_has_a_file_and_a_small_one_without_a_download_or_a_gpu(tmp_path: Path) -> None:
    names = {file.stem for file in FILES}
    assert names == {*EXPERIMENTS, *(f"{name}-small" for name in EXPERIMENTS), "quickstart", "search"}
    for name in EXPERIMENTS:
        for trial in load_sweep(FOLDER / f"{name}-small.yaml", data=tmp_path).trials:
            assert trial.spec.dataset.name not in DOWNLOADED
            assert trial.resources.gpus == 0


def test_the_nine_rows_of_table_1_are_nine_cases(tmp_path: Path) -> None:
    for name in ("table-1", "table-1-small"):
        trials = load_sweep(FOLDER / f"{name}.yaml", data=tmp_path).trials
        assert len([trial for trial in trials if trial.spec.seed == 0]) == 9


def test_the_branches_of_dominant_bulk_differ_in_their_update_alone(tmp_path: Path) -> None:
    for name in ("dominant-bulk", "dominant-bulk-small"):
        trials = load_sweep(FOLDER / f"{name}.yaml", data=tmp_path).trials
        optimizers = [dict(trial.spec.optimizer.options) for trial in trials if trial.spec.seed == 0]
        assert [options.pop("update", "full") for options in optimizers] == ["full", "dominant", "bulk"]
        assert optimizers[0] == optimizers[1] == optimizers[2]
