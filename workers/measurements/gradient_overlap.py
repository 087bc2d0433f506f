"""How much of the gradient lies in the top subspace: the quantity of the paper's title."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.curvature.overlap import gradient_overlaps

if TYPE_CHECKING:
    from torch import Tensor

    from workers.snapshot import Snapshot

FOLLOWS = "top_eigenpairs"


@dataclass(frozen=True)
class Record:
    """f = ‖P_k x‖²/‖x‖² = Σ_{i≤k} (vᵢᵀx)²/‖x‖², in [0, 1]; k/p for a random x. Null where x vanishes or K < k."""

    f_top: float | None  # x = ∇L on the measurement set
    f_top_batch: float | None  # x = gradient of the step's mini-batch
    f_top_update: (
        float | None
    )  # x = θ_{t+1} − θ_t, which differs from it under momentum and Adam; as rounded as θ is
    gradient_overlaps: list[float] | None  # (vᵢᵀ∇L)²/‖∇L‖² for each of the K pairs


def measure(snapshot: Snapshot) -> Record:
    vectors, k = snapshot.pairs.vectors, snapshot.classes

    def fraction(vector: Tensor | None) -> tuple[float | None, list[float] | None]:
        overlaps = None if vector is None else gradient_overlaps(vectors, vector)
        if overlaps is None:
            return None, None
        return (float(overlaps[:k].sum()) if len(overlaps) >= k else None), overlaps.tolist()

    f_top, overlaps = fraction(snapshot.gradient)
    return Record(
        f_top=f_top,
        f_top_batch=fraction(snapshot.batch_gradient)[0],
        f_top_update=fraction(snapshot.update)[0],
        gradient_overlaps=overlaps,
    )


def products(classes: int) -> int:  # noqa: ARG001
    return 0
