"""What all tests share: one thread for each process, no network, one local Ray."""

import os
import tempfile
from collections.abc import Iterator

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: two threads on a busy machine are far slower
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

collect_ignore = ["benchmarks"]  # commands, not modules with doctests; test_benchmarks.py runs them


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray of this test run's own, with two CPUs and two GPUs that it only believes in."""
    import ray

    from orchestrator.ray_executor import connect

    # not tmp_path: Ray makes sockets there, whose names must be short
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        connect(None, num_cpus=2, num_gpus=2, _temp_dir=folder)
        yield
        ray.shutdown()
