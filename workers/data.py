"""A trial's data: what a data set file hands over, the options all of them share, and the tensors made of both."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray

from workers import find, seeding
from workers.spec import Component, SpecError


class DataError(RuntimeError):
    """Data that is absent or damaged; the message names the folder or file expected and what to do."""


@dataclass(frozen=True)
class Arrays:
    """What `load` of a data set returns: images (n, height, width, channels) uint8, or features (n, d) float.

    `y` holds class indices (n,) integers with `classes` = k, or for regression real targets (n, outputs) with
    `classes` = None.
    """

    x_train: NDArray[Any]
    y_train: NDArray[Any]
    x_test: NDArray[Any]
    y_test: NDArray[Any]
    classes: int | None


@dataclass(frozen=True)
class Data:
    """The tensors a trial trains and measures on, all on its device: x (n, *input_shape), y (n,) or (n, outputs)."""

    x_train: torch.Tensor
    y_train: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor
    outputs: int  # k classes, or the number of regression targets
    regression: bool

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.x_train.shape[1:])


def prepare(
    arrays: Arrays,
    *,
    classes: Annotated[int, Ge(2)] | None = None,
    samples: Annotated[int, Ge(1)] | None = None,
    labels: Literal["true", "random"] = "true",
    scaling: Literal["unit", "standard"] = "unit",
) -> Arrays:
    """Apply, in this order, the options that every data set has.

    `classes`: keep the first so many classes. `samples`: keep the first so many training samples (the test set
    stays whole). `labels: random`: uniform training labels, the same in every trial, whatever its seed; test labels
    stay true. `scaling`: `unit` brings pixels into [0, 1] and leaves float features as they are; `standard`
    subtracts the training mean and divides by the training standard deviation, per channel or per feature.

    Raises SpecError where the data set has fewer classes or samples than asked for, or no classes at all.
    """
    x_train, y_train, x_test, y_test = arrays.x_train, arrays.y_train, arrays.x_test, arrays.y_test
    k = arrays.classes
    if (classes is not None or labels == "random") and k is None:
        raise SpecError("dataset: a regression has no classes and no labels to randomise")
    if classes is not None and k is not None:
        if classes > k:
            raise SpecError(f"dataset.classes: {classes}: there are only {k}")
        x_train, y_train = x_train[y_train < classes], y_train[y_train < classes]
        x_test, y_test = x_test[y_test < classes], y_test[y_test < classes]
        k = classes
    if samples is not None:
        if samples > len(x_train):
            raise SpecError(f"dataset.samples: {samples}: there are only {len(x_train)} training samples")
        x_train, y_train = x_train[:samples], y_train[:samples]
    if labels == "random" and k is not None:
        drawn = torch.randint(k, (len(y_train),), generator=seeding.generator(0, "labels"))
        y_train = drawn.numpy().astype(y_train.dtype)
    return Arrays(*_scaled(x_train, x_test, scaling), y_test=y_test, y_train=y_train, classes=k)
