"""The second moment of per-sample gradients, and their norms, against gradients formed one by one."""

import curvature_models as models
import pytest
import solvable
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from workers.curvature import GradientCovarianceOperator, sample_gradient_norms, top_eigenpairs


def identity(C):
    return torch.eye(C.shape[0], dtype=C.dtype)


def test_softmax_regression_at_zero():
    inputs = torch.randn(30, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(30) % 4
    model = solvable.model(torch.zeros(4, 6))
    # gᵢ = (1/k − e_y) ⊗ x, so that C = (1/n) Σ (1/k − e_y)(1/k − e_y)ᵀ ⊗ xxᵀ and ‖gᵢ‖² = (1 − 1/k) ‖x‖².
    residuals = 0.25 - torch.eye(4, dtype=torch.float64)[targets]
    expected = torch.stack(
        [torch.kron(torch.outer(r, r), torch.outer(x, x)) for r, x in zip(residuals, inputs, strict=True)]
    ).mean(0)
    C = GradientCovarianceOperator(model, cross_entropy, inputs, targets, chunk_size=7)
    # Sums of 30 products of numbers of order 1, in float64: 30 · 2e-16, and a margin of 100.
    torch.testing.assert_close(C @ identity(C), expected, rtol=0, atol=1e-12)
    norms = sample_gradient_norms(model, cross_entropy, inputs, targets)
    # Rounding of sums of 24 terms.
    torch.testing.assert_close(norms, 0.75**0.5 * inputs.norm(dim=1), rtol=1e-13, atol=0)


def test_one_sample_has_one_eigenvalue():
    case = models.make("mlp")
    C = GradientCovarianceOperator(case.model, case.loss, case.inputs[:1], case.targets[:1])
    pairs = top_eigenpairs(C, count=2, tol=1e-9)
    squared = float(C.gradient @ C.gradient)
    # Rank one: ‖g‖² along g, and zeros to rounding of a squared norm of order 1.
    assert pairs.values.tolist() == pytest.approx([squared, 0.0], abs=1e-13)
    assert float((pairs.vectors[:, 0] @ C.gradient) ** 2) == pytest.approx(squared, abs=1e-13)


@pytest.mark.parametrize("chunk_size", [None, 3])
@pytest.mark.parametrize("name", ["mlp", "mlp mse", "convnet", "tied"])
def test_centred(name, chunk_size):
    case = models.make(name)
    C = GradientCovarianceOperator(*case.arguments, centred=True, chunk_size=chunk_size)
    expected = torch.cov(models.sample_gradients(case).T, correction=0)
    # As in test_equals_the_dense_matrix.
    torch.testing.assert_close(C @ identity(C), expected, rtol=0, atol=1e-12)
    vector = torch.randn(C.shape[0], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(C @ vector, expected @ vector, rtol=0, atol=1e-11)


@pytest.mark.parametrize("shape", [(), (1,), (2, 2)])
def test_outputs_of_any_shape(shape):
    class Shaped(nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs).reshape(-1, *shape)

    torch_state = torch.Generator().manual_seed(0)
    size = 4 if shape == (2, 2) else 1
    model = Shaped(3, size).double()
    inputs = torch.randn(6, 3, dtype=torch.float64, generator=torch_state)
    targets = torch.rand(6, *shape, dtype=torch.float64, generator=torch_state)
    case = models.Case(model, binary_cross_entropy_with_logits, inputs, targets)
    C = GradientCovarianceOperator(*case.arguments, chunk_size=4)
    # As in test_equals_the_dense_matrix.
    torch.testing.assert_close(C @ identity(C), models.dense_gradient_covariance(case), rtol=0, atol=1e-12)


@pytest.mark.parametrize("group", [1, 3 * 43 * 8, 2**24])
@pytest.mark.parametrize("name", models.FACTORIES)
def test_norms_of_sample_gradients(name, group, monkeypatch):
    monkeypatch.setattr("workers.curvature.sample_gradients._CPU_BYTES", group)
    case = models.make(name)
    norms = sample_gradient_norms(*case.arguments)
    # Norms of vectors of some hundred components of order 1 at 2e-16, with a margin of 30.
    torch.testing.assert_close(norms, models.sample_gradients(case).norm(dim=1), rtol=0, atol=1e-12)


def test_norms_with_a_loss_that_cannot_be_vectorised():
    case = models.make("mlp")

    def squares(outputs, targets):  # one_hot looks at the values of its argument
        return (outputs - one_hot(targets, 3)).square().sum(1).mean()

    case = models.Case(case.model, squares, case.inputs, case.targets)
    # As above.
    torch.testing.assert_close(
        sample_gradient_norms(*case.arguments), models.sample_gradients(case).norm(dim=1), rtol=0, atol=1e-12
    )


def test_their_squares_have_the_trace_for_a_mean():
    case = models.make("convnet", torch.float32)
    norms = sample_gradient_norms(*case.arguments)
    assert norms.dtype == torch.float64
    C = GradientCovarianceOperator(*case.arguments)
    # Both are sums of squares of float32 numbers that are right to some 6e-8 times the ten operations they went
    # through, with a margin of 5.
    assert float((C @ identity(C)).trace()) == pytest.approx(float(norms.square().mean()), rel=3e-6)


def test_the_model_is_left_as_it_was():
    case = models.make("batch norm in eval")
    case.model[0].weight.grad = torch.ones_like(case.model[0].weight)
    state = {name: value.clone() for name, value in case.model.state_dict().items()}
    random_state = torch.get_rng_state()
    with torch.no_grad():
        assert not sample_gradient_norms(*case.arguments).requires_grad
    assert all(torch.equal(value, state[name]) for name, value in case.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.equal(case.model[0].weight.grad, torch.ones_like(case.model[0].weight))
    assert all(p.grad is None for name, p in case.model.named_parameters() if name != "0.weight")
    assert not case.model[1].training


def test_refusals():
    case = models.make("batch norm in eval")
    case.model.train()
    for refused in (GradientCovarianceOperator, sample_gradient_norms):
        with pytest.raises(
            ValueError, match="model: a batch norm on batch statistics leaves a sample no gradient"
        ):
            refused(*case.arguments)
    with pytest.raises(ValueError, match="model: 0 parameters require a gradient"):
        sample_gradient_norms(nn.Flatten(), *case.arguments[1:])
    pooled = nn.Sequential(nn.Linear(4, 3), nn.Flatten(0))
    with pytest.raises(
        ValueError, match=r"model: outputs of shape \(24,\), must have one row for each of 8 samples"
    ):
        GradientCovarianceOperator(pooled.double(), lambda f, _: f.square().mean(), *case.arguments[2:])
