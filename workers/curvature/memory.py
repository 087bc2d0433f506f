"""How much memory a differentiated graph takes, and so how many samples fit a chunk and how many chunks are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

CHUNK_BYTES = {"cpu": 2**28, "cuda": 2**30}
"""Of one chunk's graph. A GPU is full only with large operations. Fixed, so that the same data is divided in the same
way everywhere."""

TENSOR_BYTES = {"cpu": 2**23, "cuda": 2**30}
"""Of one tensor in the graph of a chunk. On a CPU larger ones leave the cache, and are fetched from the system anew for
every product: at 32 MiB a product takes twice as long."""

CPU_KEPT_BYTES = 2**31
"""Of all kept graphs on a CPU; on a GPU it is a quarter of the memory that is free."""


@dataclass(frozen=True)
class GraphSize:
    """What a graph holds for its derivatives, in bytes."""

    total: int
    largest: int  # tensor


def with_graph_size(build: Callable[[], T], constants: Iterable[Tensor]) -> tuple[T, GraphSize]:
    """What `build` returns, and the size of the graphs made on the way, without what they share with `constants`."""
    held = {tensor.untyped_storage().data_ptr(): 0 for tensor in constants}

    def count(tensor: Tensor) -> Tensor:
        if tensor.layout is torch.strided:
            storage = tensor.untyped_storage()
            held.setdefault(storage.data_ptr(), storage.nbytes())
        # Detached, since an operation that saves its own output, with its history, would hold itself for ever. What is
        # unpacked gets the history back from the operation, also for derivatives of higher order.
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        value = build()
    return value, GraphSize(sum(held.values()), max(held.values()))


def samples_that_fit(probe: GraphSize, samples: int, device: torch.device) -> int:
    """The chunk size at which the graph is as large as it may be, when that of `samples` samples is `probe`."""
    kind = "cpu" if device.type == "cpu" else "cuda"
    chunk = samples * CHUNK_BYTES[kind] // max(probe.total, 1)
    tensor = samples * TENSOR_BYTES[kind] // max(probe.largest, 1)
    return max(1, min(chunk, tensor))


def kept_bytes(device: torch.device) -> int:
    """What kept graphs may take; it changes the speed of a product and nothing else."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (free + cached) // 4
    return CPU_KEPT_BYTES
