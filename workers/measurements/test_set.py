"""The same questions of the test loss: its gradient and Hessian, and what they share with those of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt, Lt

if TYPE_CHECKING:
    from torch import Tensor

    from workers.snapshot import Snapshot

FOLLOWS = "top_eigenpairs"


@dataclass(frozen=True)
class Record:
    """Of the mean loss on the whole test set, always with population statistics; H and its top are those of training.

    g and G below are gradient and Hessian of the test loss. Null where g vanishes, where there are fewer than k pairs,
    and all where the test loss is not finite.
    """

    test_hessian_gradient_overlap: float | None  # gᵀGg/(‖g‖‖Gg‖), in [−1, 1]; about 0 for a random g
    test_gradient_in_top: float | None  # share of g in the top k of the training H, in [0, 1]; k/p by chance
    test_f_top: float | None  # share of g in the top k of G, in [0, 1]; k/p by chance
    test_sharpness: float | None  # λ₁ of G; units: loss per squared parameter
    test_top_overlap: float | None  # (1/k) ‖V_GᵀV_H‖²_F of the top k of both, in [0, 1]; k/p by chance
    test_converged: bool | None  # whether every residual of the top k of G is below the tolerance


def measure(
    snapshot: Snapshot,
    *,
    eigenpairs: bool = True,
    tol: Annotated[float, Gt(0), Lt(1)] = 1e-3,
) -> Record:
    """Without `eigenpairs` the last four are null, and one product is all that is spent."""
    from workers.curvature import HessianOperator, top_eigenpairs
    from workers.curvature.overlap import cosine, gradient_overlaps
    from workers.measurements._top import overlap_with_top

    k, top = snapshot.classes, snapshot.pairs.vectors[:, : snapshot.classes]
    try:
        with snapshot.operator(HessianOperator, split="test") as G:
            gradient = G.gradient
            direction = (gradient.double() / gradient.double().norm().clamp_min(1e-300)).to(gradient.dtype)
            image = G @ direction
            known = direction[:, None], image[:, None]
            count = min(k, snapshot.parameters)
            pairs = (
                top_eigenpairs(G, count, tol, seed=snapshot.probe_seed, known=known) if eigenpairs else None
            )
    except FloatingPointError:  # the model is fine, its training loss being finite
        return Record(None, None, None, None, None, None)

    def share(vectors: Tensor) -> float | None:
        overlaps = gradient_overlaps(vectors, gradient) if vectors.shape[1] == k else None
        return None if overlaps is None else float(overlaps.sum())

    return Record(
        test_hessian_gradient_overlap=cosine(gradient, image),
        test_gradient_in_top=share(top),
        test_f_top=share(pairs.vectors) if pairs else None,
        test_sharpness=float(pairs.values[0]) if pairs else None,
        test_top_overlap=overlap_with_top(snapshot, pairs) if pairs else None,
        test_converged=bool(pairs.converged.all()) if pairs else None,
    )


def products(classes: int, eigenpairs: bool = True, tol: float = 1e-3) -> int:  # noqa: ARG001
    """Over the test set. Measured on the 784-100-100-10 network: 50 at the start, 23 after 2,000 steps."""
    return 4 * classes if eigenpairs else 1
