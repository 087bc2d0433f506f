"""Regression on one period of a sine with noise, as in table 1 of arXiv:1812.04754. Made in memory."""

from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from workers.datasets import Arrays, Description


def load(
    folder: Path,  # noqa: ARG001
    search: Path | None,  # noqa: ARG001
    *,
    samples: Annotated[int, Ge(1)] = 10_000,
    test_samples: Annotated[int, Ge(1)] = 1_000,
    noise: Annotated[float, Ge(0)] = 0.1,
    seed: Annotated[int, Ge(0)] = 0,
) -> Arrays:
    """y = sin(πx) + N(0, noise²), x uniform in [−1, 1): features (n, 1) and targets (n, 1) of float64.

    The paper says "one period" and N(0, 0.1²); the interval, centred as a network likes it, and the sample
    count are our choice. Test targets have noise too, so the least possible mean squared error is noise².
    `seed` is the data's own: trials of different seeds see the same data.

    >>> arrays = load(Path(), None, samples=3, noise=0)
    >>> bool((arrays.y_train == np.sin(np.pi * arrays.x_train)).all())
    True
    """
    # RandomState, because NumPy promises that its streams never change
    random = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))

    def draw(n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x = random.uniform(-1, 1, size=(n, 1))
        return x, np.sin(np.pi * x) + noise * random.standard_normal((n, 1))

    return Arrays(*draw(samples), *draw(test_samples), classes=None)


def describe(
    folder: Path,  # noqa: ARG001
    search: Path | None,  # noqa: ARG001
    *,
    samples: int = 10_000,
    **others: object,  # noqa: ARG001
) -> Description:
    """Shape and size, which are among the options."""
    return Description((1,), 1, samples)
