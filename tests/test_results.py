"""Reading back: both tables, the long forms, and sweeps of different versions together."""

import subprocess
import sys

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import samples

from orchestrator import results, tables
from orchestrator.store import ResultStore
from workers.result import TrialStatus, measurement_columns, trial_columns
from workers.spec import spec_columns


@pytest.fixture
def store(tmp_path):
    made = ResultStore(tmp_path / "sample")
    made.begin(samples.sweep())
    return made


def commit(store, seed=0, rows=None, status=TrialStatus.COMPLETED, **changes):
    spec = samples.spec(seed=seed, **changes)
    store.commit(spec, "sample", samples.result(status), samples.rows() if rows is None else rows)
    return spec.trial_id


def test_both_tables_equal_what_pandas_reads_from_the_folders(store):
    commit(store)
    commit(store, 1, [], TrialStatus.FAILED)
    for name, frame in (("trials", results.trials), ("measurements", results.measurements)):
        pd.testing.assert_frame_equal(frame(str(store)), pd.read_parquet(f"{store}/{name}"))


def test_dates_are_utc_and_nulls_are_missing(store):
    commit(store, 1, [], TrialStatus.FAILED)
    trial = results.trials(str(store)).iloc[0]
    assert trial.started_at == pd.Timestamp(samples.START)
    assert pd.isna(trial.epochs)
    assert trial.error.endswith("ValueError: no")


def test_an_empty_sweep_has_every_column_and_no_row(store):
    found = results.load([str(store)])
    assert list(found.trials.columns) == list(trial_columns())
    assert list(found.measurements.columns) == list(measurement_columns())
    keys = ["trial_id", "sweep", *spec_columns(), "step"]
    assert list(found.eigenvalues.columns) == [*keys, "index", "eigenvalue", "residual", "gradient_overlap"]
    assert list(found.subspace_overlaps.columns) == [*keys, "since", "top", "next", "by_dimension"]
    assert [len(frame) for frame in found] == [0, 0, 0, 0]


def test_a_sweep_killed_in_its_first_moment_is_empty(tmp_path):
    (tmp_path / "sweep.yaml").write_text("name: x")
    assert [len(frame) for frame in results.load([tmp_path])] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "read", [results.trials, results.measurements, results.eigenvalues, results.subspace_overlaps]
)
def test_a_folder_without_results_is_a_line(tmp_path, read):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileNotFoundError, match=f"^{path}: no results of a sweep here$"):
            read(path)


def test_rows_of_a_trial_that_is_not_finished_are_left_out(store):
    done = commit(store)
    commit(store, 1)
    store.folder.remove(f"trials/{samples.spec(seed=1).trial_id}.parquet")
    assert set(results.measurements(str(store)).trial_id) == {done}
    assert set(results.eigenvalues(str(store)).trial_id) == {done}


def test_eigenvalues_are_one_row_each_with_index_from_one(store):
    rows = [
        samples.row(0, eigenvalues=[3.0, 1.0], residuals=[1e-4, 2e-4], gradient_overlaps=[0.5, 0.25]),
        samples.row(1, eigenvalues=None, residuals=None, gradient_overlaps=None),
        samples.row(2, eigenvalues=[2.0], residuals=[1e-5], gradient_overlaps=None),  # gradient vanished
        samples.row(3, eigenvalues=[], residuals=[], gradient_overlaps=[]),
    ]
    trial_id = commit(store, 3, rows, learning_rate=0.5)
    found = results.eigenvalues(str(store))
    assert list(found.step) == [0, 0, 2]
    assert list(found["index"]) == [1, 2, 1]
    assert list(found.eigenvalue) == [3.0, 1.0, 2.0]
    assert list(found.residual) == [1e-4, 2e-4, 1e-5]
    assert list(found.gradient_overlap[:2]) == [0.5, 0.25]
    assert pd.isna(found.gradient_overlap[2])
    assert set(found.trial_id) == {trial_id}
    assert set(found.learning_rate) == {0.5}


def test_subspace_overlaps_are_one_row_for_each_earlier_step(store):
    overlaps = [
        {"since": 1, "top": 0.8, "next": 0.2, "by_dimension": [0.9, 0.8]},
        {"since": 5, "top": 0.9, "next": None, "by_dimension": [0.95]},
    ]
    rows = [samples.row(0, subspace_overlap=None), samples.row(1, subspace_overlap=[]), samples.row(9)]
    commit(store, rows=[*rows, samples.row(10, subspace_overlap=overlaps)])
    found = results.subspace_overlaps(str(store))
    assert list(found.step) == [9, 10, 10]
    assert list(found.since) == [2, 1, 5]
    assert list(found.top) == [0.75, 0.8, 0.9]
    assert list(found.next.isna()) == [True, False, True]
    assert [list(values) for values in found.by_dimension] == [[0.5, 0.75], [0.9, 0.8], [0.95]]


def test_sweeps_of_different_versions_come_together_with_nulls(store, tmp_path, monkeypatch):
    commit(store)
    with monkeypatch.context() as patch:
        columns = measurement_columns() | {"new_quantity": float | None}
        patch.setattr("orchestrator.store.measurement_columns", lambda _: columns)
        later = ResultStore(tmp_path / "later")
        later.begin(samples.sweep(name="later"))
        later.commit(samples.spec(seed=7), "later", samples.result(), [samples.row(0, new_quantity=0.5)])
    found = results.load([str(store), tmp_path / "later"])
    assert list(found.measurements.new_quantity.dropna()) == [0.5]
    assert len(found.measurements) == 5
    assert len(found.trials) == 2
    assert len(found.eigenvalues) == 15


def test_sweeps_whose_columns_contradict_each_other_are_a_line(store, tmp_path):
    commit(store)
    other = tmp_path / "other"
    (other / "trials").mkdir(parents=True)
    (other / "sweep.yaml").write_text("name: other")
    pq.write_table(pa.table({"trial_id": ["a"], "seed": ["zero"]}), other / "trials" / "a.parquet")
    with pytest.raises(ValueError, match=r"load: these sweeps do not fit together: .*seed"):
        results.load([str(store), other])


def test_nothing_to_load_is_a_line():
    with pytest.raises(ValueError, match="load: needs at least one"):
        results.load([])


def test_by_trial_pairs_each_trial_with_its_rows_even_in_a_compacted_file(store):
    first, second = commit(store, 0, samples.rows(0, 5)), commit(store, 1, samples.rows(0, 7))
    third = commit(store, 2, [], TrialStatus.FAILED)
    files = [store.folder.join(f"measurements/{name}.parquet") for name in (second, first)]
    together = pa.concat_tables([pq.read_table(file) for file in files]).sort_by("step")  # rows of both mixed
    pq.write_table(together, store.folder.join("measurements/part-1.parquet"))
    for name in (first, second):
        store.folder.remove(f"measurements/{name}.parquet")
    found = {trial["trial_id"]: [row["step"] for row in rows] for trial, rows in results.by_trial(str(store))}
    assert found == {first: [0, 5], second: [0, 7], third: []}
    assert [trial["trial_id"] for trial, _ in results.by_trial(str(store), only={second})] == [second]


def test_a_failed_trial_run_again_outweighs_its_row_in_a_compacted_file(store):
    trial_id = commit(store, status=TrialStatus.FAILED)
    own = store.folder.join(f"trials/{trial_id}.parquet")
    pq.write_table(pq.read_table(own), store.folder.join("trials/part-1.parquet"))
    compacted = pq.read_table(store.folder.join(f"measurements/{trial_id}.parquet"))
    pq.write_table(compacted, store.folder.join("measurements/part-1.parquet"))
    commit(store, rows=samples.rows(0))
    other = commit(store, 1, samples.rows(0))
    assert store.finished()[trial_id] is TrialStatus.COMPLETED
    assert dict(results.trials(str(store))[["trial_id", "status"]].to_numpy()) == {
        trial_id: "completed",
        other: "completed",
    }
    assert len(results.measurements(str(store))) == 2


@pytest.mark.parametrize("name", ["trials", "measurements"])
def test_a_damaged_file_is_named_and_the_rest_is_read(store, name):
    whole, hurt = commit(store), commit(store, 1)
    file = f"{name}/{hurt}.parquet"
    store.folder.write(file, store.folder.read(file)[:2000])
    said = rf"^{store}/{file}: is damaged and left out; run the sweep again, and if it is named still, delete it first$"
    for read in (results.measurements, results.eigenvalues):
        with pytest.warns(UserWarning, match=said):
            assert set(read(str(store)).trial_id) == {whole}
    with pytest.warns(UserWarning, match=said):
        pairs = {trial["trial_id"]: len(rows) for trial, rows in results.by_trial(str(store))}
    assert pairs == {whole: 4} | ({hurt: 0} if name == "measurements" else {})
    if name == "measurements":
        assert set(results.trials(str(store)).trial_id) == {whole, hurt}


def test_a_file_system_that_fails_is_not_taken_for_damage(store, monkeypatch):
    """Or a server that is away for a moment would read as a sweep without its trials."""
    commit(store)

    def away(*_):
        raise OSError("AWS Error NETWORK_CONNECTION")

    monkeypatch.setattr(tables, "_rows", away)
    with pytest.raises(OSError, match="NETWORK_CONNECTION"):
        results.trials(str(store))


def test_reading_imports_neither_torch_nor_ray_nor_mlflow():
    code = "import sys; import orchestrator.results; print({'torch', 'ray', 'mlflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
