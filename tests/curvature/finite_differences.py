"""Fourth oracle: central differences of the gradient that plain training would take; and a watch on the live model."""

from contextlib import contextmanager

import torch
from torch import nn

STEP = 1e-5
# The error of a central difference of step 1e-5 in float64: 1e-10 of a third derivative and 2e-16 / 1e-5 of the gradient,
# which are up to a thousand times ‖Hv‖ in these models.
CLOSE = 1e-6

SMOOTH = {nn.ReLU: nn.Softplus, nn.Hardswish: nn.SiLU, nn.Hardsigmoid: nn.Sigmoid}


def smooth(model):
    """The model with activations that have all derivatives: differences see kinks, which autograd ignores."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) in SMOOTH:
                setattr(module, name, SMOOTH[type(child)]())
    return model


def direction(size, seed=0):
    vector = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return vector / vector.norm()


def along(function, model, vector):
    """(f(θ + hv) − f(θ − hv)) / 2h, of the model itself, whose parameters and buffers are put back."""
    before = {name: value.detach().clone() for name, value in state_of(model)}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    parts = vector.split([parameter.numel() for parameter in parameters])
    values = []
    with torch.random.fork_rng():
        for step in (STEP, -STEP):
            with torch.no_grad():
                for parameter, part in zip(parameters, parts, strict=True):
                    parameter.add_(part.view_as(parameter), alpha=step)
            values.append(function(model))
            with torch.no_grad():
                for name, value in state_of(model):
                    value.copy_(before[name])
    return (values[0] - values[1]) / (2 * STEP)


def gradient(case, chunk_size=None):
    """Of the mean over chunks, each with the random numbers of its index, as training would take it."""
    chunk_size = chunk_size or len(case.inputs)

    def function(model):
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        total = 0.0
        chunks = zip(case.inputs.split(chunk_size), case.targets.split(chunk_size), strict=True)
        for index, (inputs, targets) in enumerate(chunks):
            torch.manual_seed(index)
            loss = case.loss(model(inputs), targets)
            parts = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
            total += len(inputs) / len(case.inputs) * torch.cat([part.reshape(-1) for part in parts])
        return total

    return function


def outputs(case):
    def function(model):
        torch.manual_seed(0)
        with torch.no_grad():
            return model(case.inputs)

    return function


@contextmanager
def left_as_it_was(model):
    """Modes, parameters, buffers, gradients and the random state are afterwards what they were, to the bit."""
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    modes = [module.training for module in model.modules()]
    inside = {name: set(vars(module)) for name, module in model.named_modules()}
    state = {name: value.detach().clone() for name, value in state_of(model)}
    torch.manual_seed(7)
    random_state = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [module.training for module in model.modules()] == modes
    assert {name: set(vars(module)) for name, module in model.named_modules()} == inside
    for name, value in state_of(model):
        assert torch.equal(value, state[name]), name
    for name, parameter in model.named_parameters():
        assert (parameter.grad == 0.5).all(), name
        parameter.grad = None


def state_of(model):
    return [*model.named_parameters(), *model.named_buffers()]
