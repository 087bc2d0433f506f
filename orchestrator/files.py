"""Folders on any file system that pyarrow opens, written so that no reader sees a torn file."""

import os
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
from pyarrow import fs

from orchestrator.s3 import open_s3

TEMPORARY = ".tmp-"
"""How the name of a half-written file begins: Parquet readers skip names that begin with a dot."""


def reason(error: OSError) -> str:
    """Why the file system refused, on one line.

    >>> reason(OSError(28, "No space left on device", "x/.tmp-1"))
    'No space left on device'
    >>> reason(OSError("When uploading object with key 'x': AWS Error NO_SUCH_BUCKET during PutObject operation: "
    ...                "The specified bucket does not exist (Request ID: 1)"))
    'no such bucket: The specified bucket does not exist'
    """
    said = " ".join((error.strerror or str(error)).split())
    found = re.search(r"AWS Error (\w+) during \w+ operation: (.*?)( \(Request ID.*)?$", said)
    return f"{found[1].lower().replace('_', ' ')}: {found[2]}" if found else said


class CredentialsError(ValueError):
    """A URI with credentials in it, which the message does not repeat."""


@dataclass(frozen=True)
class Folder:
    """A folder and the file system it lies on. Names are relative to it, with `/` between their parts."""

    filesystem: fs.FileSystem
    path: str  # as the file system wants it
    given: str  # as the user wrote it, for messages

    @classmethod
    def at(cls, root: str | Path) -> "Folder":
        """The folder of that path or URI, which need not exist.

        Raises OSError or ValueError where the URI's file system is unknown or does not answer, and
        CredentialsError for one with credentials in it.
        """
        given = str(root)
        if "://" not in given:
            return cls(fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(given)), given)  # noqa: PTH100, PTH111
        if holds_credentials(given):
            raise CredentialsError(
                f"{given.partition(':')[0]}://…: a URI with credentials is refused, since it is logged; set the "
                "environment variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"
            )
        filesystem, path = open_s3(given) if given.startswith("s3://") else fs.FileSystem.from_uri(given)
        return cls(filesystem, path.rstrip("/"), given)

    @property
    def local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def join(self, name: str) -> str:
        """The path of `name`, for this folder's file system."""
        return f"{self.path}/{name}" if name else self.path

    def shown(self, name: str) -> str:
        """The place of `name` for messages, as the user would write it."""
        return f"{self.given.partition('?')[0].rstrip('/')}/{name}"

    def kind(self, name: str = "") -> fs.FileType:
        return self.filesystem.get_file_info(self.join(name)).type

    def names(self, name: str = "") -> list[str]:
        """The names of what lies in this folder, or in the one inside it, sorted; none where it is absent."""
        return sorted(self.sizes(name))

    def sizes(self, name: str = "") -> dict[str, int]:
        """The same names with their bytes; 0 for a folder."""
        selector = fs.FileSelector(self.join(name), allow_not_found=True)
        return {info.base_name: info.size or 0 for info in self.filesystem.get_file_info(selector)}

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
        else:
            with ThreadPoolExecutor(1) as thread:  # one that Ctrl-C does not reach
                thread.submit(self._put, self.join(name), pa.py_buffer(content)).result()

    def _put(self, path: str, content: pa.Buffer) -> None:
        """To an object store: nothing may come between opening and closing, since what is there by then stays."""
        with self.filesystem.open_output_stream(path) as stream:
            stream.write(content)

    def remove(self, name: str) -> None:
        """Delete a file if it is there."""
        try:
            self.filesystem.delete_file(self.join(name))
        except FileNotFoundError:
            return

    def move(self, name: str, to: str) -> None:
        """Give a file another name. Raises OSError."""
        self.filesystem.move(self.join(name), self.join(to))

    def remove_temporary(self, name: str = "") -> None:
        """Delete what a killed writer left half-written in the folder `name`."""
        for file in self.names(name):
            if file.startswith(TEMPORARY):
                self.remove(f"{name}/{file}" if name else file)


def holds_credentials(uri: str) -> bool:
    """Whether a URI says a password, a key or a token: it should not be logged, stored or shown.

    >>> holds_credentials("https://me:secret@tracking:5000"), holds_credentials("s3://bucket/folder")
    (True, False)
    """
    parts = urlsplit(uri)
    name, at, _ = parts.netloc.rpartition("@")
    in_front = bool(at or ":" in parts.netloc) if parts.scheme == "s3" else ":" in name
    words = ("key", "secret", "token", "password")
    return in_front or any(word in key.lower() for key, _ in parse_qsl(parts.query) for word in words)


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
