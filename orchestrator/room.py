"""How many trials a cluster has room for; which node takes one is Ray's affair. Imports no ray."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from orchestrator.sweep import Resources

FINEST = 1e4
"""Ray counts in ten-thousandths of a CPU or GPU."""


class Shape(NamedTuple):
    """What a trial asks for, or what a node has."""

    gpus: float
    cpus: float
    memory: float = 0.0  # bytes

    def __str__(self) -> str:
        """
        >>> str(Shape(2, 1)), str(Shape(0, 0.5, 3 * 2**30))
        ('1 CPU and 2 GPUs', '0.5 CPU and 3 GiB')
        """
        parts = [_count(self.cpus, "CPU")] + [_count(self.gpus, "GPU")] * bool(self.gpus)
        return " and ".join(parts + [f"{self.memory / 2**30:.4g} GiB"] * bool(self.memory))

    def within(self, other: Shape) -> bool:
        return all(mine <= theirs + 1e-6 for mine, theirs in zip(self, other, strict=True))


def shape_of(resources: Resources) -> Shape:
    """Rounded down to what Ray counts in, so that three thirds make one."""
    cpus, gpus = (math.floor(share * FINEST + 1e-6) / FINEST for share in (resources.cpus, resources.gpus))
    return Shape(gpus, cpus, float(math.floor(resources.memory_gib * 2**30)))


def shortage(resources: Resources, nodes: Sequence[Shape]) -> str | None:
    """What no node has enough of; None where some node has enough.

    >>> from types import SimpleNamespace
    >>> nodes = [Shape(gpus=1, cpus=8, memory=2**34), Shape(gpus=0, cpus=16, memory=2**35)]
    >>> shortage(SimpleNamespace(cpus=1, gpus=2, memory_gib=0), nodes)
    'needs 2 GPUs, the largest node has 1'
    >>> shortage(SimpleNamespace(cpus=16, gpus=1, memory_gib=0), nodes)
    'needs 16 CPUs and 1 GPU, and no node has all of that'
    >>> shortage(SimpleNamespace(cpus=1, gpus=0, memory_gib=40), nodes)
    'needs 40 GiB of memory, the largest node has 32'
    """
    wanted = shape_of(resources)
    if any(wanted.within(node) for node in nodes):
        return None
    if not nodes:
        return "there is no node"
    for index, words in enumerate((_count(wanted.gpus, "GPU"), _count(wanted.cpus, "CPU"))):
        largest = max(node[index] for node in nodes)
        if wanted[index] > largest:
            return f"needs {words}, the largest node has {largest:g}"
    largest = max(node.memory for node in nodes) / 2**30
    if resources.memory_gib > largest:
        return f"needs {resources.memory_gib:g} GiB of memory, the largest node has {largest:.3g}"
    return f"needs {wanted}, and no node has all of that"


def fits(nodes: Sequence[Shape], taken: Counter[Shape], shape: Shape) -> bool:
    """Whether the nodes have room for one more beside those that run, the largest placed first and where it is tightest.

    >>> nodes = [Shape(0, 2), Shape(1, 1)]
    >>> fits(nodes, Counter({Shape(0, 1): 1, Shape(1, 1): 1}), Shape(0, 1))
    True
    >>> fits(nodes, Counter({Shape(0, 1): 2, Shape(1, 1): 1}), Shape(0, 1))
    False
    >>> fits([Shape(0, 5), Shape(0, 4)], Counter({Shape(0, 4): 1, Shape(0, 3): 1}), Shape(0, 2))
    True
    >>> fits([Shape(0, 4)] * 3, Counter({Shape(0, 3): 3}), Shape(0, 3))  # three are left, one on each
    False
    """
    left = [list(node) for node in nodes]
    for each, count in sorted((taken + Counter([shape])).items(), reverse=True):
        for node in sorted(left):
            here = min(
                [count, *(int(has / wants + 1e-6) for has, wants in zip(node, each, strict=True) if wants)]
            )
            for index, wants in enumerate(each):
                node[index] -= here * wants
            count -= here
        if count > 0:
            return False
    return True


def _count(number: float, unit: str) -> str:
    return f"{number:g} {unit}{'' if number <= 1 else 's'}"
