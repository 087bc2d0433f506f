"""Logs for machines: those of a worker process, and those of a driver."""

import io
import json
import logging
import warnings
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from rich.console import Console
from scripted import scripted
from standins import HERE, Shelf, sweep

from orchestrator.driver import run_sweep
from orchestrator.events import trial_events
from orchestrator.executors import LocalExecutor
from orchestrator.json_lines import JsonFormatter
from orchestrator.progress import Progress
from orchestrator.trial_log import TrialLog
from workers.result import Reached, TrialResult, TrialStatus


def talkative(spec, context):
    warnings.warn("mind the step", stacklevel=1)
    logging.getLogger("mine").info("at %s", "work")
    yield Reached(2, "goes on from its checkpoint at step 2")
    if spec.architecture.name == "raises":
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError:
            logging.getLogger("mine").exception("oh")
            raise
    if spec.architecture.name == "diverges":
        yield {"step": 0, "train_loss": float("inf")}
        yield TrialResult(status=TrialStatus.DIVERGED, steps_done=3)
    yield TrialResult(status=TrialStatus.COMPLETED, steps_done=5, hessian_products=7)


@contextmanager
def logging_here():
    """A worker's log in this process, and gone afterwards."""
    root, level = logging.getLogger(), logging.getLogger().level
    with warnings.catch_warnings(action="always"):
        yield TrialLog("test")
        logging.captureWarnings(False)
    root.setLevel(level)
    for handler in [one for one in root.handlers if isinstance(one.formatter, JsonFormatter)]:
        root.removeHandler(handler)


def lines(text):
    found = [json.loads(line) for line in text.splitlines()]
    for line in found:
        assert list(line)[:5] == ["time", "level", "event", "host", "message"]
        at = datetime.fromisoformat(line["time"])
        assert at.utcoffset() == timedelta(0)
        assert abs(datetime.now(UTC) - at) < timedelta(minutes=1)
    return found


def told(name, tmp_path, capsys):
    spec = scripted(name, seed=3)
    events = trial_events(spec, data=tmp_path, folder=None, device="cpu", cpus=1, trial_function=talkative)
    with logging_here() as log:
        list(log.told(spec, events))
    found = lines(capsys.readouterr().err)
    assert {(line["trial_id"], line["sweep"]) for line in found} == {(spec.trial_id, "test")}
    return found


def test_a_worker_tells_of_a_trial_and_of_what_is_logged_meanwhile(tmp_path, capsys):
    begin, warning, info, note, end = told("completes", tmp_path, capsys)
    assert (begin["event"], begin["architecture"], begin["seed"]) == ("started", "completes", 3)
    assert "learning_rate" in begin
    assert (warning["level"], warning["logger"]) == ("warning", "py.warnings")
    assert "mind the step" in warning["message"]
    assert (info["level"], info["logger"], info["message"]) == ("info", "mine", "at work")
    assert (note["event"], note["step"]) == ("note", 2)
    assert (end["event"], end["steps_done"], end["hessian_products"]) == ("completed", 5, 7)
    assert 0 <= end["seconds"] < 60


def test_a_worker_tells_how_a_trial_failed(tmp_path, capsys):
    *_, logged, end = told("raises", tmp_path, capsys)
    assert (logged["level"], logged["message"]) == ("error", "oh")
    assert "ZeroDivisionError: division by zero" in logged["error"]
    assert (end["event"], end["level"], end["fault"]) == ("failed", "error", "code")
    assert end["message"] == "ZeroDivisionError: division by zero"
    assert end["error"].startswith("Traceback")


def test_a_cancelled_trial_is_closed_and_what_follows_is_not_its(tmp_path, capsys):
    def events():
        try:
            yield Reached(0)
            yield Reached(1)
        finally:
            logging.getLogger("mine").info("saved")

    with logging_here() as log:
        running = log.told(scripted("completes"), events())
        next(running)
        running.close()
        logging.getLogger("mine").warning("between trials")
    saved, cancelled, between = lines(capsys.readouterr().err)
    assert (saved["message"], cancelled["event"]) == ("saved", "cancelled")
    assert "trial_id" in saved
    assert "trial_id" in cancelled
    assert "trial_id" not in between


def test_a_driver_tells_every_line_as_an_object(tmp_path):
    file = io.StringIO()
    progress = Progress(Console(file=file, force_terminal=True, width=20), as_json=True)
    some = sweep(scripted("diverges"), scripted("raises"))
    with progress, warnings.catch_warnings(action="ignore"):
        run_sweep(
            some,
            store=Shelf(tmp_path / "shelf"),
            executor=LocalExecutor(tmp_path, HERE, trial_function=talkative),
            progress=progress,
            pace=0.01,
        )
    progress.summary()
    found = lines(file.getvalue())
    assert {line["sweep"] for line in found} == {"test"}
    diverged, failed = [trial.spec.trial_id for trial in some.trials]
    assert found[0].items() >= {"event": "begin", "level": "info"}.items()
    told = {
        trial_id: [line for line in found if line.get("trial_id") == trial_id]
        for trial_id in (diverged, failed)
    }
    assert [(line["event"], line["level"]) for line in told[diverged]] == [
        ("started", "info"),
        ("note", "info"),
        ("finished", "info"),
    ]
    assert [(line["event"], line["level"]) for line in told[failed]] == [
        ("started", "info"),
        ("fault", "warning"),
        ("finished", "error"),
    ]
    assert told[diverged][-1].items() >= {"status": "diverged", "steps_done": 3, "attempts": 1}.items()
    assert "train_loss" not in told[diverged][-1]  # it is infinite
    assert (
        told[failed][-1].items()
        >= {"status": "failed", "fault": "code", "error_type": "ZeroDivisionError"}.items()
    )
