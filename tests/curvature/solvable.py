"""The solvable model: softmax regression on k orthonormal means, trained by full-batch gradient descent from zero."""

import torch
from torch import Tensor, nn

from workers.solvable_model import logit_gap


def model(weight: Tensor, bias: bool = False) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(weight)
        if bias:
            linear.bias.zero_()
    return linear


def trained(classes: int, learning_rate: float, steps: int, bias: bool = False) -> nn.Linear:
    """The model after some steps: column c has the gap u between its own logit and every other, and sums to 0."""
    centred = torch.eye(classes, dtype=torch.float64) - 1.0 / classes
    return model(logit_gap(classes, learning_rate, steps) * centred, bias)


def data(classes: int) -> tuple[Tensor, Tensor]:
    return torch.eye(classes, dtype=torch.float64), torch.arange(classes)
