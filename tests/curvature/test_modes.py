"""Batch norm, dropout, buffers and random numbers: a product is of a stated loss and leaves no trace."""

from functools import cache

import finite_differences as differences
import pytest
import torch
from curvature_models import Case
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from workers import find
from workers.curvature import GaussNewtonOperator, HessianOperator

CHUNK = 3
OPERATORS = [HessianOperator, GaussNewtonOperator]


def regularised():
    build = find.function("architectures", "convnet")
    model = build((1, 10, 10), 3, activation="tanh", dropout=True, batch_norm=True, extra_dense=True)
    for layer, module in enumerate(model):
        if isinstance(module, nn.MaxPool2d):
            # Maxima change at kinks; an average does not.
            model[layer] = nn.AvgPool2d(2)
    return model, (1, 10, 10)


def residual():
    return differences.smooth(find.function("architectures", "resnet18")((1, 8, 8), 3)), (1, 8, 8)


MODELS = {"regularised convnet": regularised, "resnet18": residual}
MODES = [
    ("regularised convnet", "eval"),
    ("regularised convnet", "batch statistics"),
    ("regularised convnet", "train"),
    ("resnet18", "eval"),
    ("resnet18", "train"),
]


@cache
def made(name, mode):
    """A model with its data, two chunks of samples; made once, since every test leaves it as it was."""
    torch.manual_seed(0)
    model, shape = MODELS[name]()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    inputs = torch.randn(2 * CHUNK, *shape, dtype=torch.float64)
    set_mode(model.double(), mode)
    return Case(model, cross_entropy, inputs, torch.arange(2 * CHUNK) % 3)


def set_mode(model, mode):
    model.train(mode == "train")
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train(mode != "eval")


@pytest.mark.parametrize(("name", "mode"), MODES)
def test_product_is_right_symmetric_repeatable_and_leaves_no_trace(name, mode, monkeypatch):
    case = made(name, mode)
    with differences.left_as_it_was(case.model):
        H = HessianOperator(*case.arguments, chunk_size=CHUNK)
        u, v = (differences.direction(H.shape[0], seed) for seed in (0, 1))
        Hu, Hv = H @ u, H @ v
    expected = differences.along(differences.gradient(case, CHUNK), case.model, v)
    assert (Hv - expected).norm() <= differences.CLOSE * Hv.norm()
    # Rounding of 1e-16 of the terms of a sum, of which a deep net's are up to 1e4 times the result.
    assert abs(u @ Hv - v @ Hu) <= 1e-12 * Hv.norm()
    monkeypatch.setattr("workers.curvature.chunked.kept_bytes", lambda _: 0)
    with differences.left_as_it_was(case.model):
        remade = HessianOperator(*case.arguments, chunk_size=CHUNK)
        # The same operations on the same numbers, dropout's among them, whether a graph was kept or made anew.
        assert torch.equal(remade @ v, Hv)
        assert torch.equal(H @ v, Hv)
        assert remade.loss == H.loss


@pytest.mark.parametrize(("name", "mode"), MODES[:3])
def test_gauss_newton_in_every_mode(name, mode):
    case = made(name, mode)
    half = Case(case.model, case.loss, case.inputs[:CHUNK], case.targets[:CHUNK])
    with differences.left_as_it_was(case.model):
        G = GaussNewtonOperator(*half.arguments)
        u, v = (differences.direction(G.shape[0], seed) for seed in (0, 1))
        Gv = G @ v
        assert torch.equal(G @ v, Gv)
    pushed = [
        differences.along(differences.outputs(half), case.model, vector).reshape(-1) for vector in (u, v)
    ]
    values = differences.outputs(half)(case.model)
    curvature = torch.autograd.functional.hessian(lambda f: case.loss(f, half.targets), values)
    expected = pushed[0] @ curvature.reshape(values.numel(), -1) @ pushed[1]
    # As for H, of uᵀGv, which by Cauchy and Schwarz is at most √(uᵀGu vᵀGv).
    assert (
        abs(u @ Gv - expected) <= differences.CLOSE * (v @ Gv).clamp_min(1e-30).sqrt() * (u @ (G @ u)).sqrt()
    )


def test_dropout_draws_anew_in_every_chunk():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Dropout(0.5)).double()
    nn.init.ones_(model[0].weight)
    inputs, targets = torch.ones(40, 1, dtype=torch.float64), torch.zeros(40, 1, dtype=torch.float64)
    seen = []

    def loss(outputs, targets):
        seen.append(outputs.detach() != 0)
        return mse_loss(outputs, targets)

    H = HessianOperator(model, loss, inputs, targets, chunk_size=20)
    first, second = seen[-2:]
    assert not torch.equal(first, second)
    # The mean over samples of 2 · 2² where it was kept, of numbers of order 1 with errors of 2e-16.
    kept = torch.cat([first, second]).double().mean()
    assert float(H @ torch.ones(1)) == pytest.approx(8 * float(kept), rel=1e-14)


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_chunk_of_one_sample_has_no_batch_statistics(operator):
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3))
    inputs, targets = torch.randn(7, 2), torch.arange(7) % 3  # the last chunk is one sample
    message = r"inputs: a chunk of 1 sample, must be at least 2 where a batch norm .* choose a chunk_size"
    with differences.left_as_it_was(model), pytest.raises(ValueError, match=message):
        operator(model, cross_entropy, inputs, targets, chunk_size=CHUNK)
    with pytest.raises(ValueError, match=message):
        operator(model, cross_entropy, inputs[:1], targets[:1])
    operator(model.eval(), cross_entropy, inputs, targets, chunk_size=CHUNK)


def test_a_chunk_of_one_image_has_batch_statistics():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Softplus(), nn.Flatten(), nn.Linear(8, 3))
    case = Case(
        model.double(), cross_entropy, torch.randn(4, 1, 4, 4, dtype=torch.float64), torch.arange(4) % 3
    )
    H = HessianOperator(*case.arguments, chunk_size=CHUNK)
    v = differences.direction(H.shape[0])
    expected = differences.along(differences.gradient(case, CHUNK), model, v)
    assert (H @ v - expected).norm() <= differences.CLOSE * expected.norm()
