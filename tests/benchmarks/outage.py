"""Claim: whatever the tracking server does, a sweep waits for nothing, and what it pays is CPU time, one to three
seconds once, largely MLflow's import; in the end MLflow holds every point once, by itself or after `mirror`.

Evidence: `python tests/benchmarks/outage.py --rounds 2 --trials 4` prints the table whose numbers stand here: four
trials of 600 steps, two CPU cores; points of both rounds, 8,144, as the run has left them → after `mirror`.

                seconds (least, most)    to none   CPU s   missing   too many   runs twice
          none     50.3 (50.1, 50.6)      1.000     49.7
       healthy     52.8 (50.5, 55.1)      1.049     52.7    0           0            0
        absent     51.5 (49.7, 53.2)      1.022     51.4    8144 → 0    0 → 0        0 → 0
        killed     51.7 (51.4, 52.1)      1.028     51.6    0           0            0
          slow     51.2 (51.1, 51.2)      1.016     50.4    8144 → 0    0 → 0        0 → 0
           500     52.3 (51.4, 53.2)      1.039     52.3    8144 → 0    0 → 0        0 → 0
           403     52.6 (51.7, 53.6)      1.046     52.5    8144 → 0    0 → 0        0 → 0

Two rounds are few: runs of one kind differ by up to 9 %, more than the kinds of server do. So this neither shows nor
excludes that a sweep of under a minute stays within 2 %, which is one second here. On a busy machine, where the
server competes for the same cores, `healthy` was 15 to 46 % slower than `none`.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

import click

sys.path.insert(0, str(Path(__file__).parents[1]))  # proxy and cluster

HELP = """Run one sweep beside tracking servers that misbehave, and compare wall times and what MLflow holds.

\b
In each round the same sweep runs, from the start, with
  none     no tracking
  healthy  MLflow's server, behind a proxy that hands everything on
  absent   nothing that listens
  killed   the server, gone for the middle third of the run
  slow     5 s before each answer
  500 403  each request answered so
Trials run in the process that tells MLflow, so that they bear all that
it costs. "missing" and "too many" are metric points against Parquet, as the
run has left them and after `tiny-subspace mirror` with a healthy server.

\b
Examples:
  python tests/benchmarks/outage.py --trials 1 --steps 20 --only none --only 500
  python tests/benchmarks/outage.py --json outage.json
"""

CONDITIONS = ("none", "healthy", "absent", "killed", "slow", "500", "403")

SWEEP = """
name: {name}
trial: {{architecture: mlp, dataset: mnist5k, optimizer: sgd, batch_size: 64, steps: {steps}}}
grid: {{seed: {{range: {trials}}}}}
measure:
  loss: {{every: 5}}
  hessian_gradient_overlap: {{every: 20}}
  top_eigenpairs: {{every: 100, count: 10}}
"""


@click.command(help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--trials", type=click.IntRange(min=1), default=6, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=600, show_default=True, help="Of each trial.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--only", type=click.Choice(CONDITIONS), multiple=True, help="May be given again.")
@click.option("--delay", type=float, default=5.0, show_default=True, help="Seconds; of the slow server.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Every number.")
def main(
    trials: int, steps: int, rounds: int, only: tuple[str, ...], delay: float, file: Path | None
) -> None:
    chosen = ["none", *(name for name in CONDITIONS[1:] if not only or name in only)]
    found: dict[str, Any] = {"cpus": os.cpu_count(), "trials": trials, "steps": steps, "runs": []}
    with tempfile.TemporaryDirectory() as folder, tracking_server(Path(folder)) as uri:
        for turn in range(rounds):
            place = turn % len(chosen)  # each condition has its turn at each place
            for condition in (*chosen[place:], *chosen[:place]):
                earlier = [run["seconds"] for run in found["runs"]]
                run = one_run(Path(folder), uri, condition, turn, trials, steps, delay, earlier)
                click.echo(f"round {turn + 1} of {rounds}: {condition}: {run['seconds']:.1f} s", err=True)
                found["runs"].append(run)
    report(found, chosen)
    if file is not None:
        file.write_text(json.dumps(found, indent=1), encoding="utf-8")


def one_run(
    folder: Path,
    uri: str,
    condition: str,
    turn: int,
    trials: int,
    steps: int,
    delay: float,
    earlier: list[float],
) -> dict[str, Any]:
    """Run the sweep, and look at what MLflow holds, before and after the mirror has repaired it."""
    from proxy import Proxy

    name = f"{condition}-{turn}"
    (folder / f"{name}.yaml").write_text(SWEEP.format(name=name, trials=trials, steps=steps))
    results = folder / "results" / name
    with Proxy(uri) as proxy:
        store = "none" if condition == "none" else proxy.uri
        words = ["run", str(folder / f"{name}.yaml"), "--results", str(results), "--tracking-uri", store]
        ended = threading.Event()
        trouble = threading.Thread(
            target=misbehave, args=(proxy, condition, delay, min(earlier, default=60.0), ended)
        )
        trouble.start()
        started, cpu = time.monotonic(), children()
        said = command(*words, "--executor", "local")
        run = {"condition": condition, "seconds": time.monotonic() - started, "cpu": children() - cpu}
        ended.set()
        trouble.join()
    run["warnings"] = sum("mlflow:" in line for line in said.splitlines())
    if condition != "none":
        run["left"] = audit(uri, name, results)
        command("mirror", str(results), "--tracking-uri", uri)
        run["mirrored"] = audit(uri, name, results)
    return run


def misbehave(proxy: Any, condition: str, delay: float, duration: float, ended: threading.Event) -> None:
    match condition:
        case "absent":
            proxy.down()
        case "slow":
            proxy.delay = delay
        case "500" | "403":
            proxy.fault = lambda method, path: int(condition)
        case "killed":
            ended.wait(duration / 3)
            proxy.down()
            ended.wait(duration / 3)
            proxy.up()


def audit(uri: str, name: str, results: Path) -> dict[str, int]:
    """What MLflow holds of a sweep, against Parquet."""
    from mlflow import MlflowClient

    from orchestrator.results import by_trial
    from orchestrator.run_content import metrics

    client, there, runs = MlflowClient(uri), Counter[Any](), Counter[str]()
    if experiment := client.get_experiment_by_name(name):
        for run in client.search_runs([experiment.experiment_id], max_results=1000):
            trial_id = run.data.tags.get("trial_id", "")
            runs[trial_id] += 1
            for metric in run.data.metrics:
                points = client.get_metric_history(run.info.run_id, metric)
                there.update((trial_id, metric, point.step, point.value) for point in points)
    wanted = Counter(
        (trial["trial_id"], metric, row["step"], value)
        for trial, rows in by_trial(results)
        for row in rows
        for metric, value in metrics(row).items()
    )
    return {
        "points": wanted.total(),
        "missing": (wanted - there).total(),
        "too_many": (there - wanted).total(),
        "runs_twice": sum(count - 1 for count in runs.values()),
    }


def command(*words: str) -> str:
    """Run the command with these words; what it said."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "from orchestrator.cli import main; main()", *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if done.returncode:
        raise click.ClickException(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr}")
    return done.stderr


def children() -> float:
    """CPU seconds of processes that have ended and been waited for."""
    spent = os.times()
    return spent.children_user + spent.children_system


@contextmanager
def tracking_server(folder: Path) -> Iterator[str]:
    """`mlflow server` on a fresh store."""
    from cluster import free_ports

    (port,) = free_ports(1)
    words = [sys.executable, "-W", "ignore", "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    words += ["--backend-store-uri", f"sqlite:///{folder}/server.db"]
    words += ["--artifacts-destination", str(folder / "artifacts")]
    lean = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (
        (folder / "server.log").open("w") as log,
        subprocess.Popen(words, stdout=log, stderr=log, env=os.environ | lean) as server,
    ):
        from mlflow import MlflowClient

        uri = f"http://127.0.0.1:{port}"
        end = time.monotonic() + 120
        try:
            while not answers(f"{uri}/health"):
                if time.monotonic() > end or server.poll() is not None:
                    raise click.ClickException("mlflow server does not start")
                time.sleep(0.5)
            MlflowClient(uri).search_experiments()
            yield uri
        finally:
            server.terminate()


def answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=10):
            return True
    except OSError:
        return False


def report(found: dict[str, Any], chosen: list[str]) -> None:
    runs = found["runs"]
    rounds = max(Counter(run["condition"] for run in runs).values())
    click.echo(f"{found['trials']} trials of {found['steps']} steps, {rounds} rounds, {found['cpus']} CPUs\n")
    click.echo(
        "            seconds: median (least, most)   to none   CPU s   warned   missing   too many   runs twice"
    )
    of = {name: [run for run in runs if run["condition"] == name] for name in chosen}
    for name in chosen:
        seconds = [run["seconds"] for run in of[name]]
        # each run against that of its own round, as the machine's pace changes
        ratio = median(
            mine["seconds"] / other["seconds"] for mine, other in zip(of[name], of["none"], strict=True)
        )
        line = (
            f"{name:>10}  {median(seconds):10.1f}  ({min(seconds):6.1f}, {max(seconds):6.1f})  {ratio:10.3f}"
        )
        line += (
            f"  {median(run['cpu'] for run in of[name]):6.1f}  {sum(run['warnings'] for run in of[name]):7}"
        )
        if name != "none":
            for what in ("missing", "too_many", "runs_twice"):
                left, mirrored = (sum(run[when][what] for run in of[name]) for when in ("left", "mirrored"))
                line += f"  {left:>5} → {mirrored}"
        click.echo(line)


if __name__ == "__main__":
    main()
