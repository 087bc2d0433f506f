"""Softmax regression: one linear layer, whose outputs are logits."""

from collections.abc import Sequence
from math import prod

from torch import nn


def build(input_shape: Sequence[int], num_classes: int, *, bias: bool = True) -> nn.Module:
    """x ↦ Wx + b on flattened inputs; p = k(d + 1), or kd without bias.

    Without bias and with `initialization: zeros` it is the solvable model of arXiv:1812.04754, section 4.

    >>> sum(p.numel() for p in build((1, 28, 28), 10).parameters())
    7850
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(input_shape), num_classes, bias=bias))
