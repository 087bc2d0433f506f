"""A model's first weights: the same for a seed on every device and in every precision."""

from collections.abc import Sequence

import torch
from torch import nn

from workers import find, seeding
from workers.data import Data
from workers.spec import Component, SpecError, TrialSpec


def initialize(model: nn.Module, scheme: str, generator: torch.Generator) -> None:
    """Set weights and biases of linear and convolutional layers, in the order of `model.modules()`.

    `glorot`: Keras' default, weights uniform in ±√(6/(fan_in + fan_out)), biases zero. The fans of a
    convolution are its channels times the pixels of its kernel. `zeros`: all zero. `torch`: left as the
    constructors made them. All other layers, normalisation too, are always left so.

    >>> layer = nn.Linear(4, 2)
    >>> initialize(layer, "zeros", torch.Generator())
    >>> layer.weight.tolist()
    [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]

    Raises SpecError for a scheme that there is not.
    """
    if scheme not in ("glorot", "torch", "zeros"):
        raise SpecError(f"initialization: no {scheme!r}; there are glorot, torch, zeros")
    if scheme == "torch":
        return
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            if scheme == "glorot":
                nn.init.xavier_uniform_(layer.weight, generator=generator)
            else:
                nn.init.zeros_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def build_model(
    architecture: Component,
    input_shape: Sequence[int],
    outputs: int,
    *,
    initialization: str,
    seed: int,
    precision: str,
    device: str,
) -> nn.Module:
    """The model of a trial, initialised from the trial's stream `initialization`, on `device`.

    Weights are drawn on the CPU in float32 and then cast, so that float64 trials start from the very numbers
    of float32 ones. The global random state is left as it was.

    >>> model = build_model(
    ...     Component("softmax"), (4,), 3, initialization="glorot", seed=0, precision="float64", device="cpu"
    ... )
    >>> [tuple(p.shape) for p in model.parameters()]
    [(3, 4), (3,)]

    Raises SpecError where the architecture does not exist, does not know an option, or cannot take such
    inputs.
    """
    known = find.options("architectures", architecture.name)
    for key in architecture.options:
        if key not in known:
            have = ", ".join(known) or "no options"
            raise SpecError(f"architecture.{key}: unknown; {architecture.name} has {have}")
    build = find.function("architectures", architecture.name)
    with torch.random.fork_rng(devices=[]):
        # not torch.manual_seed, which would move the generators of all devices
        torch.default_generator.manual_seed(seeding.stream_seed(seed, "initialization"))
        model = build(tuple(input_shape), outputs, **architecture.options)
    if not isinstance(model, nn.Module):
        raise SpecError(
            f"architecture: {architecture.name} returned a {type(model).__name__}, must be a torch.nn.Module"
        )
    initialize(model, initialization, seeding.generator(seed, "initialization"))
    return model.to(device=device, dtype=getattr(torch, precision))


def model_of(spec: TrialSpec, data: Data, device: str = "cpu") -> nn.Module:
    """The model that a trial begins with: `build_model` as the trial's spec says, for its data."""
    return build_model(
        spec.architecture,
        data.input_shape,
        data.outputs,
        initialization=spec.initialization,
        seed=spec.seed,
        precision=spec.precision,
        device=device,
    )
