"""What the curvature operators share: samples in chunks weighted by their number, and products with kept graphs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from workers.curvature.frozen import FrozenModel, frozen_copy, full_precision
from workers.curvature.memory import GraphSize, kept_bytes, samples_that_fit, with_graph_size

Precision = Literal["float32", "float64"]
Tensors = tuple[Tensor, ...]

_DTYPES = {None: None, "float32": torch.float32, "float64": torch.float64}
_PROBE_SAMPLES = 8


@dataclass(frozen=True)
class Linearization:
    """The differentiated graph of one chunk: with it, a product costs backward passes only."""

    loss: Tensor  # ()
    gradient: Callable[[], Tensors]  # shaped as the parameters
    product: Callable[[Tensors], Tensors]  # the chunk's matrix times a vector, both shaped as the parameters


class ChunkedOperator(ABC):
    """A symmetric p × p matrix that is a mean over samples, known by its products.

    Attributes:
        shape: (p, p), with p the number of parameters that require a gradient.
        dtype, device: of the parameters, or as `precision` says.
        loss: mean over all samples.
        gradient: (p,), of that loss.
        products: vectors multiplied so far; a block of b counts b.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[..., Tensor],
        inputs: Tensor,
        targets: Tensor,
        *,
        chunk_size: int | None = None,
        precision: Precision | None = None,
    ) -> None:
        _check_data(inputs, targets, chunk_size, precision)
        dtype = _DTYPES[precision]
        self._model = FrozenModel(model, dtype)
        self._loss_function = loss
        self._inputs, self._targets = frozen_copy(inputs, dtype), frozen_copy(targets, dtype)
        size = sum(parameter.numel() for parameter in self._model.parameters)
        self.shape: tuple[int, int] = (size, size)
        self.dtype: torch.dtype = self._model.dtype
        self.device: torch.device = self._model.device
        self.products: int = 0
        self._chunks = self._divide(chunk_size)
        self._graphs: list[Callable[[Tensors], Tensors]] = []
        self._graph_bytes: int = 0
        with full_precision(self.device):
            self.loss, self.gradient = self._loss_and_gradient()

    def __matmul__(self, vector: Tensor) -> Tensor:
        """The product with a vector (p,) or with the columns of a block (p, b), in the operator's type."""
        self._check_vector(vector)
        columns = vector.detach().to(self.dtype).reshape(self.shape[0], -1).T
        sums = [_WeightedSum() for _ in columns]
        with full_precision(self.device):
            for index in range(len(self._chunks)):
                multiply = self._product(index)
                with self._recalled(index):
                    for column, total in zip(columns, sums, strict=True):
                        total.add(multiply(self._unflatten(column)), self._weight(index))
                del multiply  # before the next graph is made
        self.products += len(columns)
        return torch.stack([total.value(self.dtype) for total in sums], dim=1).reshape(vector.shape)

    def __repr__(self) -> str:
        chunks = self._chunks
        kept = "all" if len(self._graphs) == len(chunks) else str(len(self._graphs))
        return (
            f"{type(self).__name__}(shape={self.shape}, {str(self.dtype).removeprefix('torch.')} on {self.device}, "
            f"{len(self._inputs)} samples in {len(chunks)} chunks of {chunks[0].stop}, graphs kept: {kept}, "
            f"{self._graph_bytes / 2**20:.0f} MiB each)"
        )

    def release(self) -> None:
        """Gives up the kept graphs; later products make them anew."""
        self._graphs.clear()

    @abstractmethod
    def _linearize(self, inputs: Tensor, targets: Tensor) -> Linearization:
        """The loss of a chunk and its derivatives; differentiation is on."""

    def _linearized(self, chunk: slice, seed: int) -> Linearization:
        with self._model.evaluation(seed):
            return self._linearize(self._inputs[chunk], self._targets[chunk])

    def _product(self, index: int) -> Callable[[Tensors], Tensors]:
        """That of a chunk, from its kept graph or from a new one equal to it: the index fixes the random numbers."""
        if index < len(self._graphs):
            return self._graphs[index]
        return self._linearized(self._chunks[index], seed=index).product

    def _recalled(self, index: int) -> AbstractContextManager[None]:
        """The model as it was, for derivatives that evaluate parts of it again (checkpoints)."""
        return self._model.evaluation(seed=index) if self._model.recomputes else nullcontext()

    def _loss_and_gradient(self) -> tuple[float, Tensor]:
        """Over all samples; keeps the graphs of as many chunks as memory allows."""
        forward_loss = self._forward_loss(self._chunks[0])
        loss, gradient = 0.0, _WeightedSum()
        keep = 1
        for index, chunk in enumerate(self._chunks):
            linearization, size = self._with_graph_size(chunk, index)
            weight = self._weight(index)
            chunk_loss = _checked_loss(linearization.loss, chunk)
            if index == 0:
                _check_repeats(forward_loss, chunk_loss, self.dtype)
                self._graph_bytes = size.total
                # A single chunk is always kept: making its graph anew for a product would take the same memory.
                keep = 1 if len(self._chunks) == 1 else kept_bytes(self.device) // max(size.total, 1)
            loss += weight * chunk_loss
            with self._recalled(index):
                gradient.add(linearization.gradient(), weight)
            if index < keep:
                self._graphs.append(linearization.product)
            del linearization  # before the next graph is made
        return loss, gradient.value(self.dtype)

    def _divide(self, chunk_size: int | None) -> list[slice]:
        """The samples in order, `chunk_size` at a time; the last chunk may be smaller."""
        samples = len(self._inputs)
        if chunk_size is None and self._model.normalises_by_batch:
            chunk_size = samples
        elif chunk_size is None:
            probe = slice(0, min(_PROBE_SAMPLES, samples))
            _, size = self._with_graph_size(probe, seed=0)
            chunk_size = samples_that_fit(size, probe.stop, self.device)
        return [slice(start, min(start + chunk_size, samples)) for start in range(0, samples, chunk_size)]

    def _weight(self, index: int) -> float:
        chunk = self._chunks[index]
        return float(chunk.stop - chunk.start) / len(self._inputs)

    def _with_graph_size(self, chunk: slice, seed: int) -> tuple[Linearization, GraphSize]:
        return with_graph_size(
            lambda: self._linearized(chunk, seed), (*self._model.parameters, self._inputs, self._targets)
        )

    def _forward_loss(self, chunk: slice) -> float:
        """The loss of the first samples, evaluated once more."""
        with self._model.evaluation(seed=0):
            outputs = self._model(self._inputs[chunk])
            loss = self._loss_function(outputs, self._targets[chunk])
            if isinstance(outputs, Tensor) and outputs.ndim > 0 and len(outputs) == chunk.stop > 1:
                _check_mean(self._loss_function, outputs.detach(), self._targets[chunk], self.dtype)
        return _checked_loss(loss, chunk)

    def _unflatten(self, vector: Tensor) -> Tensors:
        parameters = self._model.parameters
        parts = torch.split(vector, [parameter.numel() for parameter in parameters])
        return tuple(part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True))

    def _check_vector(self, vector: Tensor) -> None:
        if not isinstance(vector, Tensor):
            raise TypeError(f"vector: {type(vector).__name__}, must be a tensor of shape (p,) or (p, b)")
        if vector.ndim not in (1, 2) or vector.shape[0] != self.shape[0]:
            size = self.shape[0]
            raise ValueError(f"vector: shape {tuple(vector.shape)}, must be ({size},) or ({size}, b)")
        if vector.device != self.device:
            raise ValueError(f"vector: on {vector.device}, must be on {self.device}, where the operator is")


class _WeightedSum:
    """Σ wᵢ xᵢ over chunks, in float64; of a single chunk, whose weight is 1, x itself."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []

    def add(self, parts: Tensors, weight: float) -> None:
        """Adds one chunk's x, shaped as the parameters."""
        if weight == 1.0:
            self._parts = [part.detach() for part in parts]
        elif not self._parts:
            self._parts = [weight * part.detach().double() for part in parts]
        else:
            for total, part in zip(self._parts, parts, strict=True):
                total.add_(part.detach(), alpha=weight)

    def value(self, dtype: torch.dtype) -> Tensor:
        """The sum, (p,)."""
        return torch.cat([part.reshape(-1).to(dtype) for part in self._parts])


def _check_data(inputs: Tensor, targets: Tensor, chunk_size: int | None, precision: str | None) -> None:
    if precision not in _DTYPES:
        raise ValueError(f"precision: {precision!r}, must be 'float32', 'float64' or None")
    if len(inputs) == 0:
        raise ValueError("inputs: 0 samples, must be at least 1")
    if len(targets) != len(inputs):
        raise ValueError(f"targets: {len(targets)} samples, must be {len(inputs)}, as many as inputs")
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size: {chunk_size}, must be at least 1")


def _checked_loss(loss: Tensor, chunk: slice) -> float:
    if loss.ndim != 0:
        raise ValueError(f"loss: shape {tuple(loss.shape)}, must be (), the mean over samples")
    if not loss.requires_grad:
        raise ValueError("loss: does not depend on the parameters, must be computed with gradients on")
    if not torch.isfinite(loss):
        raise FloatingPointError(
            f"loss: {float(loss.detach())} on samples {chunk.start}..{chunk.stop - 1}, must be finite"
        )
    return float(loss.detach())


def _check_mean(
    function: Callable[..., Tensor], outputs: Tensor, targets: Tensor, dtype: torch.dtype
) -> None:
    # Two uneven parts: a sum, or a mean weighted by class, is not the mean of its parts weighted by their samples.
    first = (len(outputs) + 2) // 3
    whole = function(outputs, targets)
    parts = [function(outputs[part], targets[part]) for part in (slice(first), slice(first, None))]
    if any(value.ndim != 0 for value in (whole, *parts)):
        return
    values = [float(value) for value in parts]
    shares = [first / len(outputs), 1 - first / len(outputs)]
    mean = sum(share * value for share, value in zip(shares, values, strict=True))
    # Sums in another order differ by a few units of rounding for each of some hundreds of terms.
    slack = 1000 * torch.finfo(dtype).eps * max(abs(value) for value in (float(whole), *values))
    if abs(float(whole) - mean) > slack:
        raise ValueError(
            f"loss: {float(whole)!r} over {len(outputs)} samples but {mean!r} as the mean over two parts of them, must be "
            "the mean over samples; with weights or ignored targets divide by the number of samples"
        )


def _check_repeats(once: float, again: float, dtype: torch.dtype) -> None:
    # Sums in another order differ by a few units of rounding, other random numbers by far more.
    if abs(once - again) > 100 * torch.finfo(dtype).eps * abs(once):
        raise ValueError(
            f"loss: {once!r} and then {again!r} for the same samples and random state, must not change; "
            "model or loss keep a state of their own or draw random numbers from elsewhere than torch"
        )
