"""What a person sees: calm lines without a terminal, live ones with it, and the table at the end."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from scripted import scripted

from orchestrator.progress import SUMMARY_LINES, Progress
from orchestrator.sweep import Resources, Sweep, Trial
from workers.result import TrialResult, TrialStatus
from workers.spec import Request

COMPLETED = TrialResult(status=TrialStatus.COMPLETED, seconds=3.0)


def sweep(count: int) -> Sweep:
    trials = tuple(Trial(scripted("mlp", seed=seed, steps=100), Resources()) for seed in range(count))
    return Sweep("test", "", trials, 2, "name: test\n", Path(), Path("x.yaml"))


def shown(
    count: int = 3, *, terminal: bool = False, left: int | None = None, asked: int | None = None
) -> tuple[Progress, Sweep, io.StringIO]:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=120, color_system=None)
    some = sweep(count)
    progress = Progress(console, asked=asked)
    progress.begin(some, some.trials[-left:] if left else some.trials)
    return progress, some, file


def test_without_a_terminal_one_line_a_trial_and_no_more() -> None:
    progress, some, file = shown()
    with progress:
        for t in some.trials:
            progress.started(t)
            for step in range(0, 100, 10):
                progress.row(
                    t.spec.trial_id,
                    {"step": step, "train_loss": 0.5, "f_top": 0.98765, "test_accuracy": None},
                )
            progress.finished(t.spec.trial_id, COMPLETED)
    assert file.getvalue().splitlines() == [
        "test: 3 of 3 trials to run",
        "[1/3] completed  mlp none seed=0  train_loss 0.5  f_top 0.988  3.0 s",
        "[2/3] completed  mlp none seed=1  train_loss 0.5  f_top 0.988  3.0 s",
        "[3/3] completed  mlp none seed=2  train_loss 0.5  f_top 0.988  3.0 s",
    ]


def test_without_a_terminal_an_overall_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("orchestrator.progress.time.monotonic", lambda: now[0])
    progress, some, file = shown()
    progress.started(some.trials[0])
    for step in range(0, 50, 5):
        now[0] += 10  # ten rows in 100 s: after 30, 60 and 90 s
        progress.row(some.trials[0].spec.trial_id, {"step": step})
    lines = file.getvalue().splitlines()[1:]
    assert len(lines) == 3
    # step 10 of 100 of the first of 3 trials in 30 s: (3 - 0.1) · 30 / 0.1 = 870 s
    assert lines[0] == "0 of 3 done, 1 running, about 14 min 30 s left"


def test_time_left_follows_the_eigenpairs_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("orchestrator.progress.time.monotonic", lambda: now[0])
    measure = {"top_eigenpairs": Request(at=(0, 1, 2, 100))}
    trial = Trial(replace(scripted("mlp", steps=100), measure=measure), Resources())
    some = replace(sweep(1), trials=(trial,))
    progress = Progress(Console(file=io.StringIO(), width=120))
    progress.begin(some, some.trials)
    progress.started(trial)
    for step in range(2):
        now[0] += 10
        progress.row(trial.spec.trial_id, {"step": step, "eigenvalues": [1.0]})
    # two of four decompositions in 20 s, although only one step of 100 is made
    assert progress.overall() == "0 of 1 done, 1 running, about 20 s left"


def test_a_failure_is_named_with_the_last_line_of_its_error() -> None:
    progress, some, file = shown(1)
    progress.started(some.trials[0])
    error = "Traceback (most recent call last):\n  File\nZeroDivisionError: of course\n"
    result = TrialResult(status=TrialStatus.FAILED, error_type="ZeroDivisionError", error=error, seconds=61)
    progress.finished(some.trials[0].spec.trial_id, result)
    assert file.getvalue().splitlines()[-1] == (
        "[1/1] failed  mlp none seed=0  1 min 1 s  ZeroDivisionError: of course"
    )


def test_trials_finished_earlier_are_counted_once() -> None:
    progress, _, file = shown(5, left=2)
    assert file.getvalue() == "test: 2 of 5 trials to run, 3 finished earlier\n"
    assert progress.overall() == "0 of 2 done, 0 running"


def test_trials_that_were_not_asked_for_did_not_finish_earlier() -> None:
    progress, _, file = shown(5, left=2, asked=3)
    assert file.getvalue() == "test: 2 of 5 trials to run, 1 finished earlier\n"
    assert progress.overall() == "0 of 2 done, 0 running"


def test_an_attempt_that_begins_again_forgets_what_was_before() -> None:
    progress, some, _ = shown(1)
    for _ in range(2):
        progress.started(some.trials[0])
        assert (
            progress.overall() == "0 of 1 done, 1 running"
        )  # no share of it is done, so no time left is known
        progress.row(some.trials[0].spec.trial_id, {"step": 50})
    assert "left" in progress.overall()


def test_on_a_terminal_running_trials_are_shown_live() -> None:
    progress, some, file = shown(20, terminal=True)
    with progress:
        for t in some.trials:
            progress.started(t)
            progress.row(t.spec.trial_id, {"step": 42, "train_loss": 0.25, "f_top": 0.5})
        progress.finished(some.trials[0].spec.trial_id, TrialResult(status=TrialStatus.DIVERGED))
        progress._live.refresh()  # type: ignore[union-attr]
    text = file.getvalue()
    assert re.search(r"mlp none seed=1 +step 42/100 +train_loss 0.25 +f_top 0.5", text)
    assert "and 7 more" in text  # 19 run, 12 are shown
    assert "1 of 20 done, 1 diverged, 19 running, about" in text


def test_the_summary_has_failures_first_and_an_end() -> None:
    progress, some, file = shown(SUMMARY_LINES + 5)
    for t in some.trials:
        progress.started(t)
        progress.row(t.spec.trial_id, {"step": 1, "train_loss": 0.125, "test_accuracy": 0.75})
        failed = t is some.trials[-1]
        result = TrialResult(status=TrialStatus.FAILED, error_type="X", error="X: y") if failed else COMPLETED
        progress.finished(t.spec.trial_id, result)
    file.truncate(0)
    file.seek(0)
    progress.summary()
    lines = file.getvalue().splitlines()
    assert lines[0].split() == ["trial", "status", "train_loss", "test_accuracy", "f_top", "time"]
    assert re.match(r"mlp none seed=24 +failed +0.125 +0.75 +0.0 s", lines[1])
    assert re.match(r"mlp none seed=0 +completed +0.125 +0.75 +3.0 s", lines[2])
    assert len(lines) == SUMMARY_LINES + 2
    assert lines[-1] == "and 5 more"


@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_told_stays_as_it_is(as_json: bool) -> None:
    file = io.StringIO()
    Progress(Console(file=file, width=20), as_json).note(
        "models.py:100: [red] a warning of more than 20 letters"
    )
    assert "models.py:100: [red] a warning of more than 20 letters" in file.getvalue()


def test_a_label_is_no_markup() -> None:
    progress, some, file = shown(1)
    progress.note("widths=[200,200] [red]")
    progress.note("MemoryError; attempt 2 in 1 s", some.trials[0].spec.trial_id)
    assert "mlp none seed=0: MemoryError; attempt 2 in 1 s" in file.getvalue()
    progress._labels[some.trials[0].spec.trial_id] = "mlp [bold]"
    progress.started(some.trials[0])
    progress.finished(some.trials[0].spec.trial_id, COMPLETED)
    progress.summary()
    assert "widths=[200,200] [red]" in file.getvalue()
    assert file.getvalue().count("mlp [bold]") == 2
