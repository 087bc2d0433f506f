"""What a sweep does, as metrics of Ray's own exporter, which Prometheus asks at each node's `--metrics-export-port`.

The exporter puts `ray_` before each name. All have the tag `sweep`, and Ray's own, of which `WorkerId` tells drivers apart.
Gauges go when the driver has ended; counters stay as they are, so that `increase` sees what came last.

| name | kind | what it is |
|---|---|---|
| `ray_tiny_subspace_trials_running` | gauge | trials at work |
| `ray_tiny_subspace_trials_waiting` | gauge | trials without a place yet, or resting after a fault |
| `ray_tiny_subspace_trials_finished_total{status}` | counter | completed, diverged, failed, pruned |
| `ray_tiny_subspace_faults_total{fault}` | counter | attempts that came to a fault, by its name in orchestrator/faults.py |
| `ray_tiny_subspace_hessian_products_total` | counter | Hessian-vector products measured, each row's once |
"""

import sys
from collections.abc import Mapping, Sequence
from typing import TypeVar

from ray.util.metrics import Counter, Gauge, Metric

from orchestrator.faults import Fault
from orchestrator.sweep import Sweep, Trial
from workers.result import Row, TrialResult, TrialStatus

NOTHING = sys.float_info.min
"""Ray takes no 0, and `increase` does not see the first count of a counter that was not there before: this is lost in
the first addition."""

Kind = TypeVar("Kind", bound=Metric)


class RayMetrics:
    """The watcher that tells Ray. `saved` says of half-finished trials the step that each goes on from."""

    def __init__(self, sweep: str, saved: Mapping[str, int]) -> None:
        def metric(kind: type[Kind], name: str, text: str, *tags: str) -> Kind:
            made = kind(f"tiny_subspace_{name}", text, ("sweep", *tags))
            made.set_default_tags({"sweep": sweep})
            return made

        # rows before a trial's step here are told once more, and were measured earlier
        self._next = dict(saved)
        self._running: set[str] = set()
        self._left = 0  # not finished
        self._now = metric(Gauge, "trials_running", "Trials at work.")
        self._later = metric(Gauge, "trials_waiting", "Trials without a place, or resting after a fault.")
        self._finished = metric(Counter, "trials_finished", "Trials that have ended.", "status")
        self._faults = metric(Counter, "faults", "Attempts that came to a fault.", "fault")
        self._products = metric(Counter, "hessian_products", "Hessian-vector products measured.")

    def begin(self, sweep: Sweep, left: Sequence[Trial]) -> None:
        self._left = (
            sweep.count - len(sweep.trials) + len(left)
        )  # with those that a search has not asked for yet
        self._products.inc(NOTHING)
        for status in set(TrialStatus) - {TrialStatus.PENDING, TrialStatus.RUNNING}:
            self._finished.inc(NOTHING, {"status": str(status)})
        for fault in set(Fault) - {Fault.CANCELLED}:
            self._faults.inc(NOTHING, {"fault": str(fault)})
        self._show()

    def started(self, trial: Trial) -> None:
        self._running.add(trial.spec.trial_id)
        self._show()

    def row(self, trial_id: str, row: Row) -> None:
        step = int(row["step"])
        if step >= self._next.get(trial_id, 0):
            self._next[trial_id] = step + 1
            if products := row.get("hessian_products"):
                self._products.inc(products)

    def faulted(self, trial_id: str, fault: Fault) -> None:
        self._faults.inc(1, {"fault": str(fault)})
        self._running.discard(trial_id)
        self._show()

    def finished(self, trial_id: str, result: TrialResult) -> None:
        self._finished.inc(1, {"status": str(result.status)})
        self._next.pop(trial_id, None)
        self._running.discard(trial_id)
        self._left -= 1
        self._show()

    def close(self) -> None:
        """The driver ends, and with it all that runs and waits: the exporter shows its last word for some seconds more."""
        self._running.clear()
        self._left = 0
        self._show()

    def _show(self) -> None:
        self._now.set(len(self._running))
        self._later.set(self._left - len(self._running))
