"""Claim: saving checkpoints costs a trial 1 to 3 % of its time, however often it is asked for.

Evidence: `python tests/benchmarks/checkpoints.py --steps 12000` prints the table whose numbers stand here.

    x86_64, 1 thread, torch 2.14.1, idle machine, 2026-11-25: medians of 5 rounds
    never 16.37 s; every 5 s × 1.010 (16 saves), every 0.1 s × 1.027 (19 saves); 4.12 MiB each

A row may be saved after a sixth of the period, hence 16 saves in 16 s. The rule allows a fiftieth of the work since
the last save; by default the period is 30 s, and the rule seldom decides.
"""

import itertools
import json
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import click
import torch

from orchestrator.checkpoints import FOLDER, CheckpointPlace, TrialCheckpoints
from workers.spec import Component, Request, TrialSpec
from workers.trial import TrialContext, run_trial


class Counted:
    """Checkpoints on disk that are counted and weighed."""

    def __init__(self, folder: str, every: float) -> None:
        self.every, self.saves, self.bytes = every, 0, 0
        self._kept: TrialCheckpoints = CheckpointPlace(folder, every).of("0" * 16)

    def load(self) -> Iterator[bytes]:
        return iter(())

    def save(self, position: int, content: bytes) -> None:
        self.saves, self.bytes = self.saves + 1, len(content)
        self._kept.save(position, content)


def specification(steps: int) -> TrialSpec:
    """The fully connected network of arXiv:1812.04754, measured now and then."""
    return TrialSpec(
        architecture=Component("mlp"),
        dataset=Component("mnist5k"),
        optimizer=Component("sgd", {"momentum": 0.9}),
        steps=steps,
        measure={
            "loss": Request(every=100),
            "top_eigenpairs": Request(at=(0, steps), options={"count": 10}),
            "subspace_overlap": Request(options={"since": [0]}),
        },
    )


def timed(spec: TrialSpec, every: float | None) -> tuple[float, int, int]:
    """Seconds of a trial, checkpoints saved, bytes of the last."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / FOLDER).mkdir()
        counted = Counted(folder, every) if every is not None else None
        begun = time.perf_counter()
        for _ in run_trial(spec, TrialContext(data=Path(), checkpoints=counted)):
            pass
        seconds = time.perf_counter() - begun
    return (seconds, counted.saves, counted.bytes) if counted else (seconds, 0, 0)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--steps", default=20_000, show_default=True, help="Of the trial: about twenty seconds.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the numbers to a file as well.")
def main(steps: int, rounds: int, file: Path | None) -> None:
    """Time the same trial without checkpoints and with one every 5 s and every 0.1 s, in turns."""
    torch.set_num_threads(1)
    spec, settings = specification(steps), (None, 5.0, 0.1)
    timed(specification(100), None)  # what is loaded once
    runs: dict[float | None, list[tuple[float, int, int]]] = {every: [] for every in settings}
    for _, every in itertools.product(range(rounds), settings):
        runs[every].append(timed(spec, every))
    plain = [seconds for seconds, _, _ in runs[None]]
    found = [
        {
            "every": every,
            "seconds": median(seconds for seconds, _, _ in runs[every]),
            "ratio": median(run[0] / base for run, base in zip(runs[every], plain, strict=True)),
            "saves": median(saves for _, saves, _ in runs[every]),
            "bytes": runs[every][-1][2],
        }
        for every in settings
    ]
    click.echo(f"{platform.processor() or platform.machine()}, 1 thread, torch {torch.__version__}\n")
    click.echo("every      seconds  ratio   saves  MiB each")
    for row in found:
        every = f"{row['every']:g} s" if row["every"] else "never"
        click.echo(
            f"{every:9}  {row['seconds']:7.2f}  {row['ratio']:.3f}  {row['saves']:5g}  {row['bytes'] / 2**20:8.2f}"
        )
    if file:
        file.write_text(json.dumps({"settings": found}), encoding="utf-8")


if __name__ == "__main__":
    main()
