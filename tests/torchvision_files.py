"""Tiny data sets in torchvision's file formats, and a server for them that is a folder. No network."""

import gzip
import hashlib
import pickle
import shutil
import struct
import tarfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torchvision

from workers import find

NAMES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
SAMPLES = {"mnist": 20, "fashion_mnist": 20, "cifar10": 20, "cifar100": 100}


def make(name: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """The files of the data set `name` in `folder`, with the sizes and checksums to expect patched to theirs."""
    patch.setattr(find.module("datasets", name), "TRAIN_SAMPLES", SAMPLES[name])
    kind = getattr(torchvision.datasets, NAMES[name])
    if name.endswith("mnist"):
        _make_idx(folder / kind.__name__ / "raw", SAMPLES[name])
    else:
        _make_cifar(kind, folder / kind.base_folder, SAMPLES[name], patch)


def serve(name: str, server: Path, patch: pytest.MonkeyPatch) -> list[str]:
    """Move what `make` made in `server` into archives that downloads are answered with; the list fills with them."""
    kind = getattr(torchvision.datasets, NAMES[name])
    if name.endswith("mnist"):
        raw = server / kind.__name__ / "raw"
        for file in list(raw.iterdir()):
            with gzip.open(server / f"{file.name}.gz", "wb") as zipped:
                zipped.write(file.read_bytes())
        shutil.rmtree(server / kind.__name__)
        patch.setattr(kind, "resources", [(f, _md5(server / f)) for f, _ in kind.resources])
    else:
        with tarfile.open(server / kind.filename, "w:gz") as archive:
            archive.add(server / kind.base_folder, kind.base_folder)
        shutil.rmtree(server / kind.base_folder)
        patch.setattr(kind, "tgz_md5", _md5(server / kind.filename))
    asked: list[str] = []

    def answer(url: str, filename: str) -> None:
        asked.append(url.rpartition("/")[2])
        shutil.copyfile(server / asked[-1], filename)

    patch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, max_hops: url)
    patch.setattr("torchvision.datasets.utils._urlretrieve", answer)
    return asked


def unplug(patch: pytest.MonkeyPatch) -> None:
    """Let every download fail as it does without a network."""

    def fail(*_: object, **__: object) -> None:
        raise URLError("no network")

    patch.setattr("torchvision.datasets.utils._get_redirect_url", fail)
    patch.setattr("torchvision.datasets.utils._urlretrieve", fail)


def _make_idx(raw: Path, samples: int) -> None:
    raw.mkdir(parents=True)
    for split, n in (("train", samples), ("t10k", 10)):
        images = (np.arange(n * 28 * 28) % 256).astype(np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        (raw / f"{split}-images-idx3-ubyte").write_bytes(
            struct.pack(">4i", 2051, n, 28, 28) + images.tobytes()
        )
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, n) + labels.tobytes())


def _make_cifar(kind: type, folder: Path, samples: int, patch: pytest.MonkeyPatch) -> None:
    folder.mkdir(parents=True)
    label, classes = ("labels", 10) if kind.__name__ == "CIFAR10" else ("fine_labels", 100)
    first = 0
    for attribute, n in (("train_list", samples), ("test_list", 10)):
        listed = getattr(kind, attribute)
        for file, _ in listed:
            each = n // len(listed)
            pixels = (
                (np.arange(first * 3072, (first + each) * 3072) % 256).astype(np.uint8).reshape(each, 3072)
            )
            entry = {"data": pixels, label: [(first + i) % classes for i in range(each)]}
            (folder / file).write_bytes(pickle.dumps(entry, protocol=2))
            first += each
        patch.setattr(kind, attribute, [[file, _md5(folder / file)] for file, _ in listed])
    meta = folder / kind.meta["filename"]  # type: ignore[attr-defined]
    meta.write_bytes(pickle.dumps({kind.meta["key"]: []}))  # type: ignore[attr-defined]
    patch.setattr(kind, "meta", {**kind.meta, "md5": _md5(meta)})  # type: ignore[attr-defined]


def _md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()
