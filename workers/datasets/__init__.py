"""One file per data set: `load(folder, search, *, options) -> Arrays`, and its shape without loading it.

A file says its shape and size in literals (`INPUT_SHAPE`, `CLASSES`, `TRAIN_SAMPLES`), which are read from
its source, or, where they follow from options, in a function `describe(folder, search, **options) ->
Description`. One that reads files says which, `files(folder, search, **options) -> list[Path]`, and gets them where
they are absent: the processes of a node then share what is made of them, and make it anew when their content
changes. Nothing here imports torch, or a library that data comes from, at the top, because `plan` does
not.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers import find
from workers.spec import Component, SpecError


class DataError(RuntimeError):
    """Data that is absent or damaged; the message names the folder or file expected and what to do."""


@dataclass(frozen=True)
class Arrays:
    """What `load` returns. Inputs are images (n, height, width, channels), uint8 in [0, 255] or floats, or
    features (n, d), floats.

    `y` holds class indices (n,), whole numbers, with `classes` = k; or for regression targets (n, outputs),
    floats, with `classes` = None.
    """

    x_train: NDArray[Any]
    y_train: NDArray[Any]
    x_test: NDArray[Any]
    y_test: NDArray[Any]
    classes: int | None


@dataclass(frozen=True)
class Description:
    """What `plan` can know of a data set without loading it; None is unknown."""

    input_shape: tuple[int, ...] | None = None  # of one sample: (channels, height, width) or (d,)
    outputs: int | None = None  # k classes, or the number of regression targets
    train_samples: int | None = None


def describe(dataset: Component, folder: Path, search: Path | None) -> Description:
    """Shape and size of a data set with its options. Imports no torch and loads no samples; absent data is
    unknown.

    `folder` is where downloaded data lies, `search` the sweep file's folder.

    >>> describe(Component("mnist", {"samples": 5000}), Path("absent"), None)
    Description(input_shape=(1, 28, 28), outputs=10, train_samples=5000)
    >>> describe(Component("npz", {"path": "absent.npz"}), Path("absent"), None)
    Description(input_shape=None, outputs=None, train_samples=None)

    Raises SpecError where there is no such data set, or where its options ask for more classes or samples
    than it is known to have.
    """
    options = dict(dataset.options)
    own = {name: options.pop(name) for name in find.options("datasets", dataset.name) if name in options}
    shape = find.constant("datasets", dataset.name, "INPUT_SHAPE")
    if shape is not None or "." in dataset.name:  # a user's own file is not imported: it may import torch
        known = Description(
            tuple(shape) if shape is not None else None,
            find.constant("datasets", dataset.name, "CLASSES"),
            find.constant("datasets", dataset.name, "TRAIN_SAMPLES"),
        )
    else:
        known = find.module("datasets", dataset.name).describe(folder, search, **own)
    return _narrowed(known, options.get("classes"), options.get("samples"))


def _narrowed(known: Description, classes: int | None, samples: int | None) -> Description:
    """What is left by the options that `prepare` handles."""
    if classes is not None:
        check_available("classes", classes, known.outputs)
        if classes != known.outputs:
            known = replace(known, outputs=classes, train_samples=None)
    if samples is not None:
        check_available("samples", samples, known.train_samples)
        known = replace(known, train_samples=samples)
    return known


def check_available(option: str, wanted: int, available: int | None) -> None:
    """Raise SpecError where more classes or training samples are wanted than there are."""
    if available is not None and wanted > available:
        raise SpecError(f"dataset.{option}: {wanted}: there are only {available}")


def check_arrays(arrays: Arrays, source: str) -> Arrays:
    """`arrays` when they are as `Arrays` says, else DataError in one line that begins with `source`.

    Classes must be 0 … k − 1, at least two of them, and each must have a training sample; nothing may be NaN
    or infinite.

    >>> ones = np.ones((2, 3))
    >>> check_arrays(Arrays(ones, np.array([0, 2]), ones, np.array([0, 1]), classes=3), "a.npz")
    Traceback (most recent call last):
    workers.datasets.DataError: a.npz: y_train: no sample of class 1; classes must be 0 to 2, each with a sample
    """
    for name in ("x_train", "x_test"):
        _check_inputs(getattr(arrays, name), f"{source}: {name}")
    first, second = ((*x.shape[1:], x.dtype.kind) for x in (arrays.x_train, arrays.x_test))
    if first != second:
        raise DataError(f"{source}: x_test: {_kind(arrays.x_test)} where x_train has {_kind(arrays.x_train)}")
    for split in ("train", "test"):
        x, y = getattr(arrays, f"x_{split}"), getattr(arrays, f"y_{split}")
        where = f"{source}: y_{split}"
        if arrays.classes is None:
            _check_targets(y, where)
        else:
            _check_labels(y, arrays.classes, where)
        if len(x) != len(y):
            raise DataError(f"{where}: {len(y)} entries for {len(x)} samples in x_{split}")
    if arrays.classes is None and arrays.y_train.shape[1:] != arrays.y_test.shape[1:]:
        raise DataError(f"{source}: y_test: {_kind(arrays.y_test)} where y_train has {_kind(arrays.y_train)}")
    if arrays.classes is not None:
        absent = np.setdiff1d(np.arange(arrays.classes), arrays.y_train)
        if len(absent):
            where = f"{source}: y_train: no sample of class {absent[0]}"
            raise DataError(f"{where}; classes must be 0 to {arrays.classes - 1}, each with a sample")
    return arrays


def _check_inputs(x: NDArray[Any], where: str) -> None:
    dimensions = (2, 4) if x.dtype.kind == "f" else (4,) if x.dtype == np.uint8 else ()
    if x.ndim not in dimensions:
        allowed = "images (n, height, width, channels) of uint8 or floats, or features (n, d) of floats"
        raise DataError(f"{where}: {_kind(x)}; must be {allowed}")
    if x.size == 0:
        raise DataError(f"{where}: {_kind(x)}; must not be empty")
    _check_finite(x, where)


def _check_targets(y: NDArray[Any], where: str) -> None:
    if y.ndim != 2 or y.dtype.kind != "f":
        raise DataError(f"{where}: {_kind(y)}; must be regression targets (n, outputs) of floats")
    _check_finite(y, where)


def _check_labels(y: NDArray[Any], classes: int, where: str) -> None:
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise DataError(f"{where}: {_kind(y)}; must be class indices (n,) of whole numbers")
    if classes < 2:
        raise DataError(f"{where}: only {classes} class; there must be at least 2")
    if len(y) and not (y.min() >= 0 and y.max() < classes):
        raise DataError(f"{where}: labels from {y.min()} to {y.max()}; must be from 0 to {classes - 1}")


def _check_finite(values: NDArray[Any], where: str) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"{where}: has NaN or infinite entries")


def _kind(values: NDArray[Any]) -> str:
    return f"{values.dtype} of shape {values.shape}"
