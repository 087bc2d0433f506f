"""How much memory a differentiated graph takes, and so how many samples fit a chunk and how many chunks are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

CHUNK_BYTES = (
    2**28
)  # of one chunk's graph; fixed, so that the same data is divided in the same way everywhere
KEPT_BYTES = 2**31  # of all kept graphs on a CPU; on a GPU a quarter of the free memory

# A graph that can be differentiated again holds the activations (what a forward pass saves), their gradients, and
# the intermediates of a product on its way.
GRAPH_OVER_FORWARD = 3


def with_graph_bytes(evaluate: Callable[[], T], constants: Iterable[Tensor]) -> tuple[T, int]:
    """What `evaluate` returns, and the estimated bytes of its graph if it can be differentiated twice.

    Tensors that begin where one of the `constants` begins are not counted.
    """
    known = {tensor.data_ptr() for tensor in constants}
    saved: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        address = tensor.data_ptr()
        if address not in known:
            saved[address] = max(saved.get(address, 0), tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        value = evaluate()
    return value, GRAPH_OVER_FORWARD * sum(saved.values())


def samples_that_fit(probe_bytes: int, probe_samples: int) -> int:
    """The chunk size whose graph takes `CHUNK_BYTES`, when `probe_samples` take `probe_bytes`; at least 1."""
    return max(1, CHUNK_BYTES * probe_samples // max(probe_bytes, 1))


def kept_bytes(device: torch.device) -> int:
    """What kept graphs may take; it changes the speed of a product and nothing else."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free // 4
    return KEPT_BYTES
