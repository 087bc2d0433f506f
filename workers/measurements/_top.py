"""What the measurements of operators beside the Hessian share: how many pairs, and how near their top is to that of H."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.curvature.overlap import subspace_overlap
from workers.spec import SpecError

if TYPE_CHECKING:
    from workers.curvature import Eigenpairs
    from workers.snapshot import Snapshot


def pair_count(snapshot: Snapshot, measurement: str, count: int | None) -> int:
    """`count`, by default 2k or p where that is less; SpecError where it is more than p."""
    if count is not None and count > snapshot.parameters:
        raise SpecError(f"{measurement}.count: {count}: the model has only {snapshot.parameters} parameters")
    return count or min(2 * snapshot.classes, snapshot.parameters)


def overlap_with_top(snapshot: Snapshot, pairs: Eigenpairs) -> float | None:
    """(1/k) ‖VᵀV_H‖²_F of the first k eigenvectors of the pairs and of H, in [0, 1]; None where either has fewer."""
    own, top, k = pairs.vectors, snapshot.pairs.vectors, snapshot.classes
    return subspace_overlap(own, top, k) if min(own.shape[1], top.shape[1]) >= k else None
