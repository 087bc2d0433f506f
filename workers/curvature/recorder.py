"""An operator that remembers its products, so that another method can go on from them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_BYTES = 2**31  # of what is remembered


class Recorder:
    """H, with its products remembered: the first column of each block, up to 2 GiB of them.

    Of `spectral_density` that is the Krylov basis of its first probe, until that has ended; `top_eigenpairs` can begin
    from it.

    Example:
        >>> recorder = Recorder(torch.diag(torch.tensor([1.0, 3.0])))
        >>> _ = recorder @ torch.tensor([1.0, 1.0])
        >>> recorder.known
        (tensor([[1.],
                [1.]]), tensor([[1.],
                [3.]]))
    """

    def __init__(self, operator: Any) -> None:
        self._operator = operator
        self._vectors: list[Tensor] = []
        self._images: list[Tensor] = []
        self.shape = operator.shape
        self.dtype, self.device = operator.dtype, operator.device

    def __matmul__(self, vectors: Tensor) -> Tensor:
        images: Tensor = self._operator @ vectors
        column = images.reshape(len(images), -1)[:, 0]
        if 2 * (len(self._images) + 1) * column.nbytes <= _BYTES:
            self._vectors.append(vectors.reshape(len(images), -1)[:, 0].clone())
            self._images.append(column.clone())
        return images

    @property
    def known(self) -> tuple[Tensor, Tensor] | None:
        """The vectors and H times them, (p, m) each; None if there are none."""
        if not self._vectors:
            return None
        # as rows, of which the columns are only a view
        return torch.stack(self._vectors).T, torch.stack(self._images).T
