"""How far a sweep has come, from its results folder alone."""

import json
import shlex
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from orchestrator import results
from orchestrator.checkpoints import saved_steps
from orchestrator.damage import torn
from orchestrator.faults import POLICIES, Fault
from orchestrator.files import Folder
from orchestrator.heartbeat import Heartbeat
from orchestrator.labels import labels
from orchestrator.run_content import last_line
from orchestrator.search_endings import Found, belongs, found_all
from orchestrator.search_record import read
from orchestrator.store import ResultStore
from orchestrator.sweep import Sweep
from workers.result import TrialStatus
from workers.spec import TrialSpec

FINAL = (TrialStatus.COMPLETED, TrialStatus.DIVERGED, TrialStatus.FAILED, TrialStatus.PRUNED)


@dataclass(frozen=True)
class RunningTrial:
    """A trial that a live driver runs now; step and loss are those of its last row, if it has any yet."""

    trial_id: str
    label: str
    step: int | None
    loss: float | None


@dataclass(frozen=True)
class Failure:
    """A failed trial: why, in a line; its traceback; the command that runs it again under a debugger."""

    trial_id: str
    label: str
    fault: str | None  # of those in orchestrator/faults.py; None in results of before there were any
    error_type: str | None
    reason: str
    traceback: str
    rerun: str

    @property
    def why(self) -> str:
        """Fault and reason in one line."""
        words = POLICIES[Fault(self.fault)].words if self.fault in set(Fault) else ""
        return f"{words}: {self.reason}" if words else self.reason


@dataclass(frozen=True)
class Job:
    """A job of a cluster that works with these results, or the last that did."""

    submission_id: str
    status: str  # Ray's word
    since: str | None  # UTC, when it began or, where it has, ended
    page: str  # of the cluster's dashboard, with its log
    ending: str | None  # how it came to an end that its log does not tell
    command: str | None  # the line that submits it again, which resumes

    def __str__(self) -> str:
        line = f"job {self.submission_id}: {self.status} since {self.since or 'an unknown time'}  {self.page}"
        return f"{line}\n    {self.ending}" if self.ending else line


@dataclass(frozen=True)
class Status:
    """A sweep's state. `pending` is None where the stored sweep file cannot be read here."""

    name: str
    path: str
    trials: int | None  # of the sweep file; None as for `pending`
    pending: int | None  # neither finished nor running
    finished: Mapping[str, int]  # completed, diverged, failed, pruned
    running: Sequence[RunningTrial]
    failures: Sequence[Failure]
    half_finished: Mapping[str, int]  # of the pending ones: the step that each goes on from, by trial_id
    damaged: Sequence[str]  # files; their trials are pending
    driver: str | None  # `host, process N`, if one is alive
    died: str | None  # the same of the last one, if that came to no end of its own
    resume: str  # the command that goes on
    searches: Sequence[Found] = ()  # how far each is
    jobs: Sequence[Job] = ()  # of the cluster that was asked

    def text(self) -> str:
        """As lines for people."""
        counts = [f"{count} {name}" for name, count in self.finished.items() if count]
        counts += [f"{len(self.running)} running"] if self.running else []
        counts += [f"{self.pending} pending"] if self.pending else []
        total = "" if self.trials is None else f"{self.trials} trials: "
        lines = [f"{self.name} in {self.path}", f"{total}{', '.join(counts) or 'nothing finished yet'}"]
        if self.pending is None:
            lines.append("how many are left is not known: the stored sweep file cannot be read here")
        for search in self.searches:
            lines.append(f"{search.asked} of {search.trials} trials asked for; {search.line}")
        if self.half_finished:
            lines.append(f"{len(self.half_finished)} of the pending go on from checkpoints")
        lines += [
            f"damaged: {file}; the next run sets it aside and runs its trial again" for file in self.damaged
        ]
        if self.driver:
            lines.append(f"a driver is at work: {self.driver}")
        elif self.pending or (self.pending is None and self.jobs):
            died = f"its driver has died ({self.died}); " if self.died else ""
            lines.append(f"{died}to go on: {self.resume}")
        lines += map(str, self.jobs)
        for trial in self.running:
            at = "" if trial.step is None else f"  step {trial.step}"
            loss = "" if trial.loss is None else f"  loss {trial.loss:.4g}"
            lines.append(f"  running  {trial.trial_id}  {trial.label}{at}{loss}")
        for failure in self.failures:
            lines += [f"  failed   {failure.trial_id}  {failure.label}", f"           {failure.why}"]
            lines.append(f"           {failure.rerun}")
        return "\n".join(lines)

    def json(self) -> str:
        """As one JSON object with the fields of this class."""
        return json.dumps(asdict(self), indent=2)


def status(path: str | Path) -> Status:
    """The state of the sweep whose results lie at `path`, a folder or a URI.

    Raises StoreError where there are no results of a sweep.
    """
    store = ResultStore(path)
    name, heartbeat = store.sweep_name(), store.read_heartbeat()
    alive = heartbeat if heartbeat and heartbeat.alive() else None
    specs = planned_trials(store)
    whole = store.finished()
    with warnings.catch_warnings(action="ignore"):  # of damaged files, which are listed
        rows = {row["trial_id"]: row for row in results.trial_rows(path) if row["trial_id"] in whole}
    current = {
        trial_id: at
        for trial_id, at in (alive.running if alive else {}).items()
        if trial_id not in rows or rows[trial_id]["status"] == TrialStatus.FAILED
    }
    ended = {trial_id: row for trial_id, row in rows.items() if trial_id not in current}
    searches = searches_of(store)
    trials = sum(search.trials for search in searches) if searches else None if specs is None else len(specs)
    known = None if specs is None else {spec.trial_id for spec in specs}
    left = (
        None
        if trials is None or known is None
        else max(0, trials - len(known & (ended.keys() | current.keys())))
    )
    label = trial_labels(specs or (), rows.values())
    file = sweep_file(store, heartbeat)
    saved = {key: step for key, step in saved_steps(store.folder).items() if key not in {*ended, *current}}
    last = f"{heartbeat.host}, process {heartbeat.pid}" if heartbeat else None
    return Status(
        name=name,
        path=str(path),
        trials=trials,
        pending=left,
        finished={str(final): sum(row["status"] == final for row in ended.values()) for final in FINAL},
        running=[RunningTrial(key, label.get(key, key), at.step, at.loss) for key, at in current.items()],
        failures=[
            Failure(
                trial_id,
                label[trial_id],
                row.get("fault"),
                row["error_type"],
                last_line(row["error"] or "", str(row["error_type"])) or str(row["error_type"]),
                row["error"] or "",
                rerun_command(store, name, file, None if searches else trial_id),
            )
            for trial_id, row in ended.items()
            if row["status"] == TrialStatus.FAILED
        ],
        half_finished=saved,
        damaged=[
            f"{table}/{file}"
            for table in (store.TRIALS, store.MEASUREMENTS)
            for file in sorted(torn(store.folder, table))
        ],
        driver=last if alive else None,
        died=None if alive or heartbeat is None or heartbeat.ended else last,
        resume=shlex.join(["tiny-subspace", "run", file, *results_option(store, name)]),
        searches=searches,
    )


def searches_of(store: ResultStore) -> list[Found]:
    """How far each search of the stored sweep file is; none where it has none, or cannot be read here."""
    sweep = stored_sweep(store) if store.folder.names(store.SEARCH) else None
    return found_all(store, sweep.searches) if sweep and sweep.searches else []


def planned_trials(store: ResultStore) -> list[TrialSpec] | None:
    """The trials of the stored sweep file, or None where it needs files of the user's own that are not here.

    Those of a search are the ones that it has asked for.
    """
    sweep = stored_sweep(store)
    if sweep is None:
        return None
    specs = [trial.spec for trial in sweep.trials]
    for search in sweep.searches:
        specs += [search.spec(one.parameters) for one in read(store, search.key) if belongs(search, one)]
    return list({spec.trial_id: spec for spec in specs}.values())


def stored_sweep(store: ResultStore) -> Sweep | None:
    """The stored sweep file, or None where it needs files of the user's own that are not here."""
    from orchestrator.sweep import SweepError, load_sweep

    file = sweep_file(store, store.read_heartbeat())
    with TemporaryDirectory() as folder:
        if "://" in file:
            file = f"{folder}/{store.SWEEP}"
            Path(file).write_text(store.sweep_text(), encoding="utf-8")
        try:
            return load_sweep(file, allow_large=True)
        except (SweepError, OSError):
            return None


def sweep_file(store: ResultStore, heartbeat: Heartbeat | None) -> str:
    """The file that the driver was given, if it still says the same; otherwise the stored copy.

    The former is better, since the user's own modules lie beside it.
    """
    if heartbeat and heartbeat.file:
        with suppress(OSError, UnicodeDecodeError):
            if Path(heartbeat.file).read_text(encoding="utf-8") == store.sweep_text():
                return heartbeat.file
    return f"{str(store).rstrip('/')}/{store.SWEEP}"


def rerun_command(store: ResultStore, name: str, file: str, trial_id: str | None) -> str:
    """The command that runs one trial again in this process, where breakpoints work; without one, all that failed."""
    command = ["tiny-subspace", "run", file, "--executor", "local", "--debug"]
    only = [] if trial_id is None else ["--only", trial_id]
    return shlex.join([*command, *only, *results_option(store, name)])


def results_option(store: ResultStore, name: str) -> list[str]:
    """What a command needs to find these results; nothing where they lie in their usual place."""
    return [] if store.folder.path == Folder.at(f"results/{name}").path else ["--results", str(store)]


def trial_labels(specs: Iterable[TrialSpec], rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The label of every trial that the sweep file or the results know, by trial_id."""
    columns = {str(row["trial_id"]): row for row in rows}
    columns |= {spec.trial_id: {"trial_id": spec.trial_id, **spec.columns()} for spec in specs}
    return dict(zip(columns, labels(list(columns.values())), strict=True))
