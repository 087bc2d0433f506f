"""A fully connected network."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Annotated, Literal

from annotated_types import Ge
from torch import nn

from workers.architectures._activation import ACTIVATIONS


def build(
    input_shape: Sequence[int],
    num_classes: int,
    *,
    widths: Sequence[Annotated[int, Ge(1)]] = (100, 100),
    activation: Literal["relu", "tanh", "softplus", "elu", "gelu"] = "relu",
) -> nn.Module:
    """Flattened inputs, hidden layers of `widths`, each followed by the activation, and a linear layer.

    The default is the FC network of arXiv:1812.04754. No `widths` at all is softmax regression.

    >>> sum(p.numel() for p in build((1, 28, 28), 10).parameters())
    89610
    """
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise([prod(input_shape), *widths]):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    last = widths[-1] if widths else prod(input_shape)
    return nn.Sequential(*layers, nn.Linear(last, num_classes))
