"""Random streams: one seed, many independent streams, each named by what it is for."""

import hashlib

import torch


def stream_seed(seed: int, stream: str) -> int:
    """A 63-bit seed for the stream of that name, so that drawing from one stream never moves another.

    >>> stream_seed(0, "batches") != stream_seed(0, "probes")
    True
    """
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, stream: str) -> torch.Generator:
    """A CPU generator at the start of the stream: the same numbers whatever device a trial runs on."""
    return torch.Generator().manual_seed(stream_seed(seed, stream))
