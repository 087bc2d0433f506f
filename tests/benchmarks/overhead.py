"""Claim: a trial costs about two milliseconds beyond its own work, a durable commit of its results included: less than twice
what Ray takes that yields the same from actors that are used again and keeps nothing, and a fifteenth of Ray Tune.

Evidence: `python tests/benchmarks/overhead.py` prints the table whose numbers stand here.

    x86_64, 2 CPUs, nothing else at work, ext4, ray 2.60, median (range) of three rounds in turns, 2026-11-26
               ms a trial                    × ours   gap, ms    p95   driver's CPU
       ours    1.67 (1.6 to 1.9)                 1       4.7    12.7       91%
      tasks    0.33 (0.32 to 0.34)             0.2       1.1     2.4       55%
    streams    1.00 (0.87 to 1.03)            0.54       2.4     7.8       68%
       tune    27.8 (24.2 to 28.1)            15         18     89         37%

`tasks` is Ray at its fastest, all submitted at once, one number each: five times as fast as ours. With a commit for each
trial by itself, zstd, and the next trial handed out after it, ours took 9 to 12 ms.
"""

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
from occupancy import Span, gaps, spans_of, summary
from quiet_ray import quiet_ray
from report import plain_table, spread

HELP = """Run trivial trials by this package, by Ray alone and by Ray Tune, in turns on one Ray, and compare.

\b
A trial yields one row and its result; the slots are CPUs that Ray believes in.
  ours     run_sweep on RayExecutor, with a durable commit for each trial, no tracking
  tasks    Ray tasks in processes that are used again, all submitted at once; one value each, kept in memory
  streams  Ray actors that are used again and yield what ours yield, kept in memory
  tune     Ray Tune with reuse_actors=True, and all else as it is by default
Processes are up and have imported what they need before the clock starts;
for tune it starts with the first trial. "gap" is what a slot waits from a
trial's end to the begin of the next, by the clock of the processes there.

\b
Examples:
  python tests/benchmarks/overhead.py --trials 100 --rounds 1
  python tests/benchmarks/overhead.py --json overhead.json
"""

CONTESTANTS = ("ours", "tasks", "streams", "tune")

SWEEP = """
name: {name}
trial: {{architecture: mlp, dataset: digits, steps: 1}}
grid: {{seed: {{range: {trials}}}}}
measure: {{loss: {{at: [1]}}}}
"""


@dataclass(frozen=True)
class Turn:
    """One contestant's trials in one round."""

    spans: list[Span]
    ended: float  # seconds of the day, when the driver had everything
    cpu: float  # seconds of CPU time that the driver's process took

    @property
    def seconds(self) -> float:
        return self.ended - min(span.begun for span in self.spans)


@click.command(help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--trials", type=click.IntRange(min=2), default=1000, show_default=True)
@click.option("--slots", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--only", type=click.Choice(CONTESTANTS), multiple=True, help="May be given again.")
@click.option("--address", help="A Ray that runs, with as many CPUs as slots; by default one is started.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Every number.")
def main(
    trials: int, slots: int, rounds: int, only: tuple[str, ...], address: str | None, file: Path | None
) -> None:
    run: dict[str, Callable[[Path, int, int], Turn]] = {
        "ours": ours,
        "tasks": tasks,
        "streams": streams,
        "tune": tune,
    }
    chosen = [name for name in CONTESTANTS if not only or name in only]
    found: dict[str, Any] = {"cpus": os.cpu_count(), "trials": trials, "slots": slots, "turns": []}
    with quiet_ray(address, slots):
        for turn in range(rounds):
            place = turn % len(chosen)  # each has its turn at each place
            for name in (*chosen[place:], *chosen[:place]):
                with tempfile.TemporaryDirectory() as folder:
                    done = run[name](Path(folder), trials, slots)
                if len(done.spans) != trials:
                    raise click.ClickException(f"{name}: {len(done.spans)} trials ended, not {trials}")
                waits = gaps(done.spans)
                numbers = {
                    "milliseconds": 1e3 * done.seconds / trials,
                    "driver_cpu": done.cpu / done.seconds,
                    "gap": summary(waits) if len(waits) > 1 else None,
                }
                click.echo(
                    f"round {turn + 1} of {rounds}: {name}: {numbers['milliseconds']:.2f} ms", err=True
                )
                found["turns"].append({"contestant": name, "round": turn} | numbers)
    report(found, chosen)
    if file is not None:
        file.write_text(json.dumps(found, indent=1), encoding="utf-8")


def ours(folder: Path, trials: int, slots: int) -> Turn:
    from stamped import trivial

    from orchestrator.driver import run_sweep
    from orchestrator.ray_executor import RayExecutor
    from orchestrator.store import ResultStore
    from orchestrator.sweep import load_sweep

    sweeps = {}
    for name, count in (("warm-up", slots), ("overhead", trials)):
        (folder / f"{name}.yaml").write_text(SWEEP.format(name=name, trials=count))
        sweeps[name] = load_sweep(folder / f"{name}.yaml")
    executor = RayExecutor(data=folder, folder=Path(__file__).parent, trial_function=trivial)
    try:
        run_sweep(sweeps["warm-up"], store=ResultStore(folder / "first"), executor=executor)
        cpu = time.process_time()
        run_sweep(sweeps["overhead"], store=ResultStore(folder / "results"), executor=executor)
        ended, cpu = time.time(), time.process_time() - cpu
    finally:
        executor.close()
    return Turn(spans_of(folder / "results"), ended, cpu)


def nothing(seconds: float = 0.0) -> Span:
    """What a trivial trial does."""
    begun = time.time()
    if seconds:
        time.sleep(seconds)
    return Span(str(os.getpid()), begun, time.time())


def tasks(folder: Path, trials: int, slots: int) -> Turn:
    import ray

    task = ray.remote(max_calls=0, max_retries=0)(nothing)
    ray.get([task.remote(1.0) for _ in range(slots)])  # a process for each
    cpu = time.process_time()
    spans = ray.get([task.remote() for _ in range(trials)])
    return Turn(spans, time.time(), time.process_time() - cpu)


class Streamer:
    """An actor whose trials tell what those of ours tell: that they begin, a row and a result."""

    def run(self) -> Iterator[Any]:
        begun = time.time()
        yield "begun"
        yield {"step": 0, "epoch": 0.0, "train_loss": 1.0}
        yield Span(str(os.getpid()), begun, time.time())


def streams(folder: Path, trials: int, slots: int) -> Turn:
    import ray

    actors = [ray.remote(num_cpus=1)(Streamer).remote() for _ in range(slots)]
    try:
        collect(actors, slots)
        cpu = time.process_time()
        spans = collect(actors, trials)
        return Turn(spans, time.time(), time.process_time() - cpu)
    finally:
        for actor in actors:
            ray.kill(actor)


def collect(actors: list[Any], trials: int) -> list[Span]:
    """Run trials on actors, one at a time on each; the last thing that each trial yields."""
    import ray

    idle, flying, spans = list(actors), {}, []
    while len(spans) < trials:
        while idle and len(spans) + len(flying) < trials:
            actor = idle.pop()
            flying[actor.run.options(num_returns="streaming").remote()] = actor
        ready, _ = ray.wait(list(flying), num_returns=1)
        for stream in ready:
            item = ray.get(next(stream))
            if isinstance(item, Span):
                spans.append(item)
                idle.append(flying.pop(stream))
    return spans


def tune(folder: Path, trials: int, slots: int) -> Turn:
    from ray import tune as ray_tune

    def trainable(config: dict[str, Any]) -> None:
        span = nothing()
        ray_tune.report({"pid": span.slot, "begun": span.begun, "ended": span.ended})

    tuner = ray_tune.Tuner(
        trainable,
        param_space={"seed": ray_tune.grid_search(list(range(trials)))},
        tune_config=ray_tune.TuneConfig(reuse_actors=True),
        run_config=ray_tune.RunConfig(storage_path=str(folder), verbose=0),
    )
    cpu = time.process_time()
    grid = tuner.fit()
    ended, cpu = time.time(), time.process_time() - cpu
    told = [result.metrics or {} for result in grid]
    return Turn([Span(t["pid"], t["begun"], t["ended"]) for t in told if "begun" in t], ended, cpu)


def report(found: dict[str, Any], chosen: list[str]) -> None:
    of = {name: [turn for turn in found["turns"] if turn["contestant"] == name] for name in chosen}
    rows = []
    for name in chosen:
        times = [turn["milliseconds"] for turn in of[name]]
        row = [name, spread(times)]
        if "ours" in chosen:  # each turn against that of its own round, as the machine's pace changes
            base = [turn["milliseconds"] for turn in of["ours"]]
            row.append(spread([time / mine for time, mine in zip(times, base, strict=True)]))
        waits = [turn["gap"] for turn in of[name] if turn["gap"]]
        row += [f"{1e3 * median(gap[of] for gap in waits):.3g}" if waits else "" for of in ("median", "p95")]
        rows.append([*row, f"{median(turn['driver_cpu'] for turn in of[name]):.0%}"])
    title = (
        f"{found['trials']:,} trials on {found['slots']} slots; {platform.machine()}, {found['cpus']} CPUs"
    )
    columns = ["", "ms a trial", *(["× ours"] if "ours" in chosen else []), "gap, ms", "p95", "driver's CPU"]
    plain_table(title, columns, rows)


if __name__ == "__main__":
    main()
