"""The solvable model: softmax regression on k orthonormal means, trained by full-batch gradient descent from zero."""

import math

import torch
from torch import Tensor, nn


def logit_gap(classes: int, learning_rate: float, steps: int) -> float:
    """u after some steps of u ← u + ηε/(k − 1), with ε = (k − 1)/(eᵘ + k − 1)."""
    gap = 0.0
    for _ in range(steps):
        gap += learning_rate * error(classes, gap) / (classes - 1)
    return gap


def error(classes: int, gap: float) -> float:
    """ε = 1 − p_c(c), the probability that a sample's own class does not get."""
    return (classes - 1) / (math.exp(gap) + classes - 1)


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
