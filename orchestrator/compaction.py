"""`compact`: many small files into few, while others read and write.

Trials that are completed, diverged or pruned never change again, so theirs are the files that are merged, with
parts that are still small. A part is the same trials in both tables; its name is a digest of their ids. The order of
work keeps every row readable at every moment, wherever it is cut off:

    1. trials/part-D        2. measurements/part-D        3. delete what went in: measurements, then trials

Nothing is locked. A file is deleted only where a part with all its trials was written before, and parts only grow:
of two compactors at once, neither deletes the largest part of any trial. What both leave twice is read once
(orchestrator.tables), and the next `compact` merges it, as it completes one that was killed.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator import tables
from orchestrator.files import reason
from orchestrator.store import ResultStore, StoreError, settled

TARGET = 64 * 2**20
"""Bytes of measurements at which a part is full; below half of it, it is merged again."""

LARGE = 1_000
"""Files not merged yet that make a folder slow to read."""

ATTEMPTS = 10
THREADS = 16


@dataclass(frozen=True)
class Compacted:
    """What `compact` found and left; files are those with rows, of both tables."""

    trials: int  # that are in parts now
    files_before: int
    files_after: int

    def __str__(self) -> str:
        return f"{self.trials} trials: {self.files_before} files are now {self.files_after}"


@dataclass(frozen=True)
class Source:
    """A file name, the trials under it, and in which tables it lies."""

    file: str
    trials: frozenset[str]
    within: tuple[str, ...]  # one table or both
    size: int  # bytes of measurements

    @property
    def complete(self) -> bool:
        return len(self.within) == 2


def compact_if_useful(store: ResultStore) -> Compacted | None:
    """`compact` where more than LARGE files are not merged yet, or a trial lies in two of them; else None.

    The second is what a driver leaves that was thought dead and writes what it had begun to.
    """
    try:
        files = tables.files(store.folder, store.TRIALS)
        own = [file for file in files if not file.startswith(tables.PART)]
        useful = len(own) > LARGE or (
            bool(tables.parts(files)) and tables.count(store.folder, store.TRIALS) > len(store.finished())
        )
    except OSError as error:
        raise StoreError(f"{store}: cannot be read: {reason(error)}") from error
    return compact(store) if useful else None


def compact(store: ResultStore, target: int = TARGET) -> Compacted:
    """Merge the files of finished trials into parts of about `target` bytes of measurements.

    Safe at any time: while a sweep runs, while others read, and beside another `compact`; killed, it can be
    called again. Raises StoreError where there are no results, where a file is damaged inside, or where the
    folder cannot be read or written.
    """
    store.sweep_text()
    try:
        before = _count(store)
        for _ in range(ATTEMPTS):
            try:
                for sources in _bins(_sources(store), target):
                    _merge(store, sources)
                break
            except FileNotFoundError:  # another is at work
                continue
        else:
            raise StoreError(f"{store}: its files change all the time; compact it later")
        return Compacted(_trials_in_parts(store), before, _count(store))
    except OSError as error:
        raise StoreError(f"{store}: cannot be compacted: {reason(error)}") from error


def _count(store: ResultStore) -> int:
    return sum(len(tables.files(store.folder, name)) for name in (store.TRIALS, store.MEASUREMENTS))


def _trials_in_parts(store: ResultStore) -> int:
    parts = sorted(tables.parts(tables.files(store.folder, store.TRIALS)))
    return len(tables.read_files(store.folder, store.TRIALS, parts, ["trial_id"]))


def _sources(store: ResultStore) -> list[Source]:
    """Every part, and the own files of each trial that will not change any more."""
    final = settled(store.finished())
    sizes = {name: store.folder.sizes(name) for name in (store.TRIALS, store.MEASUREMENTS)}
    names = {name: tables.files(store.folder, name) for name in sizes}
    found = []
    for file in sorted({*names[store.TRIALS], *names[store.MEASUREMENTS]}):
        within = tuple(name for name, files in names.items() if file in files)
        own = tables.trial_of(file)
        if own is None:
            trials = frozenset(
                _ids(tables.read_files(store.folder, within[0], [file], ["trial_id"], tables.refuse))
            )
        else:
            trials = frozenset([own] if own in final else [])
        if trials:
            found.append(Source(file, trials, within, sizes[store.MEASUREMENTS].get(file, 0)))
    return found


def _bins(sources: Iterable[Source], target: int) -> list[list[Source]]:
    """The sources of each part to write: parts that are done left out, small ones filled up to the target."""
    bins: list[list[Source]] = [[]]
    size = 0
    for group in _groups(sources):
        if len(group) == 1 and group[0].complete and group[0].size >= target / 2:
            continue
        if size >= target:
            bins.append([])
            size = 0
        bins[-1] += group
        size += sum(source.size for source in group)
    return [found for found in bins if len(found) > 1 or any(not source.complete for source in found)]


def _groups(sources: Iterable[Source]) -> list[list[Source]]:
    """Sources that share a trial, directly or through others: a part is merged as a whole."""
    leader: dict[str, str] = {}

    def first(trial: str) -> str:
        while leader.setdefault(trial, trial) != trial:
            leader[trial] = trial = leader[leader[trial]]
        return trial

    sources = list(sources)
    for source in sources:
        head = first(min(source.trials))
        for trial in source.trials:
            leader[first(trial)] = head
    groups: dict[str, list[Source]] = {}
    for source in sources:
        groups.setdefault(first(min(source.trials)), []).append(source)
    return list(groups.values())


def _merge(store: ResultStore, sources: list[Source]) -> None:
    """Write the part of these sources in both tables, then delete those that are wholly in it."""
    measured = set[str]().union(*(source.trials for source in sources if store.MEASUREMENTS in source.within))
    trials = _content(store, store.TRIALS, sources)
    trials = trials.filter(pc.is_in(trials["trial_id"], value_set=pa.array(measured, pa.string())))
    merged = _ids(trials)
    if not merged:
        return
    rows = _content(store, store.MEASUREMENTS, sources)
    rows = rows.filter(pc.is_in(rows["trial_id"], value_set=trials["trial_id"].combine_chunks()))
    file = f"{tables.PART}{tables.digest(merged)}.parquet"
    store.write_table(f"{store.TRIALS}/{file}", trials)
    store.write_table(f"{store.MEASUREMENTS}/{file}", rows)
    gone = [source for source in sources if source.file != file and source.trials <= merged]
    with ThreadPoolExecutor(THREADS) as threads:
        for name in (store.MEASUREMENTS, store.TRIALS):
            list(
                threads.map(store.folder.remove, [f"{name}/{one.file}" for one in gone if name in one.within])
            )


def _content(store: ResultStore, name: str, sources: list[Source]) -> pa.Table:
    chosen = [source.file for source in sources if name in source.within]
    return tables.read_files(store.folder, name, chosen, on_damage=tables.refuse)


def _ids(table: pa.Table) -> set[str]:
    return set(table["trial_id"].to_pylist())
