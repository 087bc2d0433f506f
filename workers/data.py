"""A trial's data: the options that all data sets share, and the tensors made of what a file loads."""

import errno
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray

from workers import find, seeding
from workers.datasets import Arrays, DataError, Description, check_arrays, check_available, describe
from workers.shared_arrays import Shared, share
from workers.spec import Component, SpecError, plain

__all__ = ["Arrays", "Data", "DataError", "Description", "describe", "load_data", "prepare"]

KEPT = 2
"""Data sets that a worker process keeps on its device, so that its next trial need not load them again."""


@dataclass(frozen=True)
class Data:
    """The tensors a trial trains and measures on, all on its device. Inputs are of the trial's precision."""

    x_train: torch.Tensor  # (n, channels, height, width) or (n, d)
    y_train: torch.Tensor  # (n,) int64 class indices, or (n, outputs) of the trial's precision
    x_test: torch.Tensor
    y_test: torch.Tensor
    outputs: int  # k classes, or the number of regression targets
    regression: bool
    held: object = None  # what keeps the node's file of these tensors in use, also when they are on a GPU
    note: str | None = None  # what is wrong, but changes no number

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.x_train.shape[1:])

    def to(self, device: str) -> "Data":
        """The same data on another device."""
        return replace(
            self,
            x_train=self.x_train.to(device),
            y_train=self.y_train.to(device),
            x_test=self.x_test.to(device),
            y_test=self.y_test.to(device),
        )


def load_data(
    dataset: Component, *, folder: Path, search: Path | None, loss: str, precision: str, device: str
) -> Data:
    """The data of a trial. Loaded once in a process: the same arguments give the same tensors again.

    Data that comes from files is loaded once for all processes of a node that run at the same time, and shared. Data
    sets of users' own modules are not, because what they are made of is not known.

    `folder` is where downloaded data lies, `search` the sweep file's folder, `precision` float32 or float64.

    >>> sine = Component("sine", {"samples": 100})
    >>> data = load_data(sine, folder=Path(), search=None, loss="mse", precision="float64", device="cpu")
    >>> data.x_train.shape, data.outputs, data.regression
    (torch.Size([100, 1]), 1, True)

    Raises SpecError where the options are impossible, or the loss does not fit the data; DataError where data
    is absent or damaged.
    """
    options = json.dumps(plain(dataset.options), sort_keys=True)
    data = _loaded(dataset.name, options, folder, search, precision, device)
    if data.regression and loss == "cross_entropy":
        raise SpecError(f"loss: cross_entropy: {dataset.name} is a regression, which has no classes; use mse")
    return data


@lru_cache(maxsize=KEPT)
def _loaded(name: str, options: str, folder: Path, search: Path | None, precision: str, device: str) -> Data:
    given: dict[str, Any] = json.loads(options)
    own, common = find.options("datasets", name), find.options("datasets", "workers.data.prepare")
    _check_names(name, given, {**common, **own})
    own_options = {key: value for key, value in given.items() if key in own}
    common_options = {key: value for key, value in given.items() if key not in own}

    def make() -> Data:
        arrays = find.function("datasets", name)(folder, search, **own_options)
        if not isinstance(arrays, Arrays):
            kind = type(arrays).__name__
            raise SpecError(f"dataset: {name} returned a {kind}, must be workers.datasets.Arrays")
        return prepare(check_arrays(arrays, name), precision, **common_options)

    files = None if "." in name else getattr(find.module("datasets", name), "files", None)
    if files is None:
        return make().to(device)

    def key() -> str:
        code = _code()
        if code != CODE:
            raise OSError(errno.ESTALE, "the files of this package have changed since it was imported")
        made_of = [_digest(file) for file in files(folder, search, **own_options)]
        everything = [name, options, precision, made_of, code, *LIBRARIES]
        return hashlib.sha256(json.dumps(everything).encode()).hexdigest()

    return _data(share(key, lambda: _arrays(make()))).to(device)


def _code() -> str:
    """SHA-256 of this package's source files as they are now."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256("".join(_digest(file) for file in files).encode()).hexdigest()


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


CODE = _code()
"""Of the code that runs here: the files may be edited while it does."""

LIBRARIES = (sys.prefix, np.__version__, str(torch.__version__))
"""What else the numbers depend on. Each torchvision belongs to one torch, and other libraries only read bytes."""


def _arrays(data: Data) -> dict[str, NDArray[Any]]:
    tensors = {name: getattr(data, name).numpy() for name in ("x_train", "y_train", "x_test", "y_test")}
    return tensors | {"outputs": np.array(data.outputs), "regression": np.array(data.regression)}


def _data(shared: Shared) -> Data:
    arrays = shared.arrays
    tensors = {name: torch.from_numpy(arrays[name]) for name in ("x_train", "y_train", "x_test", "y_test")}
    outputs, regression = int(arrays["outputs"]), bool(arrays["regression"])
    return Data(**tensors, outputs=outputs, regression=regression, held=shared.held, note=shared.note)


def _check_names(name: str, given: Mapping[str, Any], known: Mapping[str, find.Option]) -> None:
    for key in given:
        if key not in known:
            raise SpecError(f"dataset.{key}: unknown; {name} has {', '.join(known)}")
    for key, option in known.items():
        if option.default is find.REQUIRED and key not in given:
            raise SpecError(f"dataset.{key}: missing; {name} needs it")


def prepare(
    arrays: Arrays,
    precision: str = "float64",
    *,
    classes: Annotated[int, Ge(2)] | None = None,
    samples: Annotated[int, Ge(1)] | None = None,
    labels: Literal["true", "random"] = "true",
    scaling: Literal["unit", "standard"] = "unit",
) -> Data:
    """Tensors on the CPU, after the options that every data set has, in this order.

    `classes`: keep the first so many classes. `samples`: keep the first so many training samples (the test
    set stays whole). `labels: random`: uniform training labels, the same in every trial, whatever its seed;
    test labels stay true. `scaling`: `unit` brings pixels into [0, 1] and leaves floats as they are;
    `standard` subtracts the training mean and divides by the training standard deviation (of the population:
    ddof 0), per channel of images and per feature, and only subtracts where that deviation is zero.

    An option that a data set declares itself under the same name is handled there and not here.

    Raises SpecError where the data set has fewer classes or samples than asked for, or no classes at all.
    """
    x_train, y_train, x_test, y_test = arrays.x_train, arrays.y_train, arrays.x_test, arrays.y_test
    k = arrays.classes
    if k is None and classes is not None:
        raise SpecError(f"dataset.classes: {classes}: a regression has no classes")
    if k is None and labels == "random":
        raise SpecError("dataset.labels: random: a regression has no labels; they must be true")
    if classes is not None:
        check_available("classes", classes, k)
        x_train, y_train = x_train[y_train < classes], y_train[y_train < classes]
        x_test, y_test = x_test[y_test < classes], y_test[y_test < classes]
        if len(y_test) == 0:
            raise SpecError(f"dataset.classes: {classes}: none of them has a test sample")
        k = classes
    if samples is not None:
        check_available("samples", samples, len(x_train))
        x_train, y_train = x_train[:samples], y_train[:samples]
    if labels == "random" and k is not None:
        y_train = torch.randint(k, (len(y_train),), generator=seeding.generator(0, "labels")).numpy()
    dtype = np.dtype(precision)
    centre, width = _centre_and_width(x_train, scaling)
    return Data(
        x_train=_inputs(x_train, centre, width, dtype),
        y_train=_targets(y_train, k, dtype),
        x_test=_inputs(x_test, centre, width, dtype),
        y_test=_targets(y_test, k, dtype),
        outputs=y_train.shape[1] if k is None else k,
        regression=k is None,
    )


def _centre_and_width(x: NDArray[Any], scaling: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What to subtract, then to divide by: one float64 each for every channel or feature."""
    columns = x.shape[-1]
    if scaling == "unit":
        return np.zeros(columns), np.full(columns, 255.0 if x.dtype == np.uint8 else 1.0)
    centre, width = np.zeros(columns), np.ones(columns)
    for c in range(columns):  # one at a time: a float64 copy of all images would not be small
        values = x[..., c].astype(np.float64)
        constant = values.min() == values.max()  # whose computed mean and deviation may be rounded
        centre[c] = values.flat[0] if constant else values.mean()
        width[c] = 1.0 if constant else values.std() or 1.0  # 0 where it is too small a number
    return centre, width


def _inputs(
    x: NDArray[Any], centre: NDArray[np.float64], width: NDArray[np.float64], dtype: np.dtype[Any]
) -> torch.Tensor:
    # floats are scaled in float64: their digits may begin far behind those of the mean
    scaled = x.astype(dtype if x.dtype == np.uint8 else np.float64)
    scaled -= centre.astype(scaled.dtype)
    scaled /= width.astype(scaled.dtype)
    if scaled.ndim == 4:
        scaled = scaled.transpose(0, 3, 1, 2)
    scaled = np.ascontiguousarray(scaled, dtype=dtype)
    return _aligned(scaled)


def _targets(y: NDArray[Any], classes: int | None, dtype: np.dtype[Any]) -> torch.Tensor:
    return _aligned(y.astype(dtype if classes is None else np.int64))


def _aligned(array: NDArray[Any]) -> torch.Tensor:
    """In memory of torch's, which begins at a multiple of 64 bytes as shared memory does. NumPy's begins anywhere, and
    some kernels sum in another order then."""
    return torch.from_numpy(array).clone()
