"""Densities of eigenvalues as curves, from the quadrature nodes and weights that `measurements` has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

TAIL = 5.0  # widths by which a curve reaches beyond the nodes, as in workers/curvature/density.py


def curves(rows: pd.DataFrame, by: Sequence[str], points: int = 512) -> pd.DataFrame:
    """φ(t) = mean over probes of Σ w N(t; node, width²), of all probes of the rows that share `by`.

    The same as `workers.curvature.SpectralDensity.on_grid` of these probes together, without torch: the width is the
    range of the nodes divided by their number in a probe, 1 where that is 0. Indexed by `by`; columns `eigenvalue`
    (t), `density` (in units of 1/λ; its integral is 1) and `single`, the peak that a density all at one eigenvalue
    has, 1/(width √2π): one of p eigenvalues makes a peak of `single`/p.

    >>> rows = pd.DataFrame({"step": [0], "density_nodes": [[[1.0, 3.0]]], "density_weights": [[[0.5, 0.5]]]})
    >>> curve = curves(rows, ["step"]).loc[0]
    >>> round(float(np.trapezoid(curve.density, curve.eigenvalue)), 3)
    1.0
    """
    found = []
    for key, own in rows.groupby(list(by), dropna=False):
        nodes = [np.asarray(probe, float) for row in own.density_nodes for probe in row]
        weights = [np.asarray(probe, float) for row in own.density_weights for probe in row]
        names: dict[str, Any] = dict(zip(by, key, strict=True))
        found.append(_curve(nodes, weights, points).assign(**names))
    return pd.concat(found).set_index(list(by))


def _curve(nodes: list[np.ndarray], weights: list[np.ndarray], points: int) -> pd.DataFrame:
    lowest, highest = min(probe.min() for probe in nodes), max(probe.max() for probe in nodes)
    width = (highest - lowest) / max(len(probe) for probe in nodes) or 1.0
    grid = np.linspace(lowest - TAIL * width, highest + TAIL * width, points)
    single = 1 / (width * np.sqrt(2 * np.pi))
    each: list[Any] = [
        np.exp(-(((grid[:, None] - at) / width) ** 2) / 2) @ share
        for at, share in zip(nodes, weights, strict=True)
    ]
    return pd.DataFrame({"eigenvalue": grid, "density": single * np.mean(each, axis=0), "single": single})
