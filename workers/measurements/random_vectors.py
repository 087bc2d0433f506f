"""What random vectors show: the baselines to set beside the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

if TYPE_CHECKING:
    from torch import Tensor

    from workers.snapshot import Snapshot

FOLLOWS = "top_eigenpairs"


@dataclass(frozen=True)
class Record:
    """Means over Gaussian random vectors v, with H on the measurement set. Null where every Hv vanishes, or as said."""

    random_vector_overlap: (
        float | None
    )  # vᵀHv/(‖v‖‖Hv‖) of v in ℝᵖ, in [−1, 1]; about Σλ/√(pΣλ²), all eigenvalues
    random_vector_f_top: float | None  # ‖P_k v‖²/‖v‖² of the same, in [0, 1]; k/p expected; null where K < k
    random_top_vector_overlap: (
        float | None
    )  # vᵀHv/(‖v‖‖Hv‖) of v in the top k eigenvectors; about `random_overlap`; null where K < k


def measure(snapshot: Snapshot, *, vectors: Annotated[int, Ge(1)] = 10) -> Record:
    """`vectors` of each kind, from a stream of the trial's seed and the step."""
    import torch

    from workers import seeding
    from workers.curvature.overlap import cosine, gradient_overlaps

    generator = seeding.generator(snapshot.spec.seed, f"random_vectors/{snapshot.step}")
    k, top = snapshot.classes, snapshot.pairs.vectors[:, : snapshot.classes]

    def gaussian(size: int) -> Tensor:
        drawn = torch.randn(vectors, size, generator=generator, dtype=torch.float64).T
        return drawn.to(top)

    def mean(values: list[float | None]) -> float | None:
        defined = [value for value in values if value is not None]
        return sum(defined) / len(defined) if defined else None

    def image_overlap(drawn: Tensor) -> float | None:
        images = snapshot.hessian @ drawn
        return mean([cosine(v, image) for v, image in zip(drawn.T, images.T, strict=True)])

    anywhere, within = gaussian(snapshot.parameters), gaussian(k)
    shares = [gradient_overlaps(top, v) for v in anywhere.T]
    whole = top.shape[1] == k
    return Record(
        random_vector_overlap=image_overlap(anywhere),
        random_vector_f_top=mean([None if s is None else float(s.sum()) for s in shares]) if whole else None,
        random_top_vector_overlap=image_overlap(top @ within) if whole else None,
    )


def products(classes: int, vectors: int = 10) -> int:  # noqa: ARG001
    return 2 * vectors
