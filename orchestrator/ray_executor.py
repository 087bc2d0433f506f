"""Trials on Ray, here or on a cluster.

A trial is one streaming generator call on an actor that is used again for the next trial of the same shape
(CPUs, GPUs): a few milliseconds, against seconds for a process each. Where an actor lies is Ray's choice.
Ray's own retries are off, because it repeats crashed work without a sign; the driver counts and repeats.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import (
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    TaskCancelledError,
)

from orchestrator import job, ray_cluster
from orchestrator.checkpoints import CheckpointPlace
from orchestrator.events import (
    Event,
    Failed,
    Finished,
    Started,
    TrialFunction,
    cancelled,
    gpu_count,
    make_importable,
    trial_events,
)
from orchestrator.executors import EngineLost, PlacementError
from orchestrator.faults import POLICIES, Fault
from orchestrator.ray_cluster import Autoscaler
from orchestrator.ray_connection import connect, plain_text, travelled
from orchestrator.room import Shape, fits, shape_of, shortage
from orchestrator.trial_log import TrialLog
from workers.spec import TrialSpec

if TYPE_CHECKING:
    from orchestrator.sweep import Resources, Trial

PATIENCE = 30.0
"""Seconds that a trial waits for its place before idle processes make room and no new ones are begun."""

LOOK = 1.0
"""Seconds for which what the cluster has is taken to be as it was."""

GROWTH = (8, 256)
"""Trials that may wait for nodes which an autoscaler is to add: as many as run, but at least and at most so many. So a
cluster doubles, and a search asks no more ahead than that."""


class Worker:
    """The actor: one process, one trial at a time."""

    def __init__(
        self, data: Path, folder: Path | None, checkpoints: CheckpointPlace | None, sweep: str | None
    ) -> None:
        # relative to where Ray has put what travelled; absolute where this process shares the driver's disk
        self._data, self._folder = data, None if folder is None else Path.cwd() / folder
        self._checkpoints, self._log = checkpoints, TrialLog(sweep)
        make_importable(self._folder)

    @ray.method(num_returns="streaming")
    def run(self, spec: TrialSpec, cpus: float, trial_function: TrialFunction | None) -> Iterator[Event]:
        device = "cuda" if ray.get_gpu_ids() and gpu_count() else "cpu"
        events = trial_events(
            spec,
            data=self._data,
            folder=self._folder,
            device=device,
            cpus=cpus,
            checkpoints=self._checkpoints,
            trial_function=trial_function,
        )
        yield from self._log.told(spec, events)


@dataclass
class Flight:
    """A trial on its way: the process it was given to, and the stream of its events."""

    trial: Trial
    shape: Shape
    actor: Any
    stream: Any
    submitted: float  # time.monotonic()
    placed: bool = False  # on a process that was there
    started: bool = False
    cancelled: bool = False

    @property
    def trial_id(self) -> str:
        return self.trial.spec.trial_id

    @property
    def stuck(self) -> bool:
        """Whether it waits for longer than a process takes to start: there is no place for it now."""
        return self.waits and time.monotonic() - self.submitted > PATIENCE

    @property
    def waits(self) -> bool:
        """Whether it may be without a place."""
        return not (self.started or self.placed or self.cancelled)


class RayExecutor:
    """Runs trials on a Ray of its own on this machine or, with `address`, on a running cluster.

    A trial that waits for a place is given that of one that ends; had it just begun elsewhere, it begins again, and tells
    of that alone.

    `data` and `folder` are those of TrialContext; `~` in `data` is the home on each node. To a cluster travel
    this package and what the trials in `specs` name of the sweep's folder; inside a Ray job they are there
    already. A Ray that this process is connected to already is used and left running. `sweep` is its name in
    the logs of workers. `local` goes to `ray.init` for a Ray of our own.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        data: Path,
        folder: Path | None = None,
        specs: Iterable[TrialSpec] = (),
        checkpoints: CheckpointPlace | None = None,
        trial_function: TrialFunction | None = None,
        sweep: str | None = None,
        **local: Any,
    ) -> None:
        self._owner = not ray.is_initialized()
        if self._owner:
            connect(address, folder, specs, **local)
        self._data, self._checkpoints, self._trial_function = data, checkpoints, trial_function
        self._sweep = sweep
        self._folder = folder.resolve() if folder else None
        if address and self._folder:
            self._folder = travelled(self._folder) if job.inside() else Path()
        self._flights: dict[str, Flight] = {}
        self._idle: dict[Shape, list[Any]] = {}
        self._found: list[Shape] = []
        self._autoscaler: Autoscaler | None = None
        self._looked, self._address = -LOOK, address

    def admit(self, resources: Resources) -> None:
        lacking = shortage(resources, ray_cluster.nodes())
        if (
            lacking and not ray_cluster.autoscaler()
        ):  # one may have such nodes to add; if not it says so later
            raise PlacementError(lacking)

    def has_room(self, resources: Resources) -> bool:
        shape = shape_of(resources)
        if self._idle.get(shape):
            return True
        found = self._nodes()
        if self._autoscaler:
            least, most = GROWTH
            waiting = len(self._waiting())
            ahead = min(most, max(least, len(self._flights) - waiting))
            return fits(found, self._taken(), shape) or waiting < ahead
        return not self._stuck() and fits(found, self._taken(), shape)

    def submit(self, trial: Trial) -> None:
        trial_id, shape = trial.spec.trial_id, shape_of(trial.resources)
        if trial_id in self._flights:
            raise RuntimeError(f"{trial_id} still runs")
        idle = bool(self._idle.get(shape))
        actor = self._idle[shape].pop() if idle else self._new_actor(shape)
        stream, now = self._begin(actor, trial), time.monotonic()
        self._flights[trial_id] = Flight(trial, shape, actor, stream, now, placed=idle)

    def _begin(self, actor: Any, trial: Trial) -> Any:
        return actor.run.remote(trial.spec, trial.resources.cpus, self._trial_function)

    def events(self, timeout: float) -> list[Event]:
        if not self._flights:
            return []
        if self._waiting():
            self._nodes()
        if self._stuck():
            self._refuse_infeasible()
            self._end_idle()
        flights = {id(flight.stream): flight for flight in self._flights.values()}
        streams = [flight.stream for flight in flights.values()]
        ready, _ = ray.wait(streams, num_returns=1, timeout=timeout, fetch_local=True)
        if ready and len(streams) > 1:  # every one that is ready, so that none starves behind a talkative one
            ready, _ = ray.wait(streams, num_returns=len(streams), timeout=0, fetch_local=True)
        found = [(flights[id(stream)], stream) for stream in ready]
        # one event may give the process of its trial to another, whose stream until then says nothing any more
        return [self._event(flight) for flight, stream in found if flight.stream is stream]

    def cancel(self, trial_id: str) -> None:
        flight = self._flights.get(trial_id)
        if flight:
            flight.cancelled = True
            ray.cancel(flight.stream)

    def close(self) -> None:
        for flight in self._flights.values():
            ray.kill(flight.actor)
        self._flights.clear()
        self._end_idle()
        if self._owner:
            ray.shutdown()
            self._owner = False

    def _event(self, flight: Flight) -> Event:
        event, reusable = self._received(flight)
        if isinstance(event, Started):
            flight.started = True
        elif isinstance(event, Finished | Failed):
            del self._flights[flight.trial_id]
            if reusable:
                self._reuse(flight.actor, flight.shape)
            else:
                ray.kill(flight.actor)
        return event

    def _reuse(self, actor: Any, shape: Shape) -> None:
        """A process is free: for the trial that has waited longest for a place, if there is one, or for the next."""
        waiting = next((flight for flight in self._waiting() if flight.shape == shape), None)
        if waiting is None or not (waiting.stuck or self._crowded(shape)):
            self._idle.setdefault(shape, []).append(actor)
            return
        ray.kill(waiting.actor)
        waiting.actor, waiting.stream, waiting.placed = actor, self._begin(actor, waiting.trial), True

    def _crowded(self, shape: Shape) -> bool:
        """Whether there are more trials, one of them of this shape, than the nodes there are have room for."""
        return not fits(self._found, self._taken() - Counter([shape]), shape)

    def _received(self, flight: Flight) -> tuple[Event, bool]:
        """The next event of a stream that has one, and whether its process may be used again."""
        try:
            event: Event = ray.get(next(flight.stream))
        except TaskCancelledError:
            return next(cancelled(flight.trial_id)), flight.started or flight.placed
        except RayTaskError as error:  # the process could not read what it was sent, or the other way round
            cause = type(error.cause).__name__ if error.cause else "RayTaskError"
            return Failed(flight.trial_id, Fault.CODE, cause, plain_text(error)), False
        except (RayError, StopIteration) as error:
            return Failed(
                flight.trial_id, fault_of_death(error), type(error).__name__, plain_text(error)
            ), False
        reusable = not isinstance(event, Failed) or not POLICIES[event.fault].retried
        return event, reusable

    def _new_actor(self, shape: Shape) -> Any:
        for other in list(self._idle):
            while self._idle[other] and not fits(self._nodes(), self._taken() + self._idle_shapes(), shape):
                ray.kill(self._idle[other].pop())
        threads = str(max(1, int(shape.cpus)))
        variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        options: dict[str, Any] = {
            "num_cpus": shape.cpus,
            "num_gpus": shape.gpus,
            "memory": shape.memory or None,
            "max_restarts": 0,
            "max_task_retries": 0,
            "runtime_env": {"env_vars": variables},  # read when the process starts, before torch is imported
        }
        actor = ray.remote(Worker).options(**options)
        return actor.remote(self._data, self._folder, self._checkpoints, self._sweep)

    def _taken(self) -> Counter[Shape]:
        return Counter(flight.shape for flight in self._flights.values())

    def _idle_shapes(self) -> Counter[Shape]:
        return Counter({shape: len(actors) for shape, actors in self._idle.items()})

    def _nodes(self) -> list[Shape]:
        """The nodes that are alive. Raises EngineLost: of a Ray of our own there is one, and no other comes."""
        if time.monotonic() - self._looked > LOOK:
            self._found = ray_cluster.nodes()
            if self._address or not self._owner:
                with suppress(RayError):  # a head that is busy or away: as before
                    self._autoscaler = ray_cluster.autoscaler()
            self._looked = time.monotonic()
        if self._owner and not self._found:
            raise EngineLost("the Ray of this run has died")
        return self._found

    def _waiting(self) -> list[Flight]:
        return [flight for flight in self._flights.values() if flight.waits]

    def _stuck(self) -> bool:
        return any(flight.stuck for flight in self._waiting())

    def _refuse_infeasible(self) -> None:
        """Raise EngineLost for a trial that no node can hold which there is or which an autoscaler may add."""
        if self._autoscaler is None or self._autoscaler.launching:
            return
        for flight in self._waiting():
            lacking = shortage(flight.trial.resources, self._found)
            if lacking and flight.shape in self._autoscaler.infeasible:
                raise EngineLost(f"a trial {lacking}, and the cluster's autoscaler has no larger one to add")

    def _end_idle(self) -> None:
        for actors in self._idle.values():
            for actor in actors:
                ray.kill(actor)
        self._idle.clear()


def check(address: str) -> str:
    """What the cluster at `address` has, in one line. Raises ConnectionError where it does not answer."""
    with closing(RayExecutor(address, data=Path())):
        found = ray_cluster.nodes()
        cpus, gpus = sum(node.cpus for node in found), sum(node.gpus for node in found)
        return f"{len(found)} nodes with {cpus:g} CPUs and {gpus:g} GPUs, Ray {ray.__version__}"


def fault_of_death(error: BaseException) -> Fault:
    """Why a process came to its end: Ray's memory monitor, its machine, or something in itself."""
    text = str(error)
    if isinstance(error, OutOfMemoryError) or "NODE_OUT_OF_MEMORY" in text:
        return Fault.HOST_MEMORY
    lost = (
        isinstance(error, ActorUnavailableError | NodeDiedError | ObjectLostError)
        or "its node has died" in text
    )
    return Fault.NODE if lost else Fault.CRASH
