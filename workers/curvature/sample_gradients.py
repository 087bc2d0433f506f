"""How long the gradient of each single sample is."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from workers.curvature.frozen import full_precision, uses_batch_statistics
from workers.curvature.operators import one_tensor

# Of the gradients that are formed at once: on a CPU what stays in its caches, elsewhere what keeps it busy.
_CPU_BYTES = 2**24
_OTHER_BYTES = 2**28


def sample_gradient_norms(
    model: nn.Module, loss: Callable[..., Tensor], inputs: Tensor, targets: Tensor
) -> Tensor:
    """‖gᵢ‖ of every sample, with gᵢ = ∇ loss(model(xᵢ), yᵢ); the mean of their squares is the trace of (1/n) Σ gᵢgᵢᵀ.

    gᵢ is with respect to the parameters that require a gradient. Gradients are made a group of samples at a time
    (`torch.func.vmap`), in 16 MiB on a CPU and 256 MiB elsewhere: about the time of 25 Hessian-vector products for a
    perceptron on a CPU. Components of one parameter are summed in its own type, parameters in float64. The model is
    evaluated in the mode it is in and left as it was.

    Args:
        model: any module that torch.func.vmap can take, which for instance dropout in train mode is not.
        loss: of (outputs, targets), a mean over samples of something that depends on that sample alone.
        inputs, targets: (n, …) each; sample i is row i.

    Returns:
        (n,) float64 where the parameters are.

    Raises:
        TypeError: the model returns something else than one tensor.
        ValueError: no parameter requires a gradient, or a batch norm works on batch statistics, so that a sample has
            no gradient of its own.
        RuntimeError: of torch.func, for what it cannot take.

    Example:
        >>> line = torch.nn.Linear(2, 1, bias=False)  # at θ = 0: gᵢ = −2 yᵢxᵢ
        >>> _ = torch.nn.init.zeros_(line.weight)
        >>> sample_gradient_norms(line, torch.nn.functional.mse_loss, torch.eye(2), torch.ones(2, 1))
        tensor([2., 2.], dtype=torch.float64)
    """
    if any(uses_batch_statistics(module, module.training) for module in model.modules()):
        raise ValueError(
            "model: a batch norm on batch statistics leaves a sample no gradient of its own, must be in eval mode"
        )
    free = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    if not free:
        raise ValueError("model: 0 parameters require a gradient, at least 1 must")
    fixed = {name: value.detach() for name, value in model.named_parameters() if not value.requires_grad}
    fixed |= {name: buffer.clone() for name, buffer in model.named_buffers()}

    def sample_gradient(x: Tensor, slope: Tensor) -> dict[str, Tensor]:
        """Jᵢᵀrᵢ; the loss is left out of it, since not every loss can be vectorised."""
        pull = torch.func.vjp(lambda some: functional_call(model, {**fixed, **some}, (x[None],)), free)[1]
        (gradient,) = pull(slope[None])
        return cast(dict[str, Tensor], gradient)

    device = next(iter(free.values())).device
    bytes_at_once = _CPU_BYTES if device.type == "cpu" else _OTHER_BYTES
    together = max(1, bytes_at_once // sum(value.numel() * value.element_size() for value in free.values()))
    squares = []
    with full_precision(device), sdpa_kernel(SDPBackend.MATH):
        for x, y in zip(inputs.split(together), targets.split(together), strict=True):
            outputs = one_tensor(functional_call(model, {**fixed, **free}, (x,))).detach().requires_grad_()
            (slopes,) = torch.autograd.grad(len(x) * loss(outputs, y), outputs)
            group = torch.func.vmap(sample_gradient)(x, slopes).values()
            squares.append(
                torch.stack([part.flatten(1).norm(dim=1).double().square() for part in group]).sum(0)
            )
    return torch.cat(squares).detach().sqrt()
