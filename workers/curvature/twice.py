"""What torch cannot differentiate twice: made another way where there is one, refused where there is none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrizations
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils.checkpoint import CheckpointFunction

from workers.curvature.convolution import FastConvolutions

_ONCE = "model: has no second derivative, must be differentiable twice"

# What torch says, and what to do about it.
_REMEDIES = {
    "use_reentrant=True": "checkpoint with use_reentrant=False",
    "_embedding_bag": "use torch.nn.Embedding and a mean or sum instead of torch.nn.EmbeddingBag",
    "double backward": "write it with operations that have a second derivative",
    "is not implemented": "write it with operations that have a second derivative",
}


@contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Within it the model is evaluated by code that has a second derivative, where there is such code.

    Attention does without its fused kernels and recurrent layers without cuDNN, which differentiate once only. Weight
    norm is written out: the second derivative of torch's own takes the norms for constants and is silently wrong.
    Convolutions are those whose second derivatives are fast. Compiled code runs as it is written.
    """
    modules = list(model.modules())
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(FastConvolutions())
        if "torch._dynamo" in sys.modules:  # which takes seconds to import; whatever is compiled has done so
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if any(isinstance(module, nn.RNNBase) for module in modules):
            stack.enter_context(_without_cudnn())
        for module in modules:
            if isinstance(module, parametrizations._WeightNorm):
                written = partial(_weight_norm, dim=module.dim)
                stack.enter_context(_replaced(module, "forward", lambda g, v, written=written: written(v, g)))
            for hook in module._forward_pre_hooks.values():
                if isinstance(hook, WeightNorm):
                    stack.enter_context(_replaced(hook, "compute_weight", partial(_weight_of, hook)))
        yield


@contextmanager
def watched_checkpoints() -> Iterator[list[str]]:
    """The kinds of saved-tensor hooks that come into use within it, of which a checkpoint is one.

    The older, reentrant kind of checkpoint is refused: it knows neither of `torch.autograd.grad` nor, where its input
    requires no gradient, of its own parameters, whose derivatives would be zero.
    """
    noticed: list[str] = []
    hooks = torch.autograd.graph.saved_tensors_hooks
    enter = hooks.__enter__

    def entered(own: Any) -> None:
        noticed.append(type(own).__name__)
        enter(own)

    def refused(*_: Any) -> None:
        raise ValueError(
            f"{_ONCE}: it uses torch.utils.checkpoint with use_reentrant=True; set use_reentrant=False"
        )

    with _replaced(hooks, "__enter__", entered), _replaced(CheckpointFunction, "apply", refused):
        yield noticed


def check_eager(model: nn.Module) -> None:
    """Refuses modules that hold their weights where they cannot be replaced."""
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise TypeError(f"model: {name or 'it'} is TorchScript, must be the module that it was made from")
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            kind = type(module).__name__
            raise TypeError(f"model: {name or 'it'} is a {kind}, must be the module inside, its `.module`")


def check_twice(gradient: tuple[Tensor, ...]) -> None:
    """Refuses a gradient of which autograd would silently drop a part when it is differentiated.

    Behind a function marked once_differentiable lies a node that raises when it is reached; but it is not reached,
    since derivatives are taken by parameters only, and no path leads from it to them.
    """
    if any(tensor.layout is not torch.strided for tensor in gradient):
        raise ValueError(
            "model: a gradient is sparse, must be dense; use torch.nn.Embedding with sparse=False"
        )
    waiting = [tensor.grad_fn for tensor in gradient]
    seen: set[Any] = {None}
    kinds: dict[str, type] = {}
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            kinds[node.name()] = type(node)
            waiting += [following for following, _ in node.next_functions]
    if "WeightNormInterfaceBackward0" in kinds:
        raise ValueError(
            f"{_ONCE}: that of torch._weight_norm is wrong; use torch.nn.utils.parametrizations.weight_norm"
        )
    if "torch::autograd::Error" in kinds:
        own = sorted(
            name.removesuffix("Backward")
            for name, kind in kinds.items()
            if issubclass(kind, torch.autograd.function.BackwardCFunction)
        )
        raise ValueError(
            f"{_ONCE}: a function ({', '.join(own) or 'of its own'}) is marked once_differentiable; "
            "write its backward with operations that have a derivative, and without the mark"
        )


@contextmanager
def explained() -> Iterator[None]:
    """torch's refusals to differentiate again, as a ValueError that says what to do."""
    try:
        yield
    except RuntimeError as error:
        said = str(error).strip()
        for words, remedy in _REMEDIES.items():
            if words in said:
                raise ValueError(f"{_ONCE}: {said.splitlines()[0].rstrip('.')}; {remedy}") from error
        raise


@contextmanager
def _without_cudnn() -> Iterator[None]:
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


@contextmanager
def _replaced(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """`owner.name` is `function` within it; also where the owner has it from its class."""
    own = vars(owner).get(name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


def _weight_norm(v: Tensor, g: Tensor, dim: int) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))


def _weight_of(hook: WeightNorm, module: nn.Module) -> Tensor:
    """What `torch.nn.utils.weight_norm`, the older one, computes before each evaluation."""
    return _weight_norm(getattr(module, f"{hook.name}_v"), getattr(module, f"{hook.name}_g"), hook.dim)
