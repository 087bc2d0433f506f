"""Folders on any file system that pyarrow opens, written so that no reader sees a torn file."""

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

TEMPORARY = ".tmp-"
"""How the name of a half-written file begins: Parquet readers skip names that begin with a dot."""


def trial_of(path: str) -> str | None:
    """The trial whose own file this is; None for a file of several.

    >>> trial_of("results/x/trials/0123456789abcdef.parquet")
    '0123456789abcdef'
    """
    stem = path.rpartition("/")[2].removesuffix(".parquet")
    return stem if len(stem) == 16 and all(digit in "0123456789abcdef" for digit in stem) else None


@dataclass(frozen=True)
class Folder:
    """A folder and the file system it lies on. Names are relative to it, with `/` between their parts."""

    filesystem: fs.FileSystem
    path: str  # as the file system wants it
    given: str  # as the user wrote it, for messages

    @classmethod
    def at(cls, root: str | Path) -> "Folder":
        """The folder of that path or URI, which need not exist.

        Raises OSError or ValueError where the URI's file system is unknown or does not answer.
        """
        given = str(root)
        if "://" not in given:
            return cls(fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(given)), given)  # noqa: PTH100, PTH111
        filesystem, path = fs.FileSystem.from_uri(given)
        return cls(filesystem, path.rstrip("/"), given)

    @property
    def local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def join(self, name: str) -> str:
        """The path of `name`, for this folder's file system."""
        return f"{self.path}/{name}" if name else self.path

    def kind(self, name: str = "") -> fs.FileType:
        return self.filesystem.get_file_info(self.join(name)).type

    def names(self, name: str = "") -> list[str]:
        """The names of what lies in this folder, or in the one inside it, sorted; none where it is absent."""
        selector = fs.FileSelector(self.join(name), allow_not_found=True)
        return sorted(info.base_name for info in self.filesystem.get_file_info(selector))

    def parquet(self, name: str) -> list[str]:
        """The paths of the Parquet files in the folder `name`, sorted, those of single trials last."""
        files = [file for file in self.names(name) if file.endswith(".parquet") and file[0] not in "._"]
        files.sort(key=lambda file: trial_of(file) is not None)
        return [self.join(f"{name}/{file}") for file in files]

    def make(self, name: str = "") -> None:
        """Create the folder with its parents; object stores have none and need none."""
        if self.local:
            self.filesystem.create_dir(self.join(name), recursive=True)

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None where there is none."""
        if self.kind(name) is not fs.FileType.File:
            return None
        try:
            with self.filesystem.open_input_stream(self.join(name)) as stream:
                content: bytes = stream.read()
                return content
        except FileNotFoundError:  # removed in between
            return None

    def write(self, name: str, content: bytes | pa.Buffer) -> None:
        """Put a file in place, whole and durable, replacing one of that name. Raises OSError."""
        if self.local:
            _write_local(Path(self.join(name)), content)
        else:  # one put of a whole buffer: an abandoned stream would leave a part of an object
            with self.filesystem.open_output_stream(self.join(name)) as stream:
                stream.write(content)

    def remove(self, name: str) -> None:
        """Delete a file if it is there."""
        try:
            self.filesystem.delete_file(self.join(name))
        except FileNotFoundError:
            return

    def remove_temporary(self, name: str = "") -> None:
        """Delete what a killed writer left half-written in the folder `name`."""
        for file in self.names(name):
            if file.startswith(TEMPORARY):
                self.remove(f"{name}/{file}" if name else file)


def _write_local(path: Path, content: bytes | pa.Buffer) -> None:
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
