"""What one trial is: every parameter that can change one of its numbers, and the name that follows from them."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

SCIENCE_VERSION = 1
"""Raised by hand when the same spec would give other numbers; every trial_id changes with it."""


class SpecError(ValueError):
    """A trial that its own parameters make impossible: running it again cannot help."""


@dataclass(frozen=True)
class Component:
    """An architecture, data set or optimiser: a name and the options given to it.

    >>> Component("mlp", {"widths": [200, 200]}).options
    {'widths': [200, 200]}
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """When one measurement is made, and with which options.

    With neither `every` nor `at` it is made at the steps 0, 1, 2, 5, 10, 20, 50, … and the last, or, for a
    measurement that follows another, whenever that one is. `every` adds the last step to its multiples.

    >>> request = Request(every=50)
    >>> [step for step in range(121) if request.due(step, last=120)]
    [0, 50, 100, 120]
    >>> [step for step in range(121) if Request().due(step, last=120)]
    [0, 1, 2, 5, 10, 20, 50, 100, 120]
    """

    every: Annotated[int, Ge(1)] | None = None
    at: tuple[Annotated[int, Ge(0)], ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scheduled(self) -> bool:
        """Whether the request itself says when."""
        return self.every is not None or self.at is not None

    def due(self, step: int, last: int) -> bool:
        if self.at is not None:
            return step in self.at
        if self.every is not None:
            return step % self.every == 0 or step == last
        return step in (0, last) or str(step).rstrip("0") in ("1", "2", "5")


DEFAULT_MEASURE: Mapping[str, Request] = {
    "loss": Request(),
    "hessian_gradient_overlap": Request(),
    "top_eigenpairs": Request(),
    "gradient_overlap": Request(),
}


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """One training run and what is measured on it. Frozen, and hashed by value into `trial_id`.

    The definitions of the quantities are those of Gur-Ari, Roberts, Dyer (arXiv:1812.04754).

    >>> spec = TrialSpec(architecture=Component("mlp"), dataset=Component("mnist5k"), steps=100)
    >>> spec.trial_id == TrialSpec(architecture=Component("mlp"), dataset=Component("mnist5k"), steps=100, seed=0).trial_id
    True
    """

    architecture: Component
    dataset: Component
    optimizer: Component = Component("sgd")
    learning_rate: Annotated[float, Gt(0)] = 0.1
    batch_size: Annotated[int, Ge(1)] | Literal["full"] = 64  # full: every training sample in every step
    steps: Annotated[int, Ge(0)] | None = None
    epochs: Annotated[int, Ge(1)] | None = None
    seed: Annotated[int, Ge(0)] = 0
    loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    precision: Literal["float32", "float64"] = "float32"
    initialization: Literal["glorot", "torch", "zeros"] = "glorot"
    measurement_samples: Annotated[int, Ge(1)] | None = None
    batch_norm: Literal["eval", "train"] = "eval"
    loss_bound: Annotated[float, Gt(0)] | None = (
        None  # a mini-batch loss above it is a divergence, as nan and inf are
    )
    measure: Mapping[str, Request] = field(default_factory=lambda: dict(DEFAULT_MEASURE))

    @cached_property
    def trial_id(self) -> str:
        """16 hexadecimal digits of SHA-256 over the fields that differ from their defaults and SCIENCE_VERSION."""
        identity = {"science_version": SCIENCE_VERSION, **self.changed()}
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def changed(self) -> dict[str, Any]:
        """The fields that differ from their defaults, as plain JSON values."""
        defaults = TrialSpec(architecture=Component(""), dataset=Component(""))
        return {
            f.name: plain(getattr(self, f.name))
            for f in fields(self)
            if getattr(self, f.name) != getattr(defaults, f.name)
        }

    def columns(self) -> dict[str, Any]:
        """The spec as one table row: a component becomes its name, with its options as JSON beside it.

        A full batch is null, as is every number that stands for the whole training set.
        """
        row: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Component):
                row[f.name] = value.name
                row[f"{f.name}_options"] = json.dumps(plain(value.options), sort_keys=True)
            else:
                row[f.name] = json.dumps(plain(value), sort_keys=True) if f.name == "measure" else value
        return row | {"batch_size": None if self.batch_size == "full" else self.batch_size}


def plain(value: Any) -> Any:
    """`value` with components and requests as JSON mappings, in the shortest form that says the same.

    >>> plain(Component("sgd", {"momentum": 0.9})), plain(Component("sgd"))
    ({'name': 'sgd', 'momentum': 0.9}, 'sgd')
    >>> plain(Request(at=(0, 5), options={"count": 20}))
    {'at': [0, 5], 'count': 20}
    """
    if isinstance(value, Component):
        return {"name": value.name, **plain(value.options)} if value.options else value.name
    if isinstance(value, Request):
        schedule = {"every": value.every, "at": value.at}
        return plain({k: v for k, v in schedule.items() if v is not None} | dict(value.options))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def spec_columns() -> dict[str, Any]:
    """Column name to Python type of every column that `TrialSpec.columns` fills.

    >>> spec_columns()["architecture_options"], spec_columns()["measure"]
    (<class 'str'>, <class 'str'>)
    """
    columns: dict[str, Any] = {}
    for f in fields(TrialSpec):
        if f.type is Component:
            columns |= {f.name: str, f"{f.name}_options": str}
        else:
            columns[f.name] = str if f.name == "measure" else f.type
    return columns | {"batch_size": int}


def samples_per_step(batch_size: int | Literal["full"], samples: int) -> int:
    """How many of `samples` a step uses, the last of an epoch perhaps fewer.

    >>> samples_per_step(64, 5000), samples_per_step("full", 5000)
    (64, 5000)
    """
    return samples if batch_size == "full" else batch_size


def last_step(
    steps: int | None, epochs: int | None, batch_size: int | Literal["full"], train_samples: int | None
) -> int | None:
    """How many optimiser steps a trial makes; None where the size of its data set is not known.

    >>> last_step(None, 3, 64, 60_000)
    2814
    """
    if steps is not None:
        return steps
    if epochs is None or train_samples is None:
        return None
    return epochs * math.ceil(train_samples / samples_per_step(batch_size, train_samples))
