"""A user's own arrays, from a NumPy .npz file with x_train, y_train, x_test and y_test."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.datasets import Arrays, DataError, Description, check_arrays

NAMES = ("x_train", "y_train", "x_test", "y_test")

UNREADABLE = (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error)
"""What NumPy raises for files of other kinds and for damaged ones."""


def load(folder: Path, search: Path | None, *, path: str) -> Arrays:
    """The file at `path`: absolute, or relative to the sweep file's folder `search`, or else to `folder`.

    `x` are images (n, height, width, channels), uint8 or floats, or features (n, d), floats. `y` are class
    indices (n,), whole numbers 0 … k − 1, or, for regression, floats (n,) or (n, outputs).

    Raises DataError, in one line that names the file and the array, for whatever is absent or otherwise.
    """
    file = find_file(path, folder, search)
    if file is None:
        places = " and in ".join(str(place) for place in _places(folder, search))
        raise DataError(f"{path}: no such file" + ("" if Path(path).is_absolute() else f" in {places}"))
    arrays = _read(file)
    y_train, y_test = _targets(arrays["y_train"]), _targets(arrays["y_test"])
    classes = None if y_train.dtype.kind == "f" else _classes(y_train)
    return check_arrays(Arrays(arrays["x_train"], y_train, arrays["x_test"], y_test, classes), str(file))


def files(folder: Path, search: Path | None, *, path: str) -> list[Path]:
    """What `load` reads; nothing where it is absent."""
    file = find_file(path, folder, search)
    return [] if file is None else [file]


def describe(folder: Path, search: Path | None, *, path: str) -> Description:
    """Shape and size from the file's headers and its labels; unknown where they cannot be read."""
    file = find_file(path, folder, search)
    if file is None:
        return Description()
    try:
        shape = _shape(file, "x_train")
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            y = _targets(stored["y_train"])
    except (*UNREADABLE, KeyError):
        return Description()
    n, *rest = shape or (0,)
    height_width_channels = len(rest) == 3
    input_shape = (rest[2], rest[0], rest[1]) if height_width_channels else tuple(rest)
    outputs = y.shape[-1] if y.dtype.kind == "f" else _classes(y)
    return Description(input_shape, outputs, n)


def find_file(path: str, folder: Path, search: Path | None) -> Path | None:
    """Where the file is, or None."""
    return next((place / path for place in _places(folder, search) if (place / path).is_file()), None)


def _places(folder: Path, search: Path | None) -> list[Path]:
    return [folder] if search is None else [search, folder]


def _read(file: Path) -> dict[str, NDArray[Any]]:
    try:
        # opened here, because np.load leaves a file open that is no archive
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            absent = [name for name in NAMES if name not in stored]
            if not absent:
                return {name: stored[name] for name in NAMES}
            there = ", ".join(stored) or "nothing"
    except UNREADABLE as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{file}: not a NumPy .npz file of plain arrays ({reason})") from error
    raise DataError(f"{file}: no {' and no '.join(absent)}; it has {there}")


def _targets(y: NDArray[Any]) -> NDArray[Any]:
    """Regression targets as (n, outputs)."""
    return y[:, None] if y.dtype.kind == "f" and y.ndim == 1 else y


def _classes(y: NDArray[Any]) -> int:
    return int(y.max(initial=0)) + 1 if y.dtype.kind in "iu" else 0


def _shape(file: Path, name: str) -> tuple[int, ...]:
    with zipfile.ZipFile(file) as stored, stored.open(f"{name}.npy") as array:
        npy = np.lib.format
        first = npy.read_magic(array) == (1, 0)
        shape, _, _ = npy.read_array_header_1_0(array) if first else npy.read_array_header_2_0(array)
        return shape
