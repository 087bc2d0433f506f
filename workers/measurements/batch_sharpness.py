"""The curvature that a mini-batch step meets: that of the batch's own loss along the batch's own gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

if TYPE_CHECKING:
    from workers.snapshot import Snapshot


@dataclass(frozen=True)
class Record:
    """E_B[g_BᵀH_Bg_B/‖g_B‖²] over mini-batches B of the training size (Andreyev and Beneventano, arXiv:2412.20553).

    Units: loss per squared parameter; for plain SGD it settles near 2/η. For a full batch it is gᵀHg/‖g‖², at most λ₁.
    """

    batch_sharpness: float | None  # null where every g_B vanishes
    batch_sharpness_error: float | None  # standard error of the mean over batches; null for a single one


def measure(snapshot: Snapshot, *, batches: Annotated[int, Ge(1)] = 10) -> Record:
    """`batches` independent draws without replacement from the whole training set; a full batch is drawn once.

    The stream is of the trial's seed and the step. Dropout is off, batch norm as the trial says. A batch whose gradient
    vanishes is left out.
    """
    import torch

    from workers import seeding
    from workers.curvature import HessianOperator
    from workers.curvature.overlap import SHORTEST
    from workers.spec import samples_per_step

    available = snapshot.training_samples
    size = min(samples_per_step(snapshot.spec.batch_size, available), available)
    generator = seeding.generator(snapshot.spec.seed, f"batch_sharpness/{snapshot.step}")
    values = []
    for _ in range(1 if size == available else batches):
        batch = torch.randperm(available, generator=generator)[:size].sort().values
        with snapshot.operator(HessianOperator, batch=batch) as H:
            gradient = H.gradient.double()
            length = gradient.norm()
            if length < SHORTEST:
                continue
            direction = gradient / length
            values.append(float(direction @ (H @ direction).double()))
    found = torch.tensor(values, dtype=torch.float64)
    return Record(
        batch_sharpness=float(found.mean()) if values else None,
        batch_sharpness_error=float(found.std() / len(values) ** 0.5) if len(values) > 1 else None,
    )


def products(classes: int, batches: int = 10) -> int:  # noqa: ARG001
    """Of mini-batches, each as much cheaper than one of the measurement set as the batch is smaller."""
    return batches
