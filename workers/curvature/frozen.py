"""A model as it was at one moment, evaluated without leaving a trace in the live one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.stateless import _reparametrize_module

from workers.curvature.twice import check_eager, twice_differentiable, watched_checkpoints


class FrozenModel:
    """Detached copies of a model's parameters and buffers, with the modes its modules were in.

    Calling it evaluates the model's own `forward` on the copies, so that training may go on: neither the model nor
    what is computed here notices the other. A call is made within `evaluation(seed)`: the same seed gives the same
    random numbers, and the random state of the CPU and of the model's device, the modules' modes and all buffers
    are afterwards as they were.

    Attributes:
        parameters: those that require a gradient, in the model's order.
        dtype, device: theirs.
        recomputes: whether derivatives evaluate parts of the model again (checkpoints) and so belong within
            `evaluation`; known after the first call.

    Args:
        model: any module; a parameter shared by several modules is one parameter.
        dtype: what parameters and buffers of floating type are cast to; None leaves them.

    Raises:
        ValueError: no parameter requires a gradient, or those that do differ in type or device.
        TypeError: the model is TorchScript or wrapped in DataParallel.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype | None = None) -> None:
        check_eager(model)
        self.recomputes = False
        self._model = model
        self._modes = [(module, module.training) for module in model.modules()]
        self._buffers = {name: frozen_copy(buffer, dtype) for name, buffer in model.named_buffers()}
        self._parameters = {
            name: frozen_copy(parameter, dtype).requires_grad_(parameter.requires_grad)
            for name, parameter in model.named_parameters()
        }
        self.parameters = tuple(value for value in self._parameters.values() if value.requires_grad)
        if not self.parameters:
            raise ValueError("model: 0 parameters require a gradient, at least 1 must")
        kinds = sorted({f"{value.dtype} on {value.device}" for value in self.parameters})
        if len(kinds) > 1:
            raise ValueError(
                f"model: parameters are {' and '.join(kinds)}, must all be of one type on one device"
            )
        self.dtype = self.parameters[0].dtype
        self.device = self.parameters[0].device

    def __call__(self, inputs: Tensor) -> Any:
        """The frozen model's outputs; to be called within `evaluation`."""
        try:
            with watched_checkpoints() as noticed:
                outputs = torch.func.functional_call(self._model, self._state(), (inputs,))
        except ValueError as error:
            if not (self.normalises_by_batch and len(inputs) == 1 and "more than 1 value" in str(error)):
                raise
            raise ValueError(
                "inputs: a chunk of 1 sample, must be at least 2 where a batch norm works on batch statistics; "
                "choose a chunk_size that leaves no single sample at the end"
            ) from error
        self.recomputes |= bool(noticed)
        return outputs

    @property
    def normalises_by_batch(self) -> bool:
        """Whether a batch norm makes each sample's output depend on the samples beside it."""
        return any(uses_batch_statistics(module, training) for module, training in self._modes)

    @contextmanager
    def evaluation(self, seed: int) -> Iterator[None]:
        """Modes as when frozen, fixed random numbers, derivatives of any order; all restored on leaving."""
        now = [(module, module.training) for module, _ in self._modes]
        with ExitStack() as stack:
            stack.enter_context(full_precision(self.device))
            stack.enter_context(fixed_random_state(self.device, seed))
            stack.enter_context(twice_differentiable(self._model))
            try:
                _set_modes(self._modes)
                # What is checkpointed is evaluated again after `__call__`, while derivatives are taken.
                with _reparametrize_module(self._model, self._state(), tie_weights=True):
                    yield
            finally:
                _set_modes(now)

    def _state(self) -> dict[str, Tensor]:
        return {**self._parameters, **{name: buffer.clone() for name, buffer in self._buffers.items()}}


def uses_batch_statistics(module: nn.Module, training: bool) -> bool:
    """Whether it is a batch norm that takes them: in train mode, or where it keeps no others."""
    if not isinstance(module, nn.modules.batchnorm._BatchNorm):
        return False
    return training or module.running_mean is None


def frozen_copy(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A detached clone, cast to `dtype` if it is of floating type."""
    with torch.inference_mode(False):
        copy = tensor.detach().clone()
        return copy.to(dtype) if dtype is not None and copy.is_floating_point() else copy


@contextmanager
def fixed_random_state(device: torch.device, seed: int) -> Iterator[None]:
    """Random numbers on the CPU and on `device` start from `seed`; their state is restored on leaving."""
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        # Not torch.manual_seed, which reseeds every device there is, also those that come into use later.
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Differentiation on; autocast, inference mode and reduced-precision (TF32, bfloat16) products off."""
    cuda, cudnn, mkldnn = (cast(Any, getattr(torch.backends, name)) for name in ("cuda", "cudnn", "mkldnn"))
    backends = (cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn)
    before = [backend.fp32_precision for backend in backends]
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        try:
            for backend in backends:
                backend.fp32_precision = "ieee"
            yield
        finally:
            for backend, precision in zip(backends, before, strict=True):
                backend.fp32_precision = precision


def _set_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        module.training = training
