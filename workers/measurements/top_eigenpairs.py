"""The largest eigenvalues of the Hessian, by value, with the evidence for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Lt

from workers.curvature.overlap import random_overlap

if TYPE_CHECKING:
    from workers.snapshot import Snapshot


@dataclass(frozen=True)
class Record:
    """λ₁ ≥ λ₂ ≥ … of H on the measurement set. Units: loss per squared parameter."""

    sharpness: float | None  # λ₁
    stability: float | None  # ηλ₁/2; full-batch gradient descent is unstable above 1 (arXiv:2103.00065)
    random_overlap: (
        float | None
    )  # Σλᵢ/√(kΣλᵢ²), i ≤ k: of a random top vector with its image; null where K < k
    eigenvalues: list[float] | None  # K of them, descending
    residuals: list[float] | None  # ‖Hvᵢ − λᵢvᵢ‖/|λ₁|, recomputed
    converged: bool | None  # whether every residual is below the tolerance


def measure(
    snapshot: Snapshot,
    *,
    count: Annotated[int, Ge(1)] | None = None,
    tol: Annotated[float, Gt(0), Lt(1)] = 1e-3,
) -> Record:
    pairs = snapshot.top_eigenpairs(count, tol)
    values, k = pairs.values.tolist(), snapshot.classes
    return Record(
        sharpness=values[0],
        stability=snapshot.spec.learning_rate * values[0] / 2,
        random_overlap=random_overlap(pairs.values[:k]) if len(values) >= k else None,
        eigenvalues=values,
        residuals=pairs.residuals.tolist(),
        converged=bool(pairs.converged.all()),
    )


def products(classes: int, count: int | None = None, tol: float = 1e-3) -> int:  # noqa: ARG001
    """Measured on the 784-100-100-10 network: about 4 for each pair, averaged over training."""
    return 4 * (count or 2 * classes)
