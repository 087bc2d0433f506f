"""The user's own modules and arrays: noted beside the results, since a trial's id does not change with what is in them."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from orchestrator import parcel
from orchestrator.store import ResultStore
from orchestrator.sweep import Sweep

RECORD = ".own-files.json"


def note_changes(store: ResultStore, sweep: Sweep, finished: int) -> list[str]:
    """Note which content the files have that the trials name; a line for each that had another in a run before.

    Where nothing is `finished` what was before does not matter. Notes are a courtesy: where they cannot be kept there
    are none.
    """
    here = digests(sweep)
    if not here:
        return []
    lines = []
    with suppress(OSError, ValueError):
        known: dict[str, list[str]] = json.loads(store.folder.read(RECORD) or b"{}") if finished else {}
        for name, digest in here.items():
            seen = known.setdefault(name, [])
            if digest not in seen:
                seen.append(digest)
            if len(seen) > 1:
                lines.append(
                    f"{name} has changed since trials of these results ran ({len(seen)} versions so far); the {finished} "
                    "that are finished are not run again; give another folder with --results to run all with this one"
                )
        store.folder.write(RECORD, json.dumps(known).encode())
    return lines


def digests(sweep: Sweep) -> dict[str, str]:
    """The beginning of a SHA-256 of each of the user's own files that the sweep's trials name, by its path there."""
    files = parcel.files_within(parcel.own_files(sweep.folder, sweep.examples))
    return {path.relative_to(sweep.folder).as_posix(): _digest(path) for path in files}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
