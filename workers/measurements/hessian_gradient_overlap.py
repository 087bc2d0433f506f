"""How nearly the gradient is an eigenvector of the Hessian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.curvature.overlap import cosine

if TYPE_CHECKING:
    from workers.snapshot import Snapshot


@dataclass(frozen=True)
class Record:
    """gᵀHg / (‖g‖ ‖Hg‖), in [-1, 1]; about 0 for a random g. Null where g vanishes. (arXiv:1812.04754, table 1)"""

    hessian_gradient_overlap: float | None


def measure(snapshot: Snapshot) -> Record:
    return Record(cosine(snapshot.gradient, snapshot.hessian_gradient))


def products(classes: int) -> int:  # noqa: ARG001
    return 1
