"""The losses against their formulas, and with the scale that makes eigenvalues what they are."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workers.losses import LOSSES, accuracy
from workers.spec import TrialSpec

SIZES = {"n": st.integers(1, 8), "k": st.integers(2, 6), "seed": st.integers(0, 1000)}

# sums of at most 48 terms of order ten, in another order: well below 48 · 10 roundings of 2.2e-16
TOLERANCE: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-12}


def drawn(n: int, k: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(n, k, dtype=torch.float64, generator=generator)
    return outputs, torch.randint(k, (n,), generator=generator)


def test_every_loss_of_a_spec_is_there() -> None:
    from typing import get_args, get_type_hints

    assert set(LOSSES) == set(get_args(get_type_hints(TrialSpec)["loss"]))


@given(**SIZES)
def test_cross_entropy_is_its_formula(n: int, k: int, seed: int) -> None:
    outputs, targets = drawn(n, k, seed)
    expected = (
        sum(
            (z.exp().sum().log() - z[y] for z, y in zip(outputs, targets, strict=True)), start=torch.zeros(())
        )
        / n
    )
    torch.testing.assert_close(LOSSES["cross_entropy"](outputs, targets), expected.double(), **TOLERANCE)


@given(**SIZES)
def test_mse_sums_over_outputs_and_averages_over_samples(n: int, k: int, seed: int) -> None:
    outputs, targets = drawn(n, k, seed)
    one_hot = torch.eye(k, dtype=torch.float64)[targets]
    expected = torch.tensor(
        sum((outputs[i, c] - one_hot[i, c]).item() ** 2 for i in range(n) for c in range(k)) / n,
        dtype=torch.float64,
    )
    torch.testing.assert_close(LOSSES["mse"](outputs, targets), expected, **TOLERANCE)
    torch.testing.assert_close(LOSSES["mse"](outputs, one_hot), expected, **TOLERANCE)


def test_mse_has_the_hessian_of_its_convention() -> None:
    # for one sample, ∂²/∂z² of Σ_c (z_c − y_c)² is 2 on the diagonal: not 1, and not 2/k
    outputs, targets = drawn(1, 3, 0)
    hessian = torch.autograd.functional.hessian(lambda z: LOSSES["mse"](z, targets), outputs)  # type: ignore[no-untyped-call]
    assert torch.equal(hessian.reshape(3, 3), 2 * torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize("name", list(LOSSES))
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=st.integers(0, 100))
def test_a_loss_is_a_mean_over_samples(name: str, sizes: list[int], seed: int) -> None:
    # so ragged chunks, weighted by their sizes, add up to the whole
    outputs, targets = drawn(sum(sizes), 4, seed)
    chunks = zip(torch.split(outputs, sizes), torch.split(targets, sizes), strict=True)
    total = torch.stack([LOSSES[name](z, y) * len(y) for z, y in chunks]).sum() / sum(sizes)
    torch.testing.assert_close(LOSSES[name](outputs, targets), total, **TOLERANCE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", list(LOSSES))
def test_a_loss_keeps_its_precision(name: str, dtype: torch.dtype) -> None:
    outputs, targets = drawn(3, 4, 0)
    assert LOSSES[name](outputs.to(dtype), targets).dtype == dtype


@given(**SIZES)
def test_accuracy_counts_the_largest_outputs(n: int, k: int, seed: int) -> None:
    outputs, targets = drawn(n, k, seed)
    right = sum(
        max(range(k), key=lambda c: row[c]) == y
        for row, y in zip(outputs.tolist(), targets.tolist(), strict=True)
    )
    assert accuracy(outputs, targets).item() == right / n
