"""One file per optimiser: `build(parameters, learning_rate, *, options) -> torch.optim.Optimizer`.

`learning_rate` becomes torch's `lr` in these files and nowhere else. Weight decay acts in the optimiser only:
the loss L that is measured, its gradient g and its Hessian H exclude it.

An optimiser that needs curvature has a method `see`, which is handed `look` once, before the first step: within its step t
`look()` gives a Snapshot of θ_t, which has `gradient`, `hessian` and the like on the trial's measurement set. It is
another than that of the measurements, so that training does not depend on what is measured. Its file says
`LOOKS = True` and has `products(classes, last, **options)`, the Hessian-vector products to expect of `last` steps; it
imports torch within `build` only, because `plan` does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from workers.snapshot import Snapshot


@runtime_checkable
class SeesCurvature(Protocol):
    """An optimiser that looks at gradient and Hessian of the whole measurement set."""

    def see(self, look: Callable[[], Snapshot]) -> None: ...
