"""The means of gradients by class and by label, and the two low-rank parts of Gauss-Newton that they make."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from workers.curvature.frozen import FrozenModel
from workers.curvature.matrix import inner_products
from workers.curvature.memory import samples_that_fit, with_graph_size
from workers.curvature.operators import derivative, one_tensor

_PROBE_SAMPLES = 8
_SLAB = 2**14  # parameters summed at a time: 12 MB of 90 vectors, since larger blocks leave the cache

# A direction of the span counts where it is at least so long, relative to the longest: rounding of the means is some ten
# epsilons, and of their inner products, the squares of lengths, 1e-14.
_RELATIVE_LENGTH = 1e-6
_RELATIVE_EPSILONS = 1000


@dataclass(frozen=True)
class ClassMeans:
    """δ_{c,c'} for c' ≠ c, the mean gradient of samples of class c as if their label were c', and what follows from it.

    With δ_c = Σ_{c'≠c} w_{c,c'} δ_{c,c'} / w_c and w_c = Σ_{c'≠c} w_{c,c'}, two of the four parts of the Gauss-Newton
    matrix G = G_class + G_cross + G_within + G_{c=c'} are (Papyan, "Traces of class/cross-class structure pervade deep
    learning spectra", arXiv:2008.11865, equation 6.4, where δ is called g)

        G_class = Σ_c w_c δ_c δ_cᵀ,    G_cross = Σ_c Σ_{c'≠c} w_{c,c'} (δ_{c,c'} − δ_c)(δ_{c,c'} − δ_c)ᵀ.

    Their eigenvalues, in units of loss per squared parameter, are those of Gram matrices of the same vectors. All four
    parts are positive semidefinite, so that no eigenvalue of one is above that of G at the same place.
    """

    weights: Tensor  # (k, k − 1) float64 on the CPU, w_{c,c'}: row c, columns the c' ≠ c ascending; a sum of at most 1
    means: Tensor  # (k, k − 1, p), δ_{c,c'} in the same order; 0 for a class without samples

    def class_eigenvalues(self) -> Tensor:
        """The k largest of G_class, which are all that differ from 0: (k,) float64, descending, ≥ 0 up to rounding."""
        weighted = self.weights.sum(1).sqrt()[:, None] * self._averaging
        return _eigenvalues(weighted @ self._gram @ weighted.T)

    def cross_class_eigenvalues(self) -> Tensor:
        """The k(k − 2) largest of G_cross, which are all that differ from 0, as above; none for k = 2.

        Of the k(k − 1) differences those of one class have the weighted sum 0.
        """
        classes = len(self.weights)
        own = torch.eye(self.weights.numel(), dtype=torch.float64)
        differences = own - self._averaging.repeat_interleave(classes - 1, dim=0)
        weighted = self.weights.flatten().sqrt()[:, None] * differences
        return _eigenvalues(weighted @ self._gram @ weighted.T)[: classes * (classes - 2)]

    def class_overlap(self, vectors: Tensor) -> float | None:
        """(1/r) ‖QᵀV‖²_F with Q an orthonormal basis of the span of all δ_c, of dimension r, and V = `vectors`.

        The share of the class means' space that lies in that of the m columns of V (p, m), which are orthonormal: in
        [0, 1], m/p by chance. None where r = 0.
        """
        shared, rank = self._shared(self._averaging, vectors)
        return shared / rank if rank else None

    def cross_class_overlap(self, vectors: Tensor) -> float | None:
        """(1/m) ‖QᵀV‖²_F with Q an orthonormal basis of the span of all δ_{c,c'}, of dimension r, and V = `vectors`.

        The share of the space of the m columns of V (p, m) that lies in it: in [0, 1], r/p by chance, with r at most
        k(k − 1). None where r = 0.
        """
        shared, rank = self._shared(torch.eye(self.weights.numel(), dtype=torch.float64), vectors)
        return shared / vectors.shape[1] if rank else None

    @cached_property
    def _gram(self) -> Tensor:
        """The inner products of all δ_{c,c'}."""
        rows = self.means.flatten(0, 1)
        return inner_products(rows, rows, _SLAB)

    @property
    def _averaging(self) -> Tensor:
        """What takes the δ_{c,c'} to the δ_c, (k, k(k − 1)); a row of 0 for a class without weight."""
        totals = self.weights.sum(1, keepdim=True)
        averaging: Tensor = torch.block_diag(*(self.weights / totals.masked_fill(totals == 0, 1.0)))
        return averaging

    def _shared(self, mixing: Tensor, vectors: Tensor) -> tuple[float, int]:
        """‖QᵀV‖²_F and the number of columns of Q, an orthonormal basis of the span of mixing · means."""
        squares, directions = torch.linalg.eigh(mixing @ self._gram @ mixing.T)
        least = max(_RELATIVE_LENGTH, _RELATIVE_EPSILONS * torch.finfo(self.means.dtype).eps)
        present = squares > least**2 * squares[-1].clamp_min(0.0)
        basis = directions[:, present] / squares[present].sqrt()
        products = mixing @ inner_products(self.means.flatten(0, 1), vectors.T, _SLAB)
        return float((basis.T @ products).square().sum()), int(present.sum())


def class_means(model: nn.Module, inputs: Tensor, targets: Tensor) -> ClassMeans:
    """The means δ_{c,c'} = Σ_{i∈c} w_{i,c'} δ_{i,c'} / w_{c,c'} of a classifier trained by cross entropy.

    δ_{i,c'} = Jᵢᵀ(pᵢ − e_{c'}) is the gradient that sample i would have if its label were c', with Jᵢ = ∂outputsᵢ/∂θ and
    pᵢ the softmax of its outputs; w_{i,c'} = p_{i,c'}/n, and w_{c,c'} = Σ_{i∈c} w_{i,c'}. With them G = Σᵢ Σ_{c'} w_{i,c'}
    δ_{i,c'} δ_{i,c'}ᵀ exactly (arXiv:2008.11865, equation 6.2).

    θ is every parameter that requires a gradient. One backward pass for each c' ≠ c over the samples of each class c, so
    k − 1 over all samples, in chunks that fit memory, summed in float64. Holds k(k − 1) vectors of p in the type of the
    parameters and k − 1 in float64. The model is evaluated in the mode it is in and left as it was.

    Args:
        model: any module that returns one tensor (n, k), the logits.
        inputs: (n, …).
        targets: (n,) class indices below k.

    Raises:
        TypeError: the model returns something else than one tensor.
        ValueError: no parameter requires a gradient; outputs or targets are of another shape; a batch norm works on
            batch statistics, so that a sample has no Jacobian of its own.

    Example:
        >>> line = torch.nn.Linear(2, 2, bias=False)  # at θ = 0: p = ½, δ_{0,1} = (½, −½) ⊗ x₀ with a weight of ¼
        >>> _ = torch.nn.init.zeros_(line.weight)
        >>> class_means(line, torch.eye(2), torch.arange(2)).class_eigenvalues()
        tensor([0.1250, 0.1250], dtype=torch.float64)
    """
    frozen = FrozenModel(model)
    if frozen.normalises_by_batch:
        raise ValueError(
            "model: a batch norm on batch statistics leaves a sample no Jacobian of its own, must be in eval mode"
        )
    with frozen.evaluation(seed=0):
        chunk_size = _chunk_size(frozen, inputs)
        log_shares = _log_probabilities(frozen, inputs, chunk_size)
        _check_targets(targets, log_shares)
        samples, classes = log_shares.shape
        size = sum(parameter.numel() for parameter in frozen.parameters)
        weights = torch.zeros(classes, classes - 1, dtype=torch.float64)
        means = torch.zeros(classes, classes - 1, size, dtype=frozen.dtype, device=frozen.device)
        for own in range(classes):
            members = (targets == own).nonzero().flatten()
            others = [other for other in range(classes) if other != own]
            weights[own] = (log_shares[members].exp().sum(0) / samples)[others].cpu()
            if len(members) > 0:
                means[own] = _means_of_class(frozen, inputs[members], log_shares[members], others, chunk_size)
    return ClassMeans(weights, means)


def _means_of_class(
    frozen: FrozenModel, inputs: Tensor, log_shares: Tensor, others: list[int], chunk_size: int
) -> Tensor:
    """δ_{c,c'} for each c' in `others` from the samples of one class c, (k − 1, p) float64."""
    shares = log_shares.exp()
    # Each sample's part in the mean, relative to the others of its class: right also where all p_{i,c'} are below
    # the smallest number.
    parts = log_shares.softmax(0)
    total: Tensor | None = None
    for first in range(0, len(inputs), chunk_size):
        chunk = slice(first, first + chunk_size)
        outputs = one_tensor(frozen(inputs[chunk]))
        rows = []
        for other in others:
            slopes = shares[chunk].clone()
            slopes[:, other] -= 1.0
            slopes *= parts[chunk, other, None]
            gradient = derivative((outputs,), frozen.parameters, (slopes.to(outputs.dtype),))
            rows.append(torch.cat([part.reshape(-1) for part in gradient]))
        if total is None:
            total = torch.zeros(len(others), len(rows[0]), dtype=torch.float64, device=frozen.device)
        for row, sum_so_far in zip(rows, total, strict=True):
            sum_so_far += row
    assert total is not None
    return total


def _chunk_size(frozen: FrozenModel, inputs: Tensor) -> int:
    probe = inputs[:_PROBE_SAMPLES]
    _, size = with_graph_size(lambda: frozen(probe), (*frozen.parameters, inputs))
    return samples_that_fit(size, len(probe), frozen.device)


@torch.no_grad()
def _log_probabilities(frozen: FrozenModel, inputs: Tensor, chunk_size: int) -> Tensor:
    """log p_{i,c}, (n, k) float64."""
    logits = torch.cat([one_tensor(frozen(chunk)) for chunk in inputs.split(chunk_size)])
    if logits.ndim != 2 or len(logits) != len(inputs) or logits.shape[1] < 2:
        raise ValueError(
            f"model: outputs of shape {tuple(logits.shape)}, must be ({len(inputs)}, k) with k at least 2"
        )
    return logits.double().log_softmax(1)


def _check_targets(targets: Tensor, log_shares: Tensor) -> None:
    samples, classes = log_shares.shape
    if targets.shape != (samples,) or targets.is_floating_point():
        raise ValueError(
            f"targets: {targets.dtype} of shape {tuple(targets.shape)}, must be ({samples},) class indices"
        )
    if not 0 <= int(targets.min()) <= int(targets.max()) < classes:
        raise ValueError(f"targets: {int(targets.min())} to {int(targets.max())}, must be 0 to {classes - 1}")


def _eigenvalues(gram: Tensor) -> Tensor:
    values: Tensor = torch.linalg.eigvalsh(gram)
    return values.flip(0)
