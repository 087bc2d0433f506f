"""Stochastic gradient descent, plain by default."""

from collections.abc import Iterable
from typing import Annotated

import torch
from annotated_types import Ge, Lt

from workers.spec import SpecError


def build(
    parameters: Iterable[torch.nn.Parameter],
    learning_rate: float,
    *,
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0,
    nesterov: bool = False,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
) -> torch.optim.Optimizer:
    """d = g + weight_decay·θ;  v ← momentum·v + d;  θ ← θ − learning_rate·v, or with `nesterov` of d +
    momentum·v.

    Momentum is torch's: without dampening, v starts as the first d. Weight decay acts in here only: the L, g
    and H that are measured exclude it.

    >>> θ = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = build([θ], 0.5)
    >>> (θ ** 2 / 2).sum().backward()
    >>> optimizer.step()
    >>> θ.item()
    0.5

    Raises SpecError for `nesterov` without momentum.
    """
    if nesterov and momentum == 0:
        raise SpecError("optimizer.nesterov: true: needs a momentum above 0")
    return torch.optim.SGD(
        parameters, lr=learning_rate, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay
    )
