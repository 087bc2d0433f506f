"""Where MLflow's tracking store is, and MLflow's own page on it. Imports no mlflow."""

import fcntl
import os
import re
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, urlencode

from orchestrator import job

DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
VARIABLE = "MLFLOW_TRACKING_URI"
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Environment in which MLflow sends nothing to anybody but the tracking server, and prints no addresses."""

IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""MLflow's own retries take minutes, and one of a request that did arrive makes its run twice."""

_users: list[object] = []  # of `impatient`, and what they have added
_added: list[str] = []
_changing = threading.RLock()


class TrackingError(RuntimeError):
    """There is no tracking store where one was expected; one line that says what to do."""


def tracking_uri(results: str | Path, given: str | None = None) -> str | None:
    """The tracking store of a results folder: as given, else MLFLOW_TRACKING_URI, else a file beside it.

    That file is `mlflow.db` in the folder that holds `results`, so that the sweeps of one folder share it.
    Results that lie behind a URI have it in `./results`, but not in a Ray job, whose folder vanishes with it.
    A path that ends in `.db` is a SQLite file. The word `none` means no tracking at all: the answer is None.

    >>> tracking_uri("results/figure-1", "http://tracking:5000")
    'http://tracking:5000'
    >>> tracking_uri("/data/figure-1", "none") is None
    True
    """
    chosen = given or os.environ.get(VARIABLE) or None
    if chosen == "none":
        return None
    if chosen and "://" not in chosen and chosen.endswith(".db"):
        return f"sqlite:///{Path(chosen).expanduser().absolute()}"
    if chosen:
        return chosen
    if "://" in str(results) and job.inside():
        return None
    folder = Path("results") if "://" in str(results) else Path(results).expanduser().absolute().parent
    return f"sqlite:///{folder.absolute() / DATABASE}"


def database(uri: str) -> Path | None:
    """The file of a SQLite tracking store, or None for any other.

    >>> database("sqlite:////data/mlflow.db")
    PosixPath('/data/mlflow.db')
    """
    return Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None


def artifact_location(uri: str, sweep: str) -> str | None:
    """Where the artifacts of a sweep lie: beside a SQLite file; None where the server decides."""
    file = database(uri)
    return (file.parent / ARTIFACTS / sweep).as_uri() if file else None


def without_password(uri: str) -> str:
    """`uri` as it may be shown.

    >>> without_password("https://me:secret@tracking:5000")
    'https://me:***@tracking:5000'
    """
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", uri)


def reason(error: Exception) -> str:
    """Why a request failed, in a few words; MLflow's own message is a page."""
    text = str(error)
    for symptom in (
        "Connection refused",
        "timed out",
        "Name or service not known",
        "too many 500 error responses",
    ):
        if symptom in text:
            return symptom
    lines = without_password(text).splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]


@contextmanager
def impatient() -> Iterator[None]:
    """Short answers or none from MLflow's client; what the user's environment says comes first.

    Several may be in it at a time; the last to leave takes the variables out. Whoever reads the whole
    environment at that moment may fail, so a thread beside others does not enter and leave for each request.
    """
    user = object()
    with _changing:
        if not _users:
            added = {name: value for name, value in (IMPATIENT | QUIET).items() if name not in os.environ}
            os.environ.update(added)
            _added[:] = added
        _users.append(user)
    try:
        yield
    finally:
        with _changing:
            _users.remove(user)
            for name in () if _users else _added:
                os.environ.pop(name, None)


@contextmanager
def initialising(uri: str) -> Iterator[None]:
    """Let one process at a time open a SQLite store: several that meet on a fresh file would ruin it."""
    file = database(uri)
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with (file.parent / f".{file.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released by closing, and by the death of its process
        yield


def serve_ui(
    path: str | Path = "results", port: int = 5000, say: Callable[[str], object] = sys.stderr.write
) -> int:
    """Serve MLflow's page on the local tracking store of `path`, to this machine only, until interrupted.

    `path` is a results folder or the folder that holds several. Where the port is taken, the next free one
    serves. The server takes the place of this process and so does not return; a store that
    MLFLOW_TRACKING_URI names on another machine has its own page, whose address is said, and the answer is 0.
    Raises TrackingError where there is no store.
    """
    uri = ui_store(path)
    file = database(uri)
    if file is not None:
        _become_server(file, uri, Path(path).name, free_port(port), say)
    say(f"The runs are on {without_password(uri)}: open it in a browser.\n")
    return 0


def trials_page(experiment: str) -> str:
    """The part of an address, from `#` on, that shows the trials of an experiment with their charts.

    MLflow lists the children of a run only while the list is sorted by anything but the time of creation.
    """
    query = {"workflowType": "machine_learning", "searchFilter": "tags.kind = 'trial'"}
    query |= {"orderByKey": "tags.`mlflow.runName`", "orderByAsc": "true", "compareRunsMode": "CHART"}
    return f"#/experiments/{experiment}/runs?{urlencode(query, quote_via=quote)}"


def experiments(file: Path) -> dict[str, str]:
    """Name to number of the sweeps in a SQLite tracking store, read without MLflow."""
    wanted = (
        "SELECT name, experiment_id FROM experiments WHERE lifecycle_stage = 'active' AND name != 'Default'"
    )
    with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as connection:
        try:
            return {str(name): str(number) for name, number in connection.execute(wanted)}
        except sqlite3.DatabaseError:  # not MLflow's, or of a version to come: the server says more
            return {}


def _become_server(file: Path, uri: str, sweep: str, port: int, say: Callable[[str], object]) -> NoReturn:
    address = f"http://127.0.0.1:{port}"
    say(f"MLflow on {file}: {address} (ready in a few seconds; Ctrl-C stops it)\n")
    found = experiments(file)
    for name, number in {sweep: found[sweep]}.items() if sweep in found else found.items():
        say(f"  {name}: {address}/{trials_page(number)}\n")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", uri, "--registry-store-uri", uri]
    command += ["--artifacts-destination", str(file.parent / ARTIFACTS)]
    command += ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    lean = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
    os.execve(sys.executable, command, os.environ | QUIET | lean)  # in place: no server stays behind


def ui_store(path: str | Path) -> str:
    """The tracking store whose page `serve_ui` shows. TrackingError where there is none.

    The file in or beside `path`; failing that, the store that MLFLOW_TRACKING_URI names.
    """
    folder = Path(path).expanduser().absolute()
    for file in (folder / DATABASE, folder.parent / DATABASE):
        if folder.exists() and file.is_file():  # a mistyped path has no neighbours
            return f"sqlite:///{file}"
    if named := os.environ.get(VARIABLE):
        return named
    raise TrackingError(
        f"{path}: no tracking store ({DATABASE}) in or beside it; `tiny-subspace run FILE` makes one, and "
        "`tiny-subspace mirror PATH` makes it from finished results"
    )


def free_port(first: int) -> int:
    """The first port from `first` on that nothing listens at here. TrackingError where 50 are taken."""
    for port in range(first, first + 50):
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise TrackingError(f"ports {first} to {first + 49} are all taken; choose another with --port")
