"""Which trials are the solvable model, and what theory says of each of their eigenvalues."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from orchestrator.report.options import complete, given
from workers import find
from workers.solvable_model import Level, spectrum


class Model(NamedTuple):
    """What the spectrum depends on beside the step."""

    classes: int
    bias: bool
    learning_rate: float


def model_of(row: Mapping[str, Any]) -> Model | None:
    """The solvable model that a row of `trials` or `measurements` is of; None where theory does not say its spectrum.

    It does for a linear map to logits, from zero, full-batch gradient descent on cross-entropy, and as many samples of each
    of k orthonormal means, without noise, all of them measured.
    """
    plain = (
        row["dataset"] == "gaussians"
        and row["optimizer"] == "sgd"
        and row["loss"] == "cross_entropy"
        and row["initialization"] == "zeros"
        and row["architecture"] in ("softmax", "mlp")
        and given(row, "dataset").keys() <= find.options("datasets", "gaussians").keys()
        and complete(row, "optimizer") == complete({**row, "optimizer_options": "{}"}, "optimizer")
    )
    if not plain:
        return None
    architecture, data = complete(row, "architecture"), complete(row, "dataset")
    bias = architecture.get("bias", architecture.get("widths") == [])
    least = [row[name] for name in ("batch_size", "measurement_samples") if not pd.isna(row[name])]
    exact = (
        (row["architecture"] == "softmax" or bias)
        and data["noise"] == 0
        and data["means"] == "orthonormal"
        and data["weights"] is None
        and data["samples"] % data["classes"] == 0
        and all(number >= data["samples"] for number in least)
    )
    return Model(data["classes"], bool(bias), float(row["learning_rate"])) if exact else None


def beside_theory(eigenvalues: pd.DataFrame) -> pd.DataFrame:
    """The rows of `results.eigenvalues` of the solvable model, with its eigenvalue of the same rank in `theory`.

    `level` numbers the distinct eigenvalues of that step from 1; beyond the k(k − 1) that are not zero, `theory` and
    `level` are 0.
    """
    first = eigenvalues.drop_duplicates("trial_id").to_dict("records")
    every = {row["trial_id"]: model_of({str(name): v for name, v in row.items()}) for row in first}
    models = {trial: model for trial, model in every.items() if model is not None}
    found = []
    rows = eigenvalues[eigenvalues.trial_id.isin(models)]
    for (trial, step), own in rows.groupby(["trial_id", "step"], sort=False):
        levels = [*enumerate(levels_of(models[trial], step), 1), (0, Level(0.0, len(own)))]
        ranked = [(level.value, at) for at, level in levels for _ in range(level.multiplicity)]
        at_rank = own["index"].to_numpy() - 1
        found.append(
            own.assign(
                theory=np.array([value for value, _ in ranked])[at_rank],
                level=np.array([at for _, at in ranked])[at_rank],
            )
        )
    return pd.concat(found) if found else eigenvalues[:0].assign(theory=0.0, level=0)


@cache
def levels_of(model: Model, step: int) -> list[Level]:
    """`workers.solvable_model.spectrum` of a model, found once for each step."""
    return spectrum(model.classes, model.learning_rate, step, bias=model.bias)
