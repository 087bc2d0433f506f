"""What a Ray cluster has, and whether it grows by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply  # type: ignore[attr-defined]

from orchestrator.room import Shape


@dataclass(frozen=True)
class Autoscaler:
    """Ray's autoscaler, which adds nodes for work that has no place. The first version does not say what it cannot do."""

    launching: bool = False  # nodes that are on their way
    infeasible: Sequence[
        Shape
    ] = ()  # what no kind of node it may add has room for, or no further node of its limit


def nodes() -> list[Shape]:
    """What each node that is alive has."""
    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [_shape(node["Resources"]) for node in found if node["Alive"]]


def autoscaler() -> Autoscaler | None:
    """The cluster's autoscaler; None where it has none, so that its nodes are those that it has."""
    address = ray.get_runtime_context().gcs_address
    reply = GetClusterStatusReply.FromString(GcsClient(address).get_cluster_status(timeout_s=10))
    state = reply.autoscaling_state
    if not state.autoscaler_state_version:
        return None
    infeasible = [_shape(request.resources_bundle) for request in state.infeasible_resource_requests]
    return Autoscaler(bool(state.pending_instance_requests or state.pending_instances), infeasible)


def _shape(resources: Any) -> Shape:
    return Shape(*(resources.get(name, 0.0) for name in ("GPU", "CPU", "memory")))
