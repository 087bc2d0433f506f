"""The curvature of each layer by itself: the largest eigenvalues of the diagonal blocks of the Hessian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Lt

from workers.spec import samples_per_step

if TYPE_CHECKING:
    from workers.snapshot import Snapshot


@dataclass(frozen=True)
class Layer:
    """A module that owns parameters, and the block of H on the measurement set that belongs to them."""

    layer: str  # as in model.named_parameters(), without .weight or .bias; empty for the model itself
    parameters: int  # rows of the block; one shared by several layers belongs to the first
    eigenvalues: list[float]  # descending, at most λ₁ of H; units: loss per squared parameter
    residuals: list[float]  # ‖Bvᵢ − λᵢvᵢ‖/|λ₁| of the block B, recomputed


@dataclass(frozen=True)
class Record:
    """One block for each layer that the outputs depend on, in the order of the model."""

    layer_hessians: list[Layer] | None


def measure(
    snapshot: Snapshot,
    *,
    count: Annotated[int, Ge(1)] = 1,
    tol: Annotated[float, Gt(0), Lt(1)] = 1e-3,
) -> Record:
    """`count` eigenvalues of each block, or as many as it has. Every product with a block counts as one."""
    from workers.curvature import HessianOperator, top_eigenpairs
    from workers.curvature.layers import layers, only

    blocks = []
    for name, parameters in layers(snapshot.model).items():
        size = sum(parameter.numel() for parameter in parameters)
        with only(snapshot.model, parameters):
            if not _outputs_depend_on_parameters(snapshot):
                continue
            with snapshot.operator(HessianOperator) as block:
                pairs = top_eigenpairs(block, min(count, size), tol, seed=snapshot.probe_seed)
        blocks.append(Layer(name, size, pairs.values.tolist(), pairs.residuals.tolist()))
    return Record(blocks)


def products(classes: int, count: int = 1, tol: float = 1e-3) -> int:  # noqa: ARG001
    """Of three layers; how many there are is not known beforehand. Measured on 784-100-100-10: 14 a layer for one pair."""
    return 3 * (10 + 4 * count)


def _outputs_depend_on_parameters(snapshot: Snapshot) -> bool:
    """Whether any that require a gradient have an effect."""
    import torch

    buffers = {name: buffer.clone() for name, buffer in snapshot.model.named_buffers()}
    inputs = snapshot.inputs[: samples_per_step(snapshot.spec.batch_size, len(snapshot.inputs))]
    return bool(torch.func.functional_call(snapshot.model, buffers, (inputs,)).requires_grad)
