"""Claim: while there is work for all, slots run trials for over 97 % of the time, with 64 of them too; trials of seconds
that train and measure fill over 95 %.

Evidence: `python tests/benchmarks/slots.py --real 200 --slots 2`, `… --real 60 --slots 1 --slots 2` and `… --simulate 10000`
print the tables whose numbers stand here.

    x86_64, 2 CPUs, little else at work, 1 thread each, 2026-11-26
    trials  slots    each   start-up   first to last   × faster   in full   of all   training   gap (p95)      driver
       200      2   3.25 s     2.9 s      327.6 s                   99.8%    99.3%     99.3%      8 (14) ms       2%
        60      1   2.57 s     1.7 s      154.4 s        1.00       99.8%    99.8%     99.8%      5 (10) ms       1%
        60      2   2.84 s     1.9 s       85.4 s        1.81       99.8%    99.7%     99.7%      5 (11) ms       2%
    10,000     64   3.47 s    52.6 s      576.0 s                   99.8%    94.1%                6 (13) ms      23%

"of all" of the simulation holds the start of 64 processes on two cores, 53 s, and the last trials, when there are fewer
than slots. 17.4 trials ended a second. Two trials at once take a tenth longer each than one: that is the 1.81.
"""

import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
from occupancy import busy_share, ends_per_second, full_time, gaps, spans_of, summary
from quiet_ray import quiet_ray
from report import plain_table

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # cluster

HELP = """Run a sweep on Ray and tell how much of their time its slots spend on trials.

\b
  --real N      N small trials that train and measure, on this machine: with
                `--slots 1 --slots 2` on one slot, then on two, which is scaling
  --simulate N  N trials that sleep, on a Ray of a head and some nodes that
                believe they have eight GPUs each; all processes are real,
                but torch is not in them, which for 64 takes 20 GiB
A trial is on its slot from when its function begins to when it returns, by
the clock of its process. "in full" is from when every slot has begun its
first trial to when the last trial begins, "of all" from the first begin to the
last end; "training" is the trials' own `seconds`.

\b
Examples:
  python tests/benchmarks/slots.py --real 20 --slots 2
  python tests/benchmarks/slots.py --simulate 200 --nodes 2 --least 2 --most 4
"""

REAL = """
name: slots
trial: {{architecture: mlp, dataset: mnist5k, batch_size: 64, steps: {steps}}}
grid: {{learning_rate: [0.1, 0.03], seed: {{range: {seeds}}}}}
measure:
  loss: {{every: 20}}
  hessian_gradient_overlap: {{every: 50}}
  top_eigenpairs: {{at: [0, {steps}], count: 10}}
resources: {{cpus: 1}}
"""

SLEEPING = """
name: slots
trial: {{architecture: mlp, dataset: digits, steps: 1}}
grid: {{seed: {{range: {trials}}}}}
measure: {{loss: {{at: [1]}}}}
resources: {{cpus: 1, gpus: 1}}
"""

GPUS = 8
"""That each node of the simulation believes it has."""


@click.command(help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--real", "trials", type=click.IntRange(min=2), help="Trials that train and measure.")
@click.option("--steps", type=click.IntRange(min=1), default=100, show_default=True, help="Of a real trial.")
@click.option("--slots", type=click.IntRange(min=1), multiple=True, default=(2,), help="May be given again.")
@click.option("--simulate", "sleepers", type=click.IntRange(min=2), help="Trials that sleep.")
@click.option("--nodes", type=click.IntRange(min=1), default=8, show_default=True, help="Of the simulation.")
@click.option(
    "--least", type=float, default=1.0, show_default=True, help="Seconds that a sleeping one takes."
)
@click.option("--most", type=float, default=6.0, show_default=True)
@click.option("--address", help="A Ray that runs, for --real, with as many CPUs as slots.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Every number.")
def main(
    trials: int | None,
    steps: int,
    slots: Sequence[int],
    sleepers: int | None,
    nodes: int,
    least: float,
    most: float,
    address: str | None,
    file: Path | None,
) -> None:
    if trials is None and sleepers is None:
        raise click.UsageError("give --real N or --simulate N")
    import stamped

    found: list[dict[str, Any]] = []
    for count in slots if trials is not None else ():
        with quiet_ray(address, count):
            found.append(one_run(REAL.format(seeds=(trials or 0) // 2, steps=steps), stamped.real, count))
    if sleepers is not None:
        function = stamped.Sleeping(least, most)
        with simulated(nodes):
            found.append(one_run(SLEEPING.format(trials=sleepers), function, nodes * GPUS))
    report(found)
    if file is not None:
        file.write_text(json.dumps({"cpus": os.cpu_count(), "runs": found}, indent=1), encoding="utf-8")


@contextmanager
def simulated(nodes: int) -> Iterator[None]:
    """A cluster of a head that runs no trial and of nodes with GPUs that they only believe in."""
    from cluster import Cluster, environment

    os.environ |= environment()
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(cpus=0))
        for number in range(nodes):
            cluster.add(f"node-{number}", cpus=GPUS, gpus=GPUS).wait()
        stack.enter_context(quiet_ray(cluster.address, nodes * GPUS))
        yield


def one_run(text: str, function: Callable[..., Any], slots: int) -> dict[str, Any]:
    """Run a sweep with a Ray that is connected; times of its trials and its driver."""
    from orchestrator.driver import run_sweep
    from orchestrator.ray_executor import RayExecutor
    from orchestrator.results import trials as stored
    from orchestrator.store import ResultStore
    from orchestrator.sweep import load_sweep

    with tempfile.TemporaryDirectory() as folder:
        sweep_file, results = Path(folder) / "slots.yaml", Path(folder) / "results"
        sweep_file.write_text(text)
        sweep = load_sweep(sweep_file)
        click.echo(f"{len(sweep.trials):,} trials on {slots} slots", err=True)
        executor = RayExecutor(data=Path(folder), folder=HERE, trial_function=function)
        begun, cpu = time.time(), time.process_time()
        try:
            outcome = run_sweep(sweep, store=ResultStore(results), executor=executor)
            wall, cpu = time.time() - begun, time.process_time() - cpu
        finally:
            executor.close()
        if outcome.exit_code:
            raise click.ClickException(f"exit code {outcome.exit_code}: {outcome.error or outcome.counts}")
        spans, table = spans_of(results), stored(results)
    first, last = min(span.begun for span in spans), max(span.ended for span in spans)
    full, training = full_time(spans, slots), float(table["seconds"].sum())
    return {
        "trials": len(spans),
        "slots": slots,
        "used_slots": len({span.slot for span in spans}),
        "mean_seconds": sum(span.ended - span.begun for span in spans) / len(spans),
        "start_up_seconds": full[0] - begun,
        "wall_seconds": wall,
        "trials_seconds": last - first,
        "busy_in_full": busy_share(spans, slots, *full),
        "busy_of_all": busy_share(spans, slots, first, last),
        "training_of_all": training / (slots * (last - first)),
        "ends_per_second": ends_per_second(spans, *full),
        "gap": summary(gaps(spans)),
        "driver_cpu": cpu / wall,
    }


def report(found: list[dict[str, Any]]) -> None:
    rows = [
        [
            f"{one['trials']:,}",
            f"{one['slots']}",
            f"{one['mean_seconds']:.2f} s",
            f"{one['start_up_seconds']:.1f} s",
            f"{one['trials_seconds']:.1f} s",
            f"{found[0]['trials_seconds'] / one['trials_seconds']:.2f}",
            f"{one['busy_in_full']:.1%}",
            f"{one['busy_of_all']:.1%}",
            f"{one['training_of_all']:.1%}",
            f"{1e3 * one['gap']['median']:.0f} ({1e3 * one['gap']['p95']:.0f}) ms",
            f"{one['driver_cpu']:.0%}",
        ]
        for one in found
    ]
    columns = ["trials", "slots", "each", "start-up", "first to last", "× faster", "busy in full", "of all"]
    columns += ["training", "gap (p95)", "driver's CPU"]
    plain_table(f"{platform.machine()}, {os.cpu_count()} CPUs", columns, rows)


if __name__ == "__main__":
    main()
