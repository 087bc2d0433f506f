"""Hessian spectra of softmax regression that are known in closed form, beside those of workers/solvable_model.py."""

import numpy as np

from workers.solvable_model import error


def two_classes(weights: tuple[float, float], learning_rate: float, step: int) -> list[float]:
    """The two non-zero eigenvalues, descending, of the solvable model with two classes of shares π, without bias.

    Each class has a gap of its own: λ_c = 2π_c s(u_c) s(−u_c) with s the logistic function, u_c ← u_c + 2ηπ_c s(−u_c).

    >>> two_classes((0.25, 0.75), 1.0, 0)
    [0.375, 0.125]
    """
    values = []
    for weight in weights:
        u = 0.0
        for _ in range(step):
            u += 2 * learning_rate * weight * error(2, u)
        values.append(2 * weight * error(2, u) * (1 - error(2, u)))
    return sorted(values, reverse=True)


def at_start(inputs: np.ndarray, classes: int) -> list[float]:
    """The eigenvalues at θ = 0 for any data X, (n, d), descending: those of XᵀX/(nk), each k − 1 times; d more are zero.

    H = (1/k)(I − 11ᵀ/k) ⊗ XᵀX/n, because every class has probability 1/k. With bias, X has a column of ones.

    >>> at_start(np.eye(2), classes=2)
    [0.25, 0.25]
    """
    values = np.linalg.eigvalsh(inputs.T @ inputs / len(inputs))[::-1] / classes
    return [float(value) for value in values for _ in range(classes - 1)]
