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
    from workers.curvature.density import SpectralDensity, spectral_density
    from workers.curvature.eigensolver import Eigenpairs, top_eigenpairs
    from workers.curvature.operators import GaussNewtonOperator, HessianOperator

__all__ = [
    "Eigenpairs",
    "GaussNewtonOperator",
    "HessianOperator",
    "SpectralDensity",
    "spectral_density",
    "top_eigenpairs",
]

_HOMES = {
    "Eigenpairs": "eigensolver",
    "GaussNewtonOperator": "operators",
    "HessianOperator": "operators",
    "SpectralDensity": "density",
    "spectral_density": "density",
    "top_eigenpairs": "eigensolver",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
