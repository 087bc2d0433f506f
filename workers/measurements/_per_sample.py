"""What measurements of single samples have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.spec import SpecError

if TYPE_CHECKING:
    from workers.snapshot import Snapshot


def check_samples_are_separate(snapshot: Snapshot, measurement: str) -> None:
    """SpecError with a batch norm on batch statistics: there a sample has no gradient of its own."""
    from torch import nn

    batch_norms = nn.modules.batchnorm._BatchNorm
    if snapshot.spec.batch_norm == "train" and any(
        isinstance(module, batch_norms) for module in snapshot.model.modules()
    ):
        raise SpecError(
            f"batch_norm: train: {measurement} needs a gradient for each sample, which there is not; must be eval"
        )
