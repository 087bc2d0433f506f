"""The options that all data sets share, and the tensors that a trial gets."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision_files
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as numpy_arrays

from workers import data, find, shared_arrays
from workers.data import Data, load_data, prepare
from workers.datasets import Arrays, DataError
from workers.initialization import model_of
from workers.losses import LOSSES
from workers.result import Reached
from workers.spec import Component, SpecError, TrialSpec
from workers.training import Training
from workers.trial import TrialContext, run_trial

EPSILON = float(np.finfo(np.float64).eps)


def images(n: int = 40, channels: int = 3, classes: int = 4) -> Arrays:
    random = np.random.default_rng(0)
    shape = (n, 5, 6, channels)
    x_train, x_test = (random.integers(0, 256, shape, dtype=np.uint8) for _ in range(2))
    return Arrays(x_train, np.arange(n) % classes, x_test, np.arange(n) % classes, classes)


def features(x_train: Any, x_test: Any = None) -> Arrays:
    x_train = np.asarray(x_train)
    x_test = x_train if x_test is None else np.asarray(x_test)
    return Arrays(x_train, np.zeros((len(x_train), 1)), x_test, np.zeros((len(x_test), 1)), None)


def load(name: str = "gaussians", loss: str = "cross_entropy", **options: Any) -> Data:
    return load_data(
        Component(name, options),
        folder=Path("absent"),
        search=None,
        loss=loss,
        precision="float32",
        device="cpu",
    )


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a file `own_data.py` is a user's own data set."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_data", raising=False)
    return tmp_path / "own_data.py"


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("scaling", ["unit", "standard"])
def test_images_become_channels_first_tensors(precision: str, scaling: Any) -> None:
    arrays = images()
    prepared = prepare(arrays, precision, scaling=scaling)
    assert prepared.x_train.shape == (40, 3, 5, 6)
    assert prepared.input_shape == (3, 5, 6)
    assert {t.dtype for t in (prepared.x_train, prepared.x_test)} == {getattr(torch, precision)}
    assert {t.dtype for t in (prepared.y_train, prepared.y_test)} == {torch.int64}
    assert prepared.x_train.is_contiguous()
    assert (prepared.outputs, prepared.regression) == (4, False)
    x = arrays.x_train.astype(np.float64).transpose(0, 3, 1, 2)
    expected = x / 255
    if scaling == "standard":
        expected = (x - x.mean(axis=(0, 2, 3), keepdims=True)) / x.std(axis=(0, 2, 3), keepdims=True)
    # one rounding of a centre of at most 255, divided by a deviation of about 74, and two of the result
    rounding = float(torch.finfo(getattr(torch, precision)).eps)
    np.testing.assert_allclose(prepared.x_train.numpy(), expected, atol=8 * rounding)


def test_unit_scaling_is_exact_to_the_last_bit() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    arrays = Arrays(every, np.array([0]), every, np.array([1]), 2)
    for precision, dtype in (("float32", np.float32), ("float64", np.float64)):
        x = prepare(arrays, precision).x_train.numpy().reshape(-1)
        np.testing.assert_array_equal(x, np.divide(np.arange(256), 255, dtype=dtype))


def test_test_data_is_scaled_by_training_statistics() -> None:
    prepared = prepare(features([[0.0], [2.0]], [[5.0]]), scaling="standard")
    assert prepared.x_train.tolist() == [[-1], [1]]
    assert prepared.x_test.tolist() == [[4]]


@example(np.array([[0.0], [5e-324], [5e-324]]))  # whose deviation is rounded to 0
@given(numpy_arrays(np.float64, (7, 3), elements=st.floats(-1e6, 1e6)))
def test_standard_scaling_never_makes_nan(x: Any) -> None:
    scaled = prepare(features(x), scaling="standard").x_train.numpy()
    assert np.isfinite(scaled).all()
    for column, original in zip(scaled.T, x.T, strict=True):
        if np.ptp(original) == 0:
            assert (column == 0).all()
        elif np.ptp(original) > max(1e-3 * abs(original).max(), 1e-100):  # whose square is a number
            # values within 1e3 deviations of 0 are rounded to ε at most 1e3 times as large as the deviation's
            assert abs(column.mean()) < 1e4 * EPSILON
            assert column.std() == pytest.approx(1, abs=1e4 * EPSILON)


def test_a_spread_far_below_the_mean_survives_float32() -> None:
    scaled = prepare(features([[1e9], [1e9 + 2]]), "float32", scaling="standard").x_train
    assert scaled.tolist() == [[-1], [1]]


def test_constant_channels_and_features_become_zero() -> None:
    constant = images()
    constant.x_train[..., 1] = 77
    prepared = prepare(constant, "float32", scaling="standard")
    assert (prepared.x_train[:, 1] == 0).all()
    assert torch.isfinite(prepared.x_test).all()
    assert prepare(features([[0.1], [0.1], [0.1]]), scaling="standard").x_train.tolist() == [[0], [0], [0]]


def test_floats_stay_as_they_are_with_unit_scaling() -> None:
    x = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_array_equal(prepare(features(x)).x_train.numpy(), x)


@pytest.mark.parametrize("dtype", [">f8", "f4", "f2", np.longdouble])
def test_floats_of_any_kind_are_taken(dtype: Any) -> None:
    assert prepare(features(np.eye(3, dtype=dtype)), "float32").x_train.tolist() == np.eye(3).tolist()


def test_classes_and_samples_keep_the_first() -> None:
    arrays = images(classes=4)
    prepared = prepare(arrays, classes=3, samples=7)
    kept = np.flatnonzero(arrays.y_train < 3)
    assert prepared.y_train.tolist() == arrays.y_train[kept][:7].tolist()
    assert prepared.y_test.tolist() == arrays.y_test[arrays.y_test < 3].tolist()
    assert prepared.outputs == 3
    expected = arrays.x_train[kept][:7].transpose(0, 3, 1, 2) / 255
    np.testing.assert_array_equal(prepared.x_train.numpy(), expected)


def test_scaling_uses_what_is_left() -> None:
    x = np.array([[0.0], [10.0], [2.0], [10.0]])
    arrays = Arrays(x, np.array([0, 2, 1, 2]), x, np.array([0, 2, 1, 2]), 3)
    assert prepare(arrays, classes=2, scaling="standard").x_train.tolist() == [[-1], [1]]


def test_random_labels_are_uniform_and_the_same_for_every_trial() -> None:
    n, k = 4000, 4
    arrays = images(n, channels=1)
    first, second = (prepare(arrays, labels="random") for _ in range(2))
    assert first.y_train.tolist() == second.y_train.tolist()
    assert first.y_test.tolist() == arrays.y_test.tolist()
    # a count of n draws has a standard error of √(n(1/k)(1 − 1/k)) = 27; five of them
    deviation = 5 * np.sqrt(n / k * (1 - 1 / k))
    assert torch.bincount(first.y_train).tolist() == pytest.approx([n / k] * k, abs=deviation)
    # independent of the true ones: they agree as often as any two draws do
    agreeing = int((first.y_train.numpy() == arrays.y_train).sum())
    assert agreeing == pytest.approx(n / k, abs=deviation)


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        (images(), {"classes": 5}, "dataset.classes: 5: there are only 4"),
        (images(), {"samples": 41}, "dataset.samples: 41: there are only 40"),
        (images(), {"classes": 2, "samples": 21}, "dataset.samples: 21: there are only 20"),
        (features(np.eye(3)), {"classes": 2}, "dataset.classes: 2: a regression has no classes"),
        (
            features(np.eye(3)),
            {"labels": "random"},
            "dataset.labels: random: a regression has no labels; they must be true",
        ),
        (
            Arrays(np.eye(3), np.arange(3), np.eye(3), np.full(3, 2), 3),
            {"classes": 2},
            "dataset.classes: 2: none of them has a test sample",
        ),
    ],
)
def test_impossible_options_are_refused(arrays: Arrays, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        prepare(arrays, **options)
    assert str(caught.value) == message


def test_data_is_loaded_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    data._loaded.cache_clear()
    first = load(samples=20, noise=0.1)
    monkeypatch.setattr(find, "function", lambda *_: pytest.fail("loaded again"))
    assert load(noise=0.1, samples=20) is first
    assert load(noise=0.1, samples=20, loss="mse") is first


def test_other_options_are_other_data() -> None:
    assert load(samples=20) is not load(samples=21)
    assert len(load(samples=21).x_train) == 21


def test_an_option_of_the_data_sets_own_is_not_applied_twice() -> None:
    # ten classes, of which `classes: 3` of prepare would keep three, are not made: there are three from the start
    prepared = load(classes=3, samples=9, labels="random", scaling="standard")
    assert torch.bincount(load(classes=3, samples=9).y_train).tolist() == [3, 3, 3]
    assert prepared.outputs == 3


def test_regression_has_targets_and_no_classes() -> None:
    sine = load("sine", loss="mse", samples=30)
    assert (sine.outputs, sine.regression, sine.input_shape) == (1, True, (1,))
    assert (sine.y_train.shape, sine.y_train.dtype) == ((30, 1), torch.float32)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sine", {}, "loss: cross_entropy: sine is a regression, which has no classes; use mse"),
        ("sine", {"classes": 2}, "dataset.classes: 2: a regression has no classes"),
        ("npz", {}, "dataset.path: missing; npz needs it"),
        (
            "sine",
            {"nose": 0.1},
            "dataset.nose: unknown; sine has classes, samples, labels, scaling, test_samples, noise, seed",
        ),
        (
            "nothing",
            {},
            "datasets: no 'nothing'; there are cifar10, cifar100, digits, fashion_mnist, gaussians, mnist, mnist5k, "
            "npz, sine (or a dotted name of your own)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(name, **options)
    assert str(caught.value) == message


def test_a_users_own_file_is_loaded_and_checked(own_data: Path) -> None:
    own_data.write_text(
        "import numpy as np\n"
        "from workers.datasets import Arrays\n"
        "def load(folder, search, *, width: int = 2):\n"
        "    x = np.eye(2, width)\n"
        "    return Arrays(x, np.array([0, 1]), x, np.array([0, 1]), 2)\n"
        "def damaged(folder, search):\n"
        "    x = np.eye(2)\n"
        "    return Arrays(x, np.array([0, 2]), x, np.array([0, 1]), 3)\n"
        "def wrong(folder, search):\n"
        "    return np.eye(2)\n"
    )
    assert load("own_data.load", width=3, samples=1).x_train.tolist() == [[1, 0, 0]]
    with pytest.raises(DataError, match=r"^own_data.damaged: y_train: no sample of class 1"):
        load("own_data.damaged")
    with pytest.raises(
        SpecError, match=r"^dataset: own_data.wrong returned a ndarray, must be workers.datasets.Arrays"
    ):
        load("own_data.wrong")


# --- shared by the processes of a node


@pytest.fixture
def shared_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where files lie that processes share: any data is worth one, and this process begins with none."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(shared_arrays, "WORTH_A_FILE", 0)
    data._loaded.cache_clear()
    yield tmp_path / f"tiny-subspace-data-{os.getuid()}"
    data._loaded.cache_clear()


def another_process(*arguments: Any, **options: Any) -> Data:
    """What a process loads that has not loaded anything before."""
    data._loaded.cache_clear()
    return load(*arguments, **options)


def save(file: Path, seed: int = 0) -> str:
    random = np.random.default_rng(seed)
    images = {f"x_{split}": random.integers(0, 256, (20, 16, 16, 1), np.uint8) for split in ("train", "test")}
    np.savez(file, allow_pickle=False, **images, y_train=np.arange(20) % 4, y_test=np.arange(20) % 4)
    return str(file)


def test_data_of_files_is_loaded_once_on_a_node(
    shared_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "my.npz")
    first = load("npz", path=path)
    assert first.held is not None
    monkeypatch.setattr(find, "function", lambda *_: pytest.fail("loaded again"))
    second = another_process("npz", path=path)
    assert second is not first
    for name in ("x_train", "y_train", "x_test", "y_test"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert (second.outputs, second.regression, second.note) == (4, False, None)


def test_data_on_another_device_stays_in_use(shared_folder: Path, tmp_path: Path) -> None:
    path = save(tmp_path / "my.npz")
    elsewhere = load("npz", path=path).to("meta")
    held = another_process("npz", path=path).held
    data._loaded.cache_clear()
    inode = next(shared_folder.glob("*[0-9a-f]")).stat().st_ino
    del held  # what is left is what is on the device
    assert another_process("npz", path=path).held is not None
    assert next(shared_folder.glob("*[0-9a-f]")).stat().st_ino == inode
    assert elsewhere.x_train.is_meta


@pytest.mark.parametrize(
    "change", [{"samples": 8}, {"scaling": "standard"}, {"labels": "random"}, {"classes": 2}]
)
def test_other_options_share_nothing(shared_folder: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    path = save(tmp_path / "my.npz")
    first = load("npz", path=path)
    private = prepare(find.function("datasets", "npz")(Path(), None, path=path), "float32", **change)
    changed = another_process("npz", path=path, **change)
    for name in ("x_train", "y_train", "x_test", "y_test"):
        assert torch.equal(getattr(changed, name), getattr(private, name))
    assert first.x_train.shape == (20, 1, 16, 16)


def test_another_precision_shares_nothing(shared_folder: Path, tmp_path: Path) -> None:
    dataset = Component("npz", {"path": save(tmp_path / "my.npz")})
    single, double = (
        load_data(dataset, folder=Path(), search=None, loss="mse", precision=precision, device="cpu")
        for precision in ("float32", "float64")
    )
    assert (single.x_train.dtype, double.x_train.dtype) == (torch.float32, torch.float64)


def test_a_file_with_other_content_is_other_data(shared_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "my.npz"
    first = load("npz", path=save(file, seed=0))
    before = file.stat()
    save(file, seed=1)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size  # nothing but the content differs
    second = another_process("npz", path=str(file))
    assert not torch.equal(first.x_train, second.x_train)
    assert second.held is not None


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", [7, "full"])
@pytest.mark.parametrize("architecture", ["mlp", "convnet"])
def test_training_is_the_same_on_shared_data(
    shared_folder: Path, tmp_path: Path, architecture: str, batch_size: Any, precision: Any
) -> None:
    dataset = Component("npz", {"path": save(tmp_path / "my.npz")})
    spec = TrialSpec(
        architecture=Component(architecture),
        dataset=dataset,
        batch_size=batch_size,
        precision=precision,
        steps=4,
    )
    own = prepare(find.function("datasets", "npz")(Path(), None, **dataset.options), precision)
    shared = load_data(dataset, folder=Path(), search=None, loss=spec.loss, precision=precision, device="cpu")
    assert (own.held, shared.held is not None) == (None, True)
    weights = []
    for either in (own, shared):
        assert all(
            getattr(either, x).data_ptr() % 64 == 0 for x in ("x_train", "y_train", "x_test", "y_test")
        )
        training = Training(spec, either, model_of(spec, either), LOSSES[spec.loss])
        for _ in range(4):
            training.advance()
        weights.append(training.weights())
    assert own.x_train.stride() == shared.x_train.stride()
    assert torch.equal(*weights)


def test_a_trial_tells_why_data_is_not_shared(
    shared_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    spec = TrialSpec(
        architecture=Component("softmax"),
        dataset=Component("npz", {"path": save(tmp_path / "my.npz")}),
        steps=1,
        measure={},
    )
    told = [item.note for item in run_trial(spec, TrialContext(data=tmp_path)) if isinstance(item, Reached)]
    assert len([note for note in told if note and note.endswith("temporary disk: Not a directory")]) == 1


def test_code_that_was_edited_since_it_was_imported_shares_nothing(
    shared_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "CODE", "another")
    loaded = load("npz", path=save(tmp_path / "my.npz"))
    assert loaded.held is None
    assert "the files of this package have changed" in str(loaded.note)


def test_what_own_modules_and_memory_make_is_not_shared(shared_folder: Path, own_data: Path) -> None:
    own_data.write_text(
        "import numpy as np\n"
        "from workers.datasets import Arrays\n"
        "def load(folder, search):\n"
        "    x = np.eye(2)\n"
        "    return Arrays(x, np.array([0, 1]), x, np.array([0, 1]), 2)\n"
        "def files(folder, search):\n"
        "    return []\n"
    )
    assert load("own_data.load").held is None
    assert load("gaussians").held is None
    assert not shared_folder.exists()


def test_what_has_just_been_downloaded_is_shared_at_once(
    shared_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torchvision_files.make("mnist", tmp_path / "server", monkeypatch)
    asked = torchvision_files.serve("mnist", tmp_path / "server", monkeypatch)
    context = {"folder": tmp_path / "data", "search": None, "precision": "float32", "device": "cpu"}
    held = []
    for _ in range(2):
        data._loaded.cache_clear()
        held.append(load_data(Component("mnist"), loss="mse", **context).held)
    assert None not in held
    assert len(asked) == 4
