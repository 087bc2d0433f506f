"""The Hessian and the Gauss-Newton matrix of a training loss, as operators: `H @ v` is the whole interface."""

from __future__ import annotations

import torch
from torch import Tensor

from workers.curvature.chunked import ChunkedOperator, Linearization, Tensors


class HessianOperator(ChunkedOperator):
    """The Hessian H = ∇²L(θ) of L = loss(model(inputs), targets), through products H v = ∇(gᵀv) with g = ∇L.

    (Pearlmutter, "Fast exact multiplication by the Hessian", 1994.) θ is every parameter that requires a gradient,
    in the order of `model.parameters()`, flattened; a parameter shared by modules counts once, one without effect
    on the loss has zero rows. The operator is of the model as it is now: it keeps copies of parameters and buffers,
    and training goes on as if it had never been. H is symmetric, not definite.

    Args:
        model: any module; evaluated in the mode each of its modules is in now. Dropout in train mode is one fixed
            draw for each chunk.
        loss: of (outputs, targets), the mean over samples.
        inputs, targets: (n, …) each; sample i is row i.
        chunk_size: samples evaluated at once, the last chunk may have fewer; chunks are weighted by their number of
            samples, so that the result does not depend on it. None takes what fits in memory. With a batch norm in
            train mode the loss itself depends on the chunks: there None is all samples in one.
        precision: "float32" or "float64", of parameters, buffers, and inputs and targets of floating type; None
            leaves all as they are. Reduced-precision products (TF32, bfloat16, autocast) are off in any case.

    Raises:
        ValueError: no parameter requires a gradient; parameters of several types; the loss is no mean over samples
            (not a scalar), does not depend on the parameters, or differs when evaluated again; samples and targets
            differ in number; and, from `H @ v`, v of a shape other than (p,) or (p, b).
        FloatingPointError: the loss is infinite or not a number.

    Example:
        >>> line = torch.nn.Linear(2, 1, bias=False)  # of the mean of squares: H = 2 XᵀX / n
        >>> H = HessianOperator(line, torch.nn.functional.mse_loss, 2 * torch.eye(2), torch.ones(2, 1))
        >>> H @ torch.tensor([1.0, 0.0])
        tensor([4., 0.])
    """

    def _linearize(self, inputs: Tensor, targets: Tensor) -> Linearization:
        parameters = self._model.parameters
        loss = self._loss_function(self._model(inputs), targets)
        gradient = _derivative((loss,), parameters, create_graph=True)
        return Linearization(
            loss=loss,
            gradient=lambda: gradient,
            product=lambda vector: _derivative(gradient, parameters, vector),
        )


class GaussNewtonOperator(ChunkedOperator):
    """The Gauss-Newton matrix G = mean of JᵢᵀBᵢJᵢ, with J = ∂outputs/∂θ and B the Hessian of the loss in the outputs.

    G is H without the curvature of the model itself: H = G + R, R = mean of Σₐ ∂ℓ/∂fₐ ∇²fₐ (Schraudolph, "Fast
    curvature matrix-vector products", 2002). It equals H for a model linear in θ, and is positive semidefinite for
    a loss convex in the outputs. Arguments, attributes and errors are those of `HessianOperator`, and the model has
    to return one tensor.

    Raises:
        TypeError: the model returns something else than one tensor.

    Example:
        >>> line = torch.nn.Linear(2, 1, bias=False)  # linear in θ: G = H = 2 XᵀX / n
        >>> G = GaussNewtonOperator(line, torch.nn.functional.mse_loss, 2 * torch.eye(2), torch.ones(2, 1))
        >>> G @ torch.tensor([1.0, 0.0])
        tensor([4., 0.])
    """

    def _linearize(self, inputs: Tensor, targets: Tensor) -> Linearization:
        parameters = self._model.parameters
        outputs = self._model(inputs)
        if not isinstance(outputs, Tensor):
            raise TypeError(
                f"model: returns {type(outputs).__name__}, must return one tensor for Gauss-Newton"
            )
        leaf = outputs.detach().requires_grad_()
        loss = self._loss_function(leaf, targets)
        residual = _derivative((loss,), (leaf,), create_graph=True)
        # Jᵀu is linear in u, so that its derivative along v with respect to u is Jv, for any u.
        dual = torch.zeros_like(outputs, requires_grad=True)
        pulled = _derivative((outputs,), parameters, (dual,), create_graph=True)

        def product(vector: Tensors) -> Tensors:
            pushed = _derivative(pulled, (dual,), vector)
            return _derivative((outputs,), parameters, _derivative(residual, (leaf,), pushed))

        return Linearization(
            loss=loss,
            gradient=lambda: _derivative((outputs,), parameters, residual),
            product=product,
        )


def _derivative(
    outputs: Tensors, inputs: Tensors, weights: Tensors | None = None, create_graph: bool = False
) -> Tensors:
    """Σ weightsᵀ outputs, differentiated by each of the inputs; zero where nothing depends on them."""
    weights = weights if weights is not None else tuple(torch.ones_like(output) for output in outputs)
    pairs = [
        (output, weight) for output, weight in zip(outputs, weights, strict=True) if output.requires_grad
    ]
    return torch.autograd.grad(
        [output for output, _ in pairs],
        inputs,
        [weight for _, weight in pairs],
        retain_graph=True,
        create_graph=create_graph,
        allow_unused=True,
        materialize_grads=True,
    )
