"""Claim: a process that drives 100,000 trials takes under 100 MiB more than one that has imported what it needs.

Evidence: `python tests/benchmarks/driver_memory.py` prints the table whose numbers stand here.

    x86_64, 2 CPUs, busy; resident MiB, 2026-11-26
    planned   imported   loaded   begun   5,056 ended   peak   load_sweep
      1,000        129      130     137           141    141      0.0 s     (1,000 ended)
    100,000        129      173     188           196    207      1.3 s

So a planned trial takes 0.6 KiB and an ended one next to nothing; ten MiB come with any run. It is stopped there, since
committing 100,000 trials would take a quarter of an hour.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import click
from report import megabytes, plain_table
from stamped import row

from orchestrator.driver import run_sweep
from orchestrator.events import Event, Finished, Measured, Started
from orchestrator.executors import EngineLost
from orchestrator.store import ResultStore
from orchestrator.sweep import Resources, Trial, load_sweep
from workers.result import TrialResult, TrialStatus

HELP = """Weigh the process that drives a sweep, by how many trials are planned.

\b
Each is a process of its own: `load_sweep`, then `run_sweep` with an executor
whose trials end at once, without Ray and MLflow, and with a store on disk.
After some thousand trials the executor gives up, which ends the run; what each
ended trial adds is told apart from what each planned one takes.

\b
Examples:
  python tests/benchmarks/driver_memory.py --planned 1000 --ended 500
  python tests/benchmarks/driver_memory.py --planned 100000 --where
"""

SWEEP = """
name: memory
trial: {{architecture: mlp, dataset: digits, steps: 1}}
grid: {{learning_rate: [0.1, 0.2], seed: {{range: {seeds}}}}}
measure: {{loss: {{at: [1]}}}}
"""

SLOTS = 64

ENOUGH = "enough trials have ended"


class AtOnce:
    """An executor whose trials end as soon as they have begun; when `most` of them have, it gives up."""

    def __init__(self, most: int) -> None:
        self.ended, self._most, self._trials = 0, most, list[Trial]()
        self.begun: dict[str, int] = {}
        self.half: dict[str, int] = {}  # when half of them have ended
        self.last: dict[str, int] = {}  # when it was asked for events the last time

    def admit(self, resources: Resources) -> None:
        """There is room for any."""

    def has_room(self, resources: Resources) -> bool:
        return len(self._trials) < SLOTS

    def submit(self, trial: Trial) -> None:
        self._trials.append(trial)

    def events(self, timeout: float) -> list[Event]:
        self.last = memory()
        if not self.begun:
            self.begun = self.last
        if not self.half and 2 * self.ended >= self._most:
            self.half = self.last
        if self.ended >= self._most:
            raise EngineLost(ENOUGH)
        told: list[Event] = []
        for trial in self._trials:
            name = trial.spec.trial_id
            result = TrialResult(status=TrialStatus.COMPLETED, steps_done=1)
            told += [Started(name, "here", "cpu"), Measured(name, row(0)), Finished(name, result)]
        self.ended += len(self._trials)
        self._trials.clear()
        return told

    def cancel(self, trial_id: str) -> None:
        """It has ended by then."""

    def close(self) -> None:
        """There is nothing to close."""


@click.command(help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--planned", type=click.IntRange(min=200), multiple=True, default=(1_000, 100_000), show_default=True
)
@click.option("--ended", type=click.IntRange(min=100), default=5_000, show_default=True, help="At most.")
@click.option("--where", is_flag=True, help="Tell which lines hold most at the end (slower).")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Every number.")
@click.option("--child", is_flag=True, hidden=True, help="Weigh this process, for one number of trials.")
def main(planned: tuple[int, ...], ended: int, where: bool, file: Path | None, child: bool) -> None:
    if child:
        print(json.dumps(weigh(planned[0], ended, where)))
        return
    found = []
    for trials in planned:
        click.echo(f"{trials:,} trials", err=True)
        words = ["--child", "--planned", str(trials), "--ended", str(ended), *(["--where"] if where else [])]
        done = subprocess.run(
            [sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True
        )
        found.append(json.loads(done.stdout))
    report(found)
    if file is not None:
        file.write_text(json.dumps({"sweeps": found}, indent=1), encoding="utf-8")


def weigh(trials: int, most: int, where: bool) -> dict[str, Any]:
    """Bytes of this process at each stage of a run of `trials` trials of which `most` end."""
    with tempfile.TemporaryDirectory() as folder:
        sweep_file = Path(folder) / "memory.yaml"
        sweep_file.write_text(SWEEP.format(seeds=10))
        store = ResultStore(Path(folder) / "results")
        store.check(load_sweep(sweep_file))  # what is imported on the way is none of the trials'
        sweep_file.write_text(SWEEP.format(seeds=trials // 2))
        if where:
            tracemalloc.start()
        imported, begun = memory(), time.perf_counter()
        sweep = load_sweep(sweep_file)
        loaded, seconds = memory(), time.perf_counter() - begun
        holders = []
        executor = AtOnce(min(most, len(sweep.trials)))
        cpu = time.process_time()
        outcome = run_sweep(sweep, store=store, executor=executor)
        if outcome.error and ENOUGH not in outcome.error:
            raise RuntimeError(outcome.error)
        cpu = time.process_time() - cpu
        if where:
            holders = tracemalloc.take_snapshot().statistics("lineno")[:12]
    return {
        "planned": len(sweep.trials),
        "ended": executor.ended,
        "load_seconds": seconds,
        "imported_bytes": imported["now"],
        "loaded_bytes": loaded["now"],
        "begun_bytes": executor.begun["now"],
        "half_bytes": executor.half["now"],
        "ended_bytes": executor.last["now"],
        "peak_bytes": memory()["peak"],
        "cpu_seconds_of_an_ended": cpu / executor.ended,
        "holders": [[str(held.traceback), held.size, held.count] for held in holders],
    }


def memory() -> dict[str, int]:
    """Resident bytes of this process, now and at most so far; Linux only."""
    status = Path("/proc/self/status").read_text()
    return {
        name: 1024 * int(re.search(rf"{line}:\s*(\d+)", status)[1])  # type: ignore[index]
        for name, line in (("now", "VmRSS"), ("peak", "VmHWM"))
    }


def report(found: list[dict[str, Any]]) -> None:
    stages = ("imported", "loaded", "begun", "half", "ended", "peak")
    rows = [
        [
            f"{one['planned']:,}",
            *(megabytes(one[f"{stage}_bytes"]) for stage in stages),
            f"{(one['begun_bytes'] - one['imported_bytes']) / one['planned'] / 1024:.2f} KiB",
            f"{(one['ended_bytes'] - one['half_bytes']) / (one['ended'] / 2) / 1024:.2f} KiB",
            f"{one['load_seconds']:.1f} s",
        ]
        for one in found
    ]
    counts = ", ".join(f"{one['ended']:,}" for one in found)
    columns = ["planned", *stages, "a planned one", "an ended one", "load_sweep"]
    plain_table(f"Resident memory of the driver; {counts} trials ended", columns, rows)
    for one in found:
        for line, size, count in one["holders"]:
            print(f"{one['planned']:>8,}  {megabytes(size):>10}  {count:>9,}  {line}")


if __name__ == "__main__":
    main()
