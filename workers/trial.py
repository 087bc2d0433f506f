"""One trial, from top to bottom: build, train, measure, and hand out rows as they come."""

import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from workers import find, seeding
from workers.data import load_data
from workers.initialization import model_of
from workers.losses import LOSSES
from workers.measurements import schedule_of
from workers.result import Moment, Row, TrialResult, TrialStatus, as_row
from workers.snapshot import Observer, Snapshot
from workers.spec import Request, TrialSpec
from workers.training import Diverged, Training


@dataclass(frozen=True)
class TrialContext:
    """Where a trial runs: nothing in here may change one of its numbers beyond rounding."""

    data: Path  # where data sets lie
    folder: Path | None = None  # the sweep file's: the user's own modules and arrays lie there
    device: str = "cpu"  # or cuda


def run_trial(spec: TrialSpec, context: TrialContext) -> Iterator[Row | TrialResult]:
    """Yield one row for each step at which something is measured, and last the result.

    Row t describes θ_t, before step t is made: step 0 is the initialisation, and after the last step comes one more
    moment. A measurement sees a copy of the model, so training is the same to the bit whatever is measured.

    Raises SpecError for what the spec makes impossible and DataError for absent data; a loss that stops being
    finite is a result, with the status `diverged`.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    fix_numerics()
    data = load_data(
        spec.dataset,
        folder=context.data,
        search=context.folder,
        loss=spec.loss,
        precision=spec.precision,
        device=context.device,
    )
    model = model_of(spec, data, context.device)
    torch.manual_seed(seeding.stream_seed(spec.seed, "dropout"))
    loss = LOSSES[spec.loss]
    training = Training(spec, data, model, loss)
    observer = Observer(spec, data, model, loss)
    measurements = [
        (request, partial(find.function("measurements", name), **request.options))
        for name, request in in_order(spec.measure)
    ]
    status, steps_done, measuring, products = TrialStatus.COMPLETED, training.last, 0.0, 0
    try:
        for step in range(training.last + 1):
            due = [measure for request, measure in measurements if request.due(step, training.last)]
            if not due:
                if step < training.last:
                    training.advance()
                continue
            epoch = training.epoch
            snapshot, batch_loss = observe(training, observer)
            begun = time.perf_counter()
            with torch.random.fork_rng(devices=[context.device] if context.device != "cpu" else []):
                records = [measure(snapshot) for measure in due]
            moment = Moment(
                step=step,
                epoch=epoch,
                batch_loss=batch_loss,
                gradient_norm=snapshot.gradient_norm,
                hessian_products=snapshot.hessian_products,
            )
            measuring += time.perf_counter() - begun
            products += snapshot.hessian_products
            yield as_row([moment, *records])
        training.check()
    except Diverged as diverged:
        status, steps_done = TrialStatus.DIVERGED, diverged.step
    yield TrialResult(
        status=status,
        steps_done=steps_done,
        parameters=observer.parameters,
        classes=data.outputs,
        seconds=time.perf_counter() - clock,
        seconds_measuring=measuring,
        hessian_products=products,
        host=platform.node(),
        device=torch.cuda.get_device_name() if context.device != "cpu" else "cpu",
        started_at=started,
        finished_at=datetime.now(UTC),
        torch_version=str(torch.__version__),  # a plain str: its own class needs torch to be unpickled
    )


def observe(training: Training, observer: Observer) -> tuple[Snapshot, float | None]:
    """The snapshot at θ_t and the loss of the mini-batch of step t, which is made on the way, if there is one left."""
    observer.load(training.model)
    step = training.step
    if step == training.last:
        training.check()
        return Snapshot(observer, step=step), None
    before = training.weights()
    batch_loss, batch_gradient = training.advance(keep_gradient=True), training.gradient
    training.check()
    snapshot = Snapshot(
        observer,
        step=step,
        batch_gradient=batch_gradient,
        update=training.weights() - before,
    )
    return snapshot, float(batch_loss)


def in_order(measure: Mapping[str, Request]) -> list[tuple[str, Request]]:
    """The requests with those that lead first and every follower behind what it follows, at its steps unless it has own.

    >>> [name for name, _ in in_order({"gradient_overlap": Request(), "top_eigenpairs": Request(every=5)})]
    ['top_eigenpairs', 'gradient_overlap']
    """

    def place(name: str) -> tuple[bool, bool]:
        follows = find.constant("measurements", name, "FOLLOWS") in measure
        return follows, not find.constant("measurements", name, "LEADS")

    return [
        (name, replace(schedule_of(measure, name), options=measure[name].options))
        for name in sorted(measure, key=place)
    ]


def fix_numerics() -> None:
    """Full float32 everywhere and the same kernels in every run: no TF32, no autotuned convolutions."""
    cuda, cudnn = (cast(Any, getattr(torch.backends, name)) for name in ("cuda", "cudnn"))
    for backend in (cuda.matmul, cudnn.conv, cudnn.rnn):
        backend.fp32_precision = "ieee"
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
