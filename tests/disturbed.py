"""A sweep that is run by the command on a cluster, while parts of everything are killed."""

import os
import random
import signal
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cluster import Cluster, Node, environment, free_ports
from processes import Command

CHECKPOINT_EVERY = 0.5
"""Seconds; a trial takes a few."""

AT_WORK = 2.0
"""Seconds; a trial whose newest checkpoint is older is not at work."""

SWEEP = """\
name: chaos
description: Optimisers with a memory, and measurements that look back; all of it has to be in a checkpoint.
trial:
  architecture: {{name: mlp, widths: [32, 32]}}
  dataset: digits
  batch_size: 32
  steps: {steps}
cases:
  - {{optimizer: {{name: sgd, momentum: 0.9}}, learning_rate: 0.05}}
  - {{optimizer: adam, learning_rate: 0.003}}
grid: {{seed: {{range: {seeds}}}}}
measure:
  loss: {{every: {every}}}
  hessian_gradient_overlap: {{every: {every}}}
  top_eigenpairs: {{every: {every}, count: 5}}
  gradient_overlap: {{}}
  subspace_overlap: {{since: [{every}]}}
"""


def sweep_file(folder: Path, trials: int, steps: int) -> Path:
    """The file of a sweep of so many trials, half of them with each optimiser, measured 21 times each."""
    file = folder / "chaos.yaml"
    file.write_text(SWEEP.format(seeds=trials // 2, steps=steps, every=steps // 20))
    return file


def command(log: Path, verb: str, *words: str) -> Command:
    """`tiny-subspace`, with its output in `log`."""
    main = "from orchestrator.cli import main; main()"
    return Command(log, "-c", main, verb, *words, environment=environment())


def driver(file: Path, results: Path, address: str, tracking: str = "none") -> Command:
    options = {"results": results, "address": address, "tracking-uri": tracking}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    every = ["--checkpoint-every", str(CHECKPOINT_EVERY)]
    return command(results.with_suffix(".log"), "run", str(file), *words, *every)


@contextmanager
def tracking_server(store: Path) -> Iterator[tuple[Command, str]]:
    """MLflow's server on a SQLite file, and its address."""
    (port,) = free_ports(1)
    words = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{store}"]
    words += ["--artifacts-destination", str(store.parent / "artifacts")]
    lean = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = Command(store.with_suffix(".log"), *words, environment=environment() | lean)
    try:
        while server.exit_code(wait=0.1) is None and "startup complete" not in server.output():
            pass
        yield server, f"http://127.0.0.1:{port}"
    finally:
        server.kill()


@dataclass(frozen=True)
class Kill:
    """One thing killed, and what that cost."""

    fault: str
    interrupted: int  # trials that it ended
    lost: float  # seconds of work that was in no checkpoint, on average of these trials
    recovery: float  # seconds until as many trials ran again, or the sweep had ended


class Round:
    """The sweep, disturbed until `faults` are used up, and then in peace until it has ended."""

    def __init__(
        self,
        file: Path,
        results: Path,
        cluster: Cluster,
        faults: Sequence[str] = (),
        rng: random.Random | None = None,
        pauses: tuple[float, float] = (0.0, 0.0),
        server: Command | None = None,
        tracking: str = "none",
    ) -> None:
        self._results, self._cluster, self._faults = results, cluster, list(faults)
        self._rng, self._pauses, self._server = rng or random.Random(), pauses, server
        self._driver = driver(file, results, cluster.address, tracking)
        self._committed: set[tuple[str, int]] = set()
        self.kills: list[Kill] = []

    def run(self, seconds: float = 900) -> list[Kill]:
        """What was killed. RuntimeError where the sweep does not end well in time, or a finished trial ran again."""
        end = time.monotonic() + seconds
        try:
            while self._driver.exit_code(wait=0.05) is None and time.monotonic() < end:
                if self._faults and self._exposed(self._faults[0]):
                    self._driver.exit_code(wait=self._rng.uniform(*self._pauses))
                    if self._exposed(self._faults[0]) and self._disturb(self._faults[0]):
                        self._faults.pop(0)
            code = self._driver.exit_code()
        finally:
            self._driver.kill()
        if code != 0:
            raise RuntimeError(f"the driver ended with {code}:\n{self._driver.output()[-4000:]}")
        if twice := self._committed - self._finished():
            raise RuntimeError(f"{len(twice)} trials were run again after they had finished")
        return self.kills

    def _exposed(self, fault: str) -> bool:
        """Whether trials are at work, so that the fault can hit one: processes that only start do not count."""
        if self._driver.exit_code() is not None or not self._unsaved():
            return False
        if fault == "node":
            return any(node.worker_pids() for node in self._cluster.nodes)
        if fault in ("driver", "head"):  # there must be something that a new driver could do a second time
            return bool(self._running() and self._finished())
        return bool(self._running())

    def _disturb(self, fault: str) -> bool:
        """Whether the fault has hit a trial, which may have ended since it was looked at; of a server, that it is dead."""
        running, unsaved, begun = len(self._running()), self._unsaved(), time.monotonic()
        self._committed |= self._finished()
        hit = getattr(self, f"_kill_{fault}")()
        if not hit and fault != "server":
            return False
        while self._driver.exit_code() is None and time.monotonic() < begun + 120:
            if len(self._running() - hit) >= running:
                break
            time.sleep(0.02)
        lost = statistics.mean(unsaved) if hit and unsaved else 0.0
        self.kills.append(Kill(fault, len(hit), lost, time.monotonic() - begun))
        return True

    def _kill_worker(self) -> set[int]:
        running = sorted(self._running())
        hit = set(self._rng.sample(running, min(1, len(running))))
        for pid in hit:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return hit

    def _kill_node(self) -> set[int]:
        at_work = [(node, pids) for node in self._cluster.nodes if (pids := node.worker_pids())]
        if not at_work:
            return set()
        node, hit = self._rng.choice(at_work)
        self._cluster.remove(node)
        self._cluster.add(node.name)
        return set(hit)

    def _kill_driver(self) -> set[int]:
        hit = self._running()  # Ray ends what a driver leaves behind
        self._driver.kill()
        self._driver.start()
        return hit

    def _kill_server(self) -> set[int]:
        assert self._server
        self._server.kill()
        self._server.start()
        return set()

    def _kill_head(self) -> set[int]:
        hit, names = self._running(), [node.name for node in self._cluster.nodes]
        self._cluster.stop()
        self._driver.kill()  # it ran on the head
        self._cluster.start()
        for node in [self._cluster.add(name) for name in names]:
            node.wait()  # a cluster without nodes refuses the trials
        self._driver.start()
        return hit

    def _running(self) -> set[int]:
        """The processes that run a trial."""
        nodes: list[Node] = [*self._cluster.nodes, self._cluster.head]
        return {pid for node in nodes for pid in node.worker_pids()}

    def _finished(self) -> set[tuple[str, int]]:
        """Finished trials, each with the moment at which it was committed: another moment is a second time."""
        files = [
            file for file in (self._results / "trials").glob("*.parquet") if not file.name.startswith("0-")
        ]
        return {(file.name, file.stat().st_mtime_ns) for file in files}

    def _unsaved(self) -> list[float]:
        """Of each trial at work, the seconds since its newest checkpoint."""
        newest: dict[str, float] = {}
        for file in (self._results / "checkpoints").glob("*.ckpt"):
            with suppress(FileNotFoundError):  # one that has just been replaced
                trial_id, saved = file.name.partition("-")[0], file.stat().st_mtime
                newest[trial_id] = max(newest.get(trial_id, 0.0), saved)
        ages = [time.time() - saved for saved in newest.values()]
        return [age for age in ages if age < AT_WORK]
