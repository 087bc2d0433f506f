"""Merged files hold the same rows, and whoever reads meanwhile, or after a kill, finds every row exactly once."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
import samples
from click.testing import CliRunner

from orchestrator import compaction, results, tables
from orchestrator.cli import main
from orchestrator.compaction import Compacted, compact, compact_if_useful
from orchestrator.files import Folder
from orchestrator.store import ResultStore, StoreError
from workers.result import TrialStatus, measurement_columns

STEPS = (0, 5)
SMALL = [{"step": step, "epoch": 0.0} for step in STEPS]  # a row costs a test little


@pytest.fixture
def store(tmp_path):
    made = ResultStore(tmp_path / "sample")
    made.begin(samples.sweep())
    return made


def commit(store, *seeds, status=TrialStatus.COMPLETED, rows=SMALL):
    for seed in seeds:
        store.commit(samples.spec(seed=seed), "sample", samples.result(status), rows)
    return {samples.spec(seed=seed).trial_id for seed in seeds}


def files(store):
    return {name: tables.files(store.folder, name) for name in ("trials", "measurements")}


def once(store, trial_ids):
    """Every reader of ours sees these trials, and each of their rows once."""
    path = str(store)
    assert sorted(results.trials(path).trial_id) == sorted(trial_ids)
    measured = results.measurements(path)
    assert sorted(zip(measured.trial_id, measured.step, strict=True)) == sorted(
        (trial_id, step) for trial_id in trial_ids for step in STEPS
    )
    pairs = [(trial["trial_id"], [row["step"] for row in rows]) for trial, rows in results.by_trial(path)]
    assert sorted(pairs) == sorted((trial_id, list(STEPS)) for trial_id in trial_ids)
    assert set(ResultStore(path).finished()) == set(trial_ids)


def plain_once(store, trial_ids):
    """So do the folders read as they are."""
    assert sorted(pd.read_parquet(f"{store}/trials").trial_id) == sorted(trial_ids)
    assert len(pd.read_parquet(f"{store}/measurements")) == len(STEPS) * len(trial_ids)


def in_order(frame):
    return frame.sort_values(["trial_id", "step"] if "step" in frame else "trial_id", ignore_index=True)


def test_the_same_rows_are_in_few_files(store):
    commit(store, 0, 1, 2, rows=samples.rows())
    commit(store, 3, status=TrialStatus.DIVERGED, rows=[])
    before = results.load([str(store)])
    assert compact(store) == Compacted(trials=4, files_before=8, files_after=2)
    assert [len(names) for names in files(store).values()] == [1, 1]
    for earlier, frame in zip(before, results.load([str(store)]), strict=True):
        keys = [name for name in ("trial_id", "step", "index") if name in frame]
        pd.testing.assert_frame_equal(
            frame.sort_values(keys, ignore_index=True), earlier.sort_values(keys, ignore_index=True)
        )
    for name, frame in (("trials", before.trials), ("measurements", before.measurements)):
        pd.testing.assert_frame_equal(in_order(pd.read_parquet(f"{store}/{name}")), in_order(frame))
    assert len(store.finished()) == 4


def test_nothing_is_left_to_do_the_second_time(store):
    trial_ids = commit(store, 0, 1)
    compact(store)
    first = files(store)
    assert compact(store) == Compacted(trials=2, files_before=2, files_after=2)
    assert files(store) == first
    once(store, trial_ids)


def test_a_failed_trial_keeps_its_own_files_until_it_has_run_again(store):
    trial_ids = commit(store, 0, 1) | commit(store, 2, status=TrialStatus.FAILED)
    assert compact(store) == Compacted(trials=2, files_before=6, files_after=4)
    once(store, trial_ids)
    commit(store, 2)
    assert compact(store) == Compacted(trials=3, files_before=4, files_after=2)
    assert set(store.finished().values()) == {TrialStatus.COMPLETED}
    once(store, trial_ids)


def test_parts_are_filled_to_the_target_and_full_ones_left_alone(store):
    trial_ids = commit(store, *range(8))
    size = sum(store.folder.sizes("measurements")[f"{trial_id}.parquet"] for trial_id in trial_ids)
    compact(store, target=size // 2 - 10)
    first = files(store)
    assert [len(names) for names in first.values()] == [2, 2]
    trial_ids |= commit(store, 8, 9)
    largest = max(store.folder.sizes("measurements")[part] for part in first["measurements"])
    compact(store, target=largest * 3 // 2)  # the parts are more than half full
    assert set(first["trials"]) < set(files(store)["trials"])
    compact(store, target=100 * size)  # and small by this measure
    assert [len(names) for names in files(store).values()] == [1, 1]
    once(store, trial_ids)
    plain_once(store, trial_ids)


def test_a_column_of_a_later_version_is_there_for_all_trials(store, monkeypatch):
    commit(store, 0)
    columns = measurement_columns() | {"new_quantity": float | None}
    monkeypatch.setattr("orchestrator.store.measurement_columns", lambda _: columns)
    later = ResultStore(store.folder.path)
    later.begin(samples.sweep())
    commit(later, 1, rows=[{"step": 0, "epoch": 0.0, "new_quantity": 0.5}])
    monkeypatch.undo()
    compact(ResultStore(store.folder.path))  # by a version that does not know it
    for frame in (results.measurements(str(store)), pd.read_parquet(f"{store}/measurements")):
        assert list(frame.new_quantity.dropna()) == [0.5]
        assert len(frame) == 3


def test_a_large_sweep_is_told_from_a_small_one(store, monkeypatch):
    commit(store, 0, 1, 2)
    assert compact_if_useful(store) is None
    monkeypatch.setattr(compaction, "LARGE", 2)
    assert compact_if_useful(store) == Compacted(3, 6, 2)


# --- killed ---


class Killed(Exception):
    pass


def kill_after(monkeypatch, count):
    """No file is written or deleted any more after the first `count`; whether that came to pass is returned."""
    left, killed = [count], threading.Event()
    for name in ("write", "remove"):
        original = getattr(Folder, name)

        def limited(*given, original=original):
            if left[0] == 0:
                killed.set()
                raise Killed
            left[0] -= 1
            return original(*given)

        monkeypatch.setattr(Folder, name, limited)
    return killed


def test_a_compaction_killed_at_any_point_loses_and_doubles_nothing(store, tmp_path, monkeypatch):
    """A part and two trials become one part: two writes, six deletions, and an end after each of them."""
    monkeypatch.setattr(compaction, "THREADS", 1)
    trial_ids = commit(store, 0, 1)
    compact(store)
    trial_ids |= commit(store, 2, 3)
    for count in range(9):
        cut = ResultStore(shutil.copytree(store.folder.path, tmp_path / f"{count}"))
        with monkeypatch.context() as patch:
            killed = kill_after(patch, count)
            try:
                compact(cut)
            except Killed:
                assert killed.is_set()
        assert killed.is_set() == (count < 8)
        once(cut, trial_ids)
        compact(cut)
        once(cut, trial_ids)
        plain_once(cut, trial_ids)
        assert [len(names) for names in files(cut).values()] == [1, 1]


def test_a_trial_run_again_after_a_kill_has_its_new_rows(store, monkeypatch):
    """Its own row was damaged while a part of it was being written."""
    trial_ids = commit(store, 0, 1)
    with monkeypatch.context() as patch:
        kill_after(patch, 1)
        with pytest.raises(Killed):
            compact(store)
    commit(store, 0, rows=[SMALL[0] | {"f_top": 0.5}, SMALL[1]])
    for _ in range(2):
        once(store, trial_ids)
        assert list(results.measurements(str(store)).f_top.dropna()) == [0.5]
        compact(store)


# --- at the same time ---


def slow_files(monkeypatch, pause):
    """A pause before every write and deletion, so that others come in between."""
    for name in ("write", "remove"):
        original = getattr(Folder, name)

        def slow(*given, original=original):
            time.sleep(pause)
            return original(*given)

        monkeypatch.setattr(Folder, name, slow)


def test_readers_see_every_row_once_while_trials_end_and_are_merged(store, monkeypatch):
    """Eight compactions, each with three more trials and the part of the one before, against as many reads as fit."""
    slow_files(monkeypatch, 0.004)
    committed = commit(store, 0)

    def work():
        for first in range(1, 25, 3):
            for seed in range(first, first + 3):
                committed.update(commit(store, seed))
            compact(store)

    def check():
        path, floor = str(store), set(committed)
        measured, trials = results.measurements(path), results.trials(path)
        assert not measured.duplicated(["trial_id", "step"]).any()
        assert not trials.trial_id.duplicated().any()
        assert floor <= set(trials.trial_id)
        assert floor <= set(measured.trial_id)
        assert floor <= store.finished().keys()
        assert (measured.groupby("trial_id").step.count() == len(STEPS)).all()
        pairs = [(trial["trial_id"], len(rows)) for trial, rows in results.by_trial(path)]
        assert floor <= {trial_id for trial_id, _ in pairs}
        assert {count for _, count in pairs} == {len(STEPS)}

    with ThreadPoolExecutor(1) as thread:
        working = thread.submit(work)
        reads = 0
        while not working.done():
            check()
            reads += 1
        working.result()
    assert reads >= 5
    assert len(committed) == 25
    once(store, committed)
    plain_once(store, committed)


def test_two_compactions_at_once_and_a_driver_that_commits_lose_and_double_nothing(store, monkeypatch):
    slow_files(monkeypatch, 0.001)
    committed = commit(store, *range(6))

    def merge(rounds=4):
        for _ in range(rounds):
            compact(ResultStore(store.folder.path))

    with ThreadPoolExecutor(3) as threads:
        working = [threads.submit(merge), threads.submit(merge)]
        for seed in range(6, 12):
            committed |= commit(store, seed)
        for each in working:
            each.result()
    once(store, committed)
    compact(store)
    once(store, committed)
    plain_once(store, committed)


def test_overlapping_parts_are_read_once_and_merged_whatever_their_size(store, tmp_path):
    """As compactions that saw different trials leave them; each two of the three share a trial."""
    for seeds in ((0, 1), (1, 2), (0, 2)):
        other = ResultStore(tmp_path / str(seeds))
        other.begin(samples.sweep())
        commit(other, *seeds)
        compact(other)
        for name, (part,) in files(other).items():
            store.folder.write(f"{name}/{part}", other.folder.read(f"{name}/{part}"))
    trial_ids = {samples.spec(seed=seed).trial_id for seed in range(3)}
    once(store, trial_ids)
    compact(store, target=1)
    once(store, trial_ids)
    plain_once(store, trial_ids)


def before_first_call(monkeypatch, module, name, then):
    """`then` comes just before the first call of this function, as another process might."""
    original, came = getattr(module, name), []

    def late(*given, **named):
        if not came:
            came.append(True)
            then()
        return original(*given, **named)

    monkeypatch.setattr(module, name, late)


def test_a_listing_that_missed_a_trial_on_its_way_into_a_part_is_not_believed(store, monkeypatch):
    """Own files are deleted before it comes to them, the part is written after it has passed that place."""
    trial_ids = commit(store, 0, 1)
    compact(store)
    original, missed = tables.files, set()

    def files_of(folder, name):
        first = name not in missed
        missed.add(name)
        return [] if first else original(folder, name)

    monkeypatch.setattr(tables, "files", files_of)
    assert set(results.measurements(str(store)).trial_id) == trial_ids


def test_files_that_are_merged_before_they_are_opened_are_found_again(store, monkeypatch):
    trial_ids = commit(store, 0, 1)
    trials = results.trial_rows(str(store))
    monkeypatch.setattr(results, "trial_rows", lambda _: trials)
    before_first_call(monkeypatch, tables, "read_files", lambda: compact(store))
    pairs = [(trial["trial_id"], len(rows)) for trial, rows in results.by_trial(str(store))]
    assert sorted(pairs) == sorted((trial_id, len(STEPS)) for trial_id in trial_ids)


def test_a_part_that_grows_while_finished_trials_are_counted_is_counted(store, monkeypatch):
    """Between the listing of measurements and the look at which trials the part has, it became a larger one."""
    trial_ids = commit(store, 0, 1)
    compact(store)

    def grow():
        trial_ids.update(commit(store, 2))
        compact(store)

    before_first_call(monkeypatch, tables, "torn", grow)
    assert set(store.finished()) == trial_ids


def test_a_compaction_that_another_has_overtaken_begins_again(store, monkeypatch):
    trial_ids = commit(store, 0, 1)
    before_first_call(monkeypatch, compaction, "_merge", lambda: compact(store))
    compact(store)
    once(store, trial_ids)
    plain_once(store, trial_ids)


# --- damage and the command ---


@pytest.mark.parametrize("name", ["trials", "measurements"])
def test_the_trials_of_a_damaged_part_run_again(store, name):
    lost = commit(store, 0, 1)
    compact(store)
    kept = commit(store, 2)
    (part,) = tables.parts(files(store)[name])
    torn = store.folder.read(f"{name}/{part}")[:-50]
    store.folder.write(f"{name}/{part}", torn)
    assert set(store.finished()) == kept
    (line,) = store.begin(samples.sweep())
    assert f"{name}/{part}: is damaged" in line
    assert store.folder.read(f"{name}/.damaged-{part}") == torn
    assert tables.parts(files(store)["trials"]) == tables.parts(files(store)["measurements"]) == set()
    plain_once(store, kept)
    commit(store, 0, 1)
    compact(store)
    once(store, kept | lost)


def test_a_file_that_is_damaged_inside_is_named_and_nothing_is_deleted(store):
    """Its footer is whole, so that only reading it shows the damage."""
    (hurt,) = commit(store, 0, rows=samples.rows())
    commit(store, 1)
    name = f"measurements/{hurt}.parquet"
    content = store.folder.read(name)
    store.folder.write(name, content[:4] + b"\xff" * 3000 + content[3004:])
    before = files(store)
    with pytest.raises(StoreError, match=rf"sample/{name}: is damaged"):
        compact(store)
    assert files(store) == before


def test_the_command_says_what_it_did(store):
    commit(store, 0, 1, 2)
    for said in ("3 trials: 6 files are now 2", "nothing to compact: 3 trials in 2 files"):
        done = CliRunner().invoke(main, ["compact", str(store)])
        assert done.exit_code == 0
        assert done.stderr == f"{said}\n"


def test_the_command_refuses_a_folder_without_results(tmp_path):
    done = CliRunner().invoke(main, ["compact", str(tmp_path)])
    assert done.exit_code == 2
    assert done.stderr == f"{tmp_path}: no results of a sweep here: sweep.yaml is missing\n"
