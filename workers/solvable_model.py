"""The solvable model: softmax regression on the means of k classes, whose Hessian spectrum is known at every step.

x of class c is μ_c, k orthonormal means, no noise, as many samples of each; cross-entropy, full-batch gradient descent
from zero (Gur-Ari, Roberts and Dyer, arXiv:1812.04754, section 4; their equation 7 should read (μ₂ − μ₁)/(2ηt)). By
symmetry every sample gives its own class 1 − ε and each other one γ = ε/(k − 1), and a bias stays 0, so that one number
tells all: the gap u between the own logit and any other,

    γ = 1/(eᵘ + k − 1),    u ← u + ηγ.

Late in training λ₁ → 1/(ηt) without bias. In the terms of a trial: `architecture: softmax`, `dataset: gaussians` with
`noise: 0`, `batch_size: full`, `initialization: zeros`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Level:
    """An eigenvalue, and how many eigenvectors share it."""

    value: float
    multiplicity: int


def spectrum(classes: int, learning_rate: float, step: int, bias: bool = False) -> list[Level]:
    """The non-zero eigenvalues of the Hessian at a step, descending; the other p − k(k − 1) are zero.

    H = (1/k) Σ_c B_c ⊗ μ_cμ_cᵀ with B_c = diag(p_c) − p_cp_cᵀ, whose eigenvalues are β = ε(1 − ε)k/(k − 1) along
    e_c − 1/k, k − 2 times γ across it, and 0 along 1. Without bias those of H are therefore

        β/k    k times: the top, in which the gradient lies,
        γ/k    k(k − 2) times.

    With bias μ_c becomes (μ_c, 1). Where the changes of logits that B_c passes on cancel in the sum over the classes
    nothing is different: β/k once, the eigenvector along the gradient, and γ/k, k(k − 2) − (k − 1) times. Each of the k − 1
    directions of the bias mixes with one of either kind, which leaves the roots of

        λ² − ((β + (k − 2)γ)/(k − 1) + (β + γ)/k) λ + (k + 1)βγ/k² = 0,    each k − 1 times,

    of which two classes, where nothing lies across, keep the larger, 3β/2. From step 1 on λ₊ > β/k > λ₋ > γ/k: the gradient
    has rank k. At step 0 β = γ = 1/k, and there is no top yet: without bias all are 1/k², with bias k − 1 are
    (k + 1)/k² and the rest 1/k².

    Args:
        classes: k, at least 2.
        learning_rate: η; what is said holds as long as training is stable, ηλ₁ < 2.
        step: t, steps made.

    Example:
        >>> [(f"{level.value:.6g}", level.multiplicity) for level in spectrum(10, 1.0, 20_000)]
        [('5.01663e-05', 10), ('5.01889e-06', 80)]
        >>> spectrum(4, 1.0, 0)
        [Level(value=0.0625, multiplicity=12)]
    """
    k, u = classes, logit_gap(classes, learning_rate, step)
    epsilon = error(k, u)
    beta, gamma = epsilon * (1 - epsilon) * k / (k - 1), epsilon / (k - 1)
    if not bias:
        return _merged([Level(beta / k, k), Level(gamma / k, k * (k - 2))])
    half = ((beta + (k - 2) * gamma) / (k - 1) + (beta + gamma) / k) / 2
    product = (k + 1) * beta * gamma / k**2
    upper = half + math.sqrt(half**2 - product)  # positive: λ₊λ₋ < half² for any β, γ > 0
    across = [] if k == 2 else [Level(product / upper, k - 1), Level(gamma / k, k * (k - 2) - (k - 1))]
    return _merged([Level(upper, k - 1), Level(beta / k, 1), *across])


def logit_gap(classes: int, learning_rate: float, step: int) -> float:
    """u after some steps from 0.

    >>> round(logit_gap(10, 1.0, 20_000), 4)
    9.8993
    """
    u = 0.0
    for _ in range(step):
        u += learning_rate * error(classes, u) / (classes - 1)
    return u


def error(classes: int, gap: float) -> float:
    """ε = (k − 1)/(eᵘ + k − 1), the probability that a sample's own class does not get; for two classes s(−u).

    >>> error(10, 0.0)
    0.9
    """
    return (classes - 1) / (math.exp(gap) + classes - 1)


def eigenvalues(levels: Sequence[Level]) -> list[float]:
    """Each level's value as often as it occurs.

    >>> eigenvalues([Level(2.0, 1), Level(1.0, 3)])
    [2.0, 1.0, 1.0, 1.0]
    """
    return [level.value for level in levels for _ in range(level.multiplicity)]


def _merged(levels: Sequence[Level]) -> list[Level]:
    """Neighbours that are equal but for rounding, which is 1e-15, as one; none of multiplicity 0."""
    merged: list[Level] = []
    for level in levels:
        if merged and math.isclose(merged[-1].value, level.value, rel_tol=1e-12):
            merged[-1] = Level(merged[-1].value, merged[-1].multiplicity + level.multiplicity)
        elif level.multiplicity:
            merged.append(level)
    return merged
