"""What a search has asked for: kept beside the results, so that one that was killed goes on where it was.

search/<key>.json               what is searched, for readers of results: name, metric, direction, parameters
search/<key>-<chunk>.jsonl      what was asked, CHUNK answers in each file
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.search_space import Choice, Distribution, Parameters, Range
from orchestrator.store import ResultStore, StoreError
from orchestrator.sweep_search import Search

CHUNK = 100
"""Entries of a file: a file that grows is written again for each of them."""


@dataclass
class Asked:
    """One question to the sampler and its answer. Numbers count from 0; a repeated answer means the same trial."""

    number: int
    trial_id: str
    parameters: Parameters
    notes: dict[str, Any] = field(default_factory=dict)  # what sampler and pruner remember by it


RELATED = ("sampler", "pruner", "metric", "direction", "parameters")
"""What notes follow from, in the heading."""


class Record:
    """The stored answers of one search, in order. Where the search was edited since, their notes are forgotten."""

    def __init__(self, store: ResultStore, search: Search) -> None:
        self._store, self._key = store, search.key
        self._unsaved: set[int] = set()
        self._head: bytes | None = json.dumps(heading(search)).encode()
        self.asked: list[Asked] = read(store, search.key)
        before, now = read_heading(store, search.key), json.loads(self._head)
        if any(before.get(part) != now[part] for part in RELATED):
            for asked in self.asked:
                asked.notes = {}
                self.changed(asked.number)

    def add(self, asked: Asked) -> None:
        """Put it last; `save` makes it durable."""
        self.asked.append(asked)
        self.changed(asked.number)

    def changed(self, number: int) -> None:
        """This entry is to be written again with the next `save`."""
        self._unsaved.add(number // CHUNK)

    def save(self) -> None:
        """Write what has changed. Raises StoreError; then nothing is lost, and the next call writes it."""
        for chunk in sorted(self._unsaved):
            entries = [asdict(asked) for asked in self.asked[chunk * CHUNK : (chunk + 1) * CHUNK]]
            content = "".join(json.dumps(entry) + "\n" for entry in entries)
            self._store.write_asked(f"{self._key}-{chunk:05d}.jsonl", content.encode())
            self._unsaved.discard(chunk)
        if self._head:  # last: whoever is killed before forgets the notes again
            self._store.write_asked(f"{self._key}.json", self._head)
            self._head = None


def read(store: ResultStore, key: str) -> list[Asked]:
    """The stored answers of a search, in order; none where there are none. Raises StoreError."""
    found: list[Asked] = []
    for name, content in store.read_asked(key).items():
        try:
            entries: Sequence[Mapping[str, Any]] = [json.loads(line) for line in content.splitlines()]
            found += [Asked(**entry) for entry in entries]
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"{store}: search/{name}: is damaged ({error}); without it the search starts anew: delete it first"
            ) from error
    if [asked.number for asked in found] != list(range(len(found))):
        raise StoreError(
            f"{store}: search/{key}-*.jsonl: some are missing; without them the search starts anew: delete the rest first"
        )
    return found


def read_heading(store: ResultStore, key: str) -> dict[str, Any]:
    """The stored `heading` of a search; empty where there is none. Raises StoreError."""
    content = store.read_asked(key, ".json").get(f"{key}.json")
    try:
        return dict(json.loads(content or "{}"))
    except (ValueError, TypeError):  # what it was about is not known then, which is as if it were edited
        return {}


def heading(search: Search) -> dict[str, Any]:
    """What a search is about, in JSON's types."""
    method = search.method
    return {
        "name": search.name,
        "metric": method.metric,
        "direction": method.direction,
        "sampler": method.sampler,
        "pruner": method.pruner,
        "trials": method.trials,
        "parameters": {name: asdict(found) for name, found in method.space.parameters.items()},
    }


def distribution(found: Mapping[str, Any]) -> Distribution:
    """A parameter of `heading` as it was.

    >>> distribution({"low": 1, "high": 9, "log": False, "step": 2})
    Range(low=1, high=9, log=False, step=2)
    """
    return Choice(tuple(found["values"])) if "values" in found else Range(**found)
