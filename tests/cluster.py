"""A Ray cluster of processes on this machine, whose nodes can be added, killed, frozen and thawed.

    with Cluster(cpus=1) as cluster:
        node = cluster.add("b").wait()
        ...                     # ray.init(address=cluster.address), or `tiny-subspace run --address`
        node.kill()

Each node is a session of processes with a loopback address of its own. One that no longer answers is declared
dead within a few seconds, where Ray by itself takes a minute.
"""

import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from processes import Command

NODE = "TEST_NODE"
"""The environment variable that tells a process the name of its node."""

HEALTH = {
    "health_check_initial_delay_ms": 2000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 4,
}
"""A node is dead after four seconds or so without an answer; less, and a busy machine's nodes die by themselves."""

METRICS = {"metrics_report_interval_ms": 1000}
"""What processes count is with their node's exporter within a second, instead of ten."""

CALM = {"memory_monitor_refresh_ms": 0}
"""Ray kills no worker where something else fills this machine's memory."""

HEAD = "127.0.0.2"

OBJECT_STORE = 100 * 2**20
"""Bytes of shared memory of a node: rows are small."""


def environment() -> dict[str, str]:
    """That of this process, with a token that its children share: a node listens on every network.

    `python` is this Python, as where its virtual environment is active.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}


class Node(Command):
    """The command `ray start`, what it has started, and the workers that run for drivers."""

    def __init__(self, name: str, log: Path, *options: str) -> None:
        self.name = name
        words = ["-m", "ray.scripts.scripts", "start", "--block", "--log-color=false", *options]
        words += ["--include-log-monitor=false", f"--object-store-memory={OBJECT_STORE}"]
        super().__init__(log, *words, environment=environment() | {NODE: name})

    def wait(self, seconds: float = 120) -> Self:
        """Return when the node is up, which takes five seconds and on a busy machine thirty; RuntimeError where it does
        not come up.
        """
        end = time.monotonic() + seconds
        while "Ray runtime started" not in self.output():
            if time.monotonic() > end or self.exit_code() is not None:
                raise RuntimeError(f"node {self.name} does not start:\n{self.output()}")
            time.sleep(0.05)
        return self

    def worker_pids(self) -> list[int]:
        """The processes that run a trial now: Ray gives them the name of the method."""
        return [pid for pid, title in self.processes() if title.startswith("ray::Worker.run")]


class Cluster:
    """A head, and nodes that come and go. CPUs and GPUs are what Ray believes; jobs can be submitted to a dashboard."""

    def __init__(self, cpus: int = 1, gpus: int = 0, dashboard: bool = False) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets lie there: a short name
        self._resources = [f"--num-cpus={cpus}", f"--num-gpus={gpus}"]
        self._dashboard = dashboard
        self._port, self._client_port, self._dashboard_port = free_ports(3)
        self._started = 0
        self.address = f"{HEAD}:{self._port}"
        self.jobs_address = f"http://127.0.0.1:{self._dashboard_port}"  # where the head has a dashboard
        self.nodes: list[Node] = []
        self.start()

    def add(self, name: str, cpus: int = 1, gpus: int = 0) -> Node:
        """A node more. Returns at once; `wait` returns when it is up."""
        options = [f"--address={self.address}", f"--num-cpus={cpus}", f"--num-gpus={gpus}"]
        node = self._start(name, *options)
        self.nodes.append(node)
        return node

    def remove(self, node: Node) -> None:
        """Kill a node and forget it."""
        self.nodes.remove(node)
        node.kill()

    def logs(self, pattern: str) -> str:
        """What the head's processes have written to such files of Ray's logs."""
        return "".join(file.read_text() for file in self._folder.glob(f"*/session_latest/logs/{pattern}"))

    def stop(self) -> None:
        """Kill everything. `start` brings a fresh head at the same address."""
        for node in [*self.nodes, self.head]:
            node.kill()
        self.nodes.clear()

    def start(self) -> None:
        """Start the head and wait for it."""
        options = ["--head", f"--port={self._port}", f"--ray-client-server-port={self._client_port}"]
        options += [f"--include-dashboard={str(self._dashboard).lower()}", *self._resources]
        options += [f"--dashboard-port={self._dashboard_port}"] if self._dashboard else []
        self.head = self._start("head", *options, f"--system-config={json.dumps(HEALTH | METRICS | CALM)}")
        try:
            self.head.wait()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, name: str, *options: str) -> Node:
        self._started += 1
        # an address for each, as on a network; the name 127.0.0.1 would be replaced by that of the network
        address = HEAD if name == "head" else f"127.0.0.{self._started % 250 + 3}"
        # and a folder for each, where what travels is unpacked: a new node begins by deleting what lies there
        folder = self._folder / str(self._started)
        folder.mkdir()
        where = [f"--node-ip-address={address}", f"--temp-dir={folder}"]
        # a head takes jobs through this one; its usual port is one for the whole machine
        where += [f"--dashboard-agent-listen-port={free_ports(1)[0]}"]
        return Node(name, folder / "log", *where, *options)


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens at, all different, for programs that take seconds to begin to.

    Below 32768, where Linux begins with those that it hands out to whoever asks for any, and above those of Ray's workers.
    """
    with ExitStack() as stack:
        held: list[socket.socket] = []
        while len(held) < count:
            port = 20_000 + secrets.randbelow(12_768)
            with suppress(OSError):  # taken, at whatever address
                held.append(stack.enter_context(socket.create_server(("", port))))
        return [one.getsockname()[1] for one in held]
