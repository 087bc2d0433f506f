"""Trials that end together are written together, and a kill at any point loses, and doubles, none of them."""

import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import samples

from orchestrator import results, tables
from orchestrator.attempt import Attempt
from orchestrator.commits import GATHER, Commits, Ended
from orchestrator.compaction import compact, compact_if_useful
from orchestrator.files import Folder
from orchestrator.store import ResultStore, StoreError
from orchestrator.sweep import Resources, Trial
from workers.result import TrialStatus

ROWS = [{"step": step, "epoch": 0.0} for step in (0, 5)]


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    made = ResultStore(tmp_path / "sample")
    made.begin(samples.sweep())
    return made


def add(
    commits: Commits, *seeds: int, status: TrialStatus = TrialStatus.COMPLETED, rows: Any = ROWS
) -> set[str]:
    for seed in seeds:
        attempt = Attempt(Trial(samples.spec(seed=seed), Resources()))
        attempt.rows = list(rows)
        commits.add(attempt, samples.result(status))
    return {samples.spec(seed=seed).trial_id for seed in seeds}


def committed(commits: Commits) -> list[Ended]:
    found = list(commits.flush())
    commits.close()
    return found


def files(store: ResultStore) -> list[list[str]]:
    return [
        [file.split("-")[0] for file in tables.files(store.folder, name)]
        for name in ("trials", "measurements")
    ]


def plain_once(store: ResultStore, trial_ids: set[str]) -> None:
    assert sorted(pd.read_parquet(f"{store}/trials").trial_id) == sorted(trial_ids)
    measured = pd.read_parquet(f"{store}/measurements")
    assert sorted(zip(measured.trial_id, measured.step, strict=True)) == sorted(
        (t, s) for t in trial_ids for s in (0, 5)
    )
    assert set(store.finished()) == trial_ids


def test_what_ended_together_is_one_batch_with_the_rows_of_single_files(
    store: ResultStore, tmp_path: Path
) -> None:
    single = ResultStore(tmp_path / "single")
    single.begin(samples.sweep())
    for seed in range(5):
        single.commit(samples.spec(seed=seed), "sample", samples.result(TrialStatus.COMPLETED), ROWS)
    commits = Commits(store, "sample")
    trial_ids = add(commits, *range(5))
    assert len(commits) == 5
    assert {one.attempt.trial.spec.trial_id for one in committed(commits)} == trial_ids
    assert files(store) == [["batch"], ["batch"]]
    plain_once(store, trial_ids)
    for name, order in (("trials", ["trial_id"]), ("measurements", ["trial_id", "step"])):
        one, many = (
            pd.read_parquet(f"{path}/{name}").sort_values(order, ignore_index=True)
            for path in (single, store)
        )
        pd.testing.assert_frame_equal(many, one)


def test_a_trial_alone_a_failed_one_and_one_that_has_a_row_have_files_of_their_own(
    store: ResultStore,
) -> None:
    alone = Commits(store, "sample")
    add(alone, 0, status=TrialStatus.FAILED)
    committed(alone)
    commits = Commits(store, "sample", stored=set(store.finished()))
    trial_ids = add(commits, 0, 1)
    trial_ids |= add(commits, 2, status=TrialStatus.FAILED) | add(commits, 3, 4)
    committed(commits)
    assert sorted(name for name in files(store)[0] if name == "batch") == [
        "batch"
    ]  # 3 and 4; 1 was before a failed one
    assert len(files(store)[0]) == 4
    plain_once(store, trial_ids)
    assert store.finished()[samples.spec(seed=0).trial_id] is TrialStatus.COMPLETED


def test_rows_that_do_not_fit_fail_their_trial_alone(store: ResultStore) -> None:
    commits = Commits(store, "sample")
    trial_ids = add(commits, 0, 1)
    unfit = add(commits, 2, rows=[{"step": 0, "nonsense": 1}])
    found = {one.attempt.trial.spec.trial_id: one for one in committed(commits)}
    assert [one.unfit for one in found.values()] == [False, False, True]
    statuses = store.finished()
    assert {statuses[trial_id] for trial_id in trial_ids} == {TrialStatus.COMPLETED}
    assert {statuses[trial_id] for trial_id in unfit} == {TrialStatus.FAILED}
    assert "nonsense" in results.trials(str(store)).error.dropna().iloc[0]


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_driver_killed_in_a_batch_leaves_nothing_twice(
    store: ResultStore, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    write, left = Folder.write, [writes]

    def limited(*given: Any) -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        write(*given)

    commits = Commits(store, "sample")
    add(commits, 0, 1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "write", limited)
        if writes < 2:
            with pytest.raises(Killed):
                committed(commits)
        else:
            committed(commits)
    assert len(store.finished()) == (3 if writes == 2 else 0)
    again = ResultStore(str(store))
    again.begin(samples.sweep())
    compact(again)
    others = Commits(again, "sample")  # the trials end in another order and company now
    left_over = [seed for seed in range(4) if samples.spec(seed=seed).trial_id not in again.finished()]
    add(others, *left_over[1:])
    list(others.flush())
    add(others, left_over[0])
    committed(others)
    trial_ids = {samples.spec(seed=seed).trial_id for seed in range(4)}
    plain_once(again, trial_ids)
    compact(again)
    plain_once(again, trial_ids)
    assert files(again) == [["part"], ["part"]]


def test_a_trial_half_committed_alone_may_end_in_a_batch(
    store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two tables of a failed attempt; the next run knows of no row of it."""
    write = Folder.write

    def one_table(self: Folder, name: str, content: Any) -> None:
        if name.startswith("trials/"):
            raise OSError("killed")
        write(self, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "write", one_table)
        with pytest.raises(StoreError):
            store.commit(samples.spec(seed=0), "sample", samples.result(TrialStatus.FAILED), ROWS[:1])
    assert len(files(store)[1]) == 1
    again = ResultStore(str(store))
    again.begin(samples.sweep())
    commits = Commits(again, "sample")
    trial_ids = add(commits, 0, 1)
    committed(commits)
    plain_once(again, trial_ids)
    compact(again)
    plain_once(again, trial_ids)


def test_what_a_driver_thought_dead_writes_twice_is_merged(store: ResultStore) -> None:
    """Two drivers wrote batches of the same trials in other company: readers see each once, and so does pandas then."""
    trial_ids = set[str]()
    for seeds in ((0, 1, 2), (1, 2, 3)):
        commits = Commits(store, "sample")
        trial_ids |= add(commits, *seeds)
        committed(commits)
    assert len(pd.read_parquet(f"{store}/trials")) == 6
    assert sorted(results.trials(str(store)).trial_id) == sorted(trial_ids)
    assert compact_if_useful(store) is not None
    plain_once(store, trial_ids)
    assert compact_if_useful(store) is None


def test_readers_are_not_held_up_by_batches_that_come_all_the_time(
    store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for each listing of the files."""
    listing, seeds = tables.files, iter(range(0, 1000, 2))

    def growing(folder: Folder, name: str) -> list[str]:
        seed = next(seeds)
        ended = [(samples.spec(seed=seed + i), samples.result(TrialStatus.COMPLETED), ROWS) for i in (0, 1)]
        store.commit_batch(ended, "sample")
        return listing(folder, name)

    monkeypatch.setattr(tables, "files", growing)
    monkeypatch.setattr(tables, "ATTEMPTS", 3)
    assert len(results.trials(str(store))) > 0


def test_a_batch_that_could_not_be_written_is_tried_again_as_it_is(
    store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two tables the disk was full; what has ended since is another batch."""
    write, times = Folder.write, [0]

    def full(*given: Any) -> None:
        times[0] += 1
        if times[0] == 2:
            raise OSError(28, "No space left on device")
        write(*given)

    monkeypatch.setattr(Folder, "write", full)
    notes: list[str] = []
    commits = Commits(store, "sample", note=notes.append, pace=0.0)
    trial_ids = add(commits, 0, 1)
    assert commits.proceed() == []
    commits.finish()
    trial_ids |= add(commits, 2, 3)
    assert commits.proceed() == []
    assert commits.stuck
    assert "No space left" in notes[0]
    committed(commits)
    assert not commits.stuck
    assert files(store) == [["batch"] * 2] * 2
    plain_once(store, trial_ids)


def test_the_first_is_written_at_once_and_the_next_gather_meanwhile(store: ResultStore) -> None:
    commits = Commits(store, "sample")
    add(commits, 0)
    assert commits.due_in == 0.0
    commits.proceed()
    add(commits, 1, 2)
    commits.finish()
    (first,) = commits.proceed()
    assert first.attempt.trial.spec.seed == 0
    assert 0 < commits.due_in <= GATHER or len(commits) == 2  # a slow disk takes longer than that
    begun = time.monotonic()
    while commits:
        commits.wait(1.0)
        commits.proceed()
    assert time.monotonic() - begun < 10 * GATHER + 1
    assert commits.due_in == float("inf")
    commits.close()
    assert sorted(files(store)[0], key=len) == ["batch", f"{samples.spec(seed=0).trial_id}.parquet"]


def test_nothing_is_written_once_results_are_another_drivers(store: ResultStore) -> None:
    def taken() -> None:
        raise StoreError("another driver")

    commits = Commits(store, "sample", confirm=taken)
    add(commits, 0)
    with pytest.raises(StoreError, match="another driver"):
        commits.proceed()
    commits.close()
    assert not store.finished()


def test_what_is_being_written_at_the_end_is_told(
    store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, write = threading.Event(), Folder.write

    def slow(*given: Any) -> None:
        go.wait(10)
        write(*given)

    monkeypatch.setattr(Folder, "write", slow)
    commits = Commits(store, "sample")
    trial_ids = add(commits, 0)
    commits.proceed()
    threading.Timer(0.05, go.set).start()
    assert {one.attempt.trial.spec.trial_id for one in commits.close()} == trial_ids
    plain_once(store, trial_ids)
