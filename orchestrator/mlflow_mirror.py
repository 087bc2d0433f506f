"""The few requests to MLflow that a mirror makes, in plain Python types. The only file that imports mlflow.

It does so when it is used and never at its top: that takes two seconds, which belong to a background thread.
Everything here waits for the server and raises what MLflow raises; nothing uses MLflow's fluent interface,
whose active run is the user's.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from orchestrator import tracking
from orchestrator.pulse import Pulse

if TYPE_CHECKING:
    from mlflow import MlflowClient

MOST_METRICS, MOST_PARAMETERS, PAGE = 1_000, 100, 1_000  # of one request


class Point(NamedTuple):
    """A metric's value at a step, and its time in milliseconds."""

    name: str
    value: float
    at: int
    step: int


@dataclass
class TrackedRun:
    """A run as the server has it."""

    run_id: str
    status: str
    tags: dict[str, str] = field(default_factory=dict)
    parameters: set[str] = field(default_factory=set)
    measured: bool = False  # has a metric


class Tracker:
    """A tracking store, and one experiment in it."""

    def __init__(self, uri: str, experiment: str, pulse: Pulse | None = None) -> None:
        """Find the experiment or make it. A deleted one is restored. `pulse` is told how requests go."""
        with tracking.initialising(uri):
            self._client = (pulse or Pulse()).of(_client(uri))
            found = self._client.get_experiment_by_name(experiment)
            if found is None:
                place = tracking.artifact_location(uri, experiment)
                made = self._client.create_experiment(experiment, artifact_location=place)
                found = self._client.get_experiment(made)
        self.experiment = str(found.experiment_id)
        self._tags = dict(found.tags)
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(self.experiment)

    def tag_experiment(self, tags: Mapping[str, str]) -> None:
        """See to it that the experiment has these tags."""
        for key, value in tags.items():
            if self._tags.get(key) != value:
                self._client.set_experiment_tag(self.experiment, key, value)

    def runs(self) -> list[TrackedRun]:
        """Every run that is not deleted: those with metrics first, and of those alike the oldest."""
        found: list[TrackedRun] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self.experiment], max_results=PAGE, order_by=["attributes.start_time ASC"], page_token=token
            )
            for run in page:
                tags, parameters = dict(run.data.tags), set(run.data.params)
                measured = bool(run.data.metrics)
                found.append(TrackedRun(run.info.run_id, run.info.status, tags, parameters, measured))
            token = page.token
            if not token:
                return sorted(found, key=lambda run: not run.measured)

    def create_run(self, name: str, tags: Mapping[str, str], at: int | None = None) -> TrackedRun:
        run = self._client.create_run(self.experiment, start_time=at, tags=dict(tags), run_name=name)
        return TrackedRun(run.info.run_id, run.info.status, dict(run.data.tags))

    def update_run(self, run_id: str, *, status: str | None = None, name: str | None = None) -> None:
        self._client.update_run(run_id, status=status, name=name)

    def terminate(self, run_id: str, status: str, at: int | None = None) -> None:
        self._client.set_terminated(run_id, status, end_time=at)

    def delete_run(self, run_id: str) -> None:
        """Hide a run; MLflow can restore it."""
        self._client.delete_run(run_id)

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def untag(self, run_id: str, key: str) -> None:
        self._client.delete_tag(run_id, key)

    def parameters(self, run_id: str, parameters: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        new = [Param(key, value) for key, value in parameters.items()]
        for i in range(0, len(new), MOST_PARAMETERS):
            self._client.log_batch(run_id, params=new[i : i + MOST_PARAMETERS])

    def metrics(self, run_id: str, points: Iterable[Point]) -> None:
        """Write points, those of one step together as long as they are no more than one request takes."""
        waiting: list[Point] = []
        by_step: dict[int, list[Point]] = {}
        for point in points:
            by_step.setdefault(point.step, []).append(point)
        for new in by_step.values():
            if len(waiting) + len(new) > MOST_METRICS:
                self._send(run_id, waiting)
                waiting = []
            waiting += new
        self._send(run_id, waiting)

    def history(self, run_id: str) -> list[Point]:
        """All points of a run."""
        return [
            Point(metric.key, metric.value, metric.timestamp, metric.step)
            for name in sorted(self._client.get_run(run_id).data.metrics)
            for metric in self._client.get_metric_history(run_id, name)
        ]

    def text(self, run_id: str, text: str, file: str) -> None:
        """Store a text as an artifact, replacing one of that name."""
        self._client.log_text(run_id, text, file)

    def folder(self, run_id: str, folder: Path, name: str) -> None:
        """Store the files of a local folder as artifacts below `name`, replacing those of the same names."""
        self._client.log_artifacts(run_id, str(folder), name)

    def _send(self, run_id: str, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(point.name, point.value, point.at, point.step) for point in points]
        for i in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(run_id, metrics=metrics[i : i + MOST_METRICS])


def refused(error: Exception) -> bool:
    """Whether asking again cannot help: what was said is wrong, not who says it, as in 403, or when."""
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException):
        return False
    return error.get_http_status_code() in (400,)  # type: ignore[no-untyped-call]


def check(uri: str) -> str:
    """Ask a tracking store for one experiment; what it is, in words. Raises TrackingError with the reason."""
    file = tracking.database(uri)
    if file is not None and not file.exists():
        return f"{file} is not there yet; the first run makes it"
    try:
        with tracking.impatient():
            _client(uri).search_experiments(max_results=1)
    except Exception as error:
        raise tracking.TrackingError(tracking.reason(error)) from error
    return f"{tracking.without_password(uri)} answers"


def _client(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # importing it has set INFO
    return MlflowClient(tracking_uri=uri)
