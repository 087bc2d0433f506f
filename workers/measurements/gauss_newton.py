"""The Gauss-Newton part of the Hessian: its largest eigenvalues, and whether its top subspace is that of H."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Lt

from workers.measurements._top import overlap_with_top, pair_count

if TYPE_CHECKING:
    from workers.snapshot import Snapshot

FOLLOWS = "top_eigenpairs"


@dataclass(frozen=True)
class Record:
    """Of G in H = G + R, on the measurement set (see `workers.curvature.GaussNewtonOperator`); at least 0 up to rounding.

    `gauss_newton_overlap` compares the first k eigenvectors of G and of H: (1/k) ‖V_GᵀV_H‖²_F in [0, 1]; k/p by
    chance; null where there are fewer than k of either.
    """

    gauss_newton_eigenvalues: list[float] | None  # K of them, descending; units: loss per squared parameter
    gauss_newton_residuals: list[float] | None  # ‖Gvᵢ − λᵢvᵢ‖/|λ₁|, recomputed
    gauss_newton_converged: bool | None  # whether every residual is below the tolerance
    gauss_newton_overlap: float | None


def measure(
    snapshot: Snapshot,
    *,
    count: Annotated[int, Ge(1)] | None = None,
    tol: Annotated[float, Gt(0), Lt(1)] = 1e-3,
) -> Record:
    from workers.curvature import GaussNewtonOperator, top_eigenpairs

    count = pair_count(snapshot, "gauss_newton", count)
    with snapshot.operator(GaussNewtonOperator) as G:
        pairs = top_eigenpairs(G, count, tol, seed=snapshot.probe_seed)
    return Record(
        gauss_newton_eigenvalues=pairs.values.tolist(),
        gauss_newton_residuals=pairs.residuals.tolist(),
        gauss_newton_converged=bool(pairs.converged.all()),
        gauss_newton_overlap=overlap_with_top(snapshot, pairs),
    )


def products(classes: int, count: int | None = None, tol: float = 1e-3) -> int:  # noqa: ARG001
    """Products with G; as many for each pair as with H, see `top_eigenpairs`."""
    return 4 * (count or 2 * classes)
