"""A mixture of k Gaussians: x = μ_c + σz, z standard normal. The solvable model's data, made in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from workers.datasets import Arrays, Description
from workers.spec import SpecError


def load(
    folder: Path,  # noqa: ARG001
    search: Path | None,  # noqa: ARG001
    *,
    classes: Annotated[int, Ge(2)] = 10,
    dimension: Annotated[int, Ge(1)] = 100,
    samples: Annotated[int, Ge(2)] = 1000,
    test_samples: Annotated[int, Ge(1)] = 1000,
    noise: Annotated[float, Ge(0)] = 0.2,
    means: Literal["orthonormal", "random"] = "orthonormal",
    weights: Sequence[Annotated[float, Gt(0)]] | None = None,
    seed: Annotated[int, Ge(0)] = 0,
) -> Arrays:
    """Features (n, dimension) of float64, and the class of each.

    `means`: `orthonormal`, μ_c = e_c, the first k basis vectors; or `random`, uniform on the unit sphere.
    `noise` is σ, of each coordinate. `weights` are the classes' shares π_c, of any sum, equal by default:
    class sizes are exactly n·π_c where those are whole, else rounded (largest remainders first) and never 0
    in training. `seed` is the data's own: trials of different seeds see the same data. `noise: 0` with
    `orthonormal` is the solvable model of arXiv:1812.04754, section 4.

    Raises SpecError where the options contradict each other.

    >>> arrays = load(Path(), None, classes=2, dimension=3, samples=4, noise=0)
    >>> sorted(arrays.x_train.tolist())
    [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    if means == "orthonormal" and dimension < classes:
        raise SpecError(
            f"dataset.dimension: {dimension}: {classes} orthonormal means need at least {classes} dimensions"
        )
    if samples < classes:
        raise SpecError(f"dataset.samples: {samples}: must be at least the number of classes, {classes}")
    if weights is not None and len(weights) != classes:
        raise SpecError(f"dataset.weights: {list(weights)}: must be one for each of the {classes} classes")
    shares = np.asarray(weights if weights is not None else [1.0] * classes, dtype=np.float64)
    shares = shares / shares.sum()
    # RandomState, because NumPy promises that its streams never change
    random = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
    if means == "orthonormal":
        centres = np.eye(classes, dimension)
    else:
        centres = random.standard_normal((classes, dimension))
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)

    def draw(sizes: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        y = random.permutation(np.repeat(np.arange(classes), sizes))
        return centres[y] + noise * random.standard_normal((len(y), dimension)), y

    x_train, y_train = draw(class_sizes(samples, shares, least=1))
    x_test, y_test = draw(class_sizes(test_samples, shares, least=0))
    return Arrays(x_train, y_train, x_test, y_test, classes=classes)


def describe(
    folder: Path,  # noqa: ARG001
    search: Path | None,  # noqa: ARG001
    *,
    classes: int = 10,
    dimension: int = 100,
    samples: int = 1000,
    **others: object,  # noqa: ARG001
) -> Description:
    """Shape and size, which are among the options."""
    return Description((dimension,), classes, samples)


def class_sizes(samples: int, shares: NDArray[np.float64], least: int) -> NDArray[np.int64]:
    """`samples` split by `shares`, which sum to 1, to whole numbers of at least `least`.

    >>> class_sizes(10, np.array([0.5, 0.25, 0.25]), least=1).tolist()
    [5, 3, 2]
    >>> class_sizes(4, np.array([0.98, 0.01, 0.01]), least=1).tolist()
    [2, 1, 1]
    """
    exact = samples * shares
    sizes = np.floor(exact).astype(np.int64)
    largest_remainders = np.argsort(sizes - exact, kind="stable")
    sizes[largest_remainders[: samples - sizes.sum()]] += 1
    while (sizes < least).any():
        sizes[sizes.argmin()] += 1
        sizes[sizes.argmax()] -= 1
    return sizes
