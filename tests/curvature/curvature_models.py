"""Small models with their data: what the operators are tried on."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

SAMPLES = 10


@dataclass(frozen=True)
class Case:
    model: nn.Module
    loss: object
    inputs: Tensor
    targets: Tensor

    @property
    def arguments(self):
        return self.model, self.loss, self.inputs, self.targets


class Tied(nn.Module):
    """One matrix in two layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, inputs):
        return self.second(torch.tanh(self.first(inputs)))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, nhead=2, dim_feedforward=3, dropout=0.0, batch_first=True)

    def forward(self, inputs):
        return self.layer(inputs.unflatten(1, (2, 4))).mean(1)


def mlp(activation=nn.Tanh):
    return nn.Sequential(nn.Linear(4, 5), activation(), nn.Linear(5, 3))


def convnet():
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.Softplus(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3)
    )


def partly_frozen():
    model = mlp()
    model[0].weight.requires_grad_(False)
    return model


def with_unused_parameter():
    model = mlp()
    model.register_parameter("unused", nn.Parameter(torch.ones(2)))
    return model


def batch_norm():
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 1.5)
    return model


def batch_norm_in_eval():
    return batch_norm().eval()


FACTORIES = {
    "mlp": (mlp, (4,), cross_entropy),
    "mlp mse": (mlp, (4,), mse_loss),
    "convnet": (convnet, (1, 4, 4), cross_entropy),
    "convnet mse": (convnet, (1, 4, 4), mse_loss),
    "tied": (Tied, (4,), cross_entropy),
    "partly frozen": (partly_frozen, (4,), cross_entropy),
    "unused parameter": (with_unused_parameter, (4,), cross_entropy),
    "batch norm in eval": (batch_norm_in_eval, (4,), cross_entropy),
    "attention": (Attention, (8,), cross_entropy),
}


def make(name, dtype=torch.float64):
    factory, shape, loss = FACTORIES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = factory().to(dtype)
        inputs = torch.randn(SAMPLES, *shape, dtype=dtype)
        with torch.no_grad():
            outputs = model(inputs).shape[1]
        targets = (
            torch.arange(SAMPLES) % outputs
            if loss is cross_entropy
            else torch.randn(SAMPLES, outputs, dtype=dtype)
        )
    return Case(model, loss, inputs, targets)


def flat(case):
    """The loss as a function of the flattened parameters, the outputs likewise, and those parameters."""
    named = {name: value for name, value in case.model.named_parameters() if value.requires_grad}
    sizes = [value.numel() for value in named.values()]

    def outputs(vector, inputs=case.inputs):
        parts = zip(named.items(), vector.split(sizes), strict=True)
        parameters = {name: part.view_as(value) for (name, value), part in parts}
        buffers = {name: buffer.clone() for name, buffer in case.model.named_buffers()}
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return torch.func.functional_call(case.model, {**parameters, **buffers}, (inputs,))

    def loss(vector, inputs=case.inputs, targets=case.targets):
        return case.loss(outputs(vector, inputs), targets)

    return loss, outputs, torch.cat([value.detach().reshape(-1) for value in named.values()])


def dense_hessian(case):
    loss, _, vector = flat(case)
    return torch.autograd.functional.hessian(loss, vector)


def dense_gauss_newton(case):
    _, outputs, vector = flat(case)
    values = outputs(vector)
    jacobian = torch.autograd.functional.jacobian(outputs, vector).reshape(values.numel(), -1)
    curvature = torch.autograd.functional.hessian(lambda f: case.loss(f, case.targets), values)
    return jacobian.T @ curvature.reshape(values.numel(), -1) @ jacobian


def dense_residual(case):
    return dense_hessian(case) - dense_gauss_newton(case)


def sample_gradients(case):
    """The gradient of each sample's loss, (n, p), one sample after the other."""
    loss, _, vector = flat(case)
    return torch.stack(
        [
            torch.autograd.functional.jacobian(
                lambda v, i=i: loss(v, case.inputs[i], case.targets[i]), vector
            )
            for i in torch.arange(len(case.inputs)).split(1)
        ]
    )


def dense_gradient_covariance(case):
    gradients = sample_gradients(case)
    return gradients.T @ gradients / len(gradients)
