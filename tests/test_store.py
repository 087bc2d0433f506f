"""The results folder: what a commit leaves behind, whole or not at all, and which folders are refused."""

import dataclasses
import errno
import json
import os
import threading
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Annotated, Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import samples

from orchestrator.files import TEMPORARY, Folder
from orchestrator.heartbeat import STALE_AFTER, Heartbeat, Running
from orchestrator.schema import ColumnError, arrow_type, schema, table
from orchestrator.store import ResultStore, StoreError
from orchestrator.versions import code_version, package_version
from workers.result import TrialStatus, measurement_columns, trial_columns


@pytest.fixture
def store(tmp_path):
    made = ResultStore(tmp_path / "results" / "sample")
    made.begin(samples.sweep())
    return made


def commit(store, spec=None, rows=None, **changes):
    spec = spec or samples.spec()
    store.commit(spec, "sample", samples.result(**changes), samples.rows() if rows is None else rows)
    return spec


def table_of(store, name):
    return pd.read_parquet(f"{store.folder.path}/{name}")


# --- annotations and columns ---


class Colour(Enum):
    RED = "red"


@dataclasses.dataclass(frozen=True)
class Inner:
    since: int
    next: float | None


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (str, pa.string()),
        (int | None, pa.int64()),
        (bool, pa.bool_()),
        (Annotated[int, "bound"], pa.int64()),
        (Annotated[float, "bound"] | None, pa.float64()),
        (datetime | None, pa.timestamp("us", tz="UTC")),
        (Literal["a", "b"], pa.string()),
        (Colour, pa.string()),
        (TrialStatus, pa.string()),
        (list[float] | None, pa.list_(pa.float64())),
        (tuple[int, ...], pa.list_(pa.int64())),
        (list[list[float]], pa.list_(pa.list_(pa.float64()))),
        (list[Inner], pa.list_(pa.struct([("since", pa.int64()), ("next", pa.float64())]))),
    ],
)
def test_an_annotation_has_its_column_type(annotation, expected):
    assert arrow_type(annotation) == expected


@pytest.mark.parametrize("annotation", [dict[str, int], int | str, Any, Literal[1, 2]])
def test_an_annotation_without_a_column_type_is_refused_with_its_column(annotation):
    with pytest.raises(TypeError, match="odd: "):
        schema({"odd": annotation})


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"step": 1, "f_tpo": 0.5}, "f_tpo: there is no such column"),
        ({"step": 1.5}, "step: 1.5: must be a whole number"),
        ({"step": float("nan")}, "step: nan"),
        ({"step": 2**70}, "step: "),
        ({"f_top": "high"}, "f_top: "),
    ],
)
def test_a_value_that_would_be_lost_or_changed_is_refused(row, said):
    with pytest.raises(ColumnError, match=said):
        table([row], schema({"step": int, "f_top": float | None}))


def test_numbers_that_are_equal_fit():
    assert table([{"step": 2.0, "f_top": 1}], schema({"step": int, "f_top": float})).to_pylist() == [
        {"step": 2, "f_top": 1.0}
    ]


# --- commits ---


def test_a_trial_comes_back_as_it_was_committed_with_its_parameters_on_every_row(store):
    rows = samples.rows()
    spec = commit(store, rows=rows)
    stored = pq.read_table(f"{store.folder.path}/measurements").to_pylist()
    parameters = {"trial_id": spec.trial_id, "sweep": "sample", **spec.columns()}
    assert [row["step"] for row in stored] == [0, 1, 10, 20]
    for given, found in zip(rows, stored, strict=True):
        assert {name: found[name] for name in given | parameters} == given | parameters
    trial = pq.read_table(f"{store.folder.path}/trials").to_pylist()
    assert trial == [parameters | dataclasses.asdict(samples.result())]


def test_every_column_is_there_even_those_that_nothing_filled(store):
    commit(store, rows=[{"step": 0, "epoch": 0.0}])
    assert list(table_of(store, "measurements").columns) == list(measurement_columns())
    assert list(table_of(store, "trials").columns) == list(trial_columns())


def test_an_empty_sweep_reads_as_empty_tables_with_their_columns(store):
    assert list(table_of(store, "measurements").columns) == list(measurement_columns())
    assert len(table_of(store, "trials")) == 0
    assert store.finished() == {}


def test_finished_says_how_each_trial_ended(store):
    done = commit(store)
    failed = commit(store, samples.spec(seed=1), [], status=TrialStatus.FAILED)
    assert store.finished() == {done.trial_id: TrialStatus.COMPLETED, failed.trial_id: TrialStatus.FAILED}


def test_finished_of_a_folder_that_is_not_there_is_empty(tmp_path):
    assert ResultStore(tmp_path / "none").finished() == {}


def test_a_second_commit_replaces_the_first_rows_and_all(store):
    spec = commit(store, status=TrialStatus.FAILED)
    commit(store, spec, [], status=TrialStatus.DIVERGED)
    assert store.finished() == {spec.trial_id: TrialStatus.DIVERGED}
    assert len(table_of(store, "measurements")) == 0


def test_a_row_that_does_not_fit_is_refused_and_nothing_is_written(store):
    with pytest.raises(StoreError, match=f"trial {samples.spec().trial_id}: f_tpo: there is no such column"):
        commit(store, rows=[{"step": 0, "f_tpo": 1.0}])
    assert store.finished() == {}
    assert len(table_of(store, "measurements")) == 0


@pytest.mark.parametrize("at", ["measurements/", "trials/"])
def test_killed_before_either_of_the_two_files_the_trial_is_not_finished_and_runs_again(
    store, monkeypatch, at
):
    write, spec = Folder.write, samples.spec()

    def die(folder, name, content):
        if name.startswith(at):
            raise KeyboardInterrupt
        write(folder, name, content)

    monkeypatch.setattr(Folder, "write", die)
    with pytest.raises(KeyboardInterrupt):
        commit(store, spec, samples.rows(0, 1, 2))
    monkeypatch.undo()
    assert store.finished() == {}
    commit(store, spec, samples.rows(0, 1))
    assert list(table_of(store, "measurements").step) == [0, 1]


def test_killed_while_writing_leaves_no_file_that_a_reader_sees(store, monkeypatch):
    def die(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.files.os.fsync", die)
    with pytest.raises(KeyboardInterrupt):
        commit(store)
    monkeypatch.undo()
    assert store.folder.names("measurements") == [store.COLUMNS]


def test_what_a_killed_driver_left_half_written_is_not_read_and_is_removed(store):
    commit(store)
    for name in ("", "trials/", "measurements/"):
        store.folder.write(f"{name}{TEMPORARY}1234.parquet", b"half a file")
    assert len(table_of(store, "trials")) == 1
    assert len(store.finished()) == 1
    store.begin(samples.sweep())
    assert not [
        n for name in ("", "trials", "measurements") for n in store.folder.names(name) if TEMPORARY in n
    ]


def test_a_folder_that_cannot_be_read_is_a_line_before_anything_runs(store, monkeypatch):
    def locked(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Folder, "names", locked)
    with pytest.raises(StoreError, match=r"cannot be read: .*Permission denied"):
        ResultStore(store.folder.path).check(samples.sweep())


def refuse(monkeypatch, error):
    """The file system refuses every new file."""

    def refused(*_):
        raise error

    monkeypatch.setattr("orchestrator.files.os.fsync", refused)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT], ids=os.strerror)
def test_a_file_that_cannot_be_written_is_named_with_the_reason(store, monkeypatch, error):
    refuse(monkeypatch, OSError(error, os.strerror(error)))
    with pytest.raises(StoreError) as caught:
        commit(store)
    file = f"{store}/measurements/{samples.spec().trial_id}.parquet"
    assert str(caught.value) == f"{file}: cannot be written: {os.strerror(error)}"
    assert isinstance(caught.value.__cause__, OSError)


def test_a_sweep_file_that_cannot_be_read_is_named(store, monkeypatch):
    def locked(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Folder, "read", locked)
    with pytest.raises(StoreError, match=r"sample/sweep\.yaml: cannot be read: Permission denied$"):
        store.sweep_name()


# --- damage ---


def tear(store, name, left=0.5):
    """As a copy that was broken off leaves it."""
    content = store.folder.read(name)
    store.folder.write(name, content[: int(left * len(content))])


@pytest.mark.parametrize("left", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("name", ["trials", "measurements"])
def test_a_trial_with_a_torn_file_is_not_finished_and_its_bytes_are_put_aside(store, name, left):
    whole, hurt = commit(store).trial_id, commit(store, samples.spec(seed=1)).trial_id
    tear(store, f"{name}/{hurt}.parquet", left)
    torn = store.folder.read(f"{name}/{hurt}.parquet")
    assert set(store.finished()) == {whole}  # and does not warn: `begin` says it
    assert store.begin(samples.sweep()) == [
        f"{store}/{name}/{hurt}.parquet: is damaged; kept as .damaged-{hurt}.parquet, and what it held runs again"
    ]
    assert store.folder.read(f"{name}/.damaged-{hurt}.parquet") == torn
    assert set(store.finished()) == set(table_of(store, "trials").trial_id) == {whole}
    assert set(table_of(store, "measurements").trial_id) == {whole}
    commit(store, samples.spec(seed=1))
    assert store.begin(samples.sweep()) == []
    assert set(store.finished()) == {whole, hurt}


def test_a_file_that_is_torn_again_does_not_replace_what_was_put_aside(store):
    name = f"trials/{samples.spec().trial_id}.parquet"
    for left in (0.5, 0.25):
        commit(store)
        tear(store, name, left)
        store.begin(samples.sweep())
    assert len([file for file in store.folder.names("trials") if file.startswith(".damaged-")]) == 2


def test_a_trial_whose_measurements_are_missing_is_not_finished(store):
    whole, hurt = commit(store).trial_id, commit(store, samples.spec(seed=1)).trial_id
    store.folder.remove(f"measurements/{hurt}.parquet")
    assert set(store.finished()) == {whole}


def commit_with_own_quantity(store, monkeypatch):
    """A trial of a sweep that had a measurement of the user's own."""
    columns = measurement_columns() | {"own_quantity": float | None}
    with monkeypatch.context() as patch:
        patch.setattr("orchestrator.store.measurement_columns", lambda _: columns)
        earlier = ResultStore(store.folder.path)
        earlier.begin(samples.sweep())
        commit(earlier, rows=[{"step": 0, "epoch": 0.0, "own_quantity": 0.5}])


def test_where_the_file_of_the_columns_is_torn_they_are_taken_from_the_trials(store, monkeypatch):
    commit_with_own_quantity(store, monkeypatch)
    for name in ("trials", "measurements"):
        tear(store, f"{name}/{store.COLUMNS}")
    later = ResultStore(store.folder.path)
    assert len(later.finished()) == 1
    assert later.begin(samples.sweep()) == []
    assert list(table_of(later, "measurements").own_quantity) == [0.5]


def test_a_reader_never_sees_a_torn_table_while_trials_are_committed(store):
    """60 replacements against as many reads as fit: a write in place would be caught by the first few."""
    done = threading.Event()
    errors: list[BaseException] = []
    counts: list[int] = []

    def read():
        while not done.is_set():
            try:
                counts.append(len(pd.read_parquet(f"{store.folder.path}/measurements", columns=["step"])))
            except BaseException as error:
                errors.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    for index in range(60):
        commit(store, samples.spec(seed=index % 2), samples.rows(*range(4)))
    done.set()
    reader.join()
    assert errors == []
    assert set(counts) <= {0, 4, 8}
    assert counts == sorted(counts)


def test_it_works_on_a_file_system_that_is_not_local_by_single_puts(tmp_path):
    from pyarrow import fs

    store = ResultStore(tmp_path / "inner")
    inner = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())  # stands in for an object store
    for name in ("x/trials", "x/measurements"):
        inner.create_dir(name)
    store.folder = Folder(inner, "x", "s3://bucket/x")
    store.folder.write(store.SWEEP, b"name: sample")  # in an object store there would be no folders yet
    assert not store.folder.local
    store.begin(samples.sweep())
    spec = commit(store)
    assert store.finished() == {spec.trial_id: TrialStatus.COMPLETED}
    assert store.sweep_name() == "sample"


def test_a_file_uri_is_the_same_folder(store):
    commit(store)
    assert ResultStore(f"file://{store.folder.path}").finished() == store.finished()


def test_an_unknown_kind_of_uri_is_a_line():
    with pytest.raises(StoreError, match="gopher://there/x: cannot be opened"):
        ResultStore("gopher://there/x")


# --- which folders are ours ---


def test_the_sweep_file_is_kept_as_given_and_an_edited_one_of_the_same_name_replaces_it(store):
    text = "# more seeds\nname: sample\ngrid: {seed: {range: 9}}\n"
    spec = commit(store)
    store.begin(samples.sweep(text=text))
    assert store.sweep_text() == text
    assert spec.trial_id in store.finished()


def test_a_folder_of_another_sweep_is_refused(store):
    with pytest.raises(StoreError, match="holds results of the sweep 'sample', not of 'other'") as caught:
        store.begin(samples.sweep(name="other"))
    assert "\n" not in str(caught.value)


def test_a_folder_in_use_for_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match=r"is not empty and holds no sweep\.yaml"):
        ResultStore(tmp_path).begin(samples.sweep())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_its_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is a file"):
        ResultStore(tmp_path / "file").begin(samples.sweep())


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be written"):
        ResultStore(tmp_path / "file" / "below").begin(samples.sweep())


def test_a_begin_that_was_killed_at_its_first_write_can_begin_again(tmp_path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Folder, "write", die)
    store = ResultStore(tmp_path / "x")
    with pytest.raises(KeyboardInterrupt):
        store.begin(samples.sweep())
    monkeypatch.undo()
    store.begin(samples.sweep())
    assert store.sweep_name() == "sample"


def test_a_sweep_file_that_is_not_yaml_is_a_line(store):
    store.folder.write(store.SWEEP, b"name: [")
    with pytest.raises(StoreError, match="not YAML"):
        store.begin(samples.sweep())


# --- versions of the schema ---


def test_a_column_that_is_new_in_this_version_is_seen_by_a_plain_reader_of_old_files_too(store, monkeypatch):
    commit(store)
    columns = measurement_columns() | {"new_quantity": float | None}
    monkeypatch.setattr("orchestrator.store.measurement_columns", lambda _: columns)
    later = ResultStore(store.folder.path)
    later.begin(samples.sweep())
    commit(later, samples.spec(seed=1), [{"step": 0, "epoch": 0.0, "new_quantity": 0.5}])
    found = table_of(later, "measurements").new_quantity
    assert found.notna().sum() == 1
    assert found.isna().sum() == 4


def test_a_column_that_an_edited_sweep_no_longer_asks_for_is_not_lost(store, monkeypatch):
    commit_with_own_quantity(store, monkeypatch)
    later = ResultStore(store.folder.path)
    later.begin(samples.sweep())
    assert list(table_of(later, "measurements").own_quantity) == [0.5]


def test_a_column_that_has_changed_its_type_is_a_line(store, monkeypatch):
    columns = measurement_columns() | {"f_top": str | None}
    monkeypatch.setattr("orchestrator.store.measurement_columns", lambda _: columns)
    with pytest.raises(
        StoreError, match=r"measurements there have other column types: .*f_top.*: string vs double"
    ):
        ResultStore(store.folder.path).begin(samples.sweep())


# --- heartbeat and versions ---


def test_a_heartbeat_comes_back_and_is_alive_while_its_process_writes(store):
    assert store.read_heartbeat() is None
    heartbeat = Heartbeat(running={"ab": Running(3, 0.5), "cd": Running()}, file="sweeps/x.yaml")
    store.write_heartbeat(heartbeat)
    assert store.read_heartbeat() == heartbeat
    assert heartbeat.alive()
    assert not heartbeat.alive(datetime.now(UTC) + STALE_AFTER + timedelta(seconds=1))
    assert not dataclasses.replace(heartbeat, pid=2**22 + 1).alive()  # beyond Linux's largest process id
    assert dataclasses.replace(heartbeat, pid=2**22 + 1, host="elsewhere").alive()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", json.dumps({"pid": 1}).encode()])
def test_a_heartbeat_that_cannot_be_read_is_none(store, text):
    store.folder.write(store.HEARTBEAT, text)
    assert store.read_heartbeat() is None


def test_the_probe_says_whether_a_folder_can_be_written(tmp_path):
    ResultStore(tmp_path / "new").probe()
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be written"):
        ResultStore(tmp_path / "file" / "x").probe()


def test_the_code_version_has_the_commit_that_a_job_was_told(monkeypatch):
    monkeypatch.setenv("TINY_SUBSPACE_COMMIT", "abc123")
    code_version.cache_clear()
    assert code_version() == f"{package_version()}+abc123"
    code_version.cache_clear()
