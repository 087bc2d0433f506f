"""First oracle: spectra known in closed form."""

import pytest
import solvable
import torch
from closed_forms import at_start, two_classes
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from workers.curvature import GaussNewtonOperator, HessianOperator, top_eigenpairs
from workers.curvature.overlap import cosine, gradient_overlaps
from workers.solvable_model import eigenvalues, error, logit_gap, spectrum


def softmax_at_zero(inputs, classes):
    """H = (1/k)(I − 11ᵀ/k) ⊗ XᵀX/n."""
    centred = torch.eye(classes, dtype=torch.float64) - 1.0 / classes
    return torch.kron(centred / classes, inputs.T @ inputs / len(inputs))


@pytest.mark.parametrize("operator", [HessianOperator, GaussNewtonOperator])
@pytest.mark.parametrize("chunk_size", [None, 7])
def test_softmax_regression_at_zero(operator, chunk_size):
    inputs = torch.randn(30, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = softmax_at_zero(inputs, 4)
    H = operator(
        solvable.model(torch.zeros(4, 6)), cross_entropy, inputs, torch.arange(30) % 4, chunk_size=chunk_size
    )
    # Sums of 30 products of numbers of order 1, in float64: 30 · 2e-16, and a margin of 100.
    torch.testing.assert_close(H @ torch.eye(24, dtype=torch.float64), expected, rtol=0, atol=1e-12)


def test_every_copy_of_a_ninefold_eigenvalue_is_found():
    inputs = torch.from_numpy(load_digits().data) / 16
    expected = torch.tensor(at_start(inputs.numpy(), 10)[:20], dtype=torch.float64)
    H = HessianOperator(
        solvable.model(torch.zeros(10, 64)), cross_entropy, inputs, torch.zeros(len(inputs), dtype=torch.long)
    )
    pairs = top_eigenpairs(H, count=20, tol=1e-9)
    assert bool(pairs.converged.all())
    # An eigenvalue is at most a residual away: tol times the largest.
    torch.testing.assert_close(pairs.values, expected, rtol=0, atol=1e-9 * float(expected[0]))


def test_all_outliers_equal_at_the_start_of_the_solvable_model():
    H = HessianOperator(solvable.trained(10, 1.0, 0), cross_entropy, *solvable.data(10))
    values = top_eigenpairs(H, count=91, tol=1e-12).values
    # Rounding of float64 at eigenvalues of 0.01, with a margin of 1e4.
    torch.testing.assert_close(values[:90], torch.full((90,), 0.01, dtype=torch.float64), rtol=0, atol=1e-14)
    assert abs(float(values[90])) < 1e-14


def test_solvable_model_late_in_training():
    classes, steps = 10, 20_000
    # The printed values have five or six digits; half a unit of the last one.
    assert error(classes, logit_gap(classes, 1.0, steps)) == pytest.approx(4.5170e-4, abs=0.5e-8)
    levels = spectrum(classes, 1.0, steps)
    assert [level.value for level in levels] == pytest.approx([5.01663e-5, 5.0189e-6], abs=0.5e-10)

    H = HessianOperator(solvable.trained(classes, 1.0, steps), cross_entropy, *solvable.data(classes))
    expected = torch.tensor([*eigenvalues(levels), 0.0], dtype=torch.float64)
    # Probabilities carry rounding errors of 1e-16, and the eigenvalues are such differences: 1e-16 with a margin of 100.
    torch.testing.assert_close(top_eigenpairs(H, count=91).values, expected, rtol=0, atol=1e-14)

    pairs = top_eigenpairs(H, count=20, tol=1e-9)
    torch.testing.assert_close(pairs.values, expected[:20], rtol=0, atol=1e-9 * levels[0].value)
    overlaps = gradient_overlaps(pairs.vectors[:, :classes], H.gradient)
    # Vectors are off by residual / gap = 1e-9 · 1.1, and the overlap by its square; left is rounding of the gradient,
    # 1e-16 against 1e-5.
    assert float(overlaps.sum()) == pytest.approx(1.0, abs=1e-9)
    assert cosine(H.gradient, H @ H.gradient) == pytest.approx(1.0, abs=1e-9)


def test_sharpness_of_the_solvable_model_approaches_one_over_learning_rate_and_time():
    H = HessianOperator(solvable.trained(10, 0.5, 100_000), cross_entropy, *solvable.data(10))
    # The recursion is about du/d(ηt) = 1/(eᵘ + k − 1), so that eᵘ + (k − 1) u = ηt + 1, and ηtλ₁ = 1 up to
    # (k − 1) log(ηt)/(ηt) = 2e-3.
    assert float(top_eigenpairs(H, count=1).values[0]) == pytest.approx(1 / (0.5 * 100_000), rel=2e-3)


def test_solvable_model_with_bias():
    H = HessianOperator(solvable.trained(10, 1.0, 20_000, bias=True), cross_entropy, *solvable.data(10))
    pairs = top_eigenpairs(H, count=20, tol=1e-9)
    # Half a unit of the last printed digit.
    torch.testing.assert_close(
        pairs.values[:9], torch.full((9,), 1.350265e-4, dtype=torch.float64), rtol=0, atol=0.5e-10
    )
    assert float(pairs.values[9]) == pytest.approx(5.016626e-5, abs=0.5e-11)
    assert float(pairs.values[10]) == pytest.approx(2.051e-5, abs=0.5e-8)
    # As above: the gradient lies on the tenth eigenvector.
    assert float(gradient_overlaps(pairs.vectors, H.gradient)[9]) == pytest.approx(1.0, abs=1e-9)


def test_recursion_is_gradient_descent():
    classes, steps, learning_rate = 5, 30, 2.0
    model = solvable.trained(classes, learning_rate, 0)
    inputs, targets = solvable.data(classes)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    # 30 steps, each rounded at 1e-16 of numbers of order 1, with a margin of 30.
    expected = solvable.trained(classes, learning_rate, steps).weight
    torch.testing.assert_close(model.weight, expected, rtol=0, atol=1e-13)


def test_two_classes_of_unequal_weight():
    counts, learning_rate, steps = [1, 3], 1.0, 500
    gaps = [0.0, 0.0]
    for _ in range(steps):
        gaps = [
            u + 2 * learning_rate * count / sum(counts) * error(2, u)
            for u, count in zip(gaps, counts, strict=True)
        ]
    weight = torch.tensor([[gaps[0], -gaps[1]], [-gaps[0], gaps[1]]], dtype=torch.float64) / 2
    targets = torch.tensor([0, 1, 1, 1])
    H = HessianOperator(
        solvable.model(weight), cross_entropy, torch.eye(2, dtype=torch.float64)[targets], targets
    )
    expected = two_classes((0.25, 0.75), learning_rate, steps)
    values = top_eigenpairs(H, count=4).values
    # Rounding of probabilities, 1e-16, with a margin of 100.
    torch.testing.assert_close(
        values, torch.tensor([*expected, 0, 0], dtype=torch.float64), rtol=0, atol=1e-14
    )


def test_gradient_flows_through_all_parameters_in_order():
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    inputs, targets = torch.eye(2, dtype=torch.float64), torch.tensor([0, 1])
    H = HessianOperator(model, cross_entropy, inputs, targets)
    cross_entropy(model(inputs), targets).backward()
    expected = torch.cat([parameter.grad.reshape(-1) for parameter in model.parameters()])
    # The same sums in the same order.
    torch.testing.assert_close(H.gradient, expected, rtol=1e-14, atol=1e-16)
