"""Gradient descent within the top subspace, or within all that is orthogonal to it (arXiv:2405.16002)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

if TYPE_CHECKING:
    import torch

LOOKS = True


def build(
    parameters: Iterable[torch.nn.Parameter],
    learning_rate: float,
    *,
    update: Literal["full", "dominant", "bulk"] = "full",
    every: Annotated[int, Ge(1)] = 1,
    dimension: Annotated[int, Ge(1)] | None = None,
    switch_above: Annotated[float, Gt(0), Le(1)] = 0.95,
    average: Annotated[float, Ge(0), Lt(1)] = 0.9,
    switch_at: Annotated[int, Ge(0)] | None = None,
    tol: Annotated[float, Gt(0), Lt(1)] = 1e-3,
) -> torch.optim.Optimizer:
    """Plain SGD up to a switch, then θ ← θ − ηPg (`dominant`), θ − η(I − P)g (`bulk`), or SGD still (`full`).

    g is the gradient of the step's mini-batch, P the projection on the first `dimension` (k by default) eigenvectors
    of the Hessian of L on the measurement set, found anew at every step that is a multiple of `every`, to the residual
    `tol`. At those steps, up to the switch, χ = √f_top = ‖P∇L‖/‖∇L‖ enters the moving average
    χ̄ ← average·χ̄ + (1 − average)·χ, which begins at 0: one with .9 does not exceed .95 before the 29th look. The
    switch is at the first step where χ̄ > `switch_above`, or at step `switch_at` where that is given. Up to there the
    three `update`s are the same to the bit, so that trials that differ in nothing else are three branches from one
    point. (Song, Ahn, Yun, "Does SGD really happen in tiny subspaces?", arXiv:2405.16002, who find P at every step.)

    SpecError, within the first step that looks, for a `dimension` above the number of parameters.

    >>> import torch
    >>> optimizer = build([torch.nn.Parameter(torch.ones(2))], 0.1, update="bulk", every=10)
    >>> optimizer.switch_step is None
    True
    """
    from workers.optimizers._projected import Projected

    return Projected(
        parameters,
        learning_rate,
        update=update,
        every=every,
        dimension=dimension,
        switch_above=switch_above,
        average=average,
        switch_at=switch_at,
        tol=tol,
    )


def products(
    classes: int,
    last: int,
    update: str = "full",
    every: int = 1,
    dimension: int | None = None,
    switch_at: int | None = None,
    **others: object,  # noqa: ARG001
) -> int:
    """As many for each vector as `top_eigenpairs`. They belong to training and are not in the column `hessian_products`.

    Those that `full` saves after a switch by the moving average are not known beforehand.
    """
    if switch_at is not None and update == "full":
        return 0
    first = switch_at or 0
    looks = sum(step == first or step % every == 0 for step in range(first, last))
    return 4 * (dimension or classes) * looks
