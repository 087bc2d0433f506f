"""The fraction of the gradient in the top subspace, with loss and accuracy: figure 1 of arXiv:1812.04754."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.report.by_step import Quantity, by_step, chance

if TYPE_CHECKING:
    from orchestrator.report.figure import Figure, Stored

COLUMNS = ("f_top", "train_loss", "test_loss", "train_accuracy", "test_accuracy")

F_TOP = Quantity("$f_{top}$", ("f_top",), include=(0.0, 1.0), marks=chance)
LOSS = Quantity("loss", ("train_loss", "test_loss"), ("train", "test"))
ACCURACY = Quantity("accuracy", ("train_accuracy", "test_accuracy"), ("train", "test"), include=(0.0, 1.0))


def figures(stored: Stored) -> Iterator[Figure]:
    """f_top(t) above train and test loss and accuracy, whichever there are."""
    has_f_top = stored.has("f_top")
    what = "f_top is ‖P g‖²/‖g‖², the share of the gradient g in the k eigenvectors of the Hessian that belong to its "
    what += "largest eigenvalues, k being the number of classes; a random vector has k/p, the dotted line. "
    yield from by_step(
        stored,
        name="f-top" if has_f_top else "loss",
        title="Gradient in the top subspace, loss and accuracy" if has_f_top else "Loss and accuracy",
        caption=(what if has_f_top else "")
        + "Train loss and accuracy are of the measurement set, test of all test data.",
        quantities=[F_TOP, LOSS, ACCURACY],
    )
