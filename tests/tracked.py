"""What a tracking store holds, read back for tests."""

from orchestrator.mlflow_mirror import _client as client
from orchestrator.mlflow_runs import MIRRORED_TAG


class Warnings(list):
    __call__ = list.append


def all_runs(uri, name="sample"):
    found = client(uri)
    return found.search_runs([found.get_experiment_by_name(name).experiment_id], max_results=1000)


def run_of(uri, spec):
    (found,) = [run for run in all_runs(uri) if run.data.tags.get("trial_id") == spec.trial_id]
    return found


def history(uri, run):
    """Metric name to its points in order, duplicates included."""
    names, found = run.data.metrics, client(uri)
    points = {name: found.get_metric_history(run.info.run_id, name) for name in names}
    return {name: sorted((m.step, m.value) for m in history) for name, history in points.items()}


def content(uri, name="sample"):
    """What the store says of every trial, apart from ids, times, and the mark of a verified mirror."""
    found = {}
    for run in all_runs(uri, name):
        tags = {k: v for k, v in run.data.tags.items() if k not in ("mlflow.parentRunId", MIRRORED_TAG)}
        key = tags.get("trial_id", "sweep")
        assert key not in found, "a trial has two runs"
        found[key] = {"name": run.info.run_name, "status": run.info.status}
        found[key] |= {"tags": tags, "params": run.data.params, "metrics": history(uri, run)}
    return found
