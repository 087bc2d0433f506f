"""The command `tiny-subspace`: its verbs, and the places they read from and write to.

Everything scientific stands in the sweep file. A verb imports what it needs itself, so that `--help` answers
at once and `plan` needs no torch.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from orchestrator.sweep import Sweep

HELP = """Sweeps of training runs, measured: Hessian spectra, gradient and subspace overlaps.

A sweep file says what to train and what to measure; `plan` shows what it means before anything runs.

\b
Examples:
  tiny-subspace plan sweeps/figure-1.yaml
  tiny-subspace plan sweeps/figure-1.yaml --json | jq .to_run

\b
Data sets lie in the folder --data or TINY_SUBSPACE_DATA (by default
~/.cache/tiny-subspace) and are downloaded there once. mnist5k, digits,
gaussians and sine need no download. Results lie in results/NAME, NAME
being that of the sweep.

\b
Exit codes:
  0    every trial completed, diverged or was pruned
  1    some trial failed
  2    the sweep file or the call is wrong, and nothing was started
  130  interrupted; the line that resumes was printed
"""


def show_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    """Print the version and leave, where `--version` is given."""
    if value:
        from orchestrator.versions import package_version

        click.echo(f"tiny-subspace {package_version()}")
        context.exit()


@click.group(help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="Say the version.",
)
def main() -> None: ...


sweep_file = click.argument("file", type=click.Path(path_type=Path))
data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="TINY_SUBSPACE_DATA",
    help="Where data sets lie.  [default: ~/.cache/tiny-subspace]",
)
results_option = click.option(
    "--results", metavar="DIR", help="A folder or a URI such as s3://bucket/folder.  [default: results/NAME]"
)
yes_option = click.option("--yes", is_flag=True, help="Yes, more than 100,000 trials are meant.")


def load(file: Path, data: Path | None, yes: bool) -> "Sweep":
    """The sweep of a file; everything wrong with it goes to standard error, and the command ends with 2."""
    from orchestrator.sweep import SweepError, load_sweep

    try:
        return load_sweep(file, data=data, allow_large=yes)
    except SweepError as error:
        refuse(*error.errors)


def refuse(*lines: str) -> NoReturn:
    """End the command with 2, as always when the sweep file or the call is wrong."""
    for line in lines:
        click.echo(line, err=True)
    sys.exit(2)


def finished_trials(results: str) -> dict[str, str]:
    """The status of each trial that has ended, by trial_id; nothing where there are no results yet."""
    if "://" not in results and not Path(results).exists():
        return {}
    from orchestrator.store import ResultStore, StoreError

    try:
        return {trial_id: str(status) for trial_id, status in ResultStore(results).finished().items()}
    except StoreError as error:
        refuse(str(error))


@main.command()
@sweep_file
@results_option
@data_option
@yes_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with every trial.")
def plan(file: Path, results: str | None, data: Path | None, yes: bool, as_json: bool) -> None:
    """Check FILE and show its trials, what is finished, and about what the rest costs.

    Writes nothing. Hessian products are estimates; one takes about as long as two gradients of the same
    samples.
    """
    from orchestrator.plan import as_text
    from orchestrator.plan import plan as plan_of

    sweep = load(file, data, yes)
    planned = plan_of(sweep, finished_trials(results or f"results/{sweep.name}"), data=data)
    click.echo(json.dumps(planned.as_json()) if as_json else as_text(planned))
