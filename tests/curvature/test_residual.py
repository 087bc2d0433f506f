"""R = H − G, where it is known in closed form. (The dense oracle is in test_operators.)"""

import curvature_models as models
import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from workers.curvature import (
    GaussNewtonOperator,
    HessianOperator,
    ResidualOperator,
    bottom_eigenpairs,
    top_eigenpairs,
)


def test_two_linear_layers():
    """f = abx: the mean of (f − y)² has ∂²f/∂a∂b = x alone, so that R = [[0, s], [s, 0]] with s = mean of 2(f − y)x."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.fill_(2.0)
        model[1].weight.fill_(3.0)
    inputs, targets = torch.tensor([[1.0], [2.0]]).double(), torch.tensor([[5.0], [8.0]]).double()
    slope = (2 * (6 - 5) * 1 + 2 * (12 - 8) * 2) / 2
    R = ResidualOperator(model, mse_loss, inputs, targets, chunk_size=1)
    # Whole numbers, exact.
    assert torch.equal(R @ torch.eye(2).double(), torch.tensor([[0, slope], [slope, 0]]).double())
    # Eigenvalues ±s, with rounding of a 2 by 2 problem.
    assert top_eigenpairs(R, 1).values.tolist() == pytest.approx([slope], abs=1e-13)
    assert bottom_eigenpairs(R, 1).values.tolist() == pytest.approx([-slope], abs=1e-13)


def test_is_zero_for_a_linear_model():
    case = models.Case(
        nn.Linear(4, 3).double(), nn.functional.cross_entropy, *models.make("mlp").arguments[2:]
    )
    R = ResidualOperator(*case.arguments)
    assert not (R @ torch.eye(15).double()).any()


@pytest.mark.parametrize("name", models.FACTORIES)
def test_the_three_operators_add_up(name):
    case = models.make(name)
    H, G, R = (
        operator(*case.arguments, chunk_size=4)
        for operator in (HessianOperator, GaussNewtonOperator, ResidualOperator)
    )
    vector = torch.randn(H.shape[0], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # Products of norm below 100, with rounding errors of a hundred terms at 2e-16, and a margin of 4.
    torch.testing.assert_close(G @ vector + R @ vector, H @ vector, rtol=0, atol=1e-11)
