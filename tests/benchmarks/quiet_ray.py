"""A Ray for benchmarks that prints nothing."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_ray(address: str | None, slots: int) -> Iterator[None]:
    """A quiet Ray with so many CPUs, of our own where there is no address."""
    os.environ |= {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    import ray

    local: dict[str, Any] = {"num_cpus": slots, "include_dashboard": False, "object_store_memory": 2**28}
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    ray.init(address=address or "local", **quiet, **({} if address else local))
    try:
        yield
    finally:
        ray.shutdown()
