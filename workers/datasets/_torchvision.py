"""Data sets that torchvision downloads: found where they lie, or fetched once, all or nothing."""

import shutil
import socket
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from workers.datasets import Arrays, DataError

NO_DOWNLOAD = "mnist5k, digits, gaussians, sine and npz need no download"
PATIENCE_S = 10.0
"""How long a server may be silent before a download counts as failed."""


def load_torchvision(name: str, place: str, folder: Path, *, classes: int, train_samples: int) -> Arrays:
    """Both splits of the torchvision class `name`, whose files lie in `folder/place`, images (n, height,
    width, channels).

    Files that are there are used as they are, and the folder may be read-only. Else they are downloaded into
    a folder of their own, verified by torchvision, and moved into place one by one; processes that share
    `folder` wait for the one that downloads. Archives that lie in `folder` or `folder/place` are unpacked
    instead.

    Raises DataError, naming the folder expected, where data is absent and cannot be downloaded, or is
    damaged.
    """
    import torchvision

    kind = getattr(torchvision.datasets, name)
    if not _is_there(kind, folder / place):
        _fetch(kind, place, folder)
    try:
        train, test = (_split(kind, folder, train) for train in (True, False))
    except Exception as error:  # whatever torchvision's reading of a damaged file raises
        raise DataError(
            f"{folder / place}: damaged ({error}); remove it, and it is downloaded again"
        ) from error
    if len(train[0]) != train_samples:
        raise DataError(
            f"{folder / place}: damaged ({len(train[0])} training samples instead of {train_samples}); "
            "remove it, and it is downloaded again"
        )
    return Arrays(*train, *test, classes=classes)


def torchvision_files(name: str, place: str, folder: Path) -> list[Path]:
    """What lies in `folder/place`, downloaded where that is empty. Imports torchvision, which takes a second, only
    then.

    Raises DataError where it is absent and cannot be downloaded.
    """
    if not _all_files(folder / place):
        import torchvision

        _fetch(getattr(torchvision.datasets, name), place, folder)
    return _all_files(folder / place)


def _all_files(place: Path) -> list[Path]:
    return sorted(file for file in place.glob("*") if file.is_file())


def _is_there(kind: Any, place: Path) -> bool:
    return all((place / name).is_file() for name in _files(kind))


def _split(kind: Any, folder: Path, train: bool) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        # CIFAR's pickles are older than what NumPy now expects of a dtype
        warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed")
        split = kind(str(folder), train=train, download=False)
    images = np.asarray(split.data)
    return images if images.ndim == 4 else images[..., None], np.asarray(split.targets, dtype=np.int64)


def _fetch(kind: Any, place: str, folder: Path) -> None:
    """Have torchvision make the files in a temporary folder beside, and move them to where they belong."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{kind.__name__}.lock"):
            if _is_there(kind, folder / place):  # another process was faster
                return
            with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as temporary, _patience():
                made = Path(temporary)
                _copy_archives(kind, folder, place, made)
                kind(str(made), download=True)
                for file in sorted((made / place).rglob("*")):
                    if file.is_file():
                        target = folder / file.relative_to(made)
                        target.parent.mkdir(parents=True, exist_ok=True)
                        file.replace(target)
    except Exception as error:  # of the network, the disk, an archive that breaks off
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{folder / place}: no {kind.__name__} there, and it could not be downloaded ({reason}); put "
            f"torchvision's files ({', '.join(_files(kind))}) there, where --data or TINY_SUBSPACE_DATA name "
            f"{folder}; {NO_DOWNLOAD}"
        ) from error


def _archives(kind: Any) -> list[str]:
    return [name for name, _ in kind.resources] if hasattr(kind, "resources") else [kind.filename]


def _files(kind: Any) -> list[str]:
    if hasattr(kind, "resources"):
        return [name.removesuffix(".gz") for name in _archives(kind)]
    return [*(name for name, _ in [*kind.train_list, *kind.test_list]), kind.meta["filename"]]


def _copy_archives(kind: Any, folder: Path, place: str, made: Path) -> None:
    """Archives that someone put there already, where torchvision looks for them."""
    for name in _archives(kind):
        for file in (folder / name, folder / place / name):
            if file.is_file():
                target = made / place / name if hasattr(kind, "resources") else made / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
                break


@contextmanager
def _patience() -> Iterator[None]:
    """Time limits for connections, which torchvision opens without any."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
