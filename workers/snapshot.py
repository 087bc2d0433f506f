"""One moment of training, ready to be asked: loss, gradient, Hessian and eigenpairs at θ_t, each computed once."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from workers import seeding
from workers.curvature import Eigenpairs, HessianOperator, SpectralDensity, spectral_density, top_eigenpairs
from workers.curvature.chunked import ChunkedOperator
from workers.curvature.recorder import Recorder
from workers.data import Data
from workers.losses import Loss, accuracy
from workers.spec import SpecError, TrialSpec, samples_per_step
from workers.training import Diverged, check_last_batch

EVALUATION_CHUNK = 1024
"""Samples evaluated at once on a GPU."""

EVALUATION_BYTES = 2**20
"""Of inputs evaluated at once on a CPU. A layer's output is some tens of times as large, and one above 32 MiB the C library
fetches from the system anew for every chunk, which makes convolutions take twice as long."""

Kind = TypeVar("Kind", bound=ChunkedOperator)


class Observer:
    """A second model that measurements work on, so that they cannot touch the one that trains.

    It holds the fixed measurement set, whose mean loss is the L that g and H belong to: the whole training set, or
    `measurement_samples` of it, drawn once and the same for every seed.
    """

    def __init__(self, spec: TrialSpec, data: Data, model: nn.Module, loss: Loss) -> None:
        self.spec, self.data, self.loss = spec, data, loss
        self.model = copy.deepcopy(model).eval()
        self.inputs, self.targets = _measurement_set(data, spec.measurement_samples)
        if self.chunk_size is not None:
            check_last_batch(model, self.inputs, self.chunk_size, "measurement_samples")
        self.parameters = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        self.memory: dict[str, dict[str, Tensor]] = {}

    @property
    def chunk_size(self) -> int | None:
        """With batch statistics L is the mean over consecutive batches of the training size; else chunks are free."""
        if self.spec.batch_norm == "eval":
            return None
        return samples_per_step(self.spec.batch_size, len(self.inputs))

    def load(self, model: nn.Module) -> None:
        """Take over parameters and buffers of the model that trains, as they are now."""
        with torch.no_grad():
            for mine, theirs in zip(_state(self.model), _state(model), strict=True):
                mine.copy_(theirs)

    def set_mode(self) -> None:
        """Evaluation mode, dropout off; batch norm on batch statistics where the trial says so."""
        self.model.eval()
        if self.spec.batch_norm == "train":
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.train()


class Snapshot:
    """What a measurement is handed. Everything in it is at θ_t, and no product with H that is known is made again.

    `model` is a copy at θ_t, `loss(model(inputs), targets)` on the measurement set `inputs`, `targets` is L;
    `batch_gradient` and `update` (θ_{t+1} − θ_t) are (p,), or None at the last step, which no step follows.
    `optimizer` is the one that trains, behind its step t: to be read, never to be changed.
    """

    def __init__(
        self,
        observer: Observer,
        *,
        step: int,
        batch_gradient: Tensor | None = None,
        update: Tensor | None = None,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        self.step, self.batch_gradient, self.update = step, batch_gradient, update
        self.optimizer = optimizer
        self.spec, self.parameters = observer.spec, observer.parameters
        self.model, self.loss = observer.model, observer.loss
        self.inputs, self.targets = observer.inputs, observer.targets
        self.classes, self.training_samples = observer.data.outputs, len(observer.data.x_train)
        self._observer = observer
        self._pairs: dict[tuple[int, float], Eigenpairs] = {}
        self._recorder: Recorder | None = None
        self._other_products = 0

    def memory(self, measurement: str) -> dict[str, Tensor]:
        """What the measurement of that name keeps from one step to later ones; empty at first."""
        return self._observer.memory.setdefault(measurement, {})

    @property
    def probe_seed(self) -> int:
        """Where random vectors of this step's measurements start: the trial's stream of probes."""
        return seeding.stream_seed(self.spec.seed, f"probes/{self.step}")

    @cached_property
    def hessian(self) -> HessianOperator:
        """H and g of L on the measurement set. Raises Diverged where they are not finite."""
        return self._made(HessianOperator)

    @contextmanager
    def operator(
        self,
        kind: Callable[..., Kind],
        *,
        split: Literal["train", "test"] = "train",
        batch: Tensor | None = None,
        **options: Any,
    ) -> Iterator[Kind]:
        """Another curvature operator of L, such as GaussNewtonOperator, on the chunks of H and with `options`.

        With `split="test"` it is of the loss on the whole test set, seen as in `evaluate`; with `batch` of that on the
        training samples of these indices, (b,) on the CPU. It is of the parameters that require a gradient now. Its
        products count as Hessian products when the block ends, and then its kept graphs are given up. Raises Diverged
        where L or that of the batch is not finite, FloatingPointError where the test loss is not.
        """
        made = self._made_on_test(kind, **options) if split == "test" else self._made(kind, batch, **options)
        try:
            yield made
        finally:
            self._other_products += made.products
            made.release()

    def _made(self, kind: Callable[..., Kind], batch: Tensor | None = None, **options: Any) -> Kind:
        observer = self._observer
        observer.set_mode()
        inputs, targets, chunk_size = observer.inputs, observer.targets, observer.chunk_size
        if batch is not None:
            indices = batch.to(inputs.device)
            inputs, targets = observer.data.x_train[indices], observer.data.y_train[indices]
            chunk_size = None  # of batch statistics that is the whole batch
        try:
            return kind(observer.model, observer.loss, inputs, targets, chunk_size=chunk_size, **options)
        except FloatingPointError as error:
            raise Diverged(self.step) from error

    def _made_on_test(self, kind: Callable[..., Kind], **options: Any) -> Kind:
        observer = self._observer
        observer.model.eval()
        return kind(observer.model, observer.loss, observer.data.x_test, observer.data.y_test, **options)

    @property
    def gradient(self) -> Tensor:
        """∇L, (p,)."""
        return self.hessian.gradient

    @cached_property
    def hessian_gradient(self) -> Tensor:
        """H∇L/‖∇L‖, (p,): of a unit vector, since H∇L may be infinite where neither is; of 0 where ∇L is 0."""
        return self.hessian @ self._direction

    @cached_property
    def _direction(self) -> Tensor:
        gradient = self.gradient.double()
        direction: Tensor = gradient / gradient.norm().clamp_min(1e-300)
        return direction.to(self.gradient.dtype)

    @property
    def known(self) -> tuple[Tensor, Tensor]:
        """Vectors and H times them, (p, m) each, for a search to begin from: of the density of this step, or ∇L.

        What it finds agrees within its tolerance, whatever it began from.
        """
        if self._recorder is not None and (known := self._recorder.known) is not None:
            return known
        return self._direction[:, None], self.hessian_gradient[:, None]

    def spectral_density(self, probes: int, steps: int) -> SpectralDensity:
        """Of H; what is searched for later in this step goes on from the products of its first probe."""
        self._recorder = Recorder(self.hessian)
        return spectral_density(self._recorder, probes=probes, steps=steps, seed=self.probe_seed)

    @property
    def pairs(self) -> Eigenpairs:
        """The top eigenpairs as the trial's `top_eigenpairs` asks for them."""
        request = self.spec.measure.get("top_eigenpairs")
        return self.top_eigenpairs(**(request.options if request else {}))

    def top_eigenpairs(self, count: int | None = None, tol: float = 1e-3) -> Eigenpairs:
        """The `count` (2k by default, at most p) largest eigenvalues with vectors. SpecError where count > p."""
        if count is not None and count > self.parameters:
            raise SpecError(f"top_eigenpairs.count: {count}: the model has only {self.parameters} parameters")
        key = (count or min(2 * self.classes, self.parameters), tol)
        if key not in self._pairs:
            self._pairs[key] = top_eigenpairs(
                self.hessian, count=key[0], tol=tol, seed=self.probe_seed, known=self.known
            )
        return self._pairs[key]

    def evaluate(self, split: Literal["train", "test"]) -> tuple[float, float | None]:
        """Mean loss and accuracy (None for regression) on the measurement set or on the whole test set.

        The test set is always seen with population statistics. Raises Diverged where L is not finite.
        """
        observer = self._observer
        if split == "train":
            observer.set_mode()
            loss, share = _evaluate(observer, observer.inputs, observer.targets, observer.chunk_size)
            if not math.isfinite(loss):
                raise Diverged(self.step)
            return loss, share
        observer.model.eval()
        return _evaluate(observer, observer.data.x_test, observer.data.y_test, None)

    @property
    def gradient_norm(self) -> float | None:
        """‖∇L‖, or None where no measurement of this step asked for the gradient."""
        return float(self.gradient.double().norm()) if "hessian" in self.__dict__ else None

    @property
    def hessian_products(self) -> int:
        """Products spent on this snapshot so far, with H and with every other operator: of G, of a layer's block, …"""
        return self._other_products + (self.hessian.products if "hessian" in self.__dict__ else 0)


def _measurement_set(data: Data, samples: int | None) -> tuple[Tensor, Tensor]:
    available = len(data.x_train)
    if samples is None or samples == available:
        return data.x_train, data.y_train
    if samples > available:
        raise SpecError(f"measurement_samples: {samples}: there are only {available} training samples")
    chosen = torch.randperm(available, generator=seeding.generator(0, "measurement"))[:samples].sort().values
    chosen = chosen.to(data.x_train.device)
    return data.x_train[chosen], data.y_train[chosen]


def _state(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _evaluation_chunk(inputs: Tensor) -> int:
    return EVALUATION_CHUNK if inputs.is_cuda else max(1, EVALUATION_BYTES // inputs[0].nbytes)


@torch.no_grad()
def _evaluate(
    observer: Observer, inputs: Tensor, targets: Tensor, chunk_size: int | None
) -> tuple[float, float | None]:
    total = torch.zeros((), dtype=torch.float64, device=inputs.device)
    correct = torch.zeros((), dtype=torch.float64, device=inputs.device)
    chunk = chunk_size or _evaluation_chunk(inputs)
    for x, y in zip(inputs.split(chunk), targets.split(chunk), strict=True):
        # batch statistics move running averages: those of a throw-away copy
        buffers = {name: buffer.clone() for name, buffer in observer.model.named_buffers()}
        outputs = torch.func.functional_call(observer.model, buffers, (x,)) if buffers else observer.model(x)
        total += observer.loss(outputs, y).double() * len(x)
        if not observer.data.regression:
            correct += accuracy(outputs, y).double() * len(x)
    return float(total) / len(inputs), None if observer.data.regression else float(correct) / len(inputs)
