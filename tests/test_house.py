"""The house rules that a machine can check: style, types, imports that point down, and one place per name."""

import subprocess
import sys
from pathlib import Path

import pytest

from workers import find
from workers.result import measurement_columns, trial_columns

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
    ],
    ids=" ".join,
)
def test_tool_finds_nothing(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_imports_point_down() -> None:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_top_level_holds_nothing_else() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    allowed = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "orchestrator",
        "workers",
        "sweeps",
        "tests",
        "docker",
    }
    assert {name for name in top if not name.startswith(".")} <= allowed
    for folder in ("sweeps", "tests", "docker"):
        assert not (ROOT / folder / "__init__.py").exists()


def test_ci_runs_the_test_command_of_the_readme() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert (
        len([line for line in lines if line.startswith("python3 -m venv") and line.endswith("pytest")]) == 1
    )


def test_tables_have_the_promised_columns() -> None:
    """Stored results and users' scripts depend on these names."""
    trials = """trial_id sweep status steps_done parameters classes fault error_type error attempts seconds
        seconds_measuring hessian_products host device started_at finished_at torch_version code_version"""
    measurements = """trial_id sweep step epoch train_loss train_accuracy test_loss test_accuracy batch_loss
        gradient_norm hessian_gradient_overlap f_top f_top_batch f_top_update random_overlap sharpness stability
        eigenvalues residuals gradient_overlaps converged hessian_products subspace_overlap density_nodes
        density_weights trace trace_error frobenius_norm frobenius_norm_error smallest_eigenvalue
        smallest_eigenvalue_residual gauss_newton_eigenvalues gauss_newton_residuals gauss_newton_converged
        gauss_newton_overlap hessian_residual_largest hessian_residual_smallest hessian_residual_largest_residual
        hessian_residual_smallest_residual layer_hessians gradient_covariance_eigenvalues
        gradient_covariance_residuals gradient_covariance_converged gradient_covariance_trace
        gradient_covariance_overlap class_mean_eigenvalues cross_class_eigenvalues class_mean_overlap
        cross_class_overlap test_hessian_gradient_overlap test_gradient_in_top test_f_top test_sharpness
        test_top_overlap test_converged batch_sharpness batch_sharpness_error random_vector_overlap
        random_vector_f_top random_top_vector_overlap layer_mass switch_step switch_average"""
    parameters = """architecture architecture_options dataset dataset_options optimizer optimizer_options
        learning_rate batch_size steps epochs seed loss precision initialization measurement_samples batch_norm
        loss_bound measure"""
    assert trial_columns().keys() == set(trials.split()) | set(parameters.split())
    assert measurement_columns().keys() >= set(measurements.split()) | set(parameters.split())


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in find.FUNCTIONS for name in find.names(kind)], ids="/".join
)
def test_every_part_can_be_found(kind: str, name: str) -> None:
    """Its options are readable without importing it, and agree with the function that is imported."""
    assert find.options(kind, name).keys() == (find.function(kind, name).__kwdefaults__ or {}).keys() | {
        option for option, value in find.options(kind, name).items() if value.default is find.REQUIRED
    }
