"""The convolutional network of the Keras CIFAR-10 example, which arXiv:1812.04754 trains."""

from collections.abc import Sequence
from typing import Literal

from torch import nn

from workers.architectures import check_image
from workers.architectures._activation import ACTIVATIONS

SMALLEST = 10
"""Images of fewer pixels a side are gone before the dense layers: 10 → 10 → 8 → 4 → 4 → 2 → 1."""

DENSE = 512


def build(
    input_shape: Sequence[int],
    num_classes: int,
    *,
    activation: Literal["relu", "tanh", "softplus", "elu", "gelu"] = "relu",
    dropout: bool = False,
    batch_norm: bool = False,
    extra_dense: bool = False,
) -> nn.Module:
    """conv3×3-32 same, conv3×3-32, pool 2, conv3×3-64 same, conv3×3-64, pool 2, dense 512, dense k.

    `dropout` is the example's own: ¼ after each pooling and ½ after each hidden dense layer. `batch_norm`
    comes between each hidden layer and its activation. `extra_dense` puts a second hidden dense layer of 512
    behind the first. All three together are the paper's variant of table 1.

    >>> sum(p.numel() for p in build((3, 32, 32), 10).parameters())
    1250858

    Raises SpecError where inputs are not images, or smaller than 10×10.
    """
    channels, height, width = check_image("convnet", input_shape, least=SMALLEST)

    def convolution(inputs: int, outputs: int, padding: int) -> list[nn.Module]:
        norm = [nn.BatchNorm2d(outputs)] if batch_norm else []
        return [nn.Conv2d(inputs, outputs, 3, padding=padding), *norm, ACTIVATIONS[activation]()]

    def pooling() -> list[nn.Module]:
        return [nn.MaxPool2d(2), *([nn.Dropout(0.25)] if dropout else [])]

    def dense(inputs: int) -> list[nn.Module]:
        norm = [nn.BatchNorm1d(DENSE)] if batch_norm else []
        drop = [nn.Dropout(0.5)] if dropout else []
        return [nn.Linear(inputs, DENSE), *norm, ACTIVATIONS[activation](), *drop]

    return nn.Sequential(
        *convolution(channels, 32, padding=1),
        *convolution(32, 32, padding=0),
        *pooling(),
        *convolution(32, 64, padding=1),
        *convolution(64, 64, padding=0),
        *pooling(),
        nn.Flatten(),
        *dense(64 * _pixels_left(height) * _pixels_left(width)),
        *(dense(DENSE) if extra_dense else []),
        nn.Linear(DENSE, num_classes),
    )


def _pixels_left(side: int) -> int:
    """Of a side, after two unpadded convolutions, each before a pooling."""
    return ((side - 2) // 2 - 2) // 2
