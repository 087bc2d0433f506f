"""The losses by name, each a mean over samples, and accuracy."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]
"""loss(outputs (n, k), targets) → scalar, a mean over the n samples."""


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """(1/n) Σᵢ −log softmax(outputsᵢ)[targetsᵢ], in nats; log k for outputs that say nothing.

    `outputs` are logits (n, k), `targets` class indices (n,).

    >>> cross_entropy(torch.zeros(3, 10), torch.tensor([0, 5, 9])).item() == torch.tensor(10.0).log().item()
    True
    """
    return functional.cross_entropy(outputs, targets)


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """(1/n) Σᵢ Σ_c (outputsᵢc − targetsᵢc)²: the *sum* over outputs, the mean over samples, without a factor
    ½.

    `outputs` are (n, k), `targets` (n, k), or class indices (n,), which stand for one-hot vectors. 1 for
    outputs of zero on classes. torch's `mse_loss` averages over outputs too, which makes the Hessian k times
    smaller.

    >>> mse(torch.zeros(3, 10), torch.tensor([0, 5, 9])).item()
    1.0
    """
    if targets.dtype == torch.int64:
        targets = functional.one_hot(targets, outputs.shape[1]).to(outputs.dtype)
    return (outputs - targets).square().sum(dim=1).mean()


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "mse": mse}
"""By the name that `TrialSpec.loss` has."""


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The share of samples whose largest output (n, k) is that of their class (n,): in [0, 1], chance level
    1/k.

    >>> accuracy(torch.eye(4), torch.tensor([0, 1, 2, 0])).item()
    0.75
    """
    return (outputs.argmax(dim=1) == targets).double().mean()
