"""Sharpness beside the learning rate: the edge of stability (Cohen et al., arXiv:2103.00065)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.report.by_step import Quantity, by_step

if TYPE_CHECKING:
    from orchestrator.report.figure import Figure, Stored
    from orchestrator.report.grouping import Panel, Setting

COLUMNS = ("stability", "sharpness")


def limit(setting: Setting) -> float | None:
    """The ηλ₁/2 above which full-batch gradient descent is unstable on a quadratic; None for other optimisers.

    1 + β with momentum β, (1 + β)/(1 + 2β) with Nesterov's (arXiv:2103.00065, appendix B). Weight decay w adds w to
    every eigenvalue that training feels and not to those that are measured, so the limit is lower by ηw/2.
    """
    fields = setting.fields
    if fields["optimizer"] not in ("sgd", "projected"):
        return None
    options = json.loads(fields.get("optimizer_options") or "{}")
    beta, decay = options.get("momentum", 0.0), options.get("weight_decay", 0.0)
    largest = (1 + beta) / (1 + 2 * beta) if options.get("nesterov") else 1 + beta
    return float(largest - fields["learning_rate"] * decay / 2)


def figures(stored: Stored) -> Iterator[Figure]:
    """ηλ₁/2 by step, with its limit."""
    yield from by_step(
        stored,
        name="stability",
        title="Edge of stability",
        caption="ηλ₁/2, with η the learning rate and λ₁ the largest eigenvalue of the Hessian. Full-batch gradient "
        "descent is unstable above the dotted line: 1, with momentum β 1 + β. The noise of mini-batches keeps it below.",
        quantities=[
            Quantity("ηλ₁/2", ("stability",), include=(0.0, 1.0), marks=limits),
            Quantity("λ₁ (loss per sq. parameter)", ("sharpness",)),
        ],
    )


def limits(panel: Panel) -> list[tuple[float, str]]:
    """The different limits of a panel's settings."""
    found = sorted({at for setting in panel.settings if (at := limit(setting)) is not None})
    return [(at, f"limit {at:.3g}") for at in found]
