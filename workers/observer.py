"""The model and the samples that measurements work on: copies and views that the training has no part in."""

import copy
from typing import Literal

import torch
from torch import Tensor, nn

from workers import seeding
from workers.data import Data
from workers.losses import Loss, accuracy
from workers.spec import SpecError, TrialSpec, samples_per_step
from workers.training import check_last_batch

EVALUATION_CHUNK = 1024
"""Samples evaluated at once on a GPU."""

EVALUATION_BYTES = 2**20
"""Of inputs evaluated at once on a CPU. A layer's output is some tens of times as large, and one above 32 MiB the C library
fetches from the system anew for every chunk, which makes convolutions take twice as long."""


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

    def evaluate(self, split: Literal["train", "test"]) -> tuple[float, float | None]:
        """Mean loss and accuracy (None for regression) on the measurement set or on the whole test set.

        The test set is always seen with population statistics.
        """
        if split == "train":
            self.set_mode()
            return self._evaluate(self.inputs, self.targets, self.chunk_size)
        self.model.eval()
        return self._evaluate(self.data.x_test, self.data.y_test, None)

    @torch.no_grad()
    def _evaluate(
        self, inputs: Tensor, targets: Tensor, chunk_size: int | None
    ) -> tuple[float, float | None]:
        total = torch.zeros((), dtype=torch.float64, device=inputs.device)
        correct = torch.zeros((), dtype=torch.float64, device=inputs.device)
        chunk = chunk_size or _evaluation_chunk(inputs)
        for x, y in zip(inputs.split(chunk), targets.split(chunk), strict=True):
            # batch statistics move running averages: those of a throw-away copy
            buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
            outputs = torch.func.functional_call(self.model, buffers, (x,)) if buffers else self.model(x)
            total += self.loss(outputs, y).double() * len(x)
            if not self.data.regression:
                correct += accuracy(outputs, y).double() * len(x)
        return float(total) / len(inputs), None if self.data.regression else float(correct) / len(inputs)


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
