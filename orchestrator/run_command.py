"""The verb `run`: put store, executor, mirror and progress together around one sweep."""

import os
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from orchestrator import job

if TYPE_CHECKING:
    from orchestrator.checkpoints import CheckpointPlace
    from orchestrator.driver import Outcome
    from orchestrator.executors import Executor
    from orchestrator.store import ResultStore
    from orchestrator.sweep import Sweep
    from orchestrator.watchers import Watcher

ENDINGS = {0: "FINISHED", 1: "FAILED", 130: "KILLED"}
"""MLflow's word for the sweep, by exit code."""


class Refused(ValueError):
    """The call cannot be carried out and nothing was started; one line that says why."""


def run(
    sweep: "Sweep",
    *,
    results: str,
    data: Path,
    tracking: str | None,
    executor: Literal["ray", "local"],
    address: str | None,
    only: tuple[str, ...],
    checkpoint_every: float,
    debug: bool = False,
    as_json: bool = False,
) -> int:
    """Run what is left of the sweep and say how it ended and where to look; the exit code of contracts."""
    from orchestrator.checkpoints import CheckpointPlace
    from orchestrator.driver import remaining, run_sweep
    from orchestrator.events import make_importable
    from orchestrator.executors import PlacementError
    from orchestrator.mirror import Mirror, repair_command
    from orchestrator.progress import Progress
    from orchestrator.store import ResultStore, StoreError
    from orchestrator.tracking import VARIABLE, tracking_uri
    from orchestrator.watchers import Several
    from workers.spec import SpecError

    if only and sweep.searches:
        raise Refused(
            "--only: not for a search, whose trials follow from each other; run it again to go on with it"
        )
    unknown = sorted(set(only) - {trial.spec.trial_id for trial in sweep.trials})
    if unknown:
        raise Refused(f"--only: {unknown[0]!r}: the sweep has no such trial; `tiny-subspace plan` lists them")
    own = {name for spec in sweep.examples for name in spec.measure if "." in name}
    make_importable(sweep.folder)
    uri, outcome = tracking_uri(results, tracking), None
    progress = Progress(as_json=as_json, asked=len(set(only)) or None)
    command = job.command()
    if uri is None and not (tracking or os.environ.get(VARIABLE)):
        progress.note(
            f"nothing goes to MLflow: neither --tracking-uri nor {VARIABLE} of the cluster names a store"
        )
    with ExitStack() as stack:
        try:
            store = ResultStore(results, own_measurements=own)
            store.check(sweep)  # before Ray starts, which takes seconds
            left = remaining(sweep, store.finished(), only or None)
            place = CheckpointPlace(results if "://" in results else store.folder.path, checkpoint_every)
            needed = executor if left or sweep.searches else "local"
            engine = make_executor(sweep, needed, address, data, place, debug)
            stack.callback(engine.close)
            mirror = Mirror(uri, results, warn=progress.note) if uri else None
            watchers: list[Watcher] = [mirror] if mirror else []
            if address and needed == "ray":  # a Ray of our own has no exporter
                watchers.append(ray_metrics(sweep.name, store, stack))
            with progress:
                outcome = run_sweep(
                    sweep,
                    store=store,
                    executor=engine,
                    mirror=Several(*watchers),
                    progress=progress,
                    only=only or None,
                    command=command,
                )
            if mirror:
                mirror.close(ENDINGS[outcome.exit_code])
        except (StoreError, SpecError, PlacementError, ConnectionError) as error:
            raise Refused(str(error)) from error
        except KeyboardInterrupt:  # before the first trial or after the last
            if outcome is None:
                progress.note(f"interrupted; finished trials are kept. To resume: {command}")
                return 130
            if uri:
                progress.note(
                    f"interrupted while MLflow was told. Afterwards: {repair_command(results, uri)}"
                )
    progress.summary()
    for line in where(outcome, results, uri):
        progress.note(line)
    return outcome.exit_code


def make_executor(
    sweep: "Sweep",
    kind: str,
    address: str | None,
    data: Path,
    checkpoints: "CheckpointPlace",
    debug: bool = False,
) -> "Executor":
    """The executor that `--executor` and `--address` name."""
    if kind == "local":
        from orchestrator.executors import LocalExecutor

        return LocalExecutor(data, sweep.folder, checkpoints=checkpoints, debug=debug)
    from orchestrator.ray_executor import RayExecutor

    return RayExecutor(
        address,
        data=data,
        folder=sweep.folder,
        specs=sweep.examples,
        checkpoints=checkpoints,
        sweep=sweep.name,
    )


def ray_metrics(sweep: str, store: "ResultStore", stack: ExitStack) -> "Watcher":
    """The watcher that feeds Ray's exporter, until the stack is left."""
    from orchestrator.checkpoints import saved_steps
    from orchestrator.ray_metrics import RayMetrics

    saved: dict[str, int] = {}
    with suppress(OSError):  # a few products are counted twice, then
        saved = saved_steps(store.folder)
    metrics = RayMetrics(sweep, saved)
    stack.callback(metrics.close)
    return metrics


def where(outcome: "Outcome", results: str, uri: str | None) -> Iterator[str]:
    """One line of counts, and what to do with the results."""
    counts = ", ".join(f"{count} {status}" for status, count in outcome.counts.items() if count)
    yield f"{counts}. Results: {results}"
    if outcome.counts.get("failed"):  # type: ignore[call-overload]
        yield f"Why trials failed: tiny-subspace status {shlex.quote(results)}"
    if uri and uri.startswith("sqlite:"):
        yield f"Browse the runs:   tiny-subspace ui {shlex.quote(results)}"
    yield f'Query them:        pandas.read_parquet("{results}/measurements")'
    yield from (found.line for found in outcome.found)
