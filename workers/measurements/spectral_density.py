"""The whole spectrum, as the nodes and weights of stochastic Lanczos quadrature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

if TYPE_CHECKING:
    from workers.snapshot import Snapshot


@dataclass(frozen=True)
class Record:
    """For each probe the density of eigenvalues is Σⱼ wⱼ δ(λ − nodeⱼ), with Σⱼ wⱼ = 1."""

    density_nodes: list[list[float]] | None
    density_weights: list[list[float]] | None


def measure(
    snapshot: Snapshot,
    *,
    probes: Annotated[int, Ge(1)] = 4,
    lanczos_steps: Annotated[int, Ge(2)] = 80,
) -> Record:
    from workers.curvature import spectral_density

    density = spectral_density(
        snapshot.hessian,
        probes=probes,
        steps=min(lanczos_steps, snapshot.parameters),
        seed=snapshot.probe_seed,
    )
    return Record(density.nodes.tolist(), density.weights.tolist())


def products(classes: int, probes: int = 4, lanczos_steps: int = 80) -> int:  # noqa: ARG001
    return probes * lanczos_steps
