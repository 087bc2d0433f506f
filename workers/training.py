"""Plain mini-batch training, one step at a time, with nothing in it that a measurement could touch."""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from workers import find, seeding
from workers.data import Data
from workers.losses import Loss
from workers.spec import SpecError, TrialSpec, last_step, samples_per_step

CHECK_EVERY = 50
"""Steps between two looks at the losses: a look waits for the device, so it is not made at every step."""

FULL_BYTES = {"cpu": 2**22, "cuda": 2**26}
"""Of inputs that a full batch evaluates at once; what layers put out is tens of times as large."""


class Diverged(ArithmeticError):
    """The loss stopped being finite, or passed `loss_bound`. `step` is the first step whose loss did."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss is not finite, or above its bound, at step {step}")
        self.step = step


class Training:
    """A model on its way: θ ← optimiser(θ, ∇L_B(θ)) on one mini-batch B after another.

    Every epoch is a fresh permutation of the training set, which depends on the seed and the epoch alone. Step t is
    the step that leads from θ_t to θ_{t+1}. The model is put in train mode once: nothing else gets hold of it.
    """

    def __init__(self, spec: TrialSpec, data: Data, model: nn.Module, loss: Loss) -> None:
        self.model, self.loss, self.data, self.seed = model.train(), loss, data, spec.seed
        samples = len(data.x_train)
        self.batch_size = samples_per_step(spec.batch_size, samples)
        self.chunk_size = _full_batch_chunk(model, data.x_train) if spec.batch_size == "full" else None
        self.loss_bound = math.inf if spec.loss_bound is None else spec.loss_bound
        self.steps_per_epoch = math.ceil(samples / self.batch_size)
        self.last = last_step(spec.steps, spec.epochs, spec.batch_size, samples) or 0
        if self.last >= self.steps_per_epoch:
            check_last_batch(model, data.x_train, self.batch_size, "dataset.samples")
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        build = find.function("optimizers", spec.optimizer.name)
        self.optimizer: torch.optim.Optimizer = build(
            self.parameters, spec.learning_rate, **spec.optimizer.options
        )
        self.step = 0
        self.gradient: Tensor | None = None
        self._order, self._order_epoch = torch.empty(0), -1
        self._unchecked: list[Tensor] = []

    @property
    def epoch(self) -> float:
        """Passes over the training set so far, whole or not."""
        return self.step / self.steps_per_epoch

    def advance(self, keep_gradient: bool = False) -> Tensor:
        """Make step t and return the loss of its mini-batch at θ_t, a scalar.

        With `keep_gradient` its gradient ∇L_B, (p,), is kept in `gradient`, as it is before the optimiser works on it.
        """
        self.optimizer.zero_grad()
        batch_loss = self._backward()
        if keep_gradient:
            parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
            self.gradient = torch.cat([part.reshape(-1) for part in parts])
        self.optimizer.step()
        self.step += 1
        self._unchecked.append(batch_loss)
        if len(self._unchecked) >= CHECK_EVERY:
            self.check()
        return batch_loss

    def check(self) -> None:
        """Raise Diverged where a loss since the last check was not finite, or above the trial's bound."""
        if not self._unchecked:
            return
        losses = torch.stack(self._unchecked)
        bounded = (losses.isfinite() & (losses <= self.loss_bound)).tolist()
        first = self.step - len(bounded)
        self._unchecked.clear()
        if not all(bounded):
            raise Diverged(first + bounded.index(False))

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, apart from the global random stream: live tensors, to be saved at once.

        Raises Diverged as `check` does, so that nothing is gone on from that has no future.
        """
        self.check()
        return {"step": self.step, "model": self._tensors(), "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`. Raises ValueError, with nothing changed, for one of another model."""
        mine, theirs = self._tensors(), state["model"]
        if {n: t.shape for n, t in mine.items()} != {n: t.shape for n, t in theirs.items()}:
            raise ValueError("its parameters are not those of this model")
        self.optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            for name, tensor in mine.items():
                tensor.copy_(theirs[name])
        self.step = state["step"]

    def _tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, those too that a state_dict leaves out."""
        return dict(self.model.named_parameters()) | dict(self.model.named_buffers())

    def weights(self) -> Tensor:
        """θ, (p,), a copy."""
        return torch.cat([p.detach().reshape(-1) for p in self.parameters])

    def _backward(self) -> Tensor:
        """The loss of the next mini-batch; its gradient is added to those of the parameters."""
        x, y = self.data.x_train, self.data.y_train
        if self.chunk_size is None:
            indices = self._next_batch()
            loss = self.loss(self.model(x[indices]), y[indices])
            loss.backward()
            return loss.detach()
        parts = []
        for inputs, targets in zip(x.split(self.chunk_size), y.split(self.chunk_size), strict=True):
            part = self.loss(self.model(inputs), targets) * (len(inputs) / len(x))
            part.backward()
            parts.append(part.detach())
        return torch.stack(parts).sum()

    def _next_batch(self) -> Tensor:
        epoch, position = divmod(self.step, self.steps_per_epoch)
        if epoch != self._order_epoch:
            stream = seeding.generator(self.seed, f"batches/{epoch}")
            order = torch.randperm(len(self.data.x_train), generator=stream)
            self._order, self._order_epoch = order.to(self.data.x_train.device), epoch
        return self._order[position * self.batch_size : (position + 1) * self.batch_size]


def _full_batch_chunk(model: nn.Module, inputs: Tensor) -> int:
    """How many samples of a full batch are evaluated at once: all where a batch norm makes statistics of them."""
    if _norms(model):
        return len(inputs)
    return max(1, FULL_BYTES[inputs.device.type] // inputs[0].nbytes)


def _norms(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def check_last_batch(model: nn.Module, inputs: Tensor, batch_size: int, samples_key: str) -> None:
    """Refuse batches of which the last has one sample, where the model's batch norm can make no statistics of one.

    (That of images can: it has their pixels.) Raises SpecError naming batch_size and `samples_key`.
    """
    last = (len(inputs) - 1) % batch_size + 1
    if last > 1 or not _norms(model):
        return
    probe = copy.deepcopy(model).train()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[inputs.device] if inputs.is_cuda else []):
            probe(inputs[-1:])
    except ValueError as error:
        raise SpecError(
            f"batch_size: {batch_size}: the last batch of {len(inputs)} samples has 1, of which batch norm can make no "
            f"statistics; choose another batch_size or {samples_key}"
        ) from error
