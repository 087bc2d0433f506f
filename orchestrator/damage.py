"""Parquet files that were torn, by a crashed copy or a full disk: found, and put aside without deleting a byte."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.files import Folder

ASIDE = ".damaged-"
"""How the name of a file put aside begins: Parquet readers skip names that begin with a dot."""

MAGIC = b"PAR1"
THREADS = 16


def torn(folder: Folder, name: str) -> set[str]:
    """The names of the Parquet files in the folder `name` whose beginning or end is not that of one.

    Reads twelve bytes a file: 10,000 local files take about a second. What has gone meanwhile is not torn.
    Raises OSError.
    """
    names = [file for file in folder.names(name) if file.endswith(".parquet") and file[0] not in "._"]
    with ThreadPoolExecutor(THREADS) as threads:
        found = threads.map(lambda file: _is_torn(folder, f"{name}/{file}"), names)
        return {file for file, bad in zip(names, found, strict=True) if bad}


def _is_torn(folder: Folder, name: str) -> bool:
    try:
        with folder.filesystem.open_input_file(folder.join(name)) as file:
            size = file.size()
            if size < 12:
                return True
            end = file.read_at(8, size - 8)
            whole = file.read_at(4, 0) == end[4:] == MAGIC and int.from_bytes(end[:4], "little") + 12 <= size
            return not whole
    except FileNotFoundError:
        return False


def unreadable(folder: Folder, names: Sequence[str]) -> list[str]:
    """Those of the Parquet files that cannot be read to their end. Raises OSError, as where one has gone."""
    with ThreadPoolExecutor(THREADS) as threads:
        found = threads.map(lambda name: _is_unreadable(folder, name), names)
        return [name for name, bad in zip(names, found, strict=True) if bad]


def _is_unreadable(folder: Folder, name: str) -> bool:
    with folder.filesystem.open_input_file(folder.join(name)) as file:  # the network's errors come from here
        content = file.read_buffer()
    try:
        pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError):
        return True
    return False


def set_aside(folder: Folder, tables: Iterable[str]) -> list[str]:
    """Put every torn file aside, with the file of the same name in the other tables; a line for each torn one.

    The trials in it then count as not finished. Raises OSError.
    """
    tables = list(tables)
    lines, names = [], set()
    for table in tables:
        for file in sorted(torn(folder, table)):
            names.add(file)
            lines.append(
                f"{folder.shown(f'{table}/{file}')}: is damaged; kept as {ASIDE}{file}, and what it held runs again"
            )
    for table in reversed(tables):
        there = set(folder.names(table))
        for file in sorted(names & there):
            folder.move(f"{table}/{file}", f"{table}/{_unused(ASIDE + file, there)}")
    return lines


def _unused(name: str, there: set[str]) -> str:
    """The name, made longer where an earlier file was put aside under it."""
    while name in there:
        name += "~"
    return name
