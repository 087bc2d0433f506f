"""Searches: each trial once, the same ones after a kill, pruned ones with their rows, and what people read of them."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from searching import COUNTED, SPACE, Counted, SideBySide, asked, bowl, killed_before, run, sweep
from standins import Told

from orchestrator import results
from orchestrator.cli import main
from orchestrator.report import style
from orchestrator.report.figure import Figure, Stored
from orchestrator.report.figures import search as search_figures
from orchestrator.search import Study, importances
from orchestrator.search_endings import Ending, belongs
from orchestrator.search_record import Asked
from orchestrator.search_space import Choice, OutsideError, Parameters, Range, Space, Variant
from orchestrator.status import planned_trials, status
from orchestrator.store import ResultStore, StoreError
from orchestrator.sweep import Sweep
from workers.result import Row, TrialResult, TrialStatus
from workers.spec import Component, TrialSpec

SAMPLERS = ["tpe", "random", "cmaes", "qmc"]


def search(**changes: Any) -> str:
    given = {"sampler": "tpe", "trials": 12, "metric": "train_loss", "direction": "minimize", "space": SPACE}
    return "{" + ", ".join(f"{key}: {value}" for key, value in (given | changes).items()) + "}"


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


# --- the space ---

MIXED = Space(
    {
        "learning_rate": Choice([0.1, 0.2]),
        "architecture": {
            "mlp": Variant(Component("mlp"), {"widths": Choice([[16], [100, 100]])}, {"widths": (100, 100)}),
            "softmax": Variant(Component("softmax")),
        },
        "batch_size": Range(8, 32, step=8),
    }
)


def test_a_space_has_every_point_once_and_knows_its_own() -> None:
    points = list(MIXED.points())
    assert len(points) == MIXED.size == 2 * (2 + 1) * 4
    assert len({json.dumps(point) for point in points}) == len(points)
    for point in points:
        assert MIXED.values(point)["architecture"].name == point["architecture"]
        assert ("architecture.mlp.widths" in point) == (point["architecture"] == "mlp")


@pytest.mark.parametrize(
    "changes",
    [{"batch_size": 9}, {"batch_size": 40}, {"learning_rate": 0.3}, {"architecture": "softmax"}, {"seed": 1}],
    ids=str,
)
def test_a_space_refuses_what_it_would_not_ask(changes: Parameters) -> None:
    with pytest.raises(OutsideError):
        MIXED.values(next(MIXED.points()) | changes)


def test_an_option_at_its_default_is_the_same_trial_as_without() -> None:
    point = {
        "learning_rate": 0.1,
        "architecture": "mlp",
        "architecture.mlp.widths": [100, 100],
        "batch_size": 8,
    }
    assert MIXED.values(point)["architecture"] == Component("mlp")


def test_shares_of_a_range_fall_on_every_value_alike() -> None:
    whole, log = Range(1, 4, step=1), Range(1, 8, log=True, step=1)
    assert [whole.at(i / 8) for i in range(8)] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert {log.at(i / 1000) for i in range(1000)} == set(range(1, 9))


# --- asking ---


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_asks_for_so_many_different_trials(
    tmp_path: Path, store: ResultStore, sampler: str, slots: int
) -> None:
    counted = Counted()
    outcome = run(sweep(tmp_path, search(sampler=sampler)), store, counted, slots)
    assert outcome.counts == {TrialStatus.COMPLETED: 12}
    assert set(counted.begun.values()) == {1}
    assert len(store.finished()) == 12
    table = results.searched(str(store))
    assert table.number.tolist() == list(range(12))
    assert table.best.tolist() == table.value.cummin().tolist()
    assert outcome.found[0].best is not None
    assert outcome.found[0].best.value == table.value.min()


def test_side_by_side_is_as_wide_as_there_is_room(tmp_path: Path, store: ResultStore) -> None:
    executor = SideBySide(Counted(), slots=3)
    run(sweep(tmp_path, search()), store, executor)
    assert executor.most == 3


@pytest.mark.parametrize("slots", [1, 4])
def test_a_grid_has_every_point_exactly_once_side_by_side_too(
    tmp_path: Path, store: ResultStore, slots: int
) -> None:
    counted = Counted()
    some = sweep(tmp_path, search(sampler="grid", trials=100, space=COUNTED))
    assert some.count == 9
    assert run(some, store, counted, slots).counts == {TrialStatus.COMPLETED: 9}
    assert set(counted.begun.values()) == {1}
    wanted = {json.dumps(point) for point in some.searches[0].method.space.points()}
    assert {json.dumps(one.parameters) for one in asked(some, store)} == wanted


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_a_small_space_is_exhausted_and_repeated_answers_run_nothing(
    tmp_path: Path, store: ResultStore, sampler: str
) -> None:
    counted = Counted()
    some = sweep(tmp_path, search(sampler=sampler, trials=50, space=COUNTED))
    assert run(some, store, counted, slots=2).counts == {TrialStatus.COMPLETED: 9}
    assert set(counted.begun.values()) == {1}
    assert len(asked(some, store)) > 9  # some answers came again


def test_an_answer_that_comes_again_while_its_trial_runs_waits_for_it(
    tmp_path: Path, store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sampler that knows one answer only; after ten in a row others are drawn at random."""
    point = {"learning_rate": 0.1, "batch_size": 1, "loss_bound": 1.0}
    monkeypatch.setattr(Study, "ask", lambda self, number, new: self._first(number, [point], lambda _: True))
    some, counted = sweep(tmp_path, search(trials=3)), Counted()
    outcome = run(some, store, counted, slots=3)
    assert outcome.counts == {TrialStatus.COMPLETED: 3}
    assert set(counted.begun.values()) == {1}
    assert sum(one.parameters == point for one in asked(some, store)) > 10


def test_tpe_takes_running_trials_for_bad_ones(tmp_path: Path) -> None:
    """Constant liar: what is being tried is not asked for again, so that trials side by side spread."""
    method = sweep(tmp_path, search()).searches[0].method

    def answer(*running: Parameters) -> Parameters | None:
        study = Study(method, "key", 10)
        for number in range(20):
            size = 1 + 3 * number
            point = {"learning_rate": 0.03, "batch_size": size, "loss_bound": 2.0}
            ending = Ending(TrialStatus.COMPLETED, {10: abs(size - 31)})
            study.add(Asked(number, "0" * 16, point), ending)
        for number, at_work in enumerate(running, 20):
            study.add(Asked(number, "0" * 16, at_work), None)
        return study.ask(30, lambda _: True)

    alone = answer()
    assert alone is not None
    assert answer() == alone
    assert answer(*[alone] * 5) != alone


def test_what_means_another_trial_now_is_not_of_the_search(tmp_path: Path, store: ResultStore) -> None:
    some = sweep(tmp_path, search(trials=3))
    run(some, store)
    one = asked(some, store)[0]
    assert belongs(some.searches[0], one)
    assert not belongs(some.searches[0], dataclasses.replace(one, trial_id="0" * 16))
    assert not belongs(some.searches[0], dataclasses.replace(one, parameters={"seed": 1}))


def test_a_seed_of_the_search_gives_the_same_trials_and_another_gives_others(tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        store = ResultStore(tmp_path / name)
        run(sweep(tmp_path, search(seed=seed)), store)
        found.append(set(store.finished()))
    assert found[0] == found[1]
    assert not found[0] & found[2]


def test_there_is_a_search_for_each_case_and_point_of_the_grid(tmp_path: Path, store: ResultStore) -> None:
    more = "cases: [{loss: mse}, {loss: cross_entropy}]\ngrid: {seed: {range: 2}}"
    some = sweep(tmp_path, search(trials=4), more)
    assert [one.name for one in some.searches] == [
        f"mlp digits loss={loss} seed={seed}" for loss in ("mse", "cross_entropy") for seed in (0, 1)
    ]
    outcome = run(some, store, slots=4)
    assert outcome.counts == {TrialStatus.COMPLETED: 16}
    assert [(one.asked, one.finished) for one in outcome.found] == [(4, {"completed": 4})] * 4
    trials = results.trials(str(store))
    assert trials.groupby(["loss", "seed"]).size().tolist() == [4] * 4


# --- stopping and going on ---


@pytest.mark.parametrize("pruner", ["none", "hyperband"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_that_stopped_goes_on_as_if_it_had_not(tmp_path: Path, sampler: str, pruner: str) -> None:
    """One after another, to the last digit: CMA-ES and hyperband remember by the record, TPE by the results."""
    some = sweep(tmp_path, search(sampler=sampler, trials=20, pruner=pruner))
    through, broken = ResultStore(tmp_path / "through"), ResultStore(tmp_path / "broken")
    run(some, through)
    first, second = Counted(dies_at=13), Counted()
    assert run(some, broken, first).exit_code == 1
    assert len(broken.finished()) == 12
    assert run(some, broken, second).exit_code == 0
    assert [one.parameters for one in asked(some, broken)] == [one.parameters for one in asked(some, through)]
    assert second.begun.total() == 8  # the one that was under way, and those not begun
    assert broken.finished() == through.finished()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, ResultStore]:
    folder = tmp_path_factory.mktemp("undisturbed")
    some, store = (
        sweep(folder, search(trials=14, sampler="cmaes", pruner="hyperband")),
        ResultStore(folder / "r"),
    )
    run(some, store)
    return some, store


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("moment", ["search/", "measurements/", "trials/"])
def test_whatever_was_about_to_be_written_nothing_is_lost_or_run_twice(
    undisturbed: tuple[Sweep, ResultStore], store: ResultStore, moment: str, slots: int
) -> None:
    """Killed between ask and record, before a result, within it, and after it before the sampler's next answer."""
    some, whole = undisturbed
    with killed_before(moment, 7):
        run(some, store, slots=slots)
    done = store.finished()
    run(some, store, counted := Counted(), slots)
    assert not done.keys() & counted.begun.keys()
    assert set(counted.begun.values()) == {1}
    assert len(store.finished()) == len({one.trial_id for one in asked(some, store)}) == 14
    if slots == 1:
        assert [one.parameters for one in asked(some, store)] == [
            one.parameters for one in asked(some, whole)
        ]
        assert store.finished() == whole.finished()


def test_side_by_side_nothing_is_run_twice_and_as_many_trials_come_out(
    tmp_path: Path, store: ResultStore
) -> None:
    some, first, second = sweep(tmp_path, search(trials=20)), Counted(dies_at=11), Counted()
    run(some, store, first, slots=3)
    done = set(store.finished())
    run(some, store, second, slots=3)
    assert 0 < len(done) < 20
    assert len(store.finished()) == 20
    assert not done & second.begun.keys()
    assert len(asked(some, store)) == 20
    assert run(some, store, third := Counted()).exit_code == 0
    assert not third.begun


def test_more_trials_go_on_from_those_there_are(tmp_path: Path, store: ResultStore) -> None:
    run(sweep(tmp_path, search(trials=5)), store)
    some, counted = sweep(tmp_path, search(trials=8)), Counted()
    run(some, store, counted)
    assert counted.begun.total() == 3
    assert [one.number for one in asked(some, store)] == list(range(8))


def test_an_edited_space_keeps_the_trials_that_lie_in_it(tmp_path: Path, store: ResultStore) -> None:
    run(sweep(tmp_path, search(sampler="random", trials=8)), store)
    narrow = SPACE.replace("[1, 64]", "[1, 32]")
    some, counted = sweep(tmp_path, search(sampler="random", trials=8, space=narrow)), Counted()
    inside = sum(one.parameters["batch_size"] <= 32 for one in asked(some, store))
    assert 0 < inside < 8
    outcome = run(some, store, counted)
    assert counted.begun.total() == 8 - inside
    assert outcome.found[0].asked == 8


def test_an_edited_search_forgets_what_cmaes_has_learnt_for_another_end(
    tmp_path: Path, store: ResultStore
) -> None:
    def generations(trials: int, **changes: Any) -> list[int]:
        some = sweep(tmp_path, search(sampler="cmaes", trials=trials, **changes))
        run(some, store)
        return [one.notes["cma:generation"] for one in asked(some, store) if one.notes]

    assert max(generations(20)) > 0
    assert max(generations(22)) > 0  # more trials are no other end
    assert generations(24, direction="maximize") == [0, 0]


def test_a_space_with_an_end_is_searched_to_the_last_point(
    tmp_path: Path, store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.search_runs.TRIES", 0)
    monkeypatch.setattr("orchestrator.search_runs.REPEATS", 1)
    some = sweep(tmp_path, search(sampler="random", trials=9, space=COUNTED))
    assert run(some, store).counts == {TrialStatus.COMPLETED: 9}


@pytest.fixture
def chunks_of_4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.search_record.CHUNK", 4)


@pytest.mark.usefixtures("chunks_of_4")
def test_a_long_record_is_in_several_files(tmp_path: Path, store: ResultStore) -> None:
    some = sweep(tmp_path, search(sampler="random", trials=6))
    run(some, store)
    key = some.searches[0].key
    assert store.folder.names("search") == [f"{key}-00000.jsonl", f"{key}-00001.jsonl", f"{key}.json"]
    assert run(some, store, counted := Counted()).exit_code == 0
    assert not counted.begun


@pytest.mark.usefixtures("chunks_of_4")
@pytest.mark.parametrize(
    "damage", [lambda file: file.write_text("{"), lambda file: file.unlink()], ids=["torn", "gone"]
)
def test_a_damaged_record_is_a_line_that_names_it(tmp_path: Path, store: ResultStore, damage: Any) -> None:
    some = sweep(tmp_path, search(sampler="random", trials=6))
    run(some, store)
    key = some.searches[0].key
    damage(tmp_path / f"results/search/{key}-00000.jsonl")
    with pytest.raises(StoreError, match=rf"results: search/{key}-.*starts anew: delete"):
        run(some, store)


def test_what_cannot_be_put_on_record_waits_and_is_not_lost(
    tmp_path: Path, store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    some, told, whole, calls = sweep(tmp_path, search(trials=4)), Told(), store.write_asked, []

    def write(name: str, content: bytes) -> None:
        calls.append(name)
        if 3 < len(calls) < 6:
            raise StoreError("results: cannot be written: No space left on device")
        whole(name, content)

    monkeypatch.setattr(store, "write_asked", write)
    counted = Counted()
    assert run(some, store, counted, progress=told).exit_code == 0
    assert counted.begun.total() == 4
    assert "No space left on device; finished trials wait" in told.notes[0]


SWEEP = """\
name: killed
trial: {architecture: {name: mlp, widths: [16]}, dataset: digits, steps: 300}
measure: {loss: {every: 100}}
search:
  {sampler: tpe, trials: 8, metric: test_loss, direction: minimize, pruner: median,
   space: {learning_rate: {log_uniform: [0.001, 1.0]}, batch_size: {choice: [16, 32]}}}
"""

WORDS = ["run", "killed.yaml", "--executor", "local", "--tracking-uri", "none"]


def test_a_search_that_was_killed_ends_with_as_many_trials_and_runs_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("killed.yaml").write_text(SWEEP)
    trials = Path("results/killed/trials")
    code = "import sys; from orchestrator.cli import main; main(sys.argv[1:])"
    with subprocess.Popen([sys.executable, "-c", code, *WORDS], stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 60
        while len(list(trials.glob("[!0]*.parquet"))) + len(list(trials.glob("0[!-]*.parquet"))) < 3:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    before = finished_at()
    resumed = CliRunner().invoke(main, WORDS)
    assert resumed.exit_code == 0, resumed.stderr
    assert "finished earlier" in resumed.stderr
    assert len(before) >= 3
    assert len(finished_at()) == 8
    assert before.items() <= finished_at().items()
    table = results.searched("results/killed")
    assert table.trial_id.is_unique
    assert len(table) == 8
    last = resumed.stderr.splitlines()[-1]
    best = table[table.status == "completed"].sort_values("value").iloc[0]
    assert last.startswith(f"best test_loss: {best.value:.6g}, trial {best.trial_id}: learning_rate=")


def finished_at() -> dict[str, Any]:
    found = results.trials("results/killed")
    return dict(zip(found.trial_id, found.finished_at, strict=True))


# --- how trials end ---


def test_pruned_trials_keep_their_rows_and_their_status(tmp_path: Path, store: ResultStore) -> None:
    counted = Counted()
    some = sweep(tmp_path, search(trials=16, pruner="median"))
    outcome = run(some, store, counted, slots=2)
    trials = results.trials(str(store)).set_index("trial_id")
    pruned = trials[trials.status == "pruned"]
    assert outcome.counts == {TrialStatus.PRUNED: len(pruned), TrialStatus.COMPLETED: 16 - len(pruned)}
    assert 0 < len(pruned) < 12
    assert outcome.exit_code == 0
    rows = results.measurements(str(store)).groupby("trial_id").step.agg(list)
    assert {tuple(steps) for steps in rows[pruned.index]} == {(0, 5)}  # stopped at the first step that counts
    assert pruned.steps_done.tolist() == [5] * len(pruned)
    assert set(counted.begun.values()) == {1}
    table = results.searched(str(store)).set_index("trial_id")
    assert table.best.iloc[-1] == table.value[table.status == "completed"].min()
    assert run(some, store, again := Counted()).counts == outcome.counts  # pruned is an end
    assert not again.begun


def test_the_median_prunes_those_that_are_worse_than_half_of_the_completed(tmp_path: Path) -> None:
    method = sweep(tmp_path, search(sampler="random", pruner="median")).searches[0].method
    study, point = Study(method, "key", 100), {"learning_rate": 0.1, "batch_size": 1, "loss_bound": 1.0}
    for number in range(5):
        ending = Ending(TrialStatus.COMPLETED, {5: 0.0, 50: float(number), 100: float(number)})
        study.add(Asked(number, "0" * 16, point), ending)
    for number, value, pruned in ((5, 1.9, False), (6, 2.1, True)):  # the median at step 50 is 2
        study.ask(number, lambda _: True)
        assert not study.report(number, 5, 9.0)  # the first tenth says nothing
        assert study.report(number, 50, value) is pruned
        assert not study.report(number, 50, 9.0)  # told again, as after a checkpoint
    study = Study(dataclasses.replace(method, pruner="none"), "key", 100)
    assert not study.prunes


def test_a_trial_that_completes_before_it_is_stopped_has_completed(
    tmp_path: Path, store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("searching.SideBySide.cancel", lambda *_: None)
    outcome = run(sweep(tmp_path, search(trials=12, pruner="median")), store)
    assert outcome.counts == {TrialStatus.COMPLETED: 12}


def ends(spec: TrialSpec, context: Any = None) -> Iterator[Row | TrialResult]:
    """Fails for small batches, diverges for large ones."""
    if spec.batch_size != "full" and spec.batch_size < 20:
        raise ZeroDivisionError("of course")
    yield {"step": 0, "train_loss": 1e-9}
    if spec.batch_size != "full" and spec.batch_size > 40:
        yield TrialResult(status=TrialStatus.DIVERGED, steps_done=1)
        return
    yield from list(bowl(spec))[1:]


def test_failed_trials_are_tried_again_and_diverged_ones_are_the_worst(
    tmp_path: Path, store: ResultStore
) -> None:
    some = sweep(tmp_path, search(sampler="random", trials=12))
    outcome = run(some, store, ends)
    counts = outcome.counts
    assert set(counts) == {TrialStatus.FAILED, TrialStatus.DIVERGED, TrialStatus.COMPLETED}
    assert outcome.exit_code == 1
    table = results.searched(str(store))
    assert table[table.status != "completed"].value.isna().all()
    assert outcome.found[0].best is not None
    assert outcome.found[0].best.value == table.value.min() > 0.009  # not what a diverged one had at first
    assert run(some, store, again := Counted()).exit_code == 0
    assert again.begun.total() == counts[TrialStatus.FAILED]
    assert len(asked(some, store)) == 12


@pytest.mark.parametrize(("direction", "worst"), [("minimize", float("inf")), ("maximize", -float("inf"))])
def test_what_a_sampler_is_told(direction: str, worst: float) -> None:
    steps = {0: 3.0, 5: 2.0}
    maximize = direction == "maximize"
    assert Ending(TrialStatus.COMPLETED, steps).value(maximize) == 2.0
    assert Ending(TrialStatus.DIVERGED, steps).value(maximize) == worst
    for nothing in (
        Ending(TrialStatus.FAILED, steps),
        Ending(TrialStatus.PRUNED, steps),
        Ending(TrialStatus.COMPLETED),
    ):
        assert nothing.value(maximize) is None
    for last in ("nan", "inf", "-inf"):
        assert Ending(TrialStatus.COMPLETED, {0: 1.0, 5: float(last)}).value(maximize) is None


def test_a_metric_that_is_no_number_is_never_the_best(tmp_path: Path, store: ResultStore) -> None:
    def odd(spec: TrialSpec, context: Any) -> Iterator[Row | TrialResult]:
        first = not store.finished()
        for told in bowl(spec):
            yield {**told, "train_loss": float("nan")} if first and isinstance(told, dict) else told

    outcome = run(sweep(tmp_path, search(trials=4)), store, odd)
    table = results.searched(str(store))
    assert table.best.isna().tolist() == [True, False, False, False]
    assert outcome.found[0].best is not None
    assert outcome.found[0].best.value == table.best.iloc[-1] == table.value.min()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_endings_without_a_value_are_no_trouble_to_any_sampler(
    tmp_path: Path, store: ResultStore, sampler: str
) -> None:
    def silent(spec: TrialSpec, context: Any) -> Iterator[Row | TrialResult]:
        yield {"step": 0, "train_loss": float("nan")}
        yield from ends(spec)

    some = sweep(tmp_path, search(sampler=sampler, trials=15, pruner="hyperband"))
    assert sum(run(some, store, silent).counts.values()) == 15
    assert sum(run(some, store, silent).counts.values()) == 15


def test_a_search_whose_every_trial_fails_alike_is_stopped(tmp_path: Path, store: ResultStore) -> None:
    def broken(spec: TrialSpec, context: Any) -> Iterator[Row | TrialResult]:
        raise ZeroDivisionError("of course")
        yield

    told = Told()
    outcome = run(sweep(tmp_path, search(trials=30)), store, broken, progress=told)
    assert outcome.counts == {TrialStatus.FAILED: 5, TrialStatus.PENDING: 25}
    assert "all 5 trials so far failed alike" in str(outcome.error)
    assert "the others were not begun" in str(outcome.error)


# --- what people read ---


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    sweep(tmp_path, search(space=COUNTED, trials=6, seed=3))
    return tmp_path / "s.yaml"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_plan_says_what_a_search_will_do_before_and_after(file: Path, tmp_path: Path) -> None:
    said = call("plan", str(file)).stdout
    assert said.splitlines()[0] == "s: a search: 6 trials, 6 to run"
    assert "  minimize train_loss by tpe, pruner none, seed 3, over" in said
    assert (
        "    batch_size: 1 | 2 | 4\n    optimizer: sgd | adam\n    optimizer.sgd.momentum: 0.0 | 0.5" in said
    )
    assert "A trial: 10 steps, 0 Hessian products. To run, at most: 60 steps" in said
    assert not (tmp_path / "results").exists()
    run(
        sweep(tmp_path, search(space=COUNTED, trials=6, seed=3)), ResultStore("results/s"), Counted(dies_at=5)
    )
    said = call("plan", str(file)).stdout
    assert said.splitlines()[0] == "s: a search: 6 trials, 2 to run, 4 completed"
    assert "best train_loss: " in said
    answer = json.loads(call("plan", str(file), "--json").stdout)
    assert answer["counts"] == {"trials": 6, "left": 2, "completed": 4}
    assert answer["searches"][0]["best"]["value"] == results.searched("results/s").value.min()
    assert answer["search"]["space"]["batch_size"] == {"values": [1, 2, 4]}


def test_plan_says_what_trials_of_searches_ask_for(file: Path) -> None:
    common = {"cpus": 1, "gpus": 0}
    assert "  resources: {cpus: 1, gpus: 0}" in call("plan", str(file)).stdout
    assert json.loads(call("plan", str(file), "--json").stdout)["common"]["resources"] == common
    more = "cases: [{loss: mse}, {loss: cross_entropy, resources: {gpus: 0.5}}]"
    sweep(file.parent, search(space=COUNTED, trials=6, seed=3), more)
    first, second = (line for line in call("plan", str(file)).stdout.splitlines() if "loss=" in line)
    assert first.endswith("{cpus: 1, gpus: 0}")
    assert second.endswith("{cpus: 1, gpus: 0.5}")
    answer = json.loads(call("plan", str(file), "--json").stdout)
    assert "resources" not in answer["common"]
    assert [one["resources"] for one in answer["searches"]] == [common, {"cpus": 1, "gpus": 0.5}]


def test_plan_imports_neither_optuna_nor_torch(file: Path) -> None:
    code = (
        "import sys; from click.testing import CliRunner; from orchestrator.cli import main; "
        f"assert CliRunner().invoke(main, ['plan', {str(file)!r}]).exit_code == 0; "
        "sys.exit(', '.join({'optuna', 'torch', 'ray', 'mlflow'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_only_is_refused(file: Path) -> None:
    done = call("run", str(file), "--executor", "local", "--only", "0123456789abcdef")
    assert done.exit_code == 2
    assert done.stderr.startswith("--only: not for a search")


def test_status_says_how_far_it_is_and_what_is_best(tmp_path: Path, store: ResultStore) -> None:
    some = sweep(tmp_path, search(trials=10))
    run(some, store, Counted(ends, dies_at=7))
    found = status(str(store))
    assert (found.trials, found.pending) == (10, 4)
    assert sum(found.finished.values()) == 6
    assert found.searches[0].asked == 7
    lines = found.text().splitlines()
    assert lines[2].startswith("7 of 10 trials asked for; best train_loss: ")
    assert all("--only" not in failure.rerun for failure in found.failures)
    assert json.loads(found.json())["searches"][0]["best"]["trial_id"] in lines[2]
    planned = planned_trials(store)
    assert planned is not None
    assert {spec.trial_id for spec in planned} == {one.trial_id for one in asked(some, store)}


def test_a_results_folder_without_a_search_has_no_rows(tmp_path: Path, store: ResultStore) -> None:
    store.folder.make()
    assert results.searched(str(store)).columns[:3].tolist() == ["search", "number", "trial_id"]
    assert results.searched(str(store)).empty


def test_importance_is_that_of_the_parameter_that_matters() -> None:
    space = {"x": Range(0.0, 1.0), "y": Range(0.0, 1.0), "z": Choice(["a", "b"])}
    points = [{"x": (i * 37 % 100) / 100, "y": (i * 61 % 100) / 100, "z": "ab"[i % 2]} for i in range(100)]
    for direction in ("minimize", "maximize"):
        shares = importances(space, [(point, float(str(point["x"])) ** 2) for point in points], direction)
        assert next(iter(shares)) == "x"
        assert shares["x"] > 0.8  # points fill the square evenly: the best tenth has every y and z alike
        assert sum(shares.values()) == pytest.approx(1)
    outside = [({"x": 2.0, "y": 0.0, "z": "a"}, 0.0)] * 20
    assert importances(space, outside, "minimize") == {}


def test_the_report_draws_the_stored_numbers(tmp_path: Path, store: ResultStore) -> None:
    run(sweep(tmp_path, search(trials=40, pruner="median", sampler="cmaes")), store)
    stored = Stored(str(store))
    figures: dict[str, Figure] = {figure.name: figure for figure in search_figures.figures(stored)}
    assert list(figures) == ["search-history", "search-importance"]
    (axes,) = figures["search-history"].drawing.axes
    lines = {str(line.get_gid()).partition("/")[0]: line for line in axes.lines}
    space: dict[str, Any] = {}
    exec(figures["search-history"].code, space)
    data: pd.DataFrame = space["data"]
    assert list(lines["best"].get_ydata()) == data.best.tolist()
    assert list(lines["best"].get_xdata()) == list(range(1, 41))
    drawn = [*lines["completed"].get_ydata(), *lines["pruned"].get_ydata()]
    assert sorted(drawn) == sorted(data.value)
    (axes,) = figures["search-importance"].drawing.axes
    assert sum(bar.get_width() for bar in axes.patches) == pytest.approx(1)  # type: ignore[attr-defined]
    best = set(results.searched(str(store)).query("status == 'completed'").nsmallest(4, "value").trial_id)
    assert set(stored.groups.of_trial) == best
    assert "Of 40 trials of a search the best 4 are drawn" in stored.groups.left_out


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_values_far_out_do_not_flatten_the_history(direction: str) -> None:
    sign = 1.0 if direction == "minimize" else -1.0
    values = [sign * value for value in (50.0, 1.3, 1.2, 90.0, 1.1, 1.0, 1.4, 1.3, 1.2)]
    best = [sign * value for value in (50.0, 1.3, 1.2, 1.2, 1.1, 1.0, 1.0, 1.0, 1.0)]
    status = ["completed"] * 3 + ["pruned"] + ["completed"] * 5
    rows = pd.DataFrame({"search": "k", "value": values, "best": best, "status": status})
    with style.styled():
        _, ((axes,),) = style.panels(1)
        assert search_figures.draw_history(axes, "k", rows, direction) == 2
    low, high = axes.get_ylim()
    assert high - low < 1  # the seven others are 0.4 apart at most
    lines = {str(line.get_gid()).partition("/")[0]: line for line in axes.lines}
    assert sorted(lines["completed"].get_ydata()) == sorted(v for v in values if abs(v) < 2)
    assert (list(lines["far out, completed"].get_xdata()), list(lines["far out, pruned"].get_xdata())) == (
        [1],
        [4],
    )
    out = lines["far out, completed"]
    edge = ("^", [1.0]) if direction == "minimize" else ("v", [0.0])
    assert (out.get_marker(), list(out.get_ydata())) == edge
    assert pd.Series(lines["best"].get_ydata()).isna().tolist() == [True] + [False] * 8


def test_a_report_of_anything_else_has_no_search(tmp_path: Path, store: ResultStore) -> None:
    run(sweep(tmp_path, search(trials=3)), store)
    for name in os.listdir(tmp_path / "results/search"):  # noqa: PTH208
        (tmp_path / "results/search" / name).unlink()
    assert list(search_figures.figures(Stored(str(store)))) == []
