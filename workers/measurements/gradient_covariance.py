"""The second moment of per-sample gradients (empirical Fisher): its top, its trace, and whether its top is that of H."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Lt

from workers.measurements._per_sample import check_samples_are_separate
from workers.measurements._top import overlap_with_top, pair_count

if TYPE_CHECKING:
    from workers.snapshot import Snapshot

FOLLOWS = "top_eigenpairs"


@dataclass(frozen=True)
class Record:
    """Of C = (1/n) Σᵢ gᵢgᵢᵀ on the measurement set, with gᵢ the gradient of one sample's loss; of C − ggᵀ if `centred`.

    Units: squared loss per squared parameter. See `workers.curvature.GradientCovarianceOperator`.
    """

    gradient_covariance_eigenvalues: list[float] | None  # K of them, descending, at least 0 up to rounding
    gradient_covariance_residuals: list[float] | None  # ‖Cvᵢ − λᵢvᵢ‖/|λ₁|, recomputed
    gradient_covariance_converged: bool | None  # whether every residual is below the tolerance
    gradient_covariance_trace: float | None  # the mean of ‖gᵢ‖² (of ‖gᵢ − g‖² if centred), exact
    gradient_covariance_overlap: (
        float | None
    )  # (1/k) ‖V_CᵀV_H‖²_F of the first k eigenvectors, in [0, 1]; k/p by chance; null where K < k


def measure(
    snapshot: Snapshot,
    *,
    count: Annotated[int, Ge(1)] | None = None,
    tol: Annotated[float, Gt(0), Lt(1)] = 1e-3,
    centred: bool = False,
) -> Record:
    """SpecError with a batch norm on batch statistics: there a sample has no gradient of its own."""
    from workers.curvature import GradientCovarianceOperator, sample_gradient_norms, top_eigenpairs

    count = pair_count(snapshot, "gradient_covariance", count)
    check_samples_are_separate(snapshot, "gradient_covariance")
    with snapshot.operator(GradientCovarianceOperator, centred=centred) as C:
        pairs = top_eigenpairs(C, count, tol, seed=snapshot.probe_seed)
        norms = sample_gradient_norms(snapshot.model, snapshot.loss, snapshot.inputs, snapshot.targets)
        mean = float(C.gradient.double().square().sum()) if centred else 0.0
    return Record(
        gradient_covariance_eigenvalues=pairs.values.tolist(),
        gradient_covariance_residuals=pairs.residuals.tolist(),
        gradient_covariance_converged=bool(pairs.converged.all()),
        gradient_covariance_trace=float(norms.square().mean()) - mean,
        gradient_covariance_overlap=overlap_with_top(snapshot, pairs),
    )


def products(classes: int, count: int | None = None, tol: float = 1e-3, centred: bool = False) -> int:  # noqa: ARG001
    """Products with C, as many for each pair as with H; the trace takes the time of some 25 more."""
    return 4 * (count or 2 * classes)
