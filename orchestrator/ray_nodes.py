"""Whether every node of a cluster can write results: trials keep their checkpoints there, wherever they run."""

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.following import reason
from orchestrator.ray_connection import plain_text
from orchestrator.ray_executor import RayExecutor
from orchestrator.store import ResultStore, StoreError

PATIENCE = 120.0
"""Seconds that all nodes together have to answer; the first time each starts a process for it."""


def everywhere(address: str, results: str) -> str:
    """Ask every node, and say how many there are. Raises StoreError with the first that cannot, and its address."""
    mark = f".probe-{secrets.token_hex(4)}"
    with closing(RayExecutor(address, data=Path())), marked(results, mark):
        found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        alive = [node for node in found if node["Alive"]]
        answers = [_ask(node["NodeID"], results, mark) for node in alive]
        ray.wait(answers, num_returns=len(answers), timeout=PATIENCE)
        for node, answer in zip(alive, answers, strict=True):
            try:
                trouble = ray.get(answer, timeout=0)
            except GetTimeoutError:
                trouble = f"no answer within {PATIENCE:g} s"
            except RayError as error:
                trouble = reason(plain_text(error))
            if trouble:
                raise StoreError(f"node {node['NodeManagerAddress']}: {trouble}")
    return f"{len(alive)} of {len(alive)} can write {results}, and see what the driver writes there"


def _ask(node_id: str, results: str, mark: str) -> Any:
    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    options: dict[str, Any] = {"num_cpus": 0, "scheduling_strategy": there, "max_retries": 0}
    return ray.remote(trouble_with).options(**options).remote(results, mark)


@contextmanager
def marked(results: str, mark: str) -> Iterator[None]:
    """A file of this name lies there, as long as this is entered. Raises StoreError."""
    store = ResultStore(results)
    store.probe()
    store.folder.write(mark, b"")
    try:
        yield
    finally:
        store.folder.remove(mark)


def trouble_with(results: str, mark: str) -> str | None:
    """Why results cannot be written from here, or are not those of whoever asks, in a line."""
    try:
        store = ResultStore(results)
        store.probe()
        seen = store.folder.read(mark) is not None
    except (StoreError, OSError) as error:
        return str(error)
    return None if seen else f"{results}: is a folder of its own there: the driver's files are not in it"
