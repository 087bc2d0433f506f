"""A table of a results folder: many Parquet files that are read as one, each trial from one of them.

    0-columns.parquet          no rows, every column
    <trial_id>.parquet         one trial, its own file
    batch-<digest>.parquet     some trials, written together
    part-<digest>.parquet      many trials, merged by `compact`

Files move while they are read: `compact` writes a part and then deletes the own files and the smaller parts that
went into it. In between a trial lies in both, and a listing that is under way may show neither. So a trial is
taken from its own file, else from one part; and where a listed file has gone, or the parts are not those
listed, the table is read again.
"""

import hashlib
import time
import warnings
from collections.abc import Callable, Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from orchestrator.damage import torn, unreadable
from orchestrator.files import Folder

TRIALS = "trials"
MEASUREMENTS = "measurements"
SEARCH = "search"
"""What a search asked for lies there: no table, but beside them."""
COLUMNS = "0-columns.parquet"

BATCH = "batch-"
PART = "part-"

ATTEMPTS = 40
"""How often a table is read anew, with pauses that grow to 0.4 s, before it is said that it never rests."""


def trial_of(file: str) -> str | None:
    """The trial whose own file this is; None for a part.

    >>> trial_of("0123456789abcdef.parquet")
    '0123456789abcdef'
    """
    stem = file.removesuffix(".parquet")
    return stem if len(stem) == 16 and all(digit in "0123456789abcdef" for digit in stem) else None


def digest(trial_ids: Iterable[str]) -> str:
    """What a file of these trials is named by."""
    return hashlib.sha256(" ".join(sorted(trial_ids)).encode()).hexdigest()[:16]


def files(folder: Folder, name: str) -> list[str]:
    """The names of a table's files, own ones first, without the one that has no rows."""
    names = [file for file in folder.names(name) if file.endswith(".parquet") and file[0] not in "._"]
    return sorted((file for file in names if file != COLUMNS), key=lambda file: trial_of(file) is None)


def parts(names: Iterable[str]) -> set[str]:
    """Those of the files that hold many trials."""
    return {file for file in names if trial_of(file) is None}


def _merged(names: Iterable[str]) -> set[str]:
    return {file for file in names if file.startswith(PART)}


def warn(file: str) -> None:
    """Say that a damaged file is left out."""
    said = f"{file}: is damaged and left out; run the sweep again, and if it is named still, delete it first"
    warnings.warn(said, stacklevel=6)


def ignore(_: str) -> None:
    """Leave a damaged file out and say nothing."""


def refuse(file: str) -> None:
    """Raise OSError for a damaged file."""
    raise OSError(f"{file}: is damaged")


def read(
    folder: Folder,
    name: str,
    columns: Sequence[str] | None = None,
    on_damage: Callable[[str], None] = warn,
) -> pa.Table:
    """The whole table, or these columns of it: the rows of each trial once.

    A damaged file is told to `on_damage` and left out. Raises OSError.
    """
    for attempt in range(ATTEMPTS):
        listed = files(folder, name)
        try:
            found = read_files(folder, name, listed, columns, on_damage)
        except FileNotFoundError:
            pass
        else:
            # batches come all the time, and one that has gone is in a part that was not listed
            if _merged(files(folder, name)) == _merged(listed):
                return found
        time.sleep(0.01 * attempt)
    raise OSError(f"{folder.shown(name)}: its files changed whenever they were read; try again")


def read_files(
    folder: Folder,
    name: str,
    chosen: Sequence[str],
    columns: Sequence[str] | None = None,
    on_damage: Callable[[str], None] = warn,
) -> pa.Table:
    """The rows of each trial once, from these files of a table.

    A trial's own file outweighs the parts, and of two parts the first counts. A damaged file is told to
    `on_damage` and left out. Raises FileNotFoundError where a file has gone.
    """
    wanted = stored_schema(folder, name)
    if columns is not None:
        known = {field.name: field for field in wanted}
        wanted = pa.schema([known.get(column, pa.field(column, pa.string())) for column in columns])
    own = [file for file in chosen if trial_of(file)]
    single, kept = _scan(folder, name, own, wanted, on_damage)
    found, seen = [single], pa.array([trial_of(file) for file in kept], pa.string())
    for part in sorted(parts(chosen)):
        table, _ = _scan(folder, name, [part], wanted, on_damage)
        if len(seen):
            again = pc.is_in(table["trial_id"], value_set=seen)
            table = table.filter(pc.invert(again)) if pc.any(again).as_py() else table
        found.append(table)
        seen = pa.concat_arrays([seen, pc.unique(table["trial_id"])])
    return pa.concat_tables(found)


def _scan(
    folder: Folder, name: str, chosen: list[str], wanted: pa.Schema, on_damage: Callable[[str], None]
) -> tuple[pa.Table, list[str]]:
    """The rows of these files, and the files that could be read."""
    try:
        return _rows(folder, name, chosen, wanted), chosen
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError):
        damaged = unreadable(folder, [f"{name}/{file}" for file in chosen])
        if not damaged:
            raise
    for file in damaged:
        on_damage(folder.shown(file))
    chosen = [file for file in chosen if f"{name}/{file}" not in damaged]
    return _rows(folder, name, chosen, wanted), chosen


def _rows(folder: Folder, name: str, chosen: list[str], wanted: pa.Schema) -> pa.Table:
    paths = [folder.join(f"{name}/{file}") for file in chosen]
    form = ds.ParquetFileFormat()
    return ds.FileSystemDataset.from_paths(paths, wanted, form, folder.filesystem).to_table()


def count(folder: Folder, name: str) -> int:
    """How many rows there are in all files together, those that are there twice counted twice. Raises OSError."""
    listed = [folder.join(f"{name}/{file}") for file in files(folder, name)]
    form = ds.ParquetFileFormat()
    try:
        found: int = ds.FileSystemDataset.from_paths(
            listed, pa.schema([]), form, folder.filesystem
        ).count_rows()
    except pa.ArrowException as error:
        raise OSError(f"{folder.shown(name)}: {error}") from error
    return found


def stored_schema(folder: Folder, name: str) -> pa.Schema:
    """The columns of a table; where the file that says them is lost or damaged, those of all its files.

    An empty table that has no file at all has `trial_id` and `sweep`. Raises OSError.
    """
    content = folder.read(f"{name}/{COLUMNS}")
    if content is not None:
        try:
            return pq.read_schema(pa.BufferReader(content)).remove_metadata()
        except (pa.ArrowException, OSError):
            pass
    schemas = [pa.schema([("trial_id", pa.string()), ("sweep", pa.string())])]
    for file in files(folder, name):
        try:
            schemas.append(pq.read_schema(folder.join(f"{name}/{file}"), filesystem=folder.filesystem))
        except (pa.ArrowException, OSError):  # damaged, or gone
            continue
    if len(schemas) > 1:  # in the order of a file
        schemas.pop(0)
    return pa.unify_schemas([schema.remove_metadata() for schema in schemas], promote_options="permissive")


def measured(folder: Folder) -> set[str]:
    """The trials whose measurements are there and not torn, be they rows or none. Raises OSError."""
    present = set(files(folder, MEASUREMENTS)) - torn(folder, MEASUREMENTS)
    found = {trial for file in present if (trial := trial_of(file))}
    for part in parts(present):
        try:  # its trials are those of the part of the same name, which names those without rows too
            table = read_files(folder, TRIALS, [part], ["trial_id"], ignore)
        except FileNotFoundError:
            continue
        found.update(table["trial_id"].to_pylist())
    return found
