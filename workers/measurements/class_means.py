"""The class and cross-class outliers that the means of gradients explain, and how much of the top subspace is theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.measurements._per_sample import check_samples_are_separate
from workers.spec import SpecError

if TYPE_CHECKING:
    from workers.snapshot import Snapshot

FOLLOWS = "top_eigenpairs"
LOSSES = ["cross_entropy"]


@dataclass(frozen=True)
class Record:
    """Of the parts G_class and G_cross of G, and of the means δ_c and δ_{c,c'} that make them, on the measurement set.

    (Papyan, arXiv:2008.11865, equation 6.4; see `workers.curvature.class_means.ClassMeans`.) Eigenvalues are descending,
    at least 0 up to rounding, in units of loss per squared parameter; in sum at most the trace of G.
    """

    class_mean_eigenvalues: list[float] | None  # k of G_class
    cross_class_eigenvalues: list[float] | None  # k(k − 2) of G_cross; empty for k = 2
    class_mean_overlap: (
        float | None
    )  # share of span{δ_c} in the top k eigenvectors of H, in [0, 1]; k/p by chance; null where K < k
    cross_class_overlap: (
        float | None
    )  # share of the top k eigenvectors in span{δ_{c,c'}}, in [0, 1]; its dimension/p by chance, at most k(k − 1)/p


def measure(snapshot: Snapshot) -> Record:
    """SpecError for a loss other than cross entropy, and with a batch norm on batch statistics.

    Holds k(k − 1) vectors of p: 4 GB for 10 classes and 11 million parameters in float32.
    """
    from workers.curvature.class_means import class_means

    if snapshot.spec.loss != "cross_entropy":
        raise SpecError(
            f"loss: {snapshot.spec.loss}: class_means weighs by softmax outputs; must be cross_entropy"
        )
    check_samples_are_separate(snapshot, "class_means")
    k = snapshot.classes
    top = snapshot.pairs.vectors[:, :k]
    means = class_means(snapshot.model, snapshot.inputs, snapshot.targets)
    return Record(
        class_mean_eigenvalues=means.class_eigenvalues().tolist(),
        cross_class_eigenvalues=means.cross_class_eigenvalues().tolist(),
        class_mean_overlap=means.class_overlap(top) if top.shape[1] == k else None,
        cross_class_overlap=means.cross_class_overlap(top) if top.shape[1] == k else None,
    )


def products(classes: int) -> int:  # noqa: ARG001
    """None with H; the k − 1 backward passes and what follows take the time of about k. Measured as in `top_eigenpairs`."""
    return 0
