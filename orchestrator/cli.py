"""The command `tiny-subspace`: its verbs, and the places they read from and write to.

Everything scientific stands in the sweep file. A verb imports what it needs itself, so that `--help` answers
at once and `plan` needs no torch.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import click

from orchestrator.json_lines import json_line

if TYPE_CHECKING:
    from orchestrator.status import Job
    from orchestrator.sweep import Sweep

HELP = """Sweeps of training runs, measured: Hessian spectra, gradient and subspace overlaps.

A sweep file says what to train and what to measure; `plan` shows what it means before anything runs.

\b
Examples:
  tiny-subspace plan sweeps/quickstart.yaml
  tiny-subspace run sweeps/quickstart.yaml
  tiny-subspace status results/quickstart
  tiny-subspace report results/quickstart
  tiny-subspace ui

\b
Data sets lie in the folder --data or TINY_SUBSPACE_DATA (by default
~/.cache/tiny-subspace) and are downloaded there once. mnist5k, digits,
gaussians and sine need no download. Results lie in results/NAME, NAME
being that of the sweep.

\b
Exit codes:
  0    every trial completed, diverged or was pruned
  1    some trial failed, or results could not be written
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


def seconds(_: click.Context, __: click.Parameter, value: float) -> float:
    """The value of an option; the command ends with 2 for nan, which is neither more nor less than anything."""
    if value != value:
        refuse(f"--checkpoint-every: {value}: must be a number of seconds")
    return value


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
tracking_option = click.option(
    "--tracking-uri", help="MLflow's store, or none.  [default: MLFLOW_TRACKING_URI or results/mlflow.db]"
)
checkpoint_option = click.option(
    "--checkpoint-every",
    metavar="SECONDS",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    callback=seconds,
    help="How much work a trial may lose when its process dies.",
)
log_option = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: one object a line on standard error, for machines.",
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
    """End the command with 2, as always when the sweep file or the call is wrong; in JSON where its log is."""
    context = click.get_current_context(silent=True)
    as_json = context is not None and context.params.get("log_format") == "json"
    for line in lines:
        click.echo(json_line("refused", line, "error") if as_json else line, err=True)
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
    if sweep.searches:
        plan_searches(sweep, results or f"results/{sweep.name}", data, as_json)
        return
    planned = plan_of(sweep, finished_trials(results or f"results/{sweep.name}"))
    click.echo(json.dumps(planned.as_json()) if as_json else as_text(planned))


def plan_searches(sweep: "Sweep", results: str, data: Path | None, as_json: bool) -> None:
    """`plan` of a sweep whose trials follow from each other."""
    from orchestrator.search_endings import found_all
    from orchestrator.search_plan import as_text, plan
    from orchestrator.store import ResultStore, StoreError

    try:
        there = "://" in results or Path(results).exists()
        found = found_all(ResultStore(results), sweep.searches) if there else []
    except StoreError as error:
        refuse(str(error))
    planned = plan(sweep, found, data=data)
    click.echo(json.dumps(planned.as_json()) if as_json else as_text(planned))


@main.command()
@sweep_file
@results_option
@data_option
@yes_option
@tracking_option
@click.option(
    "--executor",
    type=click.Choice(["ray", "local"]),
    default="ray",
    show_default=True,
    help="ray: trials side by side; local: one after another in this process, where breakpoints work.",
)
@click.option("--address", help="A running Ray cluster, such as HEAD:6379.  [default: one of its own]")
@click.option("--only", metavar="TRIAL_ID", multiple=True, help="Run just this trial; may be given again.")
@checkpoint_option
@click.option("--debug", is_flag=True, help="With --executor local: open pdb where a trial fails.")
@log_option
def run(
    file: Path,
    results: str | None,
    data: Path | None,
    yes: bool,
    tracking_uri: str | None,
    executor: Literal["ray", "local"],
    address: str | None,
    only: tuple[str, ...],
    checkpoint_every: float,
    debug: bool,
    log_format: str,
) -> None:
    """Run the trials of FILE that are not finished, here or on a Ray cluster.

    Running it again resumes, whatever stopped it: finished trials are left alone, failed ones are tried again,
    and those that were running go on from their checkpoints. Ctrl-C stops it as soon as running trials have
    saved where they are; a second one stops it at once.
    """
    from orchestrator.run_command import Refused
    from orchestrator.run_command import run as run_command
    from orchestrator.sweep import data_folder

    if debug and executor != "local":
        refuse("--debug: is for --executor local; a debugger cannot reach other processes")
    if address and executor == "local":
        refuse("--address: a cluster is for --executor ray; local runs in this process")
    sweep = load(file, data, yes)
    try:
        code = run_command(
            sweep,
            results=results or f"results/{sweep.name}",
            data=data_folder(data),
            tracking=tracking_uri,
            executor=executor,
            address=address,
            only=only,
            checkpoint_every=checkpoint_every,
            debug=debug,
            as_json=log_format == "json",
        )
    except Refused as error:
        refuse(str(error))
    except Exception:
        if debug:
            import pdb

            pdb.post_mortem()
        raise
    sys.exit(code)


@main.command()
@sweep_file
@click.option("--address", required=True, help="The cluster's dashboard, such as http://HEAD:8265.")
@click.option(
    "--results", metavar="URI", help="s3://bucket/folder, or the full path of a folder that every node sees."
)
@click.option(
    "--tracking-uri",
    help="MLflow's store, or none.  [default: the cluster's MLFLOW_TRACKING_URI, else mlflow.db beside results in a folder]",
)
@click.option(
    "--data", metavar="DIR", help="Where data sets lie on the nodes.  [default: as the nodes have it]"
)
@click.option("--no-follow", is_flag=True, help="Return as soon as the cluster has the job.")
@checkpoint_option
@log_option
@yes_option
def submit(
    file: Path,
    address: str,
    results: str | None,
    tracking_uri: str | None,
    data: str | None,
    no_follow: bool,
    checkpoint_every: float,
    log_format: str,
    yes: bool,
) -> None:
    """Run the trials of FILE that are not finished as a job of a Ray cluster, and follow its log.

    The job gets this package, FILE, and the modules and arrays of your own beside FILE that its trials name. It goes on
    when this command ends; the same command follows it again, or resumes it where it has ended. The exit code is
    that of `run`. Ctrl-C says how to stop the job; a second one stops following it.

    Where the cluster asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH, or keep it in
    ~/.ray/auth_token. Other credentials belong into the environment of the cluster's nodes.
    """
    from orchestrator.submission import Submission

    sweep = load(file, None, yes)
    submission = Submission(sweep, address, results, tracking_uri, data, checkpoint_every, yes, log_format)
    if problems := submission.problems():
        refuse(*problems)
    from orchestrator.run_command import Refused
    from orchestrator.submit import submit as submit_job

    try:
        code = submit_job(submission, following=not no_follow)
    except Refused as error:
        refuse(str(error))
    sys.exit(code)


@main.command()
@click.argument("path")
@click.option(
    "--address", help="A cluster's dashboard, such as http://HEAD:8265, to say what became of the job, too."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(path: str, address: str | None, as_json: bool) -> None:
    """Say what is finished, running and left of the results in PATH, and why trials failed.

    With every failure comes the command that runs that trial again in one process, under a debugger if you
    like.
    """
    from orchestrator.status import status as status_of
    from orchestrator.store import StoreError

    jobs = jobs_of(address, path) if address else []
    try:
        found = replace(status_of(path), jobs=jobs)
        if jobs and jobs[0].command:  # results of a job are gone on with by a job
            found = replace(found, resume=jobs[0].command)
    except StoreError as error:
        refuse(*map(str, jobs), str(error))
    click.echo(found.json() if as_json else found.text())
    if address and not jobs:
        click.echo(f"{address}: knows no job with these results", err=True)


def jobs_of(address: str, path: str) -> "list[Job]":
    """The cluster's jobs with these results; the command ends with 2 where it cannot be asked."""
    from orchestrator.run_command import Refused
    from orchestrator.submission import wrong_address

    if problems := list(wrong_address(address)):
        refuse(*problems)
    from orchestrator.submit import jobs

    try:
        return jobs(address, path)
    except Refused as error:
        refuse(str(error))


@main.command()
@click.argument("path")
@click.option(
    "--output",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the report goes, in the place of an older one.  [default: PATH/report, for a URI report-NAME]",
)
@click.option(
    "--tracking-uri",
    help="An MLflow store whose run of the sweep is to have the report too, such as results/mlflow.db.",
)
def report(path: str, output: Path | None, tracking_uri: str | None) -> None:
    """Draw what the results in PATH allow: index.html, which needs no network, and each figure as PNG and SVG.

    From stored results alone, while the sweep runs too: finished trials are in it. With every figure stand the
    pandas lines that give its numbers.
    """
    from orchestrator.report.make import ReportError
    from orchestrator.report.make import make as make_report
    from orchestrator.store import StoreError
    from orchestrator.tracking import tracking_uri as tracking_of

    try:
        index = make_report(path, output)
    except (StoreError, ReportError) as error:
        refuse(str(error))
    except OSError as error:
        click.echo(f"the report cannot be written: {error}", err=True)
        sys.exit(1)
    click.echo(str(index), err=True)
    uri = tracking_of(path, tracking_uri) if tracking_uri else None
    if uri:
        mirror_to(path, uri, index.parent)


@main.command()
@click.argument("path")
@tracking_option
def mirror(path: str, tracking_uri: str | None) -> None:
    """Make or repair the MLflow runs of the results in PATH. Doing it twice changes nothing."""
    from orchestrator.tracking import tracking_uri as tracking_of

    uri = tracking_of(path, tracking_uri)
    if uri is None:
        refuse("--tracking-uri: none: a mirror needs a tracking store")
    mirror_to(path, uri)


def mirror_to(path: str, uri: str, report: Path | None = None) -> None:
    """The results in `path` are in the store at `uri` afterwards, with the report; or the command has ended."""
    from orchestrator.mirror import mirror as mirror_results
    from orchestrator.store import StoreError
    from orchestrator.tracking import TrackingError

    try:
        count = mirror_results(path, uri, report)
    except (StoreError, FileNotFoundError) as error:
        refuse(str(error))
    except TrackingError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    click.echo(f"{count} trials of {path} are in {uri}", err=True)


@main.command()
@click.argument("path")
def compact(path: str) -> None:
    """Merge the many small files of the results in PATH into few, which read far faster; same rows.

    Safe while a sweep runs and while others read. Failed trials keep their own files, since they are tried
    again. A sweep of more than a thousand trials is compacted by itself at its end.
    """
    from orchestrator.compaction import compact as compact_results
    from orchestrator.store import ResultStore, StoreError

    try:
        done = compact_results(ResultStore(path))
    except StoreError as error:
        refuse(str(error))
    if done.files_before == done.files_after:
        click.echo(f"nothing to compact: {done.trials} trials in {done.files_after} files", err=True)
    else:
        click.echo(str(done), err=True)


@main.command()
@click.argument("path", default="results")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="The first port to try."
)
def ui(path: str, port: int) -> None:
    """Open MLflow's own page on the runs beside PATH, for this machine only."""
    from orchestrator.tracking import TrackingError, serve_ui

    try:
        serve_ui(path, port)
    except TrackingError as error:
        refuse(str(error))


@main.command()
@click.option("--address", help="A Ray cluster to ask: HOST:PORT, or its dashboard's http://HEAD:8265.")
@click.option("--tracking-uri", help="An MLflow store to ask.")
@click.option("--results", metavar="DIR", help="A results folder or URI to try.")
@click.option(
    "--data",
    metavar="DIR",
    help="Where data sets lie.  [default: TINY_SUBSPACE_DATA or ~/.cache/tiny-subspace]",
)
def doctor(address: str | None, tracking_uri: str | None, results: str | None, data: str | None) -> None:
    """Check versions, devices, the curvature kernel in float64, and every part you name.

    With the address of a dashboard all of that is asked on the cluster, in a small job, as by a sweep that is submitted:
    results, tracking server and data are then those that the cluster reaches.
    """
    if address and "://" in address:
        from orchestrator.examination import examine as examine_cluster

        sys.exit(examine_cluster(address, tracking_uri, results, data))
    from orchestrator.doctor import doctor as examine

    sys.exit(examine(address, tracking_uri, results, data))
