"""Stand-ins for what a driver works with: a store in memory, and a mirror and display that remember."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.faults import Fault
from orchestrator.files import Folder
from orchestrator.sweep import Resources, Sweep, Trial
from workers.result import Row, TrialResult, TrialStatus
from workers.spec import TrialSpec

HERE = Path(__file__).parent


def sweep(*specs: TrialSpec, retries: int = 2, resources: Resources | None = None) -> Sweep:
    trials = tuple(Trial(spec, resources or Resources()) for spec in specs)
    return Sweep("test", "", trials, retries, "name: test\n", HERE, Path("sweeps/test.yaml"))


class Shelf:
    """A ResultStore in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = Folder.at(folder)
        self.kept: dict[str, tuple[TrialResult, list[Row]]] = {}
        self.begun: list[str] = []
        self.beats: list[Any] = []

    def check(self, sweep: Sweep) -> None: ...

    TRIALS = "trials"

    def begin(self, sweep: Sweep) -> list[str]:
        self.begun.append(sweep.name)
        return []

    def finished(self) -> dict[str, TrialStatus]:
        return {trial_id: result.status for trial_id, (result, _) in self.kept.items()}

    def commit(self, spec: TrialSpec, sweep_name: str, result: TrialResult, rows: Sequence[Row]) -> None:
        assert sweep_name == "test"
        self.kept[spec.trial_id] = result, list(rows)

    def commit_batch(
        self, ended: Sequence[tuple[TrialSpec, TrialResult, Sequence[Row]]], sweep_name: str
    ) -> None:
        for spec, result, rows in ended:
            self.commit(spec, sweep_name, result, rows)

    def write_heartbeat(self, heartbeat: Any) -> None:
        self.beats.append(heartbeat)

    def read_heartbeat(self) -> Any:
        return self.beats[-1] if self.beats else None


class Told:
    """A mirror and a display that remember."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.faults: list[tuple[str, str]] = []
        self.left: list[str] = []

    def begin(self, sweep: Sweep, left: Sequence[Trial]) -> None:
        self.left = [t.spec.trial_id for t in left]

    def reached(self, trial_id: str, step: int) -> None:
        self.calls.append(("reached", trial_id))

    def started(self, trial: Trial) -> None:
        self.calls.append(("started", trial.spec.trial_id))

    def row(self, trial_id: str, row: Row) -> None:
        self.calls.append(("row", trial_id))

    def faulted(self, trial_id: str, fault: Fault) -> None:
        self.faults.append((trial_id, str(fault)))

    def finished(self, trial_id: str, result: TrialResult) -> None:
        self.calls.append(("finished", trial_id))

    def note(self, text: str, trial_id: str | None = None) -> None:
        self.notes.append(f"{trial_id}: {text}" if trial_id else text)
