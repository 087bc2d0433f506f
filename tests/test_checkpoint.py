"""A trial that was stopped anywhere goes on to the same bits; what cannot be trusted is not gone on from."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from orchestrator.checkpoints import CheckpointPlace, StorageError
from orchestrator.files import Folder
from workers import checkpoint
from workers.checkpoint import Account, Saver, decode, encode
from workers.result import Reached, Row, TrialResult, TrialStatus
from workers.spec import Component, Request, TrialSpec
from workers.training import Training
from workers.trial import TrialContext, run_trial

MEASURE = {
    "loss": Request(every=2),
    "top_eigenpairs": Request(at=(0, 4, 10)),
    "gradient_overlap": Request(),
    "subspace_overlap": Request(options={"since": [0, 4]}),
}
SPEC = TrialSpec(
    architecture=Component("mlp", {"widths": [8]}),
    dataset=Component("digits", {"classes": 3, "samples": 100}),
    batch_size=32,
    steps=10,
    measure=MEASURE,
)
TRIALS = {
    "momentum": replace(SPEC, optimizer=Component("sgd", {"momentum": 0.9, "nesterov": True})),
    "adam in float64": replace(SPEC, optimizer=Component("adam"), precision="float64"),
    "projected": replace(
        SPEC,
        optimizer=Component("projected", {"update": "bulk", "every": 2, "switch_above": 0.3, "average": 0.5}),
        measure=MEASURE | {"switch": Request(every=1)},
    ),
    "dropout and batch norm": replace(  # draws random numbers, and keeps running averages
        SPEC,
        architecture=Component("convnet", {"dropout": True, "batch_norm": True}),
        dataset=Component("mnist5k", {"samples": 48}),
        batch_norm="train",
        batch_size=24,
        steps=4,
        measure={"loss": Request(every=2)},
    ),
}


class Shelf:
    """Checkpoints in memory, one at every step."""

    def __init__(self, every: float = 0.0) -> None:
        self.every = every
        self.kept: list[bytes] = []

    def load(self) -> Iterator[bytes]:
        yield from reversed(self.kept)

    def save(self, position: int, content: bytes) -> None:
        self.kept = [*self.kept[-1:], content]


@pytest.fixture(autouse=True)
def _at_any_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PRICE", 0.0)


def begin(spec: TrialSpec, shelf: Any, folder: Path | None = None) -> Any:
    return run_trial(spec, TrialContext(data=Path("absent"), folder=folder, checkpoints=shelf))


def finish(
    spec: TrialSpec, shelf: Any, folder: Path | None = None
) -> tuple[list[Row], list[str], TrialResult]:
    *items, result = begin(spec, shelf, folder)
    assert isinstance(result, TrialResult)
    notes = [item.note for item in items if isinstance(item, Reached) and item.note]
    return [item for item in items if isinstance(item, dict)], notes, result


def weights(shelf: Shelf) -> dict[str, torch.Tensor]:
    """Of the newest checkpoint that is not of the end."""
    found: dict[str, torch.Tensor] = next(
        state["training"]["model"] for state in map(decode, shelf.load()) if "training" in state
    )
    return found


@pytest.mark.parametrize("name", TRIALS)
@pytest.mark.parametrize("closed", [True, False], ids=["stopped", "killed"])
def test_a_trial_goes_on_to_the_same_bits(name: str, closed: bool) -> None:
    spec, undisturbed = TRIALS[name], Shelf()
    expected, _, whole = finish(spec, undisturbed)
    disturbed = Shelf()
    for length in (
        2,
        3,
        4,
    ):  # three attempts come to nothing, the later ones after what the earlier ones told
        trial = begin(spec, disturbed)
        for _ in range(length):
            next(trial)
        if closed:
            trial.close()
        else:  # as a killed process does, which closes nothing
            kept = list(disturbed.kept)
            trial.close()
            disturbed.kept = kept
        torch.manual_seed(0)  # the next attempt runs in another process
    rows, notes, result = finish(spec, disturbed)
    assert rows == expected
    assert notes[:1]
    assert notes[0].startswith("goes on from its checkpoint at step ")
    for tensor, other in zip(weights(undisturbed).values(), weights(disturbed).values(), strict=True):
        assert torch.equal(tensor, other)
    assert result.hessian_products == whole.hessian_products
    assert result.started_at is not None
    assert result.seconds > 0


def test_a_trial_that_is_stopped_saves_where_it_is_however_short_it_ran() -> None:
    shelf = Shelf(every=1e9)
    trial = begin(SPEC, shelf)
    rows = (item for item in trial if isinstance(item, dict))
    next(rows), next(rows)
    assert not shelf.kept
    trial.close()
    assert [decode(content)["account"]["position"] for content in shelf.kept] == [3]


def test_an_error_while_a_stopped_trial_is_saved_reaches_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(every=1e9)
    trial = begin(SPEC, shelf)
    next(trial)

    def state(_: Training) -> dict[str, Any]:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(Training, "state", state)
    trial.close()
    assert not shelf.kept


def test_saving_changes_no_number() -> None:
    assert finish(TRIALS["momentum"], Shelf())[0] == finish(TRIALS["momentum"], None)[0]


def test_a_divergence_after_going_on_is_at_the_same_step() -> None:
    spec = replace(SPEC, learning_rate=1e6, loss="mse", measure={"loss": Request(at=(0, 1, 2))}, steps=40)
    _, _, whole = finish(spec, None)
    shelf = Shelf()
    trial = begin(spec, shelf)
    next(trial), next(trial)
    trial.close()
    _, notes, result = finish(spec, shelf)
    assert "goes on" in notes[0]
    assert (whole.status, result.steps_done) == (TrialStatus.DIVERGED, whole.steps_done)


def test_what_is_finished_is_told_and_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf()
    expected, _, whole = finish(SPEC, shelf)

    def advance(*_: Any, **__: Any) -> None:
        raise AssertionError("it runs again")

    monkeypatch.setattr(Training, "advance", advance)
    rows, _, result = finish(SPEC, shelf)
    assert (rows, result) == (expected, whole)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before() -> None:
    expected = finish(SPEC, None)[0]
    shelf = Shelf()
    trial = begin(SPEC, shelf)
    for _ in range(4):
        next(trial)
    del trial
    shelf.kept[-1] = shelf.kept[-1][:-1]  # cut short
    rows, notes, _ = finish(SPEC, shelf)
    assert rows == expected
    assert notes[0] == "a checkpoint is of no use: it is damaged"
    assert notes[1].startswith("goes on")
    shelf.kept = [bytes([content[0] ^ 1]) + content[1:] for content in shelf.kept]  # one bit is another
    rows, notes, _ = finish(SPEC, shelf)
    assert rows == expected
    assert notes == ["a checkpoint is of no use: it is damaged"] * 2


class Evil:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("evil"),)


def test_a_checkpoint_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = encode({"x": Evil()})
    with pytest.raises(ValueError, match="Weights only load failed"):
        decode(content)
    assert not Path("evil").exists()


OWN = """
from workers.architectures.softmax import build as softmax
def build(input_shape, num_classes):
    return softmax(input_shape, num_classes)
"""


def test_a_trial_whose_own_file_has_changed_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "own_of_checkpoint.py"
    file.write_text(OWN)
    spec, shelf = replace(SPEC, architecture=Component("own_of_checkpoint.build")), Shelf()
    trial = begin(spec, shelf, tmp_path)
    for _ in range(3):
        next(trial)
    trial.close()
    kept = list(shelf.kept)
    assert "goes on" in finish(spec, shelf, tmp_path)[1][0]
    shelf.kept = kept
    file.write_text(OWN + "# another\n")
    _, notes, _ = finish(spec, shelf, tmp_path)
    assert notes[0] == "a checkpoint of another version of torch or of your files is of no use"
    assert not any("goes on" in note for note in notes)


def test_a_checkpoint_of_another_torch_is_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf()
    trial = begin(SPEC, shelf)
    next(trial)
    trial.close()
    monkeypatch.setattr(torch, "__version__", "1.0")
    assert "another version" in finish(SPEC, shelf)[1][0]


def test_trouble_with_saving_is_told_once_and_stops_nothing() -> None:
    class Full(Shelf):
        def save(self, position: int, content: bytes) -> None:
            raise OSError("No space left on device")

    rows, notes, _ = finish(SPEC, Full())
    assert len(rows) == 6
    assert notes == [
        "cannot be saved, and would begin anew if it were interrupted now: No space left on device"
    ]


def test_checkpoints_that_cannot_be_read_are_an_error() -> None:
    class Away(Shelf):
        def load(self) -> Iterator[bytes]:
            raise TimeoutError("no answer")

    with pytest.raises(OSError, match="no answer"):
        finish(SPEC, Away())


def test_saving_is_by_time_and_costs_a_fiftieth_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PRICE", 50.0)
    now = [0.0]
    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: now[0])

    class Slow(Shelf):
        def save(self, position: int, content: bytes) -> None:
            now[0] += 2.0
            super().save(position, content)

    slow = Slow(every=30.0)
    saver = Saver(slow, SPEC, "cpu")
    training, observer = SimpleNamespace(state=lambda: {"step": 0}), SimpleNamespace(memory={})

    def due_at(*times: tuple[float, bool]) -> list[bool]:
        due = []
        for now[0], after_row in times:
            due.append(saver.due(after_row))
        return due

    assert due_at((4.9, True), (5.0, True), (29.9, False), (30.0, False)) == [False, True, False, True]
    saver.save(training, observer, Account(position=3))  # type: ignore[arg-type]
    assert len(slow.kept) == 1
    # it took two seconds, which are worth a hundred of work
    assert due_at((131.9, False), (131.9, True), (132.0, True)) == [False, False, True]
    assert not Saver(None, SPEC, "cpu").due()


# --- where they lie ---


def test_two_are_kept_and_those_of_another_attempt_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    place = CheckpointPlace(str(tmp_path), 30.0)
    first, second, other = place.of("ab" * 8), place.of("ab" * 8), place.of("cd" * 8)
    for position in (1, 2, 10):
        first.save(position, b"first %d" % position)
    other.save(1, b"other")
    assert list(first.load()) == [b"first 10", b"first 2"]
    second.save(5, b"second 5")  # it began anew, and the first is frozen
    assert list(second.load()) == [b"first 10", b"second 5", b"first 2"]
    for position in (11, 12):
        second.save(position, b"second %d" % position)
    first.save(11, b"first 11")  # thawed
    assert next(second.load()) == b"second 12"
    assert list(other.load()) == [b"other"]


def test_a_place_that_cannot_be_written_or_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = CheckpointPlace(str(tmp_path / "absent"), 30.0).of("ab" * 8)
    assert list(absent.load()) == []
    with pytest.raises(StorageError, match=r"absent/checkpoints on .*: No such file or directory"):
        absent.save(1, b"")
    (tmp_path / "checkpoints").mkdir()
    there = CheckpointPlace(str(tmp_path), 30.0).of("ab" * 8)
    there.save(1, b"")
    monkeypatch.setattr(Folder, "read", _no_answer)
    with pytest.raises(StorageError, match=r"checkpoints on .*: no answer"):
        next(there.load())


def _no_answer(*_: Any) -> bytes:
    raise OSError("no answer")
