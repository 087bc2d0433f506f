"""Convolutions whose second derivatives use the fast kernels of the first.

A convolution y = x ∗ w, with its derivatives I(g, w) in x and W(g, x) in w, is one trilinear form ⟨g, x ∗ w⟩. So each
of the three maps has the other two as derivatives, to any order, and a Hessian-vector product needs nothing but the
kernels that training uses. Torch's own second derivative instead convolves with kernels as large as the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# stride, padding, dilation, whether transposed, output padding, groups: as torch's own kernels take them
Geometry = tuple[list[int], list[int], list[int], bool, list[int], int]
_aten: Any = torch.ops.aten


class FastConvolutions(TorchFunctionMode):
    """While it is entered, convolutions are made so that they can be differentiated twice at full speed.

    Same values up to rounding, for any `torch.nn` module and any function that calls torch's convolutions.

    Example:
        >>> with FastConvolutions():
        ...     torch.conv1d(torch.ones(1, 1, 3), torch.ones(1, 1, 2))
        tensor([[[2., 2.]]])
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _CONVOLUTIONS:
            return _convolution(func, *args, **kwargs)
        return func(*args, **kwargs)


def _convolution(
    native: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """The convolution, or torch's own where there is no batch, the padding is uneven, or numbers are not plain."""
    sizes = weight.shape[2:]
    strides, dilations = _each(stride, len(sizes)), _each(dilation, len(sizes))
    if padding == "valid":
        padding = 0
    elif padding == "same":
        total = [step * (size - 1) for step, size in zip(dilations, sizes, strict=True)]
        even = all(width % 2 == 0 for width in total)
        padding = [width // 2 for width in total] if even else padding
    if isinstance(padding, str) or input.ndim != weight.ndim or not _plain(input, weight):
        return native(input, weight, bias, stride, padding, dilation, groups)
    paddings = _each(padding, len(sizes))
    output: Tensor = _Convolution.apply(
        input, weight, (strides, paddings, dilations, False, [0] * len(sizes), groups)
    )
    return output if bias is None else output + bias.view(-1, *[1] * len(sizes))


class _Convolution(torch.autograd.Function):
    """x, w ↦ x ∗ w."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.geometry = geometry
        output: Tensor = _aten.convolution(x, w, None, *geometry)
        return output

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        by_x, by_w, _ = ctx.needs_input_grad
        return (
            _InputDerivative.apply(g, w, x.shape, ctx.geometry) if by_x else None,
            _WeightDerivative.apply(g, x, w.shape, ctx.geometry) if by_w else None,
            None,
        )


class _InputDerivative(torch.autograd.Function):
    """g, w ↦ I(g, w), with ⟨I(g, w), x⟩ = ⟨g, x ∗ w⟩."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, w: Tensor, shape: torch.Size, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(g, w)
        ctx.geometry = geometry
        # Of x itself only the shape matters.
        x = g.new_empty(1).expand(shape)
        output: Tensor = _aten.convolution_backward(g, x, w, None, *geometry, [True, False, False])[0]
        return output

    @staticmethod
    def backward(ctx: Any, x: Tensor) -> tuple[Tensor | None, ...]:
        g, w = ctx.saved_tensors
        by_g, by_w, _, _ = ctx.needs_input_grad
        return (
            _Convolution.apply(x, w, ctx.geometry) if by_g else None,
            _WeightDerivative.apply(g, x, w.shape, ctx.geometry) if by_w else None,
            None,
            None,
        )


class _WeightDerivative(torch.autograd.Function):
    """g, x ↦ W(g, x), with ⟨W(g, x), w⟩ = ⟨g, x ∗ w⟩."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, shape: torch.Size, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(g, x)
        ctx.geometry = geometry
        # Of w itself only the shape matters.
        w = g.new_empty(1).expand(shape)
        output: Tensor = _aten.convolution_backward(g, x, w, None, *geometry, [False, True, False])[1]
        return output

    @staticmethod
    def backward(ctx: Any, w: Tensor) -> tuple[Tensor | None, ...]:
        g, x = ctx.saved_tensors
        by_g, by_x, _, _ = ctx.needs_input_grad
        return (
            _Convolution.apply(x, w, ctx.geometry) if by_g else None,
            _InputDerivative.apply(g, w, x.shape, ctx.geometry) if by_x else None,
            None,
            None,
        )


def _plain(*operands: Tensor) -> bool:
    """Whether these are real and no function transform, such as vmap, is at work on them."""
    stack = torch._C._functorch.peek_interpreter_stack()
    return stack is None and not any(operand.is_complex() for operand in operands)


def _each(value: Any, dimensions: int) -> list[int]:
    """One number for every dimension, from one for all or from as many."""
    values = [value] if isinstance(value, int) else list(value)
    return values * dimensions if len(values) == 1 else values


_CONVOLUTIONS = frozenset({torch.conv1d, torch.conv2d, torch.conv3d})
