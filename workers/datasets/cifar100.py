"""CIFAR-100: colour photographs, 50,000 for training and 10,000 for testing, 32×32, 100 classes."""

from pathlib import Path

from workers.datasets import Arrays

INPUT_SHAPE = (3, 32, 32)
CLASSES = 100
TRAIN_SAMPLES = 50_000


def load(folder: Path, search: Path | None) -> Arrays:  # noqa: ARG001
    """torchvision's `CIFAR100`, which lies in `folder/cifar-100-python` and is downloaded once when absent.

    Raises DataError where it is absent and cannot be downloaded, or is damaged.
    """
    from workers.datasets._torchvision import load_torchvision

    return load_torchvision(
        "CIFAR100", "cifar-100-python", folder, classes=CLASSES, train_samples=TRAIN_SAMPLES
    )


def files(folder: Path, search: Path | None) -> list[Path]:  # noqa: ARG001
    """What `load` reads."""
    from workers.datasets._torchvision import torchvision_files

    return torchvision_files("CIFAR100", "cifar-100-python", folder)
