"""Fashion-MNIST (arXiv:1708.07747): clothes, 60,000 for training and 10,000 for testing, 28×28."""

from pathlib import Path

from workers.datasets import Arrays

INPUT_SHAPE = (1, 28, 28)
CLASSES = 10
TRAIN_SAMPLES = 60_000


def load(folder: Path, search: Path | None) -> Arrays:  # noqa: ARG001
    """torchvision's `FashionMNIST`, which lies in `folder/FashionMNIST/raw` and is downloaded once when
    absent.

    Raises DataError where it is absent and cannot be downloaded, or is damaged.
    """
    from workers.datasets._torchvision import load_torchvision

    return load_torchvision(
        "FashionMNIST", "FashionMNIST/raw", folder, classes=CLASSES, train_samples=TRAIN_SAMPLES
    )


def files(folder: Path, search: Path | None) -> list[Path]:  # noqa: ARG001
    """What `load` reads."""
    from workers.datasets._torchvision import torchvision_files

    return torchvision_files("FashionMNIST", "FashionMNIST/raw", folder)
