"""Adam (arXiv:1412.6980)."""

from collections.abc import Iterable
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt


def build(
    parameters: Iterable[torch.nn.Parameter],
    learning_rate: float,
    *,
    beta1: Annotated[float, Ge(0), Lt(1)] = 0.9,
    beta2: Annotated[float, Ge(0), Lt(1)] = 0.999,
    epsilon: Annotated[float, Gt(0)] = 1e-8,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
) -> torch.optim.Optimizer:
    """d = g + weight_decay·θ;  θ ← θ − learning_rate·m̂/(√v̂ + epsilon), m̂ and v̂ the corrected averages of
    d and d².

    Weight decay is added to the gradient (it is not AdamW's) and acts in here only: the L, g and H that are
    measured exclude it.

    >>> θ = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    >>> optimizer = build([θ], 0.25)
    >>> (θ ** 2 / 2).sum().backward()
    >>> optimizer.step()
    >>> round(θ.item(), 6)
    0.75
    """
    return torch.optim.Adam(
        parameters, lr=learning_rate, betas=(beta1, beta2), eps=epsilon, weight_decay=weight_decay
    )
