"""How much of the top subspace of an earlier step is still there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Len

from workers.curvature.overlap import next_subspace_overlap, subspace_overlaps

if TYPE_CHECKING:
    from workers.snapshot import Snapshot

FOLLOWS = "top_eigenpairs"


@dataclass(frozen=True)
class Overlap:
    """(1/m) ‖V₁ᵀV₂‖²_F of the eigenvectors at step `since` with those of this row's step, in [0, 1]; m/p by chance."""

    since: int
    top: float | None  # the first k columns of both
    next: float | None  # columns k+1 … 2k of both, the control; null where K < 2k
    by_dimension: list[float]  # the first m columns of both, m = 1 … K


@dataclass(frozen=True)
class Record:
    """One overlap for each `since` that lies before this step."""

    subspace_overlap: list[Overlap] | None


def measure(snapshot: Snapshot, *, since: Annotated[list[Annotated[int, Ge(0)]], Len(1)]) -> Record:
    vectors, k = snapshot.pairs.vectors, snapshot.classes
    memory = snapshot.memory("subspace_overlap")
    overlaps = []
    for start in since:
        first = memory.get(str(start))
        if first is None:
            continue
        by_dimension = subspace_overlaps(first, vectors).tolist()
        count = len(by_dimension)
        overlaps.append(
            Overlap(
                since=start,
                top=by_dimension[k - 1] if count >= k else None,
                next=next_subspace_overlap(first, vectors, k) if count >= 2 * k else None,
                by_dimension=by_dimension,
            )
        )
    if snapshot.step in since:
        memory[str(snapshot.step)] = vectors
    return Record(overlaps or None)


def products(classes: int, since: list[int]) -> int:  # noqa: ARG001
    return 0
