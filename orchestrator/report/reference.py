"""Table 1 of arXiv:1812.04754: what its authors found, and which trials of ours are the same experiment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from orchestrator.report.options import complete, given

DIGITS = ("mnist", "mnist5k")
IMAGES = ("cifar10", "npz", "mnist5k")
"""What a ConvNet may see instead of CIFAR-10; the table says what it saw."""


@dataclass(frozen=True)
class Reference:
    """A row of the paper's table, and what a trial must be to belong to it; all else is free."""

    title: str
    paper: float  # mean of gᵀHg/(‖g‖‖Hg‖) over the last 1,000 steps
    architecture: str
    datasets: tuple[str, ...]
    options: Mapping[str, Any] = field(
        default_factory=dict
    )  # of the architecture; the others at their defaults
    labels: str = "true"
    optimizer: str = "sgd"  # with its default options
    learning_rate: float | None = 0.1  # None: the paper does not say
    batch_size: int = 64
    loss: str = "cross_entropy"

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of `trials` or `measurements` is of this experiment."""
        return (
            row["architecture"] == self.architecture
            and row["dataset"] in self.datasets
            and row["optimizer"] == self.optimizer
            and row["loss"] == self.loss
            and row["batch_size"] == self.batch_size
            and (self.learning_rate is None or math.isclose(row["learning_rate"], self.learning_rate))
            and given(row, "dataset").get("labels", "true") == self.labels
            and given(row, "dataset").get("classes", 10) == 10
            and complete(row, "dataset").get("noise", 0.1) == 0.1
            and complete(row, "architecture") == _plain(row, "architecture") | dict(self.options)
            and complete(row, "optimizer") == _plain(row, "optimizer")
        )


def _plain(row: Mapping[str, Any], component: str) -> dict[str, Any]:
    return complete({**row, f"{component}_options": "{}"}, component)


TABLE_1 = (
    Reference("MNIST, softmax regression", 0.96, "softmax", DIGITS),
    Reference("MNIST, FC, softplus", 0.96, "mlp", DIGITS, {"activation": "softplus"}),
    Reference("MNIST, FC, learning rate 0.01", 0.96, "mlp", DIGITS, learning_rate=0.01),
    Reference("MNIST, FC, batch size 256", 0.97, "mlp", DIGITS, batch_size=256),
    Reference("MNIST, FC, random labels", 0.86, "mlp", DIGITS, labels="random"),
    Reference("CIFAR-10, ConvNet, random labels", 0.86, "convnet", IMAGES, labels="random"),
    Reference(
        "CIFAR-10, ConvNet, dropout, batch norm, extra dense layer",
        0.93,
        "convnet",
        IMAGES,
        {"dropout": True, "batch_norm": True, "extra_dense": True},
    ),
    Reference("CIFAR-10, ConvNet, Adam", 0.89, "convnet", IMAGES, optimizer="adam", learning_rate=None),
    Reference("Sine regression, FC", 0.99, "mlp", ("sine",), batch_size=100, loss="mse"),
)
"""In the paper's order. Where a title says nothing else: learning rate 0.1, batch size 64, plain SGD, ReLU."""


def titles(rows: pd.DataFrame) -> pd.Series[Any]:
    """For each row of `trials` or `measurements` the title of its row in the table; null where it has none."""
    each = rows.drop_duplicates("trial_id").to_dict("records")
    title = {row["trial_id"]: _title({str(k): v for k, v in row.items()}) for row in each}
    return rows.trial_id.map(title).astype(object)


def _title(row: dict[str, Any]) -> str | None:
    """No two rows of the table fit the same trial."""
    return next((reference.title for reference in TABLE_1 if reference.fits(row)), None)
