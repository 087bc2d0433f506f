"""All scalar columns that have no figure of their own, by step: small multiples at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pandas.api.types import is_bool_dtype, is_numeric_dtype

from orchestrator.report.by_step import Quantity, by_step, chance
from workers.spec import spec_columns

if TYPE_CHECKING:
    from orchestrator.report.figure import Figure, Stored

SHARE = (0.0, 1.0)
CURVATURE = " (loss per squared parameter)"
KNOWN = {
    quantity.columns[0]: quantity
    for quantity in (
        Quantity("$‖\\nabla L‖$ (loss per parameter)", ("gradient_norm",)),
        Quantity("mini-batch loss", ("batch_loss",)),
        Quantity("trace of H" + CURVATURE, ("trace",)),
        Quantity("Frobenius norm of H" + CURVATURE, ("frobenius_norm",)),
        Quantity("largest eigenvalue of H − G" + CURVATURE, ("hessian_residual_largest",)),
        Quantity("smallest eigenvalue of H − G" + CURVATURE, ("hessian_residual_smallest",)),
        Quantity("trace of the gradient covariance (squared loss per sq. parameter)", ("gradient_covariance_trace",)),
        Quantity("gᵀHg/‖g‖² of mini-batches" + CURVATURE, ("batch_sharpness",)),
        Quantity("sharpness of the test loss" + CURVATURE, ("test_sharpness",)),
        Quantity("test gradient in its own top-k", ("test_f_top",), (), SHARE, chance),
        Quantity("test gradient in the training top-k", ("test_gradient_in_top",), (), SHARE, chance),
        Quantity("overlap of test g and Hg", ("test_hessian_gradient_overlap",), (), SHARE),
        Quantity("random vector in the top-k", ("random_vector_f_top",), (), (0.0,), chance),
        Quantity("overlap of random v and Hv", ("random_vector_overlap",), (), (0.0,)),
        Quantity("the same of v in the top-k", ("random_top_vector_overlap",), (), SHARE),
    )
}  # fmt: skip
OVERLAPS = (
    Quantity("Gauss-Newton", ("gauss_newton_overlap",), (), SHARE, chance),
    Quantity("gradient covariance", ("gradient_covariance_overlap",), (), SHARE, chance),
    Quantity("test Hessian", ("test_top_overlap",), (), SHARE, chance),
)
SMALLEST = Quantity("$λ_p$" + CURVATURE, ("smallest_eigenvalue",), (), (0.0,))
APART = {"step", "epoch", "hessian_products", "switch_step"}
"""Numbers that say when and at what cost, not what was found."""

ACCURACIES = ("_error", "_residual")
"""How the names of columns end that say how exact another is."""

AT_ONCE = 9


def figures(stored: Stored, drawn: Sequence[str] = ()) -> Iterator[Figure]:
    """The smallest eigenvalue, the top subspaces of other operators, and what is in none of the columns `drawn`."""
    yield from by_step(
        stored,
        name="smallest-eigenvalue",
        title="Smallest eigenvalue",
        caption="The most negative eigenvalue of the Hessian: 0 at a minimum.",
        quantities=[SMALLEST],
    )
    yield from by_step(
        stored,
        name="top-subspaces",
        title="Top subspaces of other operators",
        caption="Overlap (1/k)‖VᵀV_H‖² of the first k eigenvectors of the operator named with those of the "
        "Hessian of the training loss: 1 where both span the same space, k/p by chance.",
        quantities=OVERLAPS,
    )
    done = {*drawn, *APART, *SMALLEST.columns, *(column for q in OVERLAPS for column in q.columns)}
    names = [name for name in scalar_columns(stored) if name not in done and not name.endswith(ACCURACIES)]
    at_once = AT_ONCE if len(stored.groups.panels) == 1 else AT_ONCE // 3
    for first in range(0, len(names), at_once):
        part = names[first : first + at_once]
        number = f"-{first // at_once + 1}" if len(names) > at_once else ""
        yield from by_step(
            stored,
            name=f"further{number}",
            title=f"Further columns: {', '.join(part)}",
            caption="Columns of `measurements` that have no figure of their own.",
            quantities=[KNOWN.get(name, Quantity(name.replace("_", " "), (name,))) for name in part],
            side_by_side=True,
        )


def scalar_columns(stored: Stored) -> list[str]:
    """The columns of numbers that a measurement filled, as they stand in the table."""
    apart = {"trial_id", "sweep", *spec_columns()}
    return [
        name
        for name in stored.measurements.columns
        if name not in apart
        and is_numeric_dtype(stored.measurements[name])
        and not is_bool_dtype(stored.measurements[name])
        and stored.has(name)
    ]
