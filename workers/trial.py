"""One trial, from top to bottom: build, train, measure, and hand out rows as they come."""

import platform
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from workers import find, seeding
from workers.checkpoint import Account, Checkpoints, Saver
from workers.data import load_data
from workers.initialization import model_of
from workers.losses import LOSSES
from workers.measurements import schedule_of
from workers.observer import Observer
from workers.optimizers import SeesCurvature
from workers.result import Moment, Reached, Row, TrialResult, TrialStatus, as_row
from workers.snapshot import Snapshot
from workers.spec import Request, TrialSpec
from workers.training import Diverged, Training

TELL_EVERY = 1.0
"""Seconds between two words of where the trial is, while nothing is measured."""


@dataclass(frozen=True)
class TrialContext:
    """Where a trial runs: nothing in here may change one of its numbers beyond rounding."""

    data: Path  # where data sets lie
    folder: Path | None = None  # the sweep file's: the user's own modules and arrays lie there
    device: str = "cpu"  # or cuda
    checkpoints: Checkpoints | None = None  # where to save, if anywhere


def run_trial(spec: TrialSpec, context: TrialContext) -> Generator[Row | Reached | TrialResult, None, None]:
    """Yield one row for each step at which something is measured, and last the result; between them where it is.

    Row t describes θ_t, before step t is made: step 0 is the initialisation, and after the last step comes one more
    moment. A measurement sees a copy of the model, so training is the same to the bit whatever is measured. A trial
    that was stopped yields what it told before once more and goes on, the same to the bit, from its checkpoint;
    closing the generator saves one.

    Raises SpecError for what the spec makes impossible, DataError for absent data, OSError for checkpoints that are
    there and cannot be read; a loss that stops being finite is a result, with the status `diverged`.
    """
    saver = Saver(context.checkpoints, spec, context.device)
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
    if isinstance(training.optimizer, SeesCurvature):
        # through an observer of its own: what is measured must not change what is trained
        training.optimizer.see(partial(look, training, Observer(spec, data, model, loss)))
    measurements = [
        (request, partial(find.function("measurements", name), **request.options))
        for name, request in in_order(spec.measure)
    ]
    account, result = saver.restore(training, observer)
    yield from account.rows
    yield from noted(saver, account)
    if data.note:
        yield Reached(account.position, data.note)
    if result:
        yield result
        return
    status, steps_done = TrialStatus.COMPLETED, training.last
    told = time.perf_counter()
    try:
        for step in range(account.position, training.last + 1):
            due = [measure for request, measure in measurements if request.due(step, training.last)]
            row = measured(due, training, observer, account) if due else None
            if row is None and step < training.last:
                training.advance()
            account.position = step + 1
            if row is not None:
                account.rows.append(row)
                yield row
            if saver.due(after_row=bool(due)):
                saver.save(training, observer, account)
                yield from noted(saver, account)
            if time.perf_counter() - told >= TELL_EVERY:
                yield Reached(account.position)
                told = time.perf_counter()
        training.check()
    except Diverged as diverged:
        status, steps_done = TrialStatus.DIVERGED, diverged.step
    except GeneratorExit:  # stopped from outside: what has been done is not lost
        with suppress(Exception):  # diverged, or a GPU that does not answer: there is the checkpoint before
            saver.save(training, observer, account)
        raise
    result = TrialResult(
        status=status,
        steps_done=steps_done,
        parameters=observer.parameters,
        classes=data.outputs,
        seconds=saver.seconds(account),
        seconds_measuring=account.seconds_measuring,
        hessian_products=account.hessian_products,
        host=platform.node(),
        device=torch.cuda.get_device_name() if context.device != "cpu" else "cpu",
        started_at=account.started_at,
        finished_at=datetime.now(UTC),
        torch_version=str(torch.__version__),  # a plain str: its own class needs torch to be unpickled
    )
    if saver.due(after_row=True):
        saver.save(training, observer, account, result)
    yield result


def measured(
    due: Sequence[Callable[[Snapshot], Any]], training: Training, observer: Observer, account: Account
) -> Row:
    """The row of this step, whose optimiser step is made on the way."""
    step, epoch = training.step, training.epoch
    snapshot, batch_loss = observe(training, observer)
    begun = time.perf_counter()
    devices = [training.data.x_train.device] if training.data.x_train.is_cuda else []
    with torch.random.fork_rng(devices=devices):
        records = [measure(snapshot) for measure in due]
    moment = Moment(
        step=step,
        epoch=epoch,
        batch_loss=batch_loss,
        gradient_norm=snapshot.gradient_norm,
        hessian_products=snapshot.hessian_products,
    )
    account.seconds_measuring += time.perf_counter() - begun
    account.hessian_products += snapshot.hessian_products
    return as_row([moment, *records])


def noted(saver: Saver, account: Account) -> Iterator[Reached]:
    """What there is to say about checkpoints."""
    for note in saver.notes():
        yield Reached(account.position, note)


def observe(training: Training, observer: Observer) -> tuple[Snapshot, float | None]:
    """The snapshot at θ_t and the loss of the mini-batch of step t, which is made on the way, if there is one left."""
    observer.load(training.model)
    step = training.step
    if step == training.last:
        training.check()
        return Snapshot(observer, step=step, optimizer=training.optimizer), None
    before = training.weights()
    batch_loss, batch_gradient = training.advance(keep_gradient=True), training.gradient
    training.check()
    snapshot = Snapshot(
        observer,
        step=step,
        batch_gradient=batch_gradient,
        update=training.weights() - before,
        optimizer=training.optimizer,
    )
    return snapshot, float(batch_loss)


def look(training: Training, observer: Observer) -> Snapshot:
    """What an optimiser sees within its step: θ_t, which its gradients belong to.

    Population statistics of a batch norm have seen the step's batch already.
    """
    training.check()  # an earlier loss may say better when the trial diverged
    observer.load(training.model)
    return Snapshot(observer, step=training.step)


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
