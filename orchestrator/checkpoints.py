"""Where checkpoints lie: flat in the results folder, two of each trial, written by whoever runs it."""

import platform
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from orchestrator.files import Folder

FOLDER = "checkpoints"

KEPT = 2
"""Checkpoints of a trial: should the newest be damaged, there is the one before."""


class StorageError(OSError):
    """Checkpoints cannot be read or written: a disk or an object store is away, full or closed to us."""


@dataclass(frozen=True)
class CheckpointPlace:
    """The results folder or URI that checkpoints go to, as every node sees it, and their period in seconds."""

    results: str
    every: float

    def of(self, trial_id: str) -> "TrialCheckpoints":
        return TrialCheckpoints(self.results, trial_id, self.every)


class TrialCheckpoints:
    """The checkpoints of one trial, for one attempt at it.

    `checkpoints/<trial_id>-<position>-<attempt>.ckpt`. No two attempts write the same file, and one that was thought
    dead does no harm: what it writes is true, because a trial is a function of its spec.
    """

    def __init__(self, results: str, trial_id: str, every: float) -> None:
        self.every = every
        self._results, self._trial_id, self._attempt = results, trial_id, uuid.uuid4().hex[:8]

    def load(self) -> Iterator[bytes]:
        """The content of each, newest first. Raises StorageError where it is there and cannot be read."""
        with self._named():
            names = self._names()
        for name in reversed(names):
            with self._named():
                content = self._folder.read(f"{FOLDER}/{name}")
            if content is not None:
                yield content

    def save(self, position: int, content: bytes) -> None:
        """Put one in place, then remove what is older than it and the one before. Raises StorageError."""
        name = f"{self._trial_id}-{position:012d}-{self._attempt}.ckpt"
        with self._named():
            self._folder.write(f"{FOLDER}/{name}", content)
            for older in [other for other in self._names() if other <= name][:-KEPT]:
                self._folder.remove(f"{FOLDER}/{older}")

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say of trouble where it is, and leave out the file's name, so that it reads the same for every trial."""
        try:
            yield
        except OSError as error:
            where = f"{self._results}/{FOLDER} on {platform.node()}"
            raise StorageError(f"{where}: {error.strerror or error}") from error

    @cached_property
    def _folder(self) -> Folder:
        return Folder.at(self._results)

    def _names(self) -> list[str]:
        return [name for name in self._folder.names(FOLDER) if name.startswith(f"{self._trial_id}-")]


def saved_steps(folder: Folder) -> dict[str, int]:
    """The step that each half-finished trial goes on from, by trial_id. Raises OSError."""
    found: dict[str, int] = {}
    for name in folder.names(FOLDER):
        trial_id, _, rest = name.partition("-")
        step = rest.partition("-")[0]
        if name.endswith(".ckpt") and step.isdecimal():
            found[trial_id] = max(found.get(trial_id, 0), int(step))
    return found


def remove_checkpoints(folder: Folder, trial_ids: Collection[str]) -> None:
    """Delete the checkpoints of trials that are finished. Raises OSError."""
    for name in folder.names(FOLDER):
        if name.partition("-")[0] in trial_ids:
            folder.remove(f"{FOLDER}/{name}")
