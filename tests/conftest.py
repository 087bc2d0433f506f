"""What all tests share: one thread for each process, no network, one Ray."""

import logging
import os
from collections.abc import Iterator

import pytest
from cluster import Cluster, environment
from hypothesis import settings
from processes import wait_until

# the same examples on every machine, however busy it is
settings.register_profile("suite", derandomize=True, deadline=None)
settings.load_profile("suite")

os.environ |= environment()  # before torch and Ray are imported: two threads on a busy machine are far slower

collect_ignore = ["benchmarks"]  # commands, not modules with doctests; test_benchmarks.py runs them


@pytest.fixture(scope="session")
def local_ray() -> Iterator[Cluster]:
    """A Ray of this test run's own, with two CPUs and two GPUs that it only believes in; we are connected to it.
    It takes jobs at `jobs_address`.

    A test run starts no other, but for the stack of test_stack.py. For tests that add nodes there is `cluster`.
    """
    import ray

    with Cluster(cpus=2, gpus=2, dashboard=True) as cluster:
        ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
        yield cluster
        ray.shutdown()


@pytest.fixture
def cluster(local_ray: Cluster) -> Iterator[Cluster]:
    """`local_ray`, and what a test adds to it is gone afterwards."""
    from orchestrator.ray_cluster import nodes

    yield local_ray
    for node in list(local_ray.nodes):
        local_ray.remove(node)
    wait_until(lambda: len(nodes()) == 1)
