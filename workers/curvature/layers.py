"""A model's layers, and one of them alone: the diagonal blocks of the Hessian."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn


def layers(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The parameters that require a gradient by the layer that owns them, in the order of `model.named_parameters()`.

    A layer is a module with parameters of its own, named as there (`0` owns `0.weight` and `0.bias`; the name of the
    model itself is empty). A parameter shared by several layers belongs to the first.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1, bias=False))
        >>> {name: len(parameters) for name, parameters in layers(model).items()}
        {'0': 2, '2': 1}
    """
    found: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            found.setdefault(name.rpartition(".")[0], []).append(parameter)
    return found


@contextmanager
def only(model: nn.Module, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Within it no other parameter of the model requires a gradient; afterwards all do that did before.

    An operator made within it is the diagonal block of these parameters, and stays so.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
        >>> with only(model, layers(model)["2"]):
        ...     [parameter.requires_grad for parameter in model.parameters()]
        [False, False, True, True]
    """
    kept = {id(parameter) for parameter in parameters}
    frozen = [p for p in model.parameters() if p.requires_grad and id(p) not in kept]
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
