"""Every file of workers/optimizers/ against its formula."""

from math import sqrt
from typing import Any

import pytest
import torch

from workers import find
from workers.spec import SpecError

RATE, DECAY = 0.1, 0.3

# the same few operations on the same float64 numbers of order one, in another order: a few roundings of 2.2e-16
TOLERANCE: dict[str, Any] = {"abs": 1e-14, "rel": 0}

PLAIN: dict[str, dict[str, Any]] = {"projected": {"switch_at": 0}}
"""Options with which an optimiser needs to see no curvature."""


def path(name: str, steps: int = 4, start: float = 1.0, **options: Any) -> list[float]:
    """θ along the minimisation of L = θ⁴/4, whose gradient is θ³."""
    θ = torch.nn.Parameter(torch.tensor([start], dtype=torch.float64))
    optimizer = find.function("optimizers", name)([θ], RATE, **PLAIN.get(name, {}) | options)
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        (θ**4 / 4).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        found.append(θ.item())
    return found


@pytest.mark.parametrize("name", find.names("optimizers"))
def test_every_file_builds_an_optimizer_of_that_rate(name: str) -> None:
    parameters = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))]
    optimizer = find.function("optimizers", name)(parameters, 0.25)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2
    assert path(name)[-1] < path(name, steps=1)[-1] < 1


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_sgd_is_its_formula(momentum: float, nesterov: bool, decay: float) -> None:
    θ, v, expected = 1.0, 0.0, []
    for _ in range(4):
        d = θ**3 + decay * θ
        v = momentum * v + d
        θ -= RATE * (d + momentum * v if nesterov else v)
        expected.append(θ)
    options: dict[str, Any] = {"momentum": momentum, "weight_decay": decay, "nesterov": nesterov}
    assert path("sgd", **options) == pytest.approx(expected, **TOLERANCE)


def test_plain_sgd_is_the_default() -> None:
    assert path("sgd") == path("sgd", momentum=0.0, weight_decay=0.0, nesterov=False)


@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_adam_is_its_formula(decay: float) -> None:
    β1, β2, ε = 0.8, 0.95, 0.01
    θ, m, v, expected = 1.0, 0.0, 0.0, []
    for t in range(1, 5):
        d = θ**3 + decay * θ
        m, v = β1 * m + (1 - β1) * d, β2 * v + (1 - β2) * d**2
        θ -= RATE * (m / (1 - β1**t)) / (sqrt(v / (1 - β2**t)) + ε)
        expected.append(θ)
    options: dict[str, Any] = {"beta1": β1, "beta2": β2, "epsilon": ε, "weight_decay": decay}
    assert path("adam", **options) == pytest.approx(expected, **TOLERANCE)


def test_adams_defaults_are_the_papers() -> None:
    assert path("adam") == path("adam", beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0)


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(SpecError, match=r"^optimizer.nesterov: true: needs a momentum above 0$"):
        path("sgd", nesterov=True)
