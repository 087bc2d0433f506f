"""The whole spectrum, as the nodes and weights of stochastic Lanczos quadrature, and its first two moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

if TYPE_CHECKING:
    from workers.snapshot import Snapshot

LEADS = True


@dataclass(frozen=True)
class Record:
    """For each probe the density of eigenvalues is Σⱼ wⱼ δ(λ − nodeⱼ), with Σⱼ wⱼ = 1.

    A curve of it: `workers.curvature.SpectralDensity(nodes, weights, size=p).on_grid()`, of tensors (probes, steps).
    Errors are standard errors over probes, null for a single one.
    """

    density_nodes: list[list[float]] | None
    density_weights: list[list[float]] | None
    trace: float | None  # Σλᵢ, in units of λ, of any sign
    trace_error: float | None
    frobenius_norm: float | None  # √Σλᵢ², in units of λ, at least 0
    frobenius_norm_error: float | None


def measure(
    snapshot: Snapshot,
    *,
    probes: Annotated[int, Ge(1)] = 4,
    lanczos_steps: Annotated[int, Ge(2)] = 80,
) -> Record:
    density = snapshot.spectral_density(probes, min(lanczos_steps, snapshot.parameters))
    return Record(
        density_nodes=density.nodes.tolist(),
        density_weights=density.weights.tolist(),
        trace=density.trace,
        trace_error=density.trace_error,
        frobenius_norm=density.frobenius_norm,
        frobenius_norm_error=density.frobenius_norm_error,
    )


def products(classes: int, probes: int = 4, lanczos_steps: int = 80) -> int:  # noqa: ARG001
    return probes * lanczos_steps
