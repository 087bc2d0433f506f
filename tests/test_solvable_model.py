"""The solvable model against dense matrices and, the other way round, real trials against the solvable model."""

import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from closed_forms import at_start, two_classes

from workers.result import Row
from workers.solvable_model import eigenvalues, error, logit_gap, spectrum
from workers.spec import Component, Request, TrialSpec
from workers.trial import TrialContext, run_trial

STEPS = (0, 1, 2, 20, 300)


def dense(probabilities: np.ndarray, inputs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Σ_c π_c B_c ⊗ x_cx_cᵀ with B_c = diag(p_c) − p_cp_cᵀ, written out; rows are classes."""
    return sum(
        weight * np.kron(np.diag(p) - np.outer(p, p), np.outer(x, x))
        for p, x, weight in zip(probabilities, inputs, weights, strict=True)
    )


def solved(classes: int, epsilon: float, bias: bool) -> np.ndarray:
    """H of the solvable model at ε, (p, p)."""
    probabilities = np.full((classes, classes), epsilon / (classes - 1))
    np.fill_diagonal(probabilities, 1 - epsilon)
    inputs = np.hstack([np.eye(classes), np.ones((classes, int(bias)))])
    return dense(probabilities, inputs, np.full(classes, 1 / classes))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("step", [0, 1, 2, 10, 1000, 20_000])
@pytest.mark.parametrize("classes", [2, 3, 4, 5, 10])
def test_spectrum_is_that_of_the_dense_matrix(classes: int, step: int, bias: bool) -> None:
    levels = spectrum(classes, 1.0, step, bias)
    values = eigenvalues(levels)
    assert len(values) == classes * (classes - 1)
    assert all(level.multiplicity > 0 for level in levels)
    H = solved(classes, error(classes, logit_gap(classes, 1.0, step)), bias)
    expected = np.linalg.eigvalsh(H)[::-1]
    # An eigenvalue is as wrong as the matrix, whose entries are products of probabilities that are rounded at 1e-16;
    # sums of up to 110 of them, with a margin of 10.
    np.testing.assert_allclose(values + [0.0] * (len(expected) - len(values)), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 5, 10, 49])
def test_levels_that_coincide_at_the_start_are_one(classes: int, bias: bool) -> None:
    k = classes
    low = 1 / k**2
    expected = [((k + 1) * low, k - 1), (low, (k - 1) ** 2)] if bias else [(low, k * (k - 1))]
    levels = spectrum(k, 1.0, 0, bias)
    assert [level.multiplicity for level in levels] == [multiplicity for _, multiplicity in expected]
    # a dozen operations, each rounded at 1e-16
    assert [level.value for level in levels] == pytest.approx([value for value, _ in expected], rel=1e-14)


@pytest.mark.parametrize("classes", [2, 3, 4, 10])
def test_gradient_lies_below_the_first_level_where_there_is_a_bias(classes: int) -> None:
    """β/k stands alone, behind the k − 1 copies of λ₊, from the first step on, and is λ₁ without bias."""
    for step in (1, 10, 1000):
        first, second, *_ = spectrum(classes, 1.0, step, bias=True)
        assert (first.multiplicity, second.multiplicity) == (classes - 1, 1)
        assert second.value == spectrum(classes, 1.0, step)[0].value


def test_published_numbers() -> None:
    levels = spectrum(10, 1.0, 20_000, bias=True)
    assert [level.multiplicity for level in levels] == [9, 1, 9, 71]
    # half a unit of the last printed digit
    assert levels[0].value == pytest.approx(1.350265e-4, abs=0.5e-10)
    assert levels[1].value == pytest.approx(5.016626e-5, abs=0.5e-11)
    assert levels[2].value == pytest.approx(2.051e-5, abs=0.5e-8)


@pytest.mark.parametrize("step", [0, 1, 50, 500])
def test_two_classes_of_unequal_weight(step: int) -> None:
    weights, learning_rate = np.array([0.25, 0.75]), 1.0
    W = np.zeros((2, 2))  # of class and input
    for _ in range(step):
        p = np.exp(W) / np.exp(W).sum(0)
        W -= learning_rate * weights * (p - np.eye(2))
    p = np.exp(W) / np.exp(W).sum(0)
    expected = np.linalg.eigvalsh(dense(p.T, np.eye(2), weights))[::-1]
    # 500 steps of numbers below 4, each rounded at 4e-16, move a gap by up to 2e-13 and an eigenvalue by less
    np.testing.assert_allclose(
        [*two_classes((0.25, 0.75), learning_rate, step), 0, 0], expected, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(("samples", "dimension", "classes"), [(30, 6, 4), (3, 5, 3)])
def test_any_data_at_the_start(samples: int, dimension: int, classes: int) -> None:
    inputs = np.random.default_rng(0).standard_normal((samples, dimension))
    uniform = np.full((samples, classes), 1 / classes)
    expected = np.linalg.eigvalsh(dense(uniform, inputs, np.full(samples, 1 / samples)))[::-1]
    values = sorted([*at_start(inputs, classes), *[0.0] * dimension], reverse=True)
    # sums of 30 products of numbers of order 1, each rounded at 1e-16, with a margin of 30
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-13)


@cache
def trained(classes: int, bias: bool, weights: tuple[float, float] | None = None) -> list[Row]:
    """Rows of a trial of the solvable model, at STEPS, with every eigenvalue that is not zero and a few that are.

    In 30 dimensions, most of them unused, the matrix is too large for the solver to make it.
    """
    spec = TrialSpec(
        architecture=Component("softmax", {"bias": bias}),
        dataset=Component(
            "gaussians",
            {"classes": classes, "dimension": 30, "samples": 12 * classes, "noise": 0.0}
            | ({"weights": weights} if weights else {}),
        ),
        learning_rate=1.0,
        batch_size="full",
        steps=STEPS[-1],
        precision="float64",
        initialization="zeros",
        measure={
            "hessian_gradient_overlap": Request(at=STEPS),
            "top_eigenpairs": Request(at=STEPS, options={"count": classes**2, "tol": 1e-12}),
            "gradient_overlap": Request(),
        },
    )
    told = run_trial(spec, TrialContext(data=Path("absent")))
    rows = [item for item in told if isinstance(item, dict)]
    assert [row["step"] for row in rows] == list(STEPS)
    return rows


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("classes", [3, 5])
def test_trials_have_the_spectrum_of_the_theory(classes: int, bias: bool) -> None:
    for row in trained(classes, bias):
        expected = eigenvalues(spectrum(classes, 1.0, row["step"], bias))
        measured = row["eigenvalues"]
        # An eigenvalue is at most a residual away, 1e-12 λ₁, and the smallest level is above λ₁/40 here: 4e-11. Rounding
        # of 300 steps, 300 · 2e-16, and of ε = 1 − p at 3e-3 adds as little. 1e-9 leaves a margin of 20.
        assert measured[: len(expected)] == pytest.approx(expected, rel=1e-9)
        assert measured[len(expected) :] == pytest.approx([0.0] * classes, abs=1e-12 * measured[0])
        assert row["converged"]


@pytest.mark.parametrize("classes", [3, 5])
def test_gradient_of_trials_lies_in_the_top_subspace_from_the_first_step(classes: int) -> None:
    for row in trained(classes, bias=False)[1:]:
        # An eigenvector is wrong by residual over gap, 1e-12 λ₁ over at least λ₁/10 (step 1, five classes: .045 to .038),
        # and overlaps by the square of that; rounding of sums remains.
        assert row["f_top"] == pytest.approx(1.0, abs=1e-12)
        assert row["hessian_gradient_overlap"] == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("classes", [3, 5])
def test_gradient_of_trials_with_bias_lies_on_the_last_vector_of_the_top(classes: int) -> None:
    for row in trained(classes, bias=True)[1:]:
        # as above, with a gap of at least λ₁/130 (step 1, five classes: λ₁ = .240, .0448 to .0429)
        assert row["gradient_overlaps"][classes - 1] == pytest.approx(1.0, abs=1e-12)


def test_trials_of_two_classes_of_unequal_weight() -> None:
    for row in trained(2, bias=False, weights=(1.0, 3.0)):
        expected = two_classes((0.25, 0.75), 1.0, row["step"])
        # as for equal weights: the smaller eigenvalue is above a fifth of the larger
        assert row["eigenvalues"][:2] == pytest.approx(expected, rel=1e-9)


def test_sharpness_approaches_one_over_learning_rate_and_time() -> None:
    # The recursion is about du/d(ηt) = 1/(eᵘ + k − 1), so that eᵘ + (k − 1) u = ηt + 1, and ηtλ₁ = 1 up to
    # (k − 1) log(ηt)/(ηt) = 2e-3.
    steps, learning_rate = 100_000, 0.5
    top = spectrum(10, learning_rate, steps)[0].value
    assert math.isclose(top, 1 / (learning_rate * steps), rel_tol=2e-3)
