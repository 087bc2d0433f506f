"""The mathematical kernel: curvature operators, their leading eigenpairs, their spectral density and overlaps.

It knows tensors only, nothing of sweeps, trials or data sets. Names are imported when they are first used, so that
`workers.curvature.overlap` is there without torch.

    H = HessianOperator(model, loss, inputs, targets)
    pairs = top_eigenpairs(H, count=20)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.curvature.bottom import bottom_eigenpairs
    from workers.curvature.density import DensityCurve, SpectralDensity, spectral_density
    from workers.curvature.eigensolver import Eigenpairs, top_eigenpairs
    from workers.curvature.gradient_covariance import GradientCovarianceOperator
    from workers.curvature.operators import GaussNewtonOperator, HessianOperator, ResidualOperator
    from workers.curvature.sample_gradients import sample_gradient_norms

__all__ = [
    "DensityCurve",
    "Eigenpairs",
    "GaussNewtonOperator",
    "GradientCovarianceOperator",
    "HessianOperator",
    "ResidualOperator",
    "SpectralDensity",
    "bottom_eigenpairs",
    "sample_gradient_norms",
    "spectral_density",
    "top_eigenpairs",
]

_HOMES = {
    "DensityCurve": "density",
    "Eigenpairs": "eigensolver",
    "GaussNewtonOperator": "operators",
    "GradientCovarianceOperator": "gradient_covariance",
    "HessianOperator": "operators",
    "ResidualOperator": "operators",
    "SpectralDensity": "density",
    "bottom_eigenpairs": "bottom",
    "sample_gradient_norms": "sample_gradients",
    "spectral_density": "density",
    "top_eigenpairs": "eigensolver",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
