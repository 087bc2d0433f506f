"""The smallest eigenvalues of matrices whose spectrum is prescribed."""

import curvature_models as models
import pytest
import torch
from scipy.sparse import csr_array
from scipy.sparse.linalg import aslinearoperator
from test_eigensolver import SPECTRA, rotated

from workers.curvature import HessianOperator, bottom_eigenpairs


@pytest.mark.parametrize("name", SPECTRA)
def test_prescribed_spectra(name):
    values, count = SPECTRA[name]
    H = rotated(values)
    pairs = bottom_eigenpairs(H, count=count, tol=1e-8)
    expected = values.sort().values[:count]
    reference = abs(float(expected[0])) or float(values.abs().max()) or 1.0
    # An eigenvalue is at most a residual away: tol times the reference; or rounding of the matrix, 1e-16 of at most 10,
    # with a margin of 100.
    torch.testing.assert_close(pairs.values, expected, rtol=0, atol=max(1e-8 * reference, 1e-13))
    true = (H @ pairs.vectors - pairs.vectors * pairs.values).norm(dim=0)
    assert bool((true <= 1e-8 * reference + 1e-13).all())
    assert bool((pairs.values.diff() >= 0).all())


def test_residuals_are_relative_to_the_smallest():
    H = rotated(torch.cat([torch.linspace(0, 100, 199), torch.tensor([-0.5])]).double())
    pairs = bottom_eigenpairs(H, count=1, tol=1e-2)
    true = float((H @ pairs.vectors[:, 0] - pairs.values[0] * pairs.vectors[:, 0]).norm())
    # The same numbers, up to rounding 1e-14 of products of norm 100 against a residual of some 1e-3.
    assert float(pairs.residuals[0]) == pytest.approx(true / abs(float(pairs.values[0])), rel=1e-6)
    assert float(pairs.residuals[0]) <= 1e-2
    assert bool(pairs.converged[0])


def test_products_are_counted_and_any_operator_will_do():
    case = models.make("mlp")
    H = HessianOperator(*case.arguments)
    pairs = bottom_eigenpairs(H, count=2)
    assert pairs.products == H.products > 0
    dense = torch.linalg.eigvalsh(models.dense_hessian(case))[:2]
    # Rounding of eigenvalues of order 1: the whole matrix of 43 rows is made.
    torch.testing.assert_close(pairs.values, dense, rtol=0, atol=1e-12)
    sparse = aslinearoperator(csr_array(torch.diag(torch.tensor([2.0, -3.0, 1.0])).double().numpy()))
    assert bottom_eigenpairs(sparse, count=1).values.tolist() == pytest.approx([-3.0], abs=1e-14)


def test_zero_has_no_sign():
    assert str(bottom_eigenpairs(torch.zeros(3, 3), count=1).values.tolist()) == "[0.0]"
