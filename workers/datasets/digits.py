"""scikit-learn's handwritten digits: 1,797 of 8×8, 1,437 for training and 360 for testing. No download."""

from pathlib import Path

import numpy as np

from workers.datasets import Arrays

INPUT_SHAPE = (1, 8, 8)
CLASSES = 10
TRAIN_SAMPLES = 1_437


def load(folder: Path, search: Path | None) -> Arrays:  # noqa: ARG001
    """Images (n, 8, 8, 1), floats in [0, 1] (the file's 0 … 16, divided by 16).

    The split never changes: the digits in the order `RandomState(0).permutation(1797)`, a stream that NumPy
    promises to keep; the first 1,437 are for training.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.target))
    images, labels = digits.images[order, :, :, None] / 16, digits.target[order].astype(np.int64)
    n = TRAIN_SAMPLES
    return Arrays(images[:n], labels[:n], images[n:], labels[n:], classes=CLASSES)
