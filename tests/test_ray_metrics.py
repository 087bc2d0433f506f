"""Ray's metrics of a sweep, with counters that remember in the place of Ray's; test_submit.py reads the exporter."""

import re
from pathlib import Path

import pytest
from scripted import scripted, trial
from standins import HERE, Shelf, sweep

from orchestrator import ray_metrics
from orchestrator.driver import run_sweep
from orchestrator.executors import LocalExecutor
from orchestrator.faults import Fault
from orchestrator.ray_metrics import RayMetrics
from workers.result import TrialResult, TrialStatus

DOCS = Path(__file__).parent.parent / "docker" / "README.md"
VALUES: dict[tuple[str, ...], float] = {}


class Remembering:
    """A metric of Ray's: what it is set to and what is added to it, by its name and tags."""

    def __init__(self, name, description, tag_keys):
        self._name, self._keys = name, tag_keys
        assert description

    def set_default_tags(self, tags):
        self._tags = tags

    def _key(self, tags):
        assert {*self._tags, *(tags or {})} == set(self._keys)
        assert self._tags == {"sweep": "test"}
        return (self._name.removeprefix("tiny_subspace_"), *(tags or {}).values())

    def set(self, value, tags=None):
        VALUES[self._key(tags)] = value

    def inc(self, value, tags=None):
        assert value > 0  # Ray refuses others
        VALUES[self._key(tags)] = VALUES.get(self._key(tags), 0) + value


@pytest.fixture
def values(monkeypatch):
    VALUES.clear()
    for name in ("Counter", "Gauge"):
        monkeypatch.setattr(ray_metrics, name, Remembering)
    return VALUES


SPECS = [scripted("completes", seed=seed) for seed in range(4)]
IDS = [spec.trial_id for spec in SPECS]


def begun(saved=()):
    some, metrics = sweep(*SPECS), RayMetrics("test", dict(saved))
    metrics.begin(some, some.trials[1:])
    return some, metrics


def test_running_and_waiting_are_what_they_say(values):
    def now():
        return values["trials_running",], values["trials_waiting",]

    some, metrics = begun()
    assert now() == (0, 3)
    metrics.started(some.trials[1])
    metrics.started(some.trials[2])
    assert now() == (2, 1)
    metrics.faulted(IDS[1], Fault.CRASH)
    assert now() == (1, 2)
    metrics.started(some.trials[1])
    metrics.finished(IDS[2], TrialResult(status=TrialStatus.DIVERGED))
    assert now() == (1, 1)
    metrics.close()
    assert now() == (0, 0)


def test_counters_are_there_before_they_count_and_then_count_whole(values):
    _, metrics = begun()
    assert max(value for name, value in values.items() if name[0] not in ("trials_waiting",)) < 1e-300
    assert ("faults", "node") in values
    assert ("faults", "cancelled") not in values
    assert {name[1] for name in values if name[0] == "trials_finished"} == {
        "completed",
        "diverged",
        "failed",
        "pruned",
    }
    metrics.faulted(IDS[1], Fault.NODE)
    metrics.finished(IDS[1], TrialResult(status=TrialStatus.FAILED))
    assert values["faults", "node"] == values["trials_finished", "failed"] == 1


def test_products_count_once_whatever_is_told_again(values):
    _, metrics = begun({IDS[1]: 3})

    def tell(name, *steps):
        for step in steps:
            metrics.row(name, {"step": step, "hessian_products": 10})
        return round(values["hessian_products",])

    assert tell(IDS[1], 0, 2) == 0  # measured by a driver before this one
    assert tell(IDS[1], 3, 5) == 20
    assert tell(IDS[1], 0, 2, 3, 5, 8) == 30  # by an attempt before this one
    assert tell(IDS[2], 0) == 40
    metrics.row(IDS[2], {"step": 1, "hessian_products": None})
    assert tell(IDS[2], 2) == 50


def test_a_driver_tells_of_faults_and_endings(values, tmp_path):
    some = sweep(scripted("dies_once", mark=str(tmp_path / "mark")), scripted("raises"))
    run_sweep(
        some,
        store=Shelf(tmp_path / "shelf"),
        executor=LocalExecutor(tmp_path, HERE, trial_function=trial),
        mirror=RayMetrics("test", {}),
        pace=0.01,
    )
    counted = {name: value for name, value in values.items() if value > 0.5}
    assert counted == {
        ("faults", "host_memory"): 1,
        ("faults", "code"): 1,
        ("trials_finished", "completed"): 1,
        ("trials_finished", "failed"): 1,
    }
    assert values["trials_running",] == values["trials_waiting",] == 0


def test_the_page_for_administrators_names_every_metric_and_no_other(values):
    begun()
    names = {name for name, *_ in values}
    counters = {"trials_finished", "faults", "hessian_products"}
    shown = {f"ray_tiny_subspace_{name}{'_total' * (name in counters)}" for name in names}
    for text in (DOCS.read_text(encoding="utf-8"), str(ray_metrics.__doc__)):
        assert set(re.findall(r"ray_tiny_subspace_\w+", text)) == shown
