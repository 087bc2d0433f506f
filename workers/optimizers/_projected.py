"""The optimiser behind `projected`: SGD that at some step begins to keep to a subspace."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workers.curvature.overlap import gradient_overlaps
from workers.spec import SpecError

if TYPE_CHECKING:
    from workers.snapshot import Snapshot


class Projected(torch.optim.Optimizer):
    """See `projected.build`. `switch_step` is the first step that is made on the branch, None before it."""

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        learning_rate: float,
        *,
        update: str,
        every: int,
        dimension: int | None,
        switch_above: float,
        average: float,
        switch_at: int | None,
        tol: float,
    ) -> None:
        super().__init__(parameters, {"lr": learning_rate, "weight_decay": 0})
        self._parameters = [p for group in self.param_groups for p in group["params"]]
        self._update, self._every, self._dimension, self._tol = update, every, dimension, tol
        self._above, self._weight, self._switch_at = switch_above, average, switch_at
        self._look: Callable[[], Snapshot] | None = None
        self._step = 0
        self._top: Tensor | None = None  # (p, k), orthonormal columns
        self.switch_step: int | None = None
        self.switch_average: float | None = None  # χ̄, in [0, 1]

    def see(self, look: Callable[[], Snapshot]) -> None:
        self._look = look

    def state_dict(self) -> dict[str, Any]:
        own = {
            "step": self._step,
            "top": self._top,
            "switch_step": self.switch_step,
            "switch_average": self.switch_average,
        }
        return super().state_dict() | {"projected": own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        own = state_dict["projected"]
        super().load_state_dict({name: state_dict[name] for name in ("state", "param_groups")})
        self._step, self._top = own["step"], own["top"]
        self.switch_step, self.switch_average = own["switch_step"], own["switch_average"]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """One step along the gradients that the parameters have; those that have none stay."""
        self._advance()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]
        direction = torch.cat([gradient.reshape(-1) for gradient in gradients])
        if self.switch_step is not None and self._update != "full":
            assert self._top is not None
            along = self._top @ (self._top.T @ direction)
            direction = along if self._update == "dominant" else direction - along
        (group,) = self.param_groups
        sizes = [p.numel() for p in self._parameters]
        for parameter, part in zip(self._parameters, direction.split(sizes), strict=True):
            parameter.sub_(group["lr"] * part.view_as(parameter))
        self._step += 1

    def _advance(self) -> None:
        """The subspace of this step, where one is needed, and whether to switch at it."""
        if self._step == self._switch_at:
            self.switch_step = self._step
        needed = self._switch_at is None if self.switch_step is None else self._update != "full"
        if needed and (self._step % self._every == 0 or self._step == self.switch_step):
            snapshot = self._find_top()
            if self.switch_step is None:
                self._average(snapshot)

    def _find_top(self) -> Snapshot:
        if self._look is None:
            raise RuntimeError("projected: needs to see the loss: call see() before the first step")
        with torch.enable_grad():
            snapshot = self._look()
            count = self._dimension or snapshot.classes
            if count > snapshot.parameters:
                raise SpecError(
                    f"optimizer.dimension: {count}: the model has only {snapshot.parameters} parameters"
                )
            self._top = snapshot.top_eigenpairs(count=count, tol=self._tol).vectors
        return snapshot

    def _average(self, snapshot: Snapshot) -> None:
        assert self._top is not None
        overlaps = gradient_overlaps(self._top, snapshot.gradient)
        if overlaps is None:  # no gradient, no direction: nothing to average
            return
        chi = float(overlaps.sum()) ** 0.5
        self.switch_average = self._weight * (self.switch_average or 0.0) + (1 - self._weight) * chi
        if self.switch_average > self._above:
            self.switch_step = self._step
