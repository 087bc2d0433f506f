"""One moment of training, ready to be asked: loss, gradient, Hessian and eigenpairs at θ_t, each computed once."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from workers import seeding
from workers.curvature import Eigenpairs, HessianOperator, SpectralDensity, spectral_density, top_eigenpairs
from workers.curvature.chunked import ChunkedOperator
from workers.curvature.recorder import Recorder
from workers.observer import Observer
from workers.spec import SpecError
from workers.training import Diverged

Kind = TypeVar("Kind", bound=ChunkedOperator)


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
        loss, share = self._observer.evaluate(split)
        if split == "train" and not math.isfinite(loss):
            raise Diverged(self.step)
        return loss, share

    @property
    def gradient_norm(self) -> float | None:
        """‖∇L‖, or None where no measurement of this step asked for the gradient."""
        return float(self.gradient.double().norm()) if "hessian" in self.__dict__ else None

    @property
    def hessian_products(self) -> int:
        """Products spent on this snapshot so far, with H and with every other operator: of G, of a layer's block, …"""
        return self._other_products + (self.hessian.products if "hessian" in self.__dict__ else 0)
