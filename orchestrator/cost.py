"""About what a trial takes: steps, Hessian products, epochs' worth of time. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.sweep_measure import count_due
from workers import find
from workers.measurements import schedule_of
from workers.spec import Component, Request, TrialSpec, last_step, samples_per_step

if TYPE_CHECKING:
    from orchestrator.sweep_checks import Facts

PRODUCT_GRADIENTS = 2
"""A Hessian-vector product takes about as long as so many gradients of the same samples."""


@dataclass(frozen=True)
class Cost:
    """What trials take. None where it depends on data whose size is not known."""

    steps: int | None
    measured_steps: int | None
    hessian_products: int | None  # an estimate; measurements of the user's own are not counted
    training_epochs: float | None
    measuring_epochs: float | None  # the time that the products take, in epochs of training
    sample_gradients: float | None  # both together, in gradients of one sample


UNKNOWN = Cost(None, None, None, None, None, None)


class Costs:
    """Estimates costs, once for all trials that differ only in what costs nothing."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._known: dict[tuple[Any, ...], Cost] = {}

    def of(self, spec: TrialSpec) -> Cost:
        key = (
            *(id(component) for component in (spec.dataset, spec.optimizer)),
            *(spec.steps, spec.epochs, spec.batch_size, spec.measurement_samples),
        )
        if key not in self._known:  # `measure` is the same in all trials of a sweep
            self._known[key] = self._estimate(spec)
        return self._known[key]

    def _estimate(self, spec: TrialSpec) -> Cost:
        data = self.facts(spec.dataset)
        last = last_step(spec.steps, spec.epochs, spec.batch_size, data.train_samples)
        if last is None:
            return UNKNOWN
        measured = count_due([schedule_of(spec.measure, name) for name in spec.measure], last)
        products = None
        if data.outputs is not None:
            products = hessian_products(spec.measure, data.outputs, last)
            products += optimizer_products(spec.optimizer, data.outputs, last)
        if products is None or data.train_samples is None:
            return Cost(last, measured, products, None, None, None)
        share = (spec.measurement_samples or data.train_samples) / data.train_samples
        batch = min(samples_per_step(spec.batch_size, data.train_samples), data.train_samples)
        training = last * batch / data.train_samples
        measuring = PRODUCT_GRADIENTS * products * share
        gradients = round((training + measuring) * data.train_samples)
        return Cost(last, measured, products, round(training, 3), round(measuring, 3), gradients)


def hessian_products(measure: Mapping[str, Request], classes: int, last: int) -> int:
    """About how many Hessian-vector products a trial of `last` steps spends on its measurements.

    >>> hessian_products({"hessian_gradient_overlap": Request(every=50)}, classes=10, last=100)
    3
    """
    followed = {name: find.constant("measurements", name, "FOLLOWS") for name in measure}
    total = 0
    for name in [*measure, *(set(followed.values()) - measure.keys() - {None})]:
        if "." in name:
            continue
        # a follower at steps of its own has there computed what it follows
        asking = [other for other in measure if name in (other, followed[other])]
        options = measure[name].options if name in measure else {}
        each = find.module("measurements", name).products(classes, **options)
        total += each * count_due([schedule_of(measure, other) for other in asking], last)
    return total


def optimizer_products(optimizer: Component, classes: int, last: int) -> int:
    """About how many Hessian-vector products the optimiser itself spends on `last` steps, at most.

    >>> optimizer_products(Component("sgd"), classes=10, last=100)
    0
    """
    if "." in optimizer.name or not find.constant("optimizers", optimizer.name, "LOOKS"):
        return 0
    products: int = find.module("optimizers", optimizer.name).products(classes, last, **optimizer.options)
    return products
