"""How nearly the gradient is an eigenvector of the Hessian: table 1 of arXiv:1812.04754, by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.report.by_step import Quantity, by_step

if TYPE_CHECKING:
    from orchestrator.report.figure import Figure, Stored

COLUMNS = ("hessian_gradient_overlap", "random_overlap")


def figures(stored: Stored) -> Iterator[Figure]:
    """gᵀHg/(‖g‖‖Hg‖) by step, and what a random vector of the top subspace would have."""
    if not stored.has("hessian_gradient_overlap"):
        return
    random = stored.has("random_overlap")
    quantity = Quantity(
        "overlap of g and Hg", COLUMNS, ("gradient", "random vector of the top subspace"), (0.0, 1.0)
    )
    yield from by_step(
        stored,
        name="hessian-gradient-overlap",
        title="Overlap of the gradient with its image under the Hessian",
        caption="gᵀHg/(‖g‖‖Hg‖): 1 where the gradient g is an eigenvector of the Hessian H, about 0 for a random "
        "vector of all parameters."
        + (" Dashed: Σλᵢ/√(kΣλᵢ²), i ≤ k, what a random vector of the top subspace has." if random else ""),
        quantities=[quantity],
    )
