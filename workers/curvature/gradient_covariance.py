"""The second moment of per-sample gradients, or empirical Fisher matrix, as an operator."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from workers.curvature.chunked import ChunkedOperator, Linearization, Precision, Tensors
from workers.curvature.operators import derivative, one_tensor, pullback


class GradientCovarianceOperator(ChunkedOperator):
    """C = (1/n) Σᵢ gᵢgᵢᵀ, with gᵢ = ∇ℓᵢ the gradient of one sample's loss; `centred`: the covariance C − ggᵀ.

    For cross-entropy the uncentred C is the empirical Fisher matrix (Kunstner, Balles and Hennig, arXiv:1905.12558).
    L is a mean of per-sample losses ℓᵢ, so that gᵢ = Jᵢᵀrᵢ with Jᵢ = ∂outputsᵢ/∂θ and rᵢ = ∂ℓᵢ/∂outputsᵢ, which is n times
    the row i of ∂L/∂outputs. So C v = (1/n) Σᵢ Jᵢᵀrᵢ (rᵢᵀJᵢv): a Gauss-Newton product with Bᵢ = rᵢrᵢᵀ, at its cost, and no
    gᵢ is ever formed. C is positive semidefinite of rank at most n; its trace is the mean of ‖gᵢ‖² (see
    `sample_gradient_norms`). Arguments, attributes and errors are those of `GaussNewtonOperator`, and moreover:

    Args:
        loss: a mean over samples of something that depends on that sample alone.
        centred: whether ggᵀ is subtracted, with g = ∇L the mean of the gᵢ.

    Raises:
        TypeError: the model returns something else than one tensor.
        ValueError: a batch norm works on batch statistics: a sample's loss then depends on the samples beside it, and
            it has no gradient of its own; or outputs differ from samples in number.

    Example:
        >>> line = torch.nn.Linear(2, 1, bias=False)  # at θ = 0: gᵢ = −2 yᵢxᵢ
        >>> _ = torch.nn.init.zeros_(line.weight)
        >>> C = GradientCovarianceOperator(line, torch.nn.functional.mse_loss, torch.eye(2), torch.ones(2, 1))
        >>> C @ torch.tensor([1.0, 0.0])
        tensor([2., 0.])
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[..., Tensor],
        inputs: Tensor,
        targets: Tensor,
        *,
        centred: bool = False,
        chunk_size: int | None = None,
        precision: Precision | None = None,
    ) -> None:
        self.centred = centred
        super().__init__(model, loss, inputs, targets, chunk_size=chunk_size, precision=precision)

    def __matmul__(self, vector: Tensor) -> Tensor:
        """The product with a vector (p,) or with the columns of a block (p, b), in the operator's type."""
        image = super().__matmul__(vector)
        if not self.centred:
            return image
        gradient = self.gradient.double()
        along = gradient @ vector.detach().double()
        mean = gradient * along if vector.ndim == 1 else torch.outer(gradient, along)
        return (image.double() - mean).to(self.dtype)

    def _linearize(self, inputs: Tensor, targets: Tensor) -> Linearization:
        if self._model.normalises_by_batch:
            raise ValueError(
                "model: a batch norm on batch statistics leaves a sample no gradient of its own, must be in eval mode"
            )
        parameters = self._model.parameters
        outputs = one_tensor(self._model(inputs))
        if outputs.ndim == 0 or len(outputs) != len(inputs):
            raise ValueError(
                f"model: outputs of shape {tuple(outputs.shape)}, must have one row for each of {len(inputs)} samples"
            )
        leaf = outputs.detach().requires_grad_()
        loss = self._loss_function(leaf, targets)
        (residual,) = derivative((loss,), (leaf,))  # of the mean: rᵢ / n in row i, n of this chunk
        # Jᵀu is linear in u, so that its derivative along v with respect to u is Jv, for any u.
        dual = torch.zeros_like(outputs, requires_grad=True)
        push = pullback(derivative((outputs,), parameters, (dual,), create_graph=True), (dual,))

        def product(vector: Tensors) -> Tensors:
            (pushed,) = push(vector)
            slopes = (residual * pushed).flatten(1).sum(1) if residual.ndim > 1 else residual * pushed
            weights = residual * (len(inputs) * slopes).reshape(-1, *[1] * (residual.ndim - 1))
            return derivative((outputs,), parameters, (weights,))

        return Linearization(
            loss=loss,
            gradient=lambda: derivative((outputs,), parameters, (residual,)),
            product=product,
        )
