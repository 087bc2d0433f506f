"""What a report shows, in this order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.report import paper_table
from orchestrator.report.figures import (
    batch_norm,
    branches,
    class_count,
    class_means,
    density,
    dimension,
    eigenvalues,
    gap,
    gradient_in_top,
    gradients,
    heat_map,
    hessian_gradient_overlap,
    layer_mass,
    level_crossing,
    scalars,
    search,
    stability,
    subspace_overlap,
    theory,
)

if TYPE_CHECKING:
    from orchestrator.report.figure import Figure, Stored, Table

MODULES = (
    search,
    gradient_in_top,
    subspace_overlap,
    dimension,
    eigenvalues,
    gap,
    heat_map,
    layer_mass,
    hessian_gradient_overlap,
    gradients,
    stability,
    density,
    theory,
    level_crossing,
    branches,
    class_count,
    class_means,
    batch_norm,
    paper_table,
)
"""Each draws what its columns allow; `scalars` comes after them and draws the columns that none of them has."""


def contents(stored: Stored) -> Iterator[Figure | Table]:
    """All figures and tables that the columns of these results allow."""
    for module in MODULES:
        yield from module.figures(stored)
    yield from scalars.figures(stored, [column for module in MODULES for column in module.COLUMNS])
