"""Second oracle: dense matrices by automatic differentiation; and what the operators promise besides."""

import gc
import weakref

import curvature_models as models
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from workers.curvature import (
    GaussNewtonOperator,
    GradientCovarianceOperator,
    HessianOperator,
    ResidualOperator,
    memory,
)

OPERATORS = [
    (HessianOperator, models.dense_hessian),
    (GaussNewtonOperator, models.dense_gauss_newton),
    (ResidualOperator, models.dense_residual),
    (GradientCovarianceOperator, models.dense_gradient_covariance),
]


def identity(H):
    return torch.eye(H.shape[0], dtype=H.dtype)


@pytest.mark.parametrize("chunk_size", [None, 1, 3, 4, 10, 99])
@pytest.mark.parametrize("name", models.FACTORIES)
@pytest.mark.parametrize(("operator", "dense"), OPERATORS)
def test_equals_the_dense_matrix(operator, dense, name, chunk_size):
    case = models.make(name)
    H, expected = operator(*case.arguments, chunk_size=chunk_size), dense(case)
    assert H.shape == tuple(expected.shape)
    # Entries are sums of some hundred terms of order 1 at 2e-16, with a margin of 30.
    torch.testing.assert_close(H @ identity(H), expected, rtol=0, atol=1e-12)
    loss, _, vector = models.flat(case)
    assert H.loss == pytest.approx(float(loss(vector)), abs=1e-12)
    torch.testing.assert_close(
        H.gradient, torch.autograd.functional.jacobian(loss, vector), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(("operator", "dense"), OPERATORS)
@pytest.mark.parametrize("name", ["mlp", "mlp mse", "convnet"])
def test_float32(operator, dense, name):
    case = models.make(name, torch.float32)
    H = operator(*case.arguments, chunk_size=4)
    assert H.dtype == torch.float32
    double = models.Case(
        case.model.double(),
        case.loss,
        case.inputs.double(),
        case.targets.double() if case.loss is mse_loss else case.targets,
    )
    expected = dense(double)
    # Sums of some hundred terms of order 1 at 6e-8, with a margin of 2.
    torch.testing.assert_close((H @ identity(H)).double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("operator", [operator for operator, _ in OPERATORS])
def test_precision_casts_a_float32_model(operator):
    case = models.make("batch norm in eval", torch.float32)
    H = operator(*case.arguments, precision="float64")
    double = models.Case(case.model.double(), case.loss, case.inputs.double(), case.targets)
    reference = operator(*double.arguments)
    assert H.dtype == H.gradient.dtype == torch.float64
    # Casting to float64 is exact, and then the same operations follow.
    assert torch.equal(H @ identity(H), reference @ identity(H))


def test_parameters_are_flattened_in_the_order_of_the_model():
    case = models.make("unused parameter")
    H = HessianOperator(*case.arguments)
    rows = H @ identity(H)
    assert H.shape[0] == sum(parameter.numel() for parameter in case.model.parameters())
    assert not rows[:2].any()  # a module's own parameters come first
    assert rows[2:].any(dim=1).all()


def test_batch_norm_in_train_mode_is_one_chunk_by_default(monkeypatch):
    monkeypatch.setitem(memory.CHUNK_BYTES, "cpu", 1)
    case = models.make("batch norm in eval")
    case.model.train()
    H = HessianOperator(*case.arguments)
    # As in test_equals_the_dense_matrix.
    torch.testing.assert_close(H @ identity(H), models.dense_hessian(case), rtol=0, atol=1e-12)


def test_batch_norm_in_train_mode_with_a_stated_partition():
    case = models.make("batch norm in eval")
    case.model.train()
    H = HessianOperator(*case.arguments, chunk_size=6)
    parts = [
        models.Case(case.model, case.loss, case.inputs[part], case.targets[part])
        for part in (slice(0, 6), slice(6, 10))
    ]
    expected = 0.6 * models.dense_hessian(parts[0]) + 0.4 * models.dense_hessian(parts[1])
    # As in test_equals_the_dense_matrix.
    torch.testing.assert_close(H @ identity(H), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("operator", [operator for operator, _ in OPERATORS])
def test_dropout_is_one_fixed_draw(operator, monkeypatch):
    case = models.make("mlp")
    model = nn.Sequential(case.model[0], nn.Tanh(), nn.Dropout(0.5), case.model[2])
    arguments = (model, case.loss, case.inputs, case.targets)
    kept = operator(*arguments, chunk_size=4)
    monkeypatch.setattr("workers.curvature.chunked.kept_bytes", lambda _: 0)
    remade = operator(*arguments, chunk_size=4)
    matrix = kept @ identity(kept)
    # The same operations on the same numbers, whether the graph was kept or made anew.
    assert torch.equal(matrix, remade @ identity(kept))
    assert torch.equal(matrix, remade @ identity(kept))
    model.eval()
    assert not torch.allclose(matrix, operator(*arguments) @ identity(kept))


@pytest.mark.parametrize("train", [True, False])
def test_the_model_is_left_as_it_was(train, monkeypatch):
    monkeypatch.setattr("workers.curvature.chunked.kept_bytes", lambda _: 0)
    case = models.make("batch norm in eval")
    model = nn.Sequential(case.model, nn.Dropout(0.5)).train(train)
    case.model[0].eval()  # modes may be mixed
    case.model[0].weight.grad = torch.ones_like(case.model[0].weight)
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    for operator in (HessianOperator, GaussNewtonOperator):
        H = operator(model, case.loss, case.inputs, case.targets, chunk_size=4)
        H @ identity(H)
        assert [module.training for module in model.modules()] == modes
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert torch.equal(torch.get_rng_state(), random_state)
        assert torch.equal(case.model[0].weight.grad, torch.ones_like(case.model[0].weight))
        assert all(p.grad is None for name, p in case.model.named_parameters() if name != "0.weight")
        assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("budget", [0, 10**9])
def test_training_on_does_not_change_the_operator(budget, monkeypatch):
    monkeypatch.setattr("workers.curvature.chunked.kept_bytes", lambda _: budget)
    case = models.make("batch norm in eval")
    H = HessianOperator(*case.arguments, chunk_size=4)
    before = H @ identity(H)
    case.model.train()(case.inputs)
    with torch.no_grad():
        for parameter in case.model.parameters():
            parameter.mul_(2)
        case.inputs.zero_()
    assert torch.equal(H @ identity(H), before)
    assert all(module.training for module in case.model.modules())


@pytest.mark.parametrize("operator", [HessianOperator, GaussNewtonOperator])
def test_surroundings_make_no_difference(operator):
    case = models.make("mlp", torch.float32)
    expected = operator(*case.arguments) @ torch.eye(43)
    with torch.no_grad():
        assert torch.equal(operator(*case.arguments) @ torch.eye(43), expected)
    with torch.inference_mode():
        assert torch.equal(operator(*case.arguments) @ torch.eye(43), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(operator(*case.arguments) @ torch.eye(43), expected)


def test_gauss_newton_is_positive_semidefinite_and_the_hessian_is_not():
    case = models.make("mlp")
    G, H = GaussNewtonOperator(*case.arguments), HessianOperator(*case.arguments)
    # Rounding of eigenvalues of order 1.
    assert float(torch.linalg.eigvalsh(G @ identity(G))[0]) > -1e-13
    assert float(torch.linalg.eigvalsh(H @ identity(H))[0]) < -1e-3


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**20), chunk_size=st.integers(1, 11), columns=st.integers(1, 4))
def test_products_are_linear_symmetric_and_the_same_in_chunks_and_blocks(seed, chunk_size, columns):
    case = models.make("mlp")
    generator = torch.Generator().manual_seed(seed)
    block = torch.randn(43, columns, dtype=torch.float64, generator=generator)
    a, b = torch.randn(2, 43, dtype=torch.float64, generator=generator)
    for operator, _ in OPERATORS:
        H, whole = operator(*case.arguments, chunk_size=chunk_size), operator(*case.arguments)
        # Products of norm below 100, with rounding errors of a hundred terms at 2e-16, and a margin of 4.
        close = {"rtol": 0.0, "atol": 1e-11}
        torch.testing.assert_close(a @ (H @ b), b @ (H @ a), **close)
        torch.testing.assert_close(H @ (2 * a - 3 * b), 2 * (H @ a) - 3 * (H @ b), **close)
        torch.testing.assert_close(H @ a, whole @ a, **close)
        # A block is its columns, one after the other.
        assert torch.equal(H @ block, torch.stack([H @ column for column in block.T], dim=1))


def test_products_are_counted():
    H = HessianOperator(*models.make("mlp").arguments, chunk_size=4)
    assert H.products == 0
    H @ torch.ones(43)
    H @ torch.ones(43, 5)
    assert H.products == 6


def test_a_loss_linear_in_the_parameters_has_no_curvature():
    model = nn.Linear(2, 1)
    inputs, targets = torch.ones(3, 2), torch.ones(3, 1)
    for operator in (HessianOperator, GaussNewtonOperator, ResidualOperator):
        H = operator(model, lambda outputs, targets: (outputs - targets).mean(), inputs, targets)
        assert not (H @ torch.eye(3)).any()
        assert H.gradient.any()


def test_graphs_are_kept_within_the_budget(monkeypatch):
    case = models.make("mlp")
    H = HessianOperator(*case.arguments, chunk_size=2)
    assert len(H._graphs) == 5
    used = H._graph_bytes
    # tanh saves its output and the loss its probabilities; twice that, and what they were made from, for the gradient.
    assert 2 * 8 * 2 * (5 + 3) <= used <= 5 * 8 * 2 * (5 + 3) + 100
    monkeypatch.setattr("workers.curvature.chunked.kept_bytes", lambda _: 3 * used)
    assert len(HessianOperator(*case.arguments, chunk_size=2)._graphs) == 3


def test_chunks_fit_in_memory_by_default(monkeypatch):
    case = models.make("mlp")
    assert len(HessianOperator(*case.arguments)._chunks) == 1
    monkeypatch.setitem(memory.CHUNK_BYTES, "cpu", 1)
    assert len(HessianOperator(*case.arguments)._chunks) == 10


class Counting(nn.Linear):
    """A model whose buffer changes with every evaluation, and its outputs with the buffer."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.register_buffer("calls", torch.ones(()))

    def forward(self, inputs):
        self.calls += 1
        return super().forward(inputs) * self.calls


def test_every_evaluation_finds_the_buffers_as_they_were(monkeypatch):
    monkeypatch.setattr("workers.curvature.chunked.kept_bytes", lambda _: 0)
    model = Counting(2, 1)
    H = HessianOperator(model, mse_loss, torch.eye(2), torch.ones(2, 1), chunk_size=1)
    # Outputs are doubled: the Hessian of the mean of squares is 4 · 2 / 2 for each weight and sums over both for the bias.
    expected = torch.tensor([[4.0, 0, 4], [0, 4, 4], [4, 4, 8]])
    # Whole numbers, exact in float32.
    assert torch.equal(H @ torch.eye(3), expected)
    assert torch.equal(H @ torch.eye(3), expected)
    assert float(model.calls) == 1


class Restless(nn.Linear):
    """A model with a state that is no buffer."""

    calls = 0

    def forward(self, inputs):
        self.calls += 1
        return super().forward(inputs) * self.calls


def test_refusals():
    model, inputs, targets = nn.Linear(2, 2), torch.ones(3, 2), torch.tensor([0, 1, 0])
    with pytest.raises(ValueError, match=r"loss: .* must not change"):
        HessianOperator(Restless(2, 2), cross_entropy, inputs, targets)
    with pytest.raises(ValueError, match="model: 0 parameters require a gradient"):
        HessianOperator(nn.Flatten(), cross_entropy, inputs, targets)
    with pytest.raises(ValueError, match=r"parameters are torch\.float32 on cpu and torch\.float64 on cpu"):
        HessianOperator(nn.Sequential(model, nn.Linear(2, 2).double()), cross_entropy, inputs, targets)
    with pytest.raises(FloatingPointError, match=r"loss: nan on samples 2\.\.2"):
        HessianOperator(
            model, cross_entropy, torch.tensor([[1.0, 1], [1, 1], [1, torch.nan]]), targets, chunk_size=2
        )
    with pytest.raises(ValueError, match=r"loss: shape \(3,\), must be \(\)"):
        HessianOperator(model, nn.CrossEntropyLoss(reduction="none"), inputs, targets)
    with pytest.raises(ValueError, match="loss: does not depend on the parameters"):
        HessianOperator(model, lambda outputs, targets: outputs.detach().mean(), inputs, targets)
    with pytest.raises(ValueError, match="targets: 2 samples, must be 3"):
        HessianOperator(model, cross_entropy, inputs, targets[:2])
    with pytest.raises(ValueError, match="inputs: 0 samples"):
        HessianOperator(model, cross_entropy, inputs[:0], targets[:0])
    with pytest.raises(ValueError, match="chunk_size: 0, must be at least 1"):
        HessianOperator(model, cross_entropy, inputs, targets, chunk_size=0)
    with pytest.raises(ValueError, match="precision: 'float16', must be"):
        HessianOperator(model, cross_entropy, inputs, targets, precision="float16")
    recurrent = nn.GRU(2, 2)
    for operator in (GaussNewtonOperator, ResidualOperator, GradientCovarianceOperator):
        with pytest.raises(TypeError, match="model: returns tuple, must return one tensor"):
            operator(recurrent, lambda outputs, targets: outputs[0].mean(), inputs, targets)


@pytest.mark.parametrize("shape", [(5,), (5, 2), (6, 1, 1), ()])
def test_vectors_of_another_shape_are_refused(shape):
    H = HessianOperator(nn.Linear(2, 2), cross_entropy, torch.ones(3, 2), torch.tensor([0, 1, 0]))
    with pytest.raises(ValueError, match=r"vector: shape .* must be \(6,\) or \(6, b\)"):
        H @ torch.ones(shape)
    with pytest.raises(TypeError, match="vector: list, must be a tensor"):
        H @ [1.0] * 6


def test_released_graphs_are_made_anew():
    case = models.make("mlp")
    H = HessianOperator(*case.arguments, chunk_size=4)
    before = H @ identity(H)
    H.release()
    assert not H._graphs
    assert torch.equal(H @ identity(H), before)


class Held:
    """Lives as long as the node of the graph that holds it."""


def test_graphs_are_given_up_with_the_operator():
    """A graph that held itself would never be: an operation that saves its own output, history and all."""
    kept = []

    class Exp(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.held = Held()
            kept.append(weakref.ref(ctx.held))
            result = x.exp()
            ctx.save_for_backward(result)
            return result

        @staticmethod
        def backward(ctx, gradient):
            return gradient * ctx.saved_tensors[0]

    class Model(nn.Linear):
        def forward(self, inputs):
            return Exp.apply(super().forward(inputs))

    torch.manual_seed(0)
    H = HessianOperator(Model(3, 2), mse_loss, torch.randn(8, 3), torch.randn(8, 2))
    assert any(reference() for reference in kept)  # while it lives its graph does
    del H
    gc.collect()
    assert not any(reference() for reference in kept)


def test_what_it_is_and_how_it_works_is_in_its_repr(monkeypatch):
    case = models.make("mlp")
    assert repr(HessianOperator(*case.arguments, chunk_size=4)).startswith(
        "HessianOperator(shape=(43, 43), float64 on cpu, 10 samples in 3 chunks of 4, graphs kept: all, "
    )
    monkeypatch.setattr("workers.curvature.chunked.kept_bytes", lambda _: 0)
    assert "graphs kept: 0" in repr(HessianOperator(*case.arguments, chunk_size=4))


def test_batch_norm_without_running_statistics_is_one_chunk(monkeypatch):
    case = models.make("batch norm in eval")
    norm = next(module for module in case.model if isinstance(module, nn.BatchNorm1d))
    norm.running_mean = norm.running_var = norm.num_batches_tracked = None
    monkeypatch.setitem(memory.CHUNK_BYTES, "cpu", 1)
    assert len(HessianOperator(*case.arguments)._chunks) == 1


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(reduction="sum"),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 9.0, 3.0], dtype=torch.float64)),
        nn.CrossEntropyLoss(ignore_index=1),
    ],
    ids=["sum", "weights", "ignored"],
)
def test_a_loss_that_is_no_mean_over_samples_is_refused(loss):
    """Such a loss would depend on the chunks, and they on the memory there is."""
    model = nn.Linear(4, 3).double()
    inputs = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 1, 2, 0, 0, 2, 1, 1, 1])
    for operator in (HessianOperator, GaussNewtonOperator):
        with pytest.raises(ValueError, match=r"loss: .* must be the mean over samples"):
            operator(model, loss, inputs, targets)
    assert HessianOperator(model, nn.CrossEntropyLoss(), inputs, targets).loss > 0
