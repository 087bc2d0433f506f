"""Claim: whatever is killed, a sweep ends with the numbers of an undisturbed run, to the bit, each of them once.

One sweep is run in peace on a cluster of this machine's own processes, and then again and again, while a random
part of everything is killed with SIGKILL at random moments:

\b
    worker   a process that runs a trial
    node     all processes of a node; a fresh one takes its place
    driver   the command; it is given again
    server   MLflow's tracking server; it starts again on its store
    head     with --head: the whole cluster and the driver; all of it starts again

Then both tables of every round must be those of the undisturbed run in every column that does not say where or
when, MLflow, once mirrored, must have one run a trial and no point twice, and no trial may have been run again
after it had finished. The command ends with 1 where anything is not so.

Evidence: `python tests/chaos.py --head --steps 2000`, two idle cores, 2026-11-25: 24 trials, two at a time, with a
checkpoint every 0.5 s, 33 s undisturbed; four rounds, 30 kills, no difference, six and a half minutes.

\b
    fault    kills  trials hit  work lost, s a trial  back after, s   most
    driver       6          12                  0.14            2.3    2.4
    head         6          12                  0.19           12.0   12.9
    server       6           0                  0.00            0.1    0.1
    node         6           6                  0.27            7.5   14.5
    worker       6           6                  0.44            1.0    1.4
    30 kills cost 5.9 s each of the sweep's time

Work lost is the time since the newest checkpoint of a trial at work. Back after: until as many trials ran again
as before, of which a node or a cluster takes five to ten seconds to start.
"""

import random
import sys
import time
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory

import click
from cluster import Cluster
from disturbed import Kill, Round, command, sweep_file, tracking_server
from same_numbers import differences, mirror_faults

FAULTS = ("worker", "node", "driver", "server")

NODES = 2

PAUSES = (0.5, 4.0)
"""Seconds between the moment when trials run again and the next kill, at least and at most."""

A_ROUND = 10
"""Kills a round."""


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--trials", type=click.IntRange(min=2), default=24, show_default=True)
@click.option("--steps", type=click.IntRange(min=20), default=4000, show_default=True, help="Of each trial.")
@click.option("--kills", type=click.IntRange(min=1), default=30, show_default=True, help="In all.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is killed, and when.")
@click.option("--head", is_flag=True, help="Kill the head too.")
@click.option(
    "--keep", type=click.Path(path_type=Path), help="A folder for results and logs, which stay there."
)
def main(trials: int, steps: int, kills: int, seed: int, head: bool, keep: Path | None) -> None:
    with TemporaryDirectory(prefix="chaos-") as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rng = random.Random(seed)
        kinds = (*FAULTS, "head") if head else FAULTS
        faults = rng.sample([kinds[index % len(kinds)] for index in range(kills)], kills)
        wrong = chaos(folder, sweep_file(folder, trials, steps), faults, rng)
    for line in wrong:
        click.echo(line)
    click.echo("something is not the same" if wrong else "the same to the bit, and nothing twice")
    sys.exit(bool(wrong))


def chaos(folder: Path, file: Path, faults: list[str], rng: random.Random) -> list[str]:
    """Run the sweep in peace, then disturbed until all faults are used up; print the cost, return what is wrong."""
    told: list[Kill] = []
    wrong: list[str] = []
    extra = 0.0
    with Cluster(cpus=0) as cluster:
        for node in [cluster.add(f"node{index}") for index in range(NODES)]:
            node.wait()
        reference = folder / "undisturbed"
        peace, _ = timed(Round(file, reference, cluster))
        click.echo(f"undisturbed: {peace:.0f} s")
        number = 0
        while faults:
            number += 1
            results, store = folder / f"round-{number}", folder / f"mlflow-{number}.db"
            with tracking_server(store) as (server, uri):
                due, rest = faults[:A_ROUND], faults[A_ROUND:]
                seconds, kills = timed(Round(file, results, cluster, due, rng, PAUSES, server, uri))
                mirror(results, uri)
            found = differences(reference, results) + mirror_faults(store, reference)
            wrong += [f"round {number}: {line}" for line in found]
            faults = due[len(kills) :] + rest  # what was left when the sweep had ended
            told += kills
            extra += seconds - peace
            names = " ".join(kill.fault for kill in kills)
            click.echo(f"round {number}: {seconds:.0f} s, {len(found)} differences; killed: {names}")
    click.echo(table(told))
    click.echo(f"{len(told)} kills cost {extra / len(told):.1f} s each of the sweep's time")
    return wrong


def timed(disturbed: Round) -> tuple[float, list[Kill]]:
    begun = time.monotonic()
    kills = disturbed.run()
    return time.monotonic() - begun, kills


def mirror(results: Path, uri: str) -> None:
    """`tiny-subspace mirror`, which makes up for whatever the server has missed."""
    mirroring = command(results.with_suffix(".mirror.log"), "mirror", str(results), "--tracking-uri", uri)
    if mirroring.exit_code(wait=300) != 0:
        mirroring.kill()
        raise RuntimeError(f"the mirror did not end well:\n{mirroring.output()}")


def table(kills: list[Kill]) -> str:
    """One line for each kind of fault."""
    lines = [
        f"{'fault':8}{'kills':>6}{'trials hit':>12}{'work lost, s a trial':>22}{'back after, s':>15}{'most':>7}"
    ]
    for fault in dict.fromkeys(kill.fault for kill in kills):
        own = [kill for kill in kills if kill.fault == fault]
        recovery = [kill.recovery for kill in own]
        lost = mean(kill.lost for kill in own)
        lines.append(
            f"{fault:8}{len(own):6}{sum(kill.interrupted for kill in own):12}{lost:22.2f}"
            f"{median(recovery):15.1f}{max(recovery):7.1f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
