"""Trials, rows and results made by hand, for tests of what lies around a trial."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from workers.result import Row, TrialResult, TrialStatus
from workers.spec import Component, TrialSpec

START = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


@dataclass(frozen=True)
class SampleTrial:
    spec: TrialSpec
    resources: Any = None


@dataclass(frozen=True)
class SampleSweep:
    trials: tuple[SampleTrial, ...] = ()
    name: str = "sample"
    description: str = "A sweep made by hand."
    text: str = field(default="")

    def __post_init__(self) -> None:
        text = self.text or f"name: {self.name}\ndescription: {self.description}\n"
        object.__setattr__(self, "text", text)

    @property
    def examples(self) -> list[TrialSpec]:
        return [trial.spec for trial in self.trials]


def sweep(count: int = 2, **changes: Any) -> SampleSweep:
    """`count` trials with as many seeds."""
    return SampleSweep(tuple(SampleTrial(spec(seed=seed)) for seed in range(count)), **changes)


def spec(**changes: Any) -> TrialSpec:
    fields: dict[str, Any] = {"architecture": Component("mlp"), "dataset": Component("mnist5k"), "steps": 20}
    return TrialSpec(**fields | changes)


def row(step: int, pairs: int = 3, **changes: Any) -> Row:
    """A row with something in every column that this package's measurements fill."""
    eigenvalues = [10.0 / (index + 1) + 0.01 * step for index in range(pairs)]
    layer = {"layer": "0", "parameters": 50, "eigenvalues": [2.0], "residuals": [1e-4]}
    overlap = {"since": 2, "top": 0.75, "next": None, "by_dimension": [0.5, 0.75]}
    values: Row = {
        "step": step,
        "epoch": step / 63,
        "train_loss": 2.3 / (step + 1),
        "train_accuracy": 0.5,
        "test_loss": 2.4 / (step + 1),
        "test_accuracy": 0.25,
        "batch_loss": 2.0,
        "gradient_norm": 0.125,
        "hessian_gradient_overlap": -0.5,
        "f_top": min(1.0, 0.1 * step),
        "f_top_batch": 0.1,
        "f_top_update": 0.2,
        "random_overlap": 0.9,
        "sharpness": eigenvalues[0],
        "stability": eigenvalues[0] * 0.05,
        "eigenvalues": eigenvalues,
        "residuals": [1e-4] * pairs,
        "gradient_overlaps": [0.3] * pairs,
        "converged": True,
        "hessian_products": 30,
        "subspace_overlap": [overlap],
        "density_nodes": [[0.0, 1.0], [0.5]],
        "density_weights": [[0.5, 0.5], [1.0]],
        "trace": 12.0,
        "trace_error": 0.5,
        "frobenius_norm": 11.0,
        "frobenius_norm_error": 0.25,
        "smallest_eigenvalue": -0.5,
        "smallest_eigenvalue_residual": 1e-4,
        "gauss_newton_eigenvalues": [9.0, 4.0],
        "gauss_newton_residuals": [1e-4, 1e-4],
        "gauss_newton_converged": True,
        "gauss_newton_overlap": 0.75,
        "hessian_residual_largest": 0.5,
        "hessian_residual_smallest": -0.75,
        "hessian_residual_largest_residual": 1e-4,
        "hessian_residual_smallest_residual": 1e-4,
        "layer_hessians": [layer],
        "gradient_covariance_eigenvalues": [3.0, 1.0],
        "gradient_covariance_residuals": [1e-4, 1e-4],
        "gradient_covariance_converged": True,
        "gradient_covariance_trace": 5.0,
        "gradient_covariance_overlap": 0.5,
        "class_mean_eigenvalues": [3.0, 2.0],
        "cross_class_eigenvalues": [0.5, 0.25, 0.125],
        "class_mean_overlap": 0.875,
        "cross_class_overlap": 0.9,
        "test_hessian_gradient_overlap": 0.8,
        "test_gradient_in_top": 0.7,
        "test_f_top": 0.75,
        "test_sharpness": 9.5,
        "test_top_overlap": 0.6,
        "test_converged": True,
        "batch_sharpness": 11.0,
        "batch_sharpness_error": 0.5,
        "random_vector_overlap": 0.01,
        "random_vector_f_top": 1e-4,
        "random_top_vector_overlap": 0.9,
        "layer_mass": [{"layer": "0", "parameters": 50, "mass": [0.25, 0.5, 0.75]}],
    }
    return values | changes


def rows(*steps: int) -> list[Row]:
    return [row(step) for step in steps or (0, 1, 10, 20)]


def result(status: TrialStatus = TrialStatus.COMPLETED, **changes: Any) -> TrialResult:
    fields: dict[str, Any] = {
        "status": status,
        "steps_done": 20,
        "parameters": 89_610,
        "classes": 10,
        "seconds": 1.5,
        "seconds_measuring": 0.5,
        "hessian_products": 120,
        "host": "here",
        "device": "cpu",
        "started_at": START,
        "finished_at": START + timedelta(seconds=20),
        "torch_version": "2.9.0",
        "code_version": "0.1.0+abc",
    }
    if status is TrialStatus.FAILED:
        fields |= {
            "error_type": "ValueError",
            "error": "Traceback (most recent call last):\n  …\nValueError: no",
        }
    return TrialResult(**fields | changes)
