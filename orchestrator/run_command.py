"""The verb `run`: put store, executor, mirror and progress together around one sweep."""

import os
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from orchestrator import job

if TYPE_CHECKING:
    from orchestrator.checkpoints import CheckpointPlace
    from orchestrator.driver import Outcome
    from orchestrator.executors import Executor
    from orchestrator.sweep import Sweep

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
    uri, progress, outcome = tracking_uri(results, tracking), Progress(), None
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
            engine = make_executor(
                sweep, executor if left or sweep.searches else "local", address, data, place, debug
            )
            stack.callback(engine.close)
            mirror = Mirror(uri, results, warn=progress.note) if uri else None
            with progress:
                outcome = run_sweep(
                    sweep,
                    store=store,
                    executor=engine,
                    mirror=mirror,
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
                click.echo(f"interrupted; finished trials are kept. To resume: {command}", err=True)
                return 130
            if uri:
                click.echo(
                    f"interrupted while MLflow was told. Afterwards: {repair_command(results, uri)}", err=True
                )
    progress.summary()
    say_where(outcome, results, uri)
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

    return RayExecutor(address, data=data, folder=sweep.folder, specs=sweep.examples, checkpoints=checkpoints)


def say_where(outcome: "Outcome", results: str, uri: str | None) -> None:
    """One line of counts, and what to do with the results."""
    counts = ", ".join(f"{count} {status}" for status, count in outcome.counts.items() if count)
    click.echo(f"{counts}. Results: {results}", err=True)
    if outcome.counts.get("failed"):  # type: ignore[call-overload]
        click.echo(f"Why trials failed: tiny-subspace status {shlex.quote(results)}", err=True)
    if uri and uri.startswith("sqlite:"):
        click.echo(f"Browse the runs:   tiny-subspace ui {shlex.quote(results)}", err=True)
    click.echo(f'Query them:        pandas.read_parquet("{results}/measurements")', err=True)
    for found in outcome.found:
        click.echo(found.line, err=True)
