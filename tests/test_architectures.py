"""Every file of workers/architectures/, and the first weights of its models."""

from collections.abc import Callable
from math import prod, sqrt
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from workers import find
from workers.initialization import build_model, initialize
from workers.spec import Component, SpecError

NAMES = find.names("architectures")
IMAGE = (3, 32, 32)


def build(name: str, input_shape: tuple[int, ...] = IMAGE, outputs: int = 10, **options: Any) -> nn.Module:
    model = find.function("architectures", name)(input_shape, outputs, **options)
    assert isinstance(model, nn.Module)
    return model


def made(
    name: str,
    input_shape: tuple[int, ...] = IMAGE,
    *,
    initialization: str = "glorot",
    seed: int = 0,
    precision: str = "float32",
    **options: Any,
) -> nn.Module:
    model: nn.Module = build_model(
        Component(name, options),
        input_shape,
        10,
        initialization=initialization,
        seed=seed,
        precision=precision,
        device="cpu",
    )
    return model


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return all(torch.equal(a.double(), b.double()) for a, b in pairs)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_maps_samples_to_outputs(name: str) -> None:
    for shape, outputs in ((IMAGE, 10), ((1, 28, 28), 3)):
        model = build(name, shape, outputs).eval()
        with torch.no_grad():
            result = model(torch.zeros(2, *shape))
        assert result.shape == (2, outputs)
        assert torch.isfinite(result).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("initialization", ["glorot", "torch", "zeros"])
def test_every_model_is_the_same_for_a_seed(name: str, initialization: str) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = made(name, initialization=initialization)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(first, made(name, initialization=initialization, precision="float64"))
    other = made(name, initialization=initialization, seed=1)
    assert same(first, other) == (initialization == "zeros")


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_models_have_the_trials_precision(precision: str) -> None:
    model = made("resnet18", precision=precision)
    kinds = {t.dtype for t in [*model.parameters(), *model.buffers()] if t.is_floating_point()}
    assert kinds == {getattr(torch, precision)}


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (lambda: build("softmax", (1, 28, 28)), 7850),
        (lambda: build("softmax", (1, 28, 28), bias=False), 7840),
        (lambda: build("mlp", (1, 28, 28)), 89_610),  # the paper's FC network
        (lambda: build("mlp", (5,), 2, widths=[]), 12),
        (lambda: build("convnet"), 1_250_858),  # the Keras example's own count
        # 2 · (32 + 32 + 64 + 64 + 512 + 512) of batch norm, and 512² + 512 of the layer
        (
            lambda: build("convnet", batch_norm=True, dropout=True, extra_dense=True),
            1_250_858 + 2_432 + 262_656,
        ),
        (lambda: build("resnet18"), 11_173_962),  # as CIFAR ResNet-18s have
        (lambda: build("resnet18", (1, 28, 28)), 11_173_962 - 2 * 64 * 9),
    ],
)
def test_parameter_counts(model: Callable[[], nn.Module], count: int) -> None:
    assert parameters(model()) == count


def test_convnet_is_the_keras_example() -> None:
    kinds = [type(layer).__name__ for layer in build("convnet")]  # type: ignore[attr-defined]
    block = ["Conv2d", "ReLU", "Conv2d", "ReLU", "MaxPool2d"]
    assert kinds == [*block, *block, "Flatten", "Linear", "ReLU", "Linear"]
    rates = [layer.p for layer in build("convnet", dropout=True).modules() if isinstance(layer, nn.Dropout)]
    assert rates == [0.25, 0.25, 0.5]


def test_resnet18_keeps_small_images_large() -> None:
    model = build("resnet18").eval()
    sizes = []
    model.get_submodule("avgpool").register_forward_hook(
        lambda _module, inputs, _output: sizes.append(inputs[0].shape)
    )
    with torch.no_grad():
        model(torch.zeros(1, *IMAGE))
    assert sizes == [(1, 512, 4, 4)]  # three halvings; with the stem of ImageNet there would be five


@pytest.mark.parametrize("side", [10, 11, 12, 13, 28, 64])
def test_convnet_takes_other_sizes(side: int) -> None:
    with torch.no_grad():
        assert build("convnet", (2, side, side + 3))(torch.zeros(2, 2, side, side + 3)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        (
            "convnet",
            (784,),
            "architecture: convnet: needs images (channels, height, width), but the data's inputs are of ",
        ),
        (
            "convnet",
            (1, 8, 8),
            "architecture: convnet: needs images of at least 10×10 pixels, but the data's are 8×8",
        ),
        (
            "convnet",
            (1, 32, 9),
            "architecture: convnet: needs images of at least 10×10 pixels, but the data's are 32×9",
        ),
        (
            "resnet18",
            (2,),
            "architecture: resnet18: needs images (channels, height, width), but the data's inputs are of ",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_refused(name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        build(name, shape)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("activation", ["relu", "tanh", "softplus", "elu", "gelu"])
def test_activations(activation: str) -> None:
    model = build("mlp", (4,), 2, widths=[3], activation=activation).double()
    first, last = (layer for layer in model if isinstance(layer, nn.Linear))  # type: ignore[attr-defined]
    x = torch.linspace(-2, 2, 20, dtype=torch.float64).reshape(5, 4)
    hidden = getattr(torch.nn.functional, activation)(x @ first.weight.T + first.bias)
    # sums of three terms of order one in another order: a few roundings of 2.2e-16
    torch.testing.assert_close(model(x), hidden @ last.weight.T + last.bias, atol=1e-14, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_glorot_weights_are_within_their_bounds_and_biases_zero(name: str) -> None:
    layers = [m for m in made(name).modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert layers
    for layer in layers:
        pixels = prod(layer.weight.shape[2:])
        bound = sqrt(6 / ((layer.weight.shape[0] + layer.weight.shape[1]) * pixels))
        # 1e-6 for the rounding of float32; of n uniform draws none lies in the outer share 10/n with probability e⁻¹⁰
        assert bound * (1 - 10 / layer.weight.numel()) <= layer.weight.abs().max() <= bound * (1 + 1e-6)
        # the mean of n draws has a standard error of bound/√(3n)
        assert abs(layer.weight.mean()) < 5 * bound / sqrt(3 * layer.weight.numel())
        assert layer.bias is None or (layer.bias == 0).all()


def test_zeros_leave_normalisation_alone() -> None:
    model = made("convnet", initialization="zeros", batch_norm=True)
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            assert not any(p.any() for p in layer.parameters())
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            assert (layer.weight == 1).all()


def test_torch_initialization_is_the_constructors() -> None:
    # torch's linear layers are uniform in ±1/√inputs, biases too: three times as wide as Glorot's here
    layer = next(
        m for m in made("softmax", (4,), initialization="torch").modules() if isinstance(m, nn.Linear)
    )
    assert sqrt(6 / 14) * 0.5 < layer.bias.abs().max() <= 0.5
    model = nn.Linear(3, 3)
    before = model.weight.clone()
    initialize(model, "torch", torch.Generator())
    assert torch.equal(model.weight, before)


def test_a_scheme_that_there_is_not() -> None:
    with pytest.raises(SpecError, match=r"^initialization: no 'he'; there are glorot, torch, zeros$"):
        initialize(nn.Linear(1, 1), "he", torch.Generator())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "mpl",
            {},
            "architectures: no 'mpl'; there are convnet, mlp, resnet18, softmax (or a dotted name of your own)",
        ),
        ("mlp", {"width": 3}, "architecture.width: unknown; mlp has widths, activation"),
        ("resnet18", {"width": 3}, "architecture.width: unknown; resnet18 has no options"),
    ],
)
def test_what_does_not_exist_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        made(name, **options)
    assert str(caught.value) == message


def test_a_users_own_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_models.py").write_text(
        "from torch import nn\n"
        "def wide(input_shape, num_classes, *, width: int = 3):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(4, width), nn.Linear(width, num_classes))\n"
        "def wrong(input_shape, num_classes):\n"
        "    return None\n"
    )
    assert parameters(made("own_models.wide", (4,), width=5)) == 25 + 60
    with pytest.raises(
        SpecError, match=r"^architecture: own_models.wrong returned a NoneType, must be a torch.nn.Module$"
    ):
        made("own_models.wrong", (4,))
