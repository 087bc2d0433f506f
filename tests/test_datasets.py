"""Every file of workers/datasets/: what it loads, what it says before, and what it says when data is absent."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision_files
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as numpy_arrays

from workers import find
from workers.datasets import Arrays, DataError, Description, check_arrays, describe
from workers.datasets.gaussians import class_sizes
from workers.spec import Component, SpecError, plain

NAMES = find.names("datasets")
DOWNLOADED = list(torchvision_files.NAMES)
FIRST_FILES = ("train-images-idx3-ubyte", "data_batch_1", "train")

NPZ = {
    "x_train": np.arange(6 * 4 * 5 * 3).reshape(6, 4, 5, 3).astype(np.uint8),
    "y_train": np.array([0, 1, 2, 0, 1, 2], dtype=np.uint8),
    "x_test": np.zeros((2, 4, 5, 3), dtype=np.uint8),
    "y_test": np.array([2, 0]),
}
FEATURES = {
    "x_train": np.eye(4, 3),
    "y_train": np.array([0.5, 1.0, 1.5, 2.0]),
    "x_test": np.eye(2, 3),
    "y_test": np.zeros(2),
}


def load(name: str, folder: Path, search: Path | None = None, **options: Any) -> Arrays:
    arrays = find.function("datasets", name)(folder, search, **options)
    assert isinstance(arrays, Arrays)
    return arrays


@cache
def mnist5k() -> Arrays:
    """Loaded once: it takes seconds."""
    return load("mnist5k", Path("absent"))


def save(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "my.npz", **arrays)
    return folder / "my.npz"


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        torchvision_files.unplug(patch)
        yield patch


@pytest.mark.parametrize("name", NAMES)
def test_every_file_loads_what_it_describes(name: str, tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"path": str(save(tmp_path, **NPZ))} if name == "npz" else {}
    if name in DOWNLOADED:
        torchvision_files.make(name, tmp_path, patch)
    arrays = check_arrays(mnist5k() if name == "mnist5k" else load(name, tmp_path, **options), name)
    described = describe(Component(name, options), tmp_path, None)
    x = arrays.x_train
    assert described.input_shape == ((x.shape[3], *x.shape[1:3]) if x.ndim == 4 else x.shape[1:])
    assert described.outputs == (arrays.classes or arrays.y_train.shape[1])
    if name not in DOWNLOADED:  # those are tiny fakes here
        assert described.train_samples == len(x)


@pytest.mark.parametrize("name", ["digits", "gaussians", "sine"])
def test_what_is_made_in_memory_is_the_same_again(name: str) -> None:
    first, second = load(name, Path("absent")), load(name, Path("absent"))
    for field in ("x_train", "y_train", "x_test", "y_test"):
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, n) for kind in ("architectures", "datasets", "optimizers") for n in find.names(kind)],
)
def test_every_option_can_be_read_without_importing(kind: str, name: str) -> None:
    for key, option in find.options(kind, name).items():
        assert option.annotation is not Any, key
        if option.default is not find.REQUIRED:
            assert json.loads(json.dumps(plain(option.default))) == plain(option.default), key


def test_describing_imports_nothing_slow(tmp_path: Path) -> None:
    save(tmp_path, **NPZ)
    program = f"""
import sys
from pathlib import Path
from workers import find
from workers.datasets import describe
from workers.spec import Component
for name in find.names("datasets"):
    found = describe(Component(name, {{"path": "my.npz"}} if name == "npz" else {{}}), Path({str(tmp_path)!r}), None)
    assert None not in (found.input_shape, found.outputs, found.train_samples), name
    find.module("datasets", name)
print(*sorted({{"torch", "torchvision", "sklearn", "mlxtend"}} & sys.modules.keys()))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("\n", "")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Description((1, 28, 28), 10, 60_000)),
        ({"classes": 10}, Description((1, 28, 28), 10, 60_000)),
        ({"classes": 3}, Description((1, 28, 28), 3, None)),
        ({"classes": 3, "samples": 50}, Description((1, 28, 28), 3, 50)),
        ({"labels": "random", "scaling": "standard"}, Description((1, 28, 28), 10, 60_000)),
    ],
)
def test_description_follows_the_common_options(options: dict[str, Any], expected: Description) -> None:
    assert describe(Component("mnist", options), Path("absent"), None) == expected


def test_description_of_own_options() -> None:
    options = {"classes": 4, "dimension": 7, "samples": 30}
    assert describe(Component("gaussians", options), Path(), None) == Description((7,), 4, 30)
    assert describe(Component("sine", {"samples": 30}), Path(), None) == Description((1,), 1, 30)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 11}, "dataset.classes: 11: there are only 10"),
        ({"samples": 60_001}, "dataset.samples: 60001: there are only 60000"),
    ],
)
def test_description_refuses_the_impossible(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=rf"^{message}$"):
        describe(Component("mnist", options), Path("absent"), None)


def test_description_of_users_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "known_data.py").write_text(
        "raise ImportError('must not be imported')\n"
        "INPUT_SHAPE = (2, 3, 3)\nCLASSES = 4\nTRAIN_SAMPLES = 50\ndef load(folder, search): ...\n"
    )
    (tmp_path / "unknown_data.py").write_text("def load(folder, search): ...\n")
    assert describe(Component("known_data.load"), tmp_path, None) == Description((2, 3, 3), 4, 50)
    assert describe(Component("unknown_data.load", {"samples": 8}), tmp_path, None) == Description(
        None, None, 8
    )


# --- torchvision's


@pytest.mark.parametrize("name", DOWNLOADED)
def test_files_that_are_there_are_not_downloaded(
    name: str, tmp_path: Path, patch: pytest.MonkeyPatch
) -> None:
    torchvision_files.make(name, tmp_path, patch)  # with no network, a try would raise
    before = sorted(tmp_path.rglob("*"))
    arrays = load(name, tmp_path)
    assert arrays.x_train.dtype == np.uint8
    assert arrays.x_train.flat[0] == 0
    # sample i begins with pixel 784i or 3072i, modulo 256, in the first channel
    first = [28 * 28 * i % 256 for i in range(20)] if "mnist" in name else [0] * 20
    assert arrays.x_train[:20, 0, 0, 0].tolist() == first
    assert arrays.x_train[0, 0, :3, 0].tolist() == [0, 1, 2]  # pixels of a row are neighbours
    assert arrays.y_train.tolist() == [i % (arrays.classes or 0) for i in range(len(arrays.x_train))]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", DOWNLOADED)
def test_absent_files_are_downloaded_once(name: str, tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    server, folder = tmp_path / "server", tmp_path / "deep" / "folder"
    torchvision_files.make(name, server, patch)
    asked = torchvision_files.serve(name, server, patch)
    first = load(name, folder)
    assert len(asked) == (4 if "mnist" in name else 1)
    second = load(name, folder)
    assert len(asked) == len(set(asked))
    np.testing.assert_array_equal(first.x_train, second.x_train)
    assert not list(folder.glob(".download-*"))


def test_processes_wait_for_the_one_that_downloads(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    import torchvision

    from workers.datasets._torchvision import _fetch

    torchvision_files.make("mnist", tmp_path / "server", patch)
    asked = torchvision_files.serve("mnist", tmp_path / "server", patch)
    answer = torchvision.datasets.utils._urlretrieve

    def answer_late(url: str, filename: str) -> None:
        time.sleep(0.05)  # without the lock the others would begin meanwhile
        answer(url, filename)

    patch.setattr("torchvision.datasets.utils._urlretrieve", answer_late)
    with ThreadPoolExecutor(4) as pool:  # file locks do not tell threads from processes
        fetches = [pool.submit(_fetch, torchvision.datasets.MNIST, "MNIST/raw", tmp_path) for _ in range(4)]
        for fetch in fetches:
            fetch.result()
    assert len(asked) == 4


@pytest.mark.parametrize("name", DOWNLOADED)
def test_archives_that_lie_there_are_unpacked(name: str, tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    torchvision_files.make(name, tmp_path, patch)
    torchvision_files.serve(name, tmp_path, patch)
    torchvision_files.unplug(patch)
    assert len(load(name, tmp_path).x_train) == torchvision_files.SAMPLES[name]


@pytest.mark.parametrize("name", DOWNLOADED)
def test_absent_and_offline_says_what_to_do(name: str, tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    with pytest.raises(DataError) as caught:
        load(name, folder)
    message = str(caught.value)
    assert message.startswith(f"{folder}/")
    assert "no network" in message
    first_file = "data_batch_1" if name == "cifar10" else "train"
    for wanted in (first_file, "--data", "TINY_SUBSPACE_DATA", "mnist5k, digits, gaussians, sine and npz"):
        assert wanted in message
    assert "\n" not in message
    # nothing is left that could look complete later, and a later try with a network succeeds
    assert [file.suffix for file in folder.rglob("*")] in ([], [".lock"])
    torchvision_files.make(name, tmp_path / "server", patch)
    torchvision_files.serve(name, tmp_path / "server", patch)
    assert len(load(name, folder).x_train) == torchvision_files.SAMPLES[name]


def test_a_download_that_breaks_off_leaves_nothing(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    torchvision_files.make("mnist", tmp_path / "server", patch)
    torchvision_files.serve("mnist", tmp_path / "server", patch)
    labels = tmp_path / "server" / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:-9])  # the last of four files
    with pytest.raises(DataError, match=r"could not be downloaded"):
        load("mnist", tmp_path / "folder")
    assert [file.name for file in (tmp_path / "folder").rglob("*")] in ([], [".MNIST.lock"])


@pytest.mark.parametrize("name", DOWNLOADED)
def test_damaged_files_are_named(name: str, tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    torchvision_files.make(name, tmp_path, patch)
    damaged = next(file for file in tmp_path.rglob("*") if file.name in FIRST_FILES)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(
        DataError, match=rf"^{damaged.parent}: damaged .*; remove it, and it is downloaded again$"
    ):
        load(name, tmp_path)


def test_too_few_samples_are_damage(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    torchvision_files.make("mnist", tmp_path, patch)
    patch.undo()
    with pytest.raises(DataError, match=r"damaged .20 training samples instead of 60000.; remove it"):
        load("mnist", tmp_path)


# --- data that needs no download


def test_mnist5k_is_balanced_and_complete() -> None:
    arrays = mnist5k()
    assert np.bincount(arrays.y_train).tolist() == [400] * 10
    assert np.bincount(arrays.y_test).tolist() == [100] * 10
    assert arrays.x_train.dtype == np.uint8
    assert arrays.x_train.max() == 255
    both = np.concatenate([arrays.x_train, arrays.x_test]).reshape(5000, -1)
    assert len(np.unique(both, axis=0)) == 5000  # no digit is in both, and none is lost
    assert len(set(arrays.y_train[:100])) == 10  # `samples: 100` has all classes
    # golden: the split is what stored results were computed on
    assert arrays.y_train[:12].tolist() == [0, 7, 9, 9, 1, 5, 2, 4, 0, 5, 8, 2]
    assert arrays.y_test[:12].tolist() == [8, 8, 8, 8, 2, 8, 8, 2, 2, 8, 2, 2]


def test_digits_are_in_the_unit_interval_and_complete() -> None:
    arrays = load("digits", Path("absent"))
    assert (len(arrays.x_train), len(arrays.x_test)) == (1437, 360)
    assert (arrays.x_train.min(), arrays.x_train.max()) == (0, 1)
    both = np.concatenate([arrays.y_train, arrays.y_test])
    assert np.bincount(both).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # scikit-learn's
    assert arrays.y_train[:12].tolist() == [2, 8, 2, 6, 6, 7, 1, 9, 8, 5, 2, 8]


# --- gaussians and sine


def test_gaussians_without_noise_are_the_solvable_model() -> None:
    arrays = load("gaussians", Path(), classes=5, dimension=8, samples=50, noise=0)
    assert np.bincount(arrays.y_train).tolist() == [10] * 5
    np.testing.assert_array_equal(arrays.x_train, np.eye(5, 8)[arrays.y_train])


@pytest.mark.parametrize("means", ["orthonormal", "random"])
def test_gaussians_have_the_moments_asked_for(means: str) -> None:
    k, d, n, σ = 3, 6, 30_000, 0.5
    arrays = load("gaussians", Path(), classes=k, dimension=d, samples=n, noise=σ, means=means)
    centres = np.stack([arrays.x_train[arrays.y_train == c].mean(axis=0) for c in range(k)])
    noise = arrays.x_train - centres[arrays.y_train]
    # a mean of n/k draws has a standard error of σ√(k/n) = 0.005: five of them for each of 18 numbers, so that a
    # norm, a sum of 6 coordinates weighted by a unit vector, is within five of them too
    standard_error = σ * np.sqrt(k / n)
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1, atol=5 * standard_error)
    if means == "orthonormal":
        np.testing.assert_allclose(centres, np.eye(k, d), atol=5 * standard_error)
    # an entry of a sample covariance has a standard error of at most σ²√(2/n)
    np.testing.assert_allclose(noise.T @ noise / n, σ**2 * np.eye(d), atol=5 * σ**2 * np.sqrt(2 / n))


def test_gaussians_with_weights_and_seeds() -> None:
    arrays = load("gaussians", Path(), classes=2, samples=40, weights=[3, 1], seed=2**40)
    assert np.bincount(arrays.y_train).tolist() == [30, 10]
    other = load("gaussians", Path(), classes=2, samples=40, weights=[3, 1], seed=1)
    assert not np.array_equal(arrays.x_train, other.x_train)


@given(
    samples=st.integers(10, 10_000),
    weights=numpy_arrays(float, st.integers(2, 10), elements=st.floats(0.01, 1)),
    least=st.integers(0, 1),
)
def test_class_sizes_are_the_shares_rounded(samples: int, weights: Any, least: int) -> None:
    shares = weights / weights.sum()
    sizes = class_sizes(samples, shares, least)
    assert sizes.sum() == samples
    assert (sizes >= least).all()
    if least == 0:
        assert (abs(sizes - samples * shares) < 1 + 1e-6).all()  # 1e-6 for rounding in the product


@given(classes=st.integers(2, 50), each=st.integers(1, 1000))
def test_class_sizes_are_equal_where_they_can_be(classes: int, each: int) -> None:
    shares = np.full(classes, 1 / classes)
    assert class_sizes(classes * each, shares, least=1).tolist() == [each] * classes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"classes": 5, "dimension": 4},
            "dataset.dimension: 4: 5 orthonormal means need at least 5 dimensions",
        ),
        ({"samples": 9}, "dataset.samples: 9: must be at least the number of classes, 10"),
        ({"classes": 3, "weights": [1, 2]}, "dataset.weights: [1, 2]: must be one for each of the 3 classes"),
    ],
)
def test_gaussians_refuse_contradictions(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load("gaussians", Path(), **options)
    assert str(caught.value) == message


def test_sine_is_one_period_with_noise() -> None:
    n = 20_000
    arrays = load("sine", Path(), samples=n, test_samples=10)
    x, y = arrays.x_train, arrays.y_train
    assert (arrays.classes, x.shape, y.shape, arrays.x_test.shape) == (None, (n, 1), (n, 1), (10, 1))
    # n uniform draws leave a gap of g at an end with probability (1 − g/2)ⁿ = e⁻¹⁰ for g = 20/n
    assert x.min() == pytest.approx(-1, abs=20 / n)
    assert x.max() == pytest.approx(1, abs=20 / n)
    noise = y - np.sin(np.pi * x)
    assert noise.mean() == pytest.approx(0, abs=5 * 0.1 / np.sqrt(n))  # five standard errors σ/√n
    assert noise.std() == pytest.approx(0.1, abs=5 * 0.1 / np.sqrt(2 * n))  # and of a deviation σ/√(2n)


# --- npz


@pytest.mark.parametrize("where", ["search", "folder", "absolute"])
def test_npz_is_found_beside_the_sweep_file_first(where: str, tmp_path: Path) -> None:
    search, folder = tmp_path / "search", tmp_path / "folder"
    for place in (search, folder):
        place.mkdir()
    if where != "folder":
        save(search, **NPZ)
    save(folder, **NPZ | {"x_test": np.ones((2, 4, 5, 3), dtype=np.uint8)})
    path = str(search / "my.npz") if where == "absolute" else "my.npz"
    arrays = load("npz", folder, None if where == "absolute" else search, path=path)
    assert arrays.x_test.max() == (1 if where == "folder" else 0)
    assert arrays.classes == 3


def test_npz_of_floats_is_a_regression(tmp_path: Path) -> None:
    path = str(save(tmp_path, **FEATURES))
    arrays = load("npz", tmp_path, path=path)
    assert arrays.classes is None
    np.testing.assert_array_equal(arrays.y_train, FEATURES["y_train"][:, None])
    assert describe(Component("npz", {"path": path}), tmp_path, None) == Description((3,), 1, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_test": None}, "no x_test; it has x_train, y_train, y_test"),
        ({"y_train": None, "y_test": None}, "no y_train and no y_test; it has x_train, x_test"),
        ({"x_train": np.zeros((6, 4, 5), np.uint8)}, "x_train: uint8 of shape (6, 4, 5); must be images"),
        ({"x_train": np.zeros((6, 60), np.uint8)}, "x_train: uint8 of shape (6, 60); must be images"),
        ({"x_train": np.zeros((6, 4, 5, 3), int)}, "x_train: int64 of shape (6, 4, 5, 3); must be images"),
        (
            {"x_train": np.zeros((0, 4, 5, 3), np.uint8)},
            "x_train: uint8 of shape (0, 4, 5, 3); must not be empty",
        ),
        ({"x_train": np.full((6, 4, 5, 3), np.nan)}, "x_train: has NaN or infinite entries"),
        (
            {"x_test": np.zeros((2, 4, 5, 1), np.uint8)},
            "x_test: uint8 of shape (2, 4, 5, 1) where x_train has uint8 of shape (6, 4, 5, 3)",
        ),
        ({"x_test": np.zeros((2, 4, 5, 3))}, "x_test: float64 of shape (2, 4, 5, 3) where x_train has uint8"),
        ({"y_train": np.zeros((6, 3), int)}, "y_train: int64 of shape (6, 3); must be class indices (n,)"),
        ({"y_train": np.array(list("abcabc"))}, "y_train: <U1 of shape (6,); must be class indices (n,)"),
        ({"y_train": np.arange(5) % 3}, "y_train: 5 entries for 6 samples in x_train"),
        ({"y_test": np.array([0])}, "y_test: 1 entries for 2 samples in x_test"),
        ({"y_train": np.array([0, 2, 3, 0, 2, 3])}, "y_train: no sample of class 1; classes must be 0 to 3"),
        ({"y_train": np.array([-1, 0, 1, -1, 0, 1])}, "y_train: labels from -1 to 1; must be from 0 to 1"),
        ({"y_test": np.array([0, 3])}, "y_test: labels from 0 to 3; must be from 0 to 2"),
        ({"y_train": np.zeros(6, int)}, "y_train: only 1 class; there must be at least 2"),
        ({"y_test": np.array([0.0, 1.0])}, "y_test: float64 of shape (2, 1); must be class indices (n,)"),
        ({"y_train": np.zeros(6)}, "y_test: int64 of shape (2,); must be regression targets (n, outputs)"),
        ({"y_train": np.full(6, np.inf)}, "y_train: has NaN or infinite entries"),
        (
            {"y_train": np.zeros((6, 2)), "y_test": np.zeros(2)},
            "y_test: float64 of shape (2, 1) where y_train has float64 of shape (6, 2)",
        ),
        ({"y_train": np.array([None] * 6)}, "not a NumPy .npz file of plain arrays (Object arrays"),
    ],
)
def test_npz_errors_name_file_and_array(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = save(tmp_path, **{name: array for name, array in (NPZ | change).items() if array is not None})
    with pytest.raises(DataError) as caught:
        load("npz", tmp_path, path="my.npz")
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", b"\x93NUMPY"])
def test_npz_that_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "my.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"my.npz: not a NumPy .npz file of plain arrays"):
        load("npz", tmp_path, path="my.npz")
    assert describe(Component("npz", {"path": "my.npz"}), tmp_path, None) == Description()


def test_npz_that_is_one_bare_array(tmp_path: Path) -> None:
    with (tmp_path / "my.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match=r"my.npz: not a NumPy .npz file of plain arrays"):
        load("npz", tmp_path, path="my.npz")
    assert describe(Component("npz", {"path": "my.npz"}), tmp_path, None) == Description()


def test_npz_that_is_absent(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^my.npz: no such file in here and in there$"):
        load("npz", Path("there"), Path("here"), path="my.npz")
    with pytest.raises(DataError, match=rf"^{tmp_path}/my.npz: no such file$"):
        load("npz", Path("there"), Path("here"), path=str(tmp_path / "my.npz"))
