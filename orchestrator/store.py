"""Where results lie: every path, the schema of both tables, and how a finished trial is put there."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from orchestrator import checkpoints, tables
from orchestrator.damage import set_aside
from orchestrator.files import CredentialsError, Folder, reason
from orchestrator.heartbeat import Heartbeat
from orchestrator.schema import ColumnError, schema, table
from orchestrator.sweep import Sweep
from workers.result import Row, TrialResult, TrialStatus, measurement_columns, trial_columns
from workers.spec import TrialSpec

SMALL = 2**20
"""Bytes of a table that is written for speed rather than for size."""


class StoreError(RuntimeError):
    """A results folder that cannot be used as asked; one line that begins with the folder or the file.

    Its `__cause__` is the OSError where the file system refused.
    """


def settled(statuses: Mapping[str, TrialStatus]) -> set[str]:
    """The trials that are never run again: the finished ones that did not fail.

    >>> settled({"ab": TrialStatus.DIVERGED, "cd": TrialStatus.FAILED})
    {'ab'}
    """
    return {trial_id for trial_id, status in statuses.items() if status is not TrialStatus.FAILED}


class ResultStore:
    """The results of one sweep, in a folder or behind any URI that pyarrow's file systems open.

        sweep.yaml                          as given
        trials/<trial_id>.parquet           one row: the trial is finished
        measurements/<trial_id>.parquet     one row a step; written before the row in trials/
        */0-columns.parquet                 no rows, every column: what a plain reader takes the columns from
        */batch-<digest>.parquet            trials that ended at about the same time
        */part-<digest>.parquet             many trials, merged by `compact`
        */.damaged-…                        files that a crash had torn; their trials ran again
        search/<key>-<chunk>.jsonl          what a search has asked for
        checkpoints/  .driver.json

    Only the driver writes here. A reader sees a file whole or not at all, and both tables read with nothing
    but `pandas.read_parquet(folder)` at any moment. `own_measurements` are the dotted names of a sweep's own
    measurements, whose columns follow those that this package ships.
    """

    SWEEP = "sweep.yaml"
    TRIALS = tables.TRIALS
    MEASUREMENTS = tables.MEASUREMENTS
    CHECKPOINTS = checkpoints.FOLDER
    SEARCH = tables.SEARCH
    COLUMNS = tables.COLUMNS  # sorts before every trial_id and every part
    HEARTBEAT = ".driver.json"

    def __init__(self, root: str | Path, own_measurements: Iterable[str] = ()) -> None:
        self.own_measurements = tuple(own_measurements)
        try:
            self.folder = Folder.at(root)
        except OSError as error:
            raise StoreError(f"{root}: cannot be opened: {reason(error)}") from error
        except CredentialsError as error:
            raise StoreError(str(error)) from None
        except ValueError as error:
            raise StoreError(f"{root}: cannot be opened: {error}") from error

    def __str__(self) -> str:
        return self.folder.given

    # --- the sweep ---

    def begin(self, sweep: Sweep) -> list[str]:
        """Make the folder ready for a sweep: a new one, or the same again, perhaps with more trials.

        Says in a line each which damaged files were put aside; `finished` does not count their trials, before
        as after. Raises StoreError for a folder of another sweep, one that is in use for something else, or one
        that cannot be written.
        """
        self.check(sweep)
        try:
            self.folder.make()
            self.folder.remove_temporary()
            self._write(self.SWEEP, sweep.text.encode())  # first: it makes the folder ours
            self.folder.remove_temporary(self.SEARCH)
            for name in (self.TRIALS, self.MEASUREMENTS, self.CHECKPOINTS):
                self.folder.make(name)
                self.folder.remove_temporary(name)
            for name, columns in self._schemas.items():
                self.write_table(f"{name}/{self.COLUMNS}", columns.empty_table())
            self._remove_halves()
            return set_aside(self.folder, (self.TRIALS, self.MEASUREMENTS))
        except OSError as error:
            raise StoreError(f"{self}: cannot be written: {reason(error)}") from error

    def sweep_text(self) -> str:
        """The stored sweep file. StoreError where there is none."""
        try:
            content = self.folder.read(self.SWEEP)
        except OSError as error:
            raise StoreError(f"{self.folder.shown(self.SWEEP)}: cannot be read: {reason(error)}") from error
        if content is None:
            raise StoreError(f"{self}: no results of a sweep here: {self.SWEEP} is missing")
        return content.decode()

    def sweep_name(self) -> str:
        """The name in the stored sweep file. StoreError where there is none."""
        name = self._sweep_heading().get("name")
        if name is None:
            raise StoreError(f"{self}: its {self.SWEEP} has no name")
        return str(name)

    def description(self) -> str:
        """The description in the stored sweep file, which may be empty. StoreError where there is no file."""
        return str(self._sweep_heading().get("description") or "")

    def _sweep_heading(self) -> Mapping[str, object]:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        try:
            content = YAML(typ="safe").load(self.sweep_text())
        except YAMLError as error:
            raise StoreError(f"{self}: its {self.SWEEP} cannot be read: not YAML") from error
        return content if isinstance(content, Mapping) else {}

    def check(self, sweep: Sweep) -> None:
        """Raise StoreError or SpecError where `begin` would refuse the folder or a measurement; writes nothing."""
        try:
            _ = self._schemas
            names = self.folder.names() if self.folder.kind() is not fs.FileType.File else None
        except OSError as error:
            raise StoreError(f"{self}: cannot be read: {reason(error)}") from error
        if names is None:
            raise StoreError(f"{self}: is a file; results need a folder")
        if self.SWEEP in names:
            if self.sweep_name() != sweep.name:
                raise StoreError(
                    f"{self}: holds results of the sweep {self.sweep_name()!r}, not of {sweep.name!r}; "
                    "give another folder with --results"
                )
        elif any(not name.startswith(".") for name in names):
            raise StoreError(
                f"{self}: is not empty and holds no {self.SWEEP}; give another folder with --results"
            )

    def _remove_halves(self) -> None:
        """Own files and batches in one table only: a driver died between the two, or a compaction has them elsewhere.

        Of such a trial nothing is finished, and when it has run again its rows may lie in another file. (A part in one
        table may be that of a compaction at work.)
        """
        tables_of = (self.TRIALS, self.MEASUREMENTS)
        names = [set(tables.files(self.folder, name)) for name in tables_of]  # in the order of a compaction
        for file in names[0] ^ names[1]:
            if not file.startswith(tables.PART):
                for name in tables_of:
                    self.folder.remove(f"{name}/{file}")

    # --- trials ---

    def finished(self) -> dict[str, TrialStatus]:
        """The status of every trial that has a row in `trials`, failed ones included; reads two columns only.

        Empty where there is no such folder. A trial whose own files or parts are damaged, or whose measurements
        are missing, is not in it; nothing is written. Raises StoreError where the folder cannot be read.
        """
        try:
            unmeasured: set[str] | None = None
            while True:
                read = tables.read(self.folder, self.TRIALS, ["trial_id", "status"], tables.ignore)
                found = read.to_pydict()
                lost = set(found["trial_id"]) - tables.measured(self.folder)
                if not lost or lost == unmeasured:
                    break
                unmeasured = lost  # look again: they may have been merged between the two reads
        except OSError as error:
            raise StoreError(f"{self}: cannot be read: {reason(error)}") from error
        pairs = zip(found["trial_id"], found["status"], strict=True)
        return {trial_id: TrialStatus(status) for trial_id, status in pairs if trial_id not in lost}

    def commit(self, spec: TrialSpec, sweep_name: str, result: TrialResult, rows: Sequence[Row]) -> None:
        """Put a finished trial in place, or replace an earlier attempt: measurements, then `trials`.

        Interrupted between the two, the trial counts as not finished, and its next commit replaces both.
        Raises StoreError for a row that does not fit the schema (nothing is written) or a folder that cannot
        be written.
        """
        self._commit(f"{spec.trial_id}.parquet", sweep_name, [(spec, result, rows)])

    def commit_batch(
        self, ended: Sequence[tuple[TrialSpec, TrialResult, Sequence[Row]]], sweep_name: str
    ) -> None:
        """Put several trials in place at once, none of which has a row yet or will ever run again.

        Interrupted between the two tables, none of them is finished; the same batch again replaces both files,
        and `begin` removes what is in one table only. Raises as `commit`.
        """
        digest = tables.digest(spec.trial_id for spec, _, _ in ended)
        self._commit(f"{tables.BATCH}{digest}.parquet", sweep_name, ended)

    def _commit(
        self, file: str, sweep_name: str, ended: Sequence[tuple[TrialSpec, TrialResult, Sequence[Row]]]
    ) -> None:
        content: dict[str, list[Row]] = {self.MEASUREMENTS: [], self.TRIALS: []}
        for spec, result, rows in ended:
            parameters = {"trial_id": spec.trial_id, "sweep": sweep_name, **spec.columns()}
            content[self.MEASUREMENTS] += [row | parameters for row in rows]
            trial = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
            content[self.TRIALS].append(parameters | trial)
        try:
            ready = {name: table(found, self._schemas[name]) for name, found in content.items()}
        except ColumnError as error:
            raise StoreError(f"{self}: trial {ended[0][0].trial_id}: {error}") from error
        for name, rows_of in ready.items():
            self.write_table(f"{name}/{file}", rows_of)

    @cached_property
    def _schemas(self) -> Mapping[str, pa.Schema]:
        """What this version writes, then the columns that only earlier files of the folder have."""
        wanted = {self.MEASUREMENTS: measurement_columns(self.own_measurements), self.TRIALS: trial_columns()}
        return {name: self._with_stored(name, schema(columns)) for name, columns in wanted.items()}

    def _with_stored(self, name: str, wanted: pa.Schema) -> pa.Schema:
        stored = tables.stored_schema(self.folder, name)
        try:
            return pa.unify_schemas([wanted, stored], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise StoreError(f"{self}: {name} there have other column types: {error}") from error

    def write_table(self, name: str, content: pa.Table) -> None:
        """Put a Parquet file in place, whole or not at all. Raises StoreError, which names it."""
        # of a few rows, dictionaries and zstd's contexts for each of a hundred columns take longer and are larger
        small: dict[str, Any] = {"compression": "snappy", "use_dictionary": False}
        sink = pa.BufferOutputStream()
        pq.write_table(content, sink, **(small if content.nbytes < SMALL else {"compression": "zstd"}))
        self._write(name, sink.getvalue())

    def _write(self, name: str, content: bytes | pa.Buffer) -> None:
        try:
            self.folder.write(name, content)
        except OSError as error:
            raise StoreError(f"{self.folder.shown(name)}: cannot be written: {reason(error)}") from error

    # --- searches ---

    def write_asked(self, name: str, content: bytes) -> None:
        """Put a file of `search/` in place, whole or not at all. Raises StoreError."""
        try:
            self.folder.make(self.SEARCH)
        except OSError as error:
            raise StoreError(f"{self}: cannot be written: {reason(error)}") from error
        self._write(f"{self.SEARCH}/{name}", content)

    def read_asked(self, key: str, rest: str = "-") -> dict[str, bytes]:
        """The files of a search by name, in order: those whose name goes on with `rest`. Raises StoreError."""
        try:
            names = [name for name in self.folder.names(self.SEARCH) if name.startswith(f"{key}{rest}")]
            read = {name: self.folder.read(f"{self.SEARCH}/{name}") for name in names}
        except OSError as error:
            raise StoreError(f"{self}: cannot be read: {reason(error)}") from error
        return {name: content for name, content in read.items() if content is not None}

    # --- the driver's sign of life ---

    def write_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Replace the heartbeat; a driver that ends leaves one with nothing running.

        It is a courtesy to readers: a folder that cannot be written is no error here.
        """
        try:
            self.folder.write(self.HEARTBEAT, heartbeat.to_json())
        except OSError:
            return

    def read_heartbeat(self) -> Heartbeat | None:
        """The last heartbeat, alive or not; None where there is none to read."""
        try:
            content = self.folder.read(self.HEARTBEAT)
            return Heartbeat.from_json(content) if content else None
        except (OSError, ValueError):
            return None

    def probe(self) -> None:
        """Write and remove a small file. StoreError where that fails."""
        try:
            self.folder.make()
            self.folder.write(".probe", b"")
            self.folder.remove(".probe")
        except OSError as error:
            raise StoreError(f"{self}: cannot be written: {reason(error)}") from error
