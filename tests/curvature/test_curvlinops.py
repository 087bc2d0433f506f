"""Third oracle: products by curvlinops."""

import importlib
import warnings

import curvature_models as models
import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from workers.curvature import GaussNewtonOperator, GradientCovarianceOperator, HessianOperator

# Raised by what curvlinops imports.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit.script:FutureWarning", "ignore::DeprecationWarning"
)


@pytest.fixture(scope="module")
def curvlinops():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it imports
        return importlib.import_module("curvlinops")


@pytest.mark.parametrize(
    ("operator", "reference"),
    [
        (HessianOperator, "HessianLinearOperator"),
        (GaussNewtonOperator, "GGNLinearOperator"),
        (GradientCovarianceOperator, "EFLinearOperator"),
    ],
)
@pytest.mark.parametrize("name", ["mlp", "convnet", "mlp mse"])
def test_equals_curvlinops(operator, reference, name, curvlinops):
    case = models.make(name)
    loss = nn.MSELoss() if case.loss is mse_loss else nn.CrossEntropyLoss()
    batches = [(case.inputs[part], case.targets[part]) for part in (slice(0, 4), slice(4, 8), slice(8, 10))]
    other = getattr(curvlinops, reference)(case.model, loss, list(case.model.parameters()), batches)
    H = operator(*case.arguments, chunk_size=3)
    identity = torch.eye(H.shape[0], dtype=torch.float64)
    # Entries are sums of some hundred terms of order 1 at 2e-16, with a margin of 30.
    torch.testing.assert_close(
        H @ identity, _normalised(reference, loss, other @ identity), rtol=0, atol=1e-12
    )


def _normalised(reference, loss, product):
    """Where a loss is the mean over three outputs too, curvlinops takes out one of the two factors 3 of a square."""
    return product.detach() / (3 if reference == "EFLinearOperator" and isinstance(loss, nn.MSELoss) else 1)
