"""Arrays that the processes of a node share: made by the first that asks, mapped from one file by the others.

The file lies in a folder of the user's own on local temporary disk, and every process maps it: the pages are the
kernel's, one copy for all, which it may drop and read again where memory is short. A process that writes into its
arrays changes a copy of the page, which nobody else sees.

A file lives as long as someone uses it. Whoever maps one holds a lock on it, which ends with the mapping and with the
process, however that dies. A file without a lock is never read: whoever meets one removes it, or makes it anew. So
what an earlier run, a killed process or a crash of the machine has left cannot be taken for data, and the folder
holds no more than what the running processes would hold in memory without it.
"""

import errno
import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from mmap import ACCESS_COPY, mmap
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

WORTH_A_FILE = 16 * 2**20
"""Bytes. Less is made again in each process: that takes as long as sharing it, and no memory to speak of."""

PATIENCE_S = 60.0
"""How long to wait for the process that makes the same arrays, which may have been stopped."""

PAGE = 4096
"""Arrays begin at multiples of it, and so at multiples of 64 as torch's own do: kernels take the same path."""


@dataclass(frozen=True)
class Shared:
    """C-contiguous arrays by name, and what keeps their file in use (None: they are this process's own)."""

    arrays: Mapping[str, NDArray[Any]]
    held: mmap | None = None
    note: str | None = None  # why they are not shared, where something is wrong


def share(key: Callable[[], str], make: Callable[[], Mapping[str, NDArray[Any]]]) -> Shared:
    """What `make` returns, from the process of this node that has it already, if there is one.

    `key` names, as a file name, everything that the arrays depend on. It is asked again when they have been made: if
    what it looks at has changed meanwhile they are not shared. Where the temporary disk is full, read-only or somebody
    else's, each process has its own arrays, and a note says so.

    Raises what `make` and `key` raise, but for an OSError of `key`.
    """
    with ExitStack() as locks:
        try:
            name, folder = key(), _own_folder()
            locks.enter_context(FileLock(folder / f"{name}.lock", timeout=PATIENCE_S))
            found = _in_use(folder / name)
            if found is None:
                _remove_unused(folder)
        except OSError as error:
            return Shared(make(), note=_note(error))
        if found is not None:
            return found
        made = make()
        if sum(array.nbytes for array in made.values()) < WORTH_A_FILE:
            return Shared(made)
        try:
            return _published(made, folder / name) if key() == name else Shared(made)
        except OSError as error:
            return Shared(made, note=_note(error))


def _own_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"tiny-subspace-data-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(errno.EPERM, f"{folder} is not a folder of this user alone")
    return folder


def _note(error: OSError) -> str:
    reason = error.strerror or error  # without names of files, which differ from process to process
    return f"each process has its own copy of the data, none could be shared on the temporary disk: {reason}"


def _in_use(path: Path) -> Shared | None:
    """The arrays of a file that a living process has mapped; None where there is none."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        if _lock_alone(file):
            return None
        fcntl.flock(file, fcntl.LOCK_SH)
        removed = (
            os.fstat(file.fileno()).st_nlink == 0
        )  # by another process, which was the one that had it locked
        return None if removed else _mapped(file)


def _lock_alone(file: IO[bytes]) -> bool:
    """Whether nobody else has a lock on it; it is then locked until it is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_unused(folder: Path) -> None:
    """Remove arrays, half-written ones and locks that no process uses. Those that have a file open keep it."""
    for path in folder.iterdir():
        try:
            with path.open("rb") as file:
                if _lock_alone(file):
                    path.unlink()
        except FileNotFoundError:  # another process was faster
            continue


def _published(arrays: Mapping[str, NDArray[Any]], path: Path) -> Shared:
    """Write them to `path`, all or nothing, and map them."""
    descriptor, name = _new_file(path)
    try:
        with open(descriptor, "w+b") as file:  # noqa: PTH123
            _write(file, arrays)
            Path(name).rename(path)
            file.seek(0)
            return _mapped(file)
    finally:
        Path(name).unlink(missing_ok=True)


def _new_file(path: Path) -> tuple[int, str]:
    """A file beside `path` that is in use from the beginning: its descriptor and its name."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if os.fstat(descriptor).st_nlink:
            return descriptor, name
        os.close(descriptor)  # whoever removes what nobody uses came in between


def _write(file: IO[bytes], arrays: Mapping[str, NDArray[Any]]) -> None:
    """A line that describes the arrays, and their bytes. On the disk when this returns: an error of the disk's shows
    here, and not as other numbers when pages are read back."""
    # strides too: those of an axis of length 1 are arbitrary, and torch chooses kernels by them
    described = {name: (array.dtype.str, array.shape, array.strides) for name, array in arrays.items()}
    file.write(json.dumps(described).encode() + b"\n")
    for array in arrays.values():
        file.seek(_next_page(file.tell()))
        file.write(array.reshape(-1).view(np.uint8).data)
    file.flush()
    os.fsync(file.fileno())


def _mapped(file: IO[bytes]) -> Shared:
    """The arrays of a whole file, which stays locked while they, or `held`, live: a mapping has a duplicate of the
    descriptor, which has the lock."""
    line = file.readline()
    try:
        described = json.loads(line)
    except ValueError as error:
        raise OSError(errno.EIO, "a damaged file") from error
    begins, end = {}, len(line)
    for name, (dtype, shape, _) in described.items():
        begins[name] = _next_page(end)
        end = begins[name] + int(np.prod(shape)) * np.dtype(dtype).itemsize
    if os.fstat(file.fileno()).st_size != end:
        raise OSError(errno.EIO, "a damaged file")
    held = mmap(file.fileno(), 0, access=ACCESS_COPY)
    arrays: dict[str, NDArray[Any]] = {
        name: np.ndarray(shape, dtype, held, begins[name], strides)
        for name, (dtype, shape, strides) in described.items()
    }
    return Shared(arrays, held)


def _next_page(position: int) -> int:
    return -(-position // PAGE) * PAGE
