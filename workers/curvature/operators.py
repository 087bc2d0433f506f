"""The Hessian of a training loss and its two parts, H = G + R, as operators: `H @ v` is the whole interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from workers.curvature.chunked import ChunkedOperator, Linearization, Tensors
from workers.curvature.twice import check_twice, explained


class HessianOperator(ChunkedOperator):
    """The Hessian H = ∇²L(θ) of L = loss(model(inputs), targets), through products H v = ∇(gᵀv) with g = ∇L.

    (Pearlmutter, "Fast exact multiplication by the Hessian", 1994.) θ is every parameter that requires a gradient,
    in the order of `model.parameters()`, flattened; a parameter shared by modules counts once, one without effect
    on the loss has zero rows. The operator is of the model as it is now: it keeps copies of parameters and buffers,
    and training goes on as if it had never been. H is symmetric, not definite.

    Args:
        model: any module; evaluated in the mode each of its modules is in now. Dropout in train mode is one fixed
            draw for each chunk. Compiled code runs uncompiled. A `torch.autograd.Function` of its own must have a
            backward that is differentiable itself: where it computes with detached tensors, nothing can be noticed,
            and H lacks the derivative of what was detached.
        loss: of (outputs, targets), the mean over samples.
        inputs, targets: (n, …) each; sample i is row i.
        chunk_size: samples evaluated at once, the last chunk may have fewer; chunks are weighted by their number of
            samples, so that the result does not depend on it. None takes what fits in memory. With a batch norm in
            train mode the loss itself depends on the chunks: there None is all samples in one.
        precision: "float32" or "float64", of parameters, buffers, and inputs and targets of floating type; None
            leaves all as they are. Reduced-precision products (TF32, bfloat16, autocast) are off in any case.

    Raises:
        ValueError: no parameter requires a gradient; parameters of several types; the loss is no mean over samples
            (not a scalar, a sum, weighted), does not depend on the parameters, or differs when evaluated again; samples
            and targets differ in number; the model has no second derivative that torch knows (then perhaps from the first
            `H @ v`); a batch norm on batch statistics meets a chunk of one sample; and, from `H @ v`, v of a shape
            other than (p,) or (p, b).
        TypeError: the model is TorchScript or wrapped in DataParallel.
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
        gradient = derivative((loss,), parameters, create_graph=True)
        return Linearization(
            loss=loss,
            gradient=lambda: gradient,
            product=pullback(gradient, parameters),
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
        outputs = one_tensor(self._model(inputs))
        leaf = outputs.detach().requires_grad_()
        loss = self._loss_function(leaf, targets)
        residual = derivative((loss,), (leaf,), create_graph=True)
        # Jᵀu is linear in u, so that its derivative along v with respect to u is Jv, for any u.
        dual = torch.zeros_like(outputs, requires_grad=True)
        push = pullback(derivative((outputs,), parameters, (dual,), create_graph=True), (dual,))

        def product(vector: Tensors) -> Tensors:
            pushed = push(vector)
            return derivative((outputs,), parameters, derivative(residual, (leaf,), pushed))

        return Linearization(
            loss=loss,
            gradient=lambda: derivative((outputs,), parameters, residual),
            product=product,
        )


class ResidualOperator(ChunkedOperator):
    """The residual R = H − G = mean of Σₐ ∂ℓ/∂fₐ ∇²fₐ: what the curvature of the model itself adds to Gauss-Newton.

    (Notation of `GaussNewtonOperator`.) Since g = Jᵀr with r = ∂L/∂outputs, R v = ∇(gᵀv) with r held fixed: a product
    takes no more than one with H, and nothing is lost in a difference of large numbers. R is 0 for a model linear in
    θ, indefinite otherwise, and vanishes with r where all samples are fitted. Arguments, attributes and errors are
    those of `GaussNewtonOperator`.

    Raises:
        TypeError: the model returns something else than one tensor.

    Example:
        >>> line = torch.nn.Linear(2, 1, bias=False)  # linear in θ: H = G
        >>> R = ResidualOperator(line, torch.nn.functional.mse_loss, 2 * torch.eye(2), torch.ones(2, 1))
        >>> R @ torch.tensor([1.0, 0.0])
        tensor([0., 0.])
    """

    def _linearize(self, inputs: Tensor, targets: Tensor) -> Linearization:
        parameters = self._model.parameters
        outputs = one_tensor(self._model(inputs))
        leaf = outputs.detach().requires_grad_()
        loss = self._loss_function(leaf, targets)
        residual = derivative((loss,), (leaf,))
        gradient = derivative((outputs,), parameters, residual, create_graph=True)
        return Linearization(
            loss=loss,
            gradient=lambda: gradient,
            product=pullback(gradient, parameters),
        )


def pullback(outputs: Tensors, inputs: Tensors) -> Callable[[Tensors], Tensors]:
    """weights ↦ Σ weightsᵀ outputs, differentiated by each of the inputs; holds the graph, but not the outputs."""
    edges = {index: get_gradient_edge(output) for index, output in enumerate(outputs) if output.requires_grad}

    def pulled(weights: Tensors) -> Tensors:
        return _grad(list(edges.values()), inputs, [weights[index] for index in edges])

    return pulled


def one_tensor(outputs: object) -> Tensor:
    """A model's outputs, where their own derivatives are needed and so must be one tensor."""
    if not isinstance(outputs, Tensor):
        raise TypeError(f"model: returns {type(outputs).__name__}, must return one tensor for Gauss-Newton")
    return outputs


def derivative(
    outputs: Tensors, inputs: Tensors, weights: Tensors | None = None, create_graph: bool = False
) -> Tensors:
    """Σ weightsᵀ outputs, differentiated by each of the inputs; zero where nothing depends on them."""
    weights = weights if weights is not None else tuple(torch.ones_like(output) for output in outputs)
    pairs = [
        (output, weight) for output, weight in zip(outputs, weights, strict=True) if output.requires_grad
    ]
    result = _grad([output for output, _ in pairs], inputs, [weight for _, weight in pairs], create_graph)
    if create_graph:
        check_twice(result)
    return result


def _grad(
    outputs: Sequence[Tensor] | Sequence[GradientEdge],
    inputs: Tensors,
    weights: Sequence[Tensor],
    create_graph: bool = False,
) -> Tensors:
    with explained():
        return torch.autograd.grad(
            outputs,
            inputs,
            weights,
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
            materialize_grads=True,
        )
