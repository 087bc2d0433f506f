"""Where each eigenvector lives: its share in every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.snapshot import Snapshot

FOLLOWS = "top_eigenpairs"


@dataclass(frozen=True)
class Layer:
    """A module that owns parameters, and how much of each eigenvector of H belongs to them."""

    layer: str  # as in model.named_parameters(), without .weight or .bias; empty for the model itself
    parameters: int  # a parameter shared by several layers belongs to the first
    mass: list[
        float
    ]  # Σ of vᵢ² over these parameters, for each of the K pairs: in [0, 1]; parameters/p by chance


@dataclass(frozen=True)
class Record:
    """One entry for each layer, in the order of the model; the masses of an eigenvector sum to 1 over them."""

    layer_mass: list[Layer] | None


def measure(snapshot: Snapshot) -> Record:
    import torch

    from workers.curvature.layers import layers

    vectors = snapshot.pairs.vectors
    trainable = [parameter for parameter in snapshot.model.parameters() if parameter.requires_grad]
    blocks = vectors.split([parameter.numel() for parameter in trainable])
    masses = {
        id(parameter): block.double().square().sum(0)
        for parameter, block in zip(trainable, blocks, strict=True)
    }
    return Record(
        [
            Layer(
                layer=name,
                parameters=sum(parameter.numel() for parameter in parameters),
                mass=torch.stack([masses[id(parameter)] for parameter in parameters]).sum(0).tolist(),
            )
            for name, parameters in layers(snapshot.model).items()
        ]
    )


def products(classes: int) -> int:  # noqa: ARG001
    return 0
