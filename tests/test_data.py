"""The options that all data sets share, and the tensors that a trial gets."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as numpy_arrays

from workers import data, find
from workers.data import Data, load_data, prepare
from workers.datasets import Arrays, DataError
from workers.spec import Component, SpecError

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
