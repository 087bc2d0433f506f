"""Any model: torchvision's, attention, recurrence, tied and frozen weights, checkpoints; and what must be refused."""

import copy
import warnings

import curvature_models as models
import finite_differences as differences
import pytest
import torch
import torchvision
from curvature_models import Case
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy, embedding_bag, linear, scaled_dot_product_attention
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from workers.curvature import GaussNewtonOperator, HessianOperator

SAMPLES, CLASSES = 4, 3
FLOATS, WORDS, SERIES, IMAGES = "floats", "words", "series", "images"


class Net(nn.Module):
    """Parts, and a forward pass that is given as a function of the module and the inputs."""

    def __init__(self, run, **parts):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, inputs):
        return self.run(self, inputs)


def net(middle, **parts):
    """(n, 4) to (n, 5), through `middle`, to (n, 3)."""
    first, last = parts.pop("first", None) or nn.Linear(4, 5), parts.pop("last", None) or nn.Linear(5, 3)
    return Net(
        lambda self, inputs: self.last(middle(self, self.first(inputs))), first=first, last=last, **parts
    )


def tanh(self, hidden):
    return torch.tanh(hidden)


def sequence(layer, width):
    """A recurrent layer of which the last state is read out."""
    return Net(
        lambda self, inputs: self.head(self.layer(inputs)[0][:, -1]), layer=layer, head=nn.Linear(width, 3)
    )


def transformer(**options):
    layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.1, activation="gelu", batch_first=True, **options)
    return Net(
        lambda self, inputs: self.head(self.encoder(inputs).mean(1)),
        encoder=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        head=nn.Linear(4, 3),
    )


def causal_attention():
    def attend(self, inputs):
        q, k, v = self.qkv(inputs).chunk(3, dim=-1)
        return self.head(scaled_dot_product_attention(q, k, v, is_causal=True).flatten(1))

    return Net(attend, qkv=nn.Linear(4, 12), head=nn.Linear(20, 3))


def tied_embedding():
    model = Net(
        lambda self, words: self.head(torch.tanh(self.inner(self.words(words).mean(1)))),
        words=nn.Embedding(7, 4),
        inner=nn.Linear(4, 4),
        head=nn.Linear(4, 7, bias=False),
    )
    model.head.weight = model.words.weight
    return model


def branches():
    """As many layers as the values of the inputs ask for, one sample after another."""

    def walk(self, inputs):
        outputs = []
        for row in inputs:
            hidden = self.first(row)
            for _ in range(1 + int(row.sum().abs() * 2) % 3):
                hidden = torch.tanh(self.again(hidden))
            outputs.append(self.last(hidden) if row[0] > 0 else self.other(hidden))
        return torch.stack(outputs)

    layers = {"again": nn.Linear(5, 5), "other": nn.Linear(5, 3)}
    return Net(walk, first=nn.Linear(4, 5), last=nn.Linear(5, 3), **layers)


def frozen_encoder():
    model = transformer().eval()
    model.encoder.requires_grad_(False)
    return model


def partly_frozen():
    model = net(tanh)
    model.first.weight.requires_grad_(False)
    return model


def weight_norm(old=False, **options):
    model = net(tanh)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older one is deprecated
        norm = nn.utils.weight_norm if old else parametrizations.weight_norm
        for layer in (model.first, model.last):
            norm(layer, **options)
    return model


def parametrized(norm, **options):
    model = net(tanh)
    norm(model.first, **options)
    return model


def checkpointed(part):
    """One part is evaluated again when derivatives are taken."""

    def run(self, hidden):
        return checkpoint(lambda hidden: part(self, hidden), hidden, use_reentrant=False)

    return net(run, inner=nn.Sequential(nn.Linear(5, 5), nn.Tanh()), drop=nn.Dropout(0.5))


def torchvision_net(name, **options):
    return differences.smooth(getattr(torchvision.models, name)(num_classes=3, **options))


MODELS = {
    "mobilenet": (lambda: torchvision_net("mobilenet_v3_small", width_mult=0.25).eval(), IMAGES),
    "squeezenet": (lambda: torchvision_net("squeezenet1_1"), IMAGES),
    "vision transformer": (
        lambda: torchvision.models.VisionTransformer(
            image_size=32, patch_size=16, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=8, num_classes=3
        ),
        IMAGES,
    ),
    "transformer": (transformer, SERIES),
    "transformer in eval": (lambda: transformer().eval(), SERIES),
    "pre-norm transformer": (lambda: transformer(norm_first=True), SERIES),
    "causal attention": (causal_attention, SERIES),
    "lstm": (lambda: sequence(nn.LSTM(4, 3, num_layers=2, batch_first=True, bidirectional=True), 6), SERIES),
    "gru": (lambda: sequence(nn.GRU(4, 3, batch_first=True), 3), SERIES),
    "rnn": (lambda: sequence(nn.RNN(4, 3, batch_first=True), 3), SERIES),
    "tied embedding": (tied_embedding, WORDS),
    "branches": (branches, FLOATS),
    "frozen encoder": (frozen_encoder, SERIES),
    "partly frozen": (partly_frozen, FLOATS),
    "without effect": (lambda: net(tanh, unused=nn.Linear(2, 2)), FLOATS),
    "weight norm": (weight_norm, FLOATS),
    "weight norm of all": (lambda: weight_norm(dim=None), FLOATS),
    "older weight norm": (lambda: weight_norm(old=True, dim=1), FLOATS),
    "spectral norm in eval": (lambda: parametrized(parametrizations.spectral_norm).eval(), FLOATS),
    # Its other map rounds the signs of its diagonal, and so jumps where they are moved.
    "orthogonal": (lambda: parametrized(parametrizations.orthogonal, orthogonal_map="matrix_exp"), FLOATS),
    "checkpoint": (lambda: checkpointed(lambda self, hidden: self.inner(hidden)), FLOATS),
    "checkpoint of dropout": (
        lambda: checkpointed(lambda self, hidden: self.drop(self.inner(hidden))),
        FLOATS,
    ),
    "checkpoint of a function": (
        lambda: checkpointed(lambda self, hidden: linear(hidden.tanh(), self.inner[0].weight)),
        FLOATS,
    ),
}


def data(kind):
    if kind == WORDS:
        return torch.randint(7, (SAMPLES, 5))
    shape = {FLOATS: (4,), SERIES: (5, 4), IMAGES: (3, 32, 32)}[kind]
    return torch.randn(SAMPLES, *shape, dtype=torch.float64)


def make(name):
    build, kind = MODELS[name]
    torch.manual_seed(0)
    return Case(build().double(), cross_entropy, data(kind), torch.arange(SAMPLES) % CLASSES)


@pytest.mark.parametrize("name", MODELS)
def test_products_are_those_of_differences_of_the_gradient(name):
    case = make(name)
    with differences.left_as_it_was(case.model):
        H, G = HessianOperator(*case.arguments), GaussNewtonOperator(*case.arguments)
        u, v = (differences.direction(H.shape[0], seed) for seed in (0, 1))
        Hv, Gv = H @ v, G @ v
        assert torch.equal(H @ v, Hv)
        # Rounding of 1e-16 of the terms of a sum, of which a deep net's are up to 1e4 times the result.
        assert abs(u @ Hv - v @ (H @ u)) <= 1e-12 * Hv.norm()
    expected = differences.along(differences.gradient(case), case.model, v)
    assert (Hv - expected).norm() <= differences.CLOSE * Hv.norm()
    pushed = differences.along(differences.outputs(case), case.model, v).reshape(-1)
    values = differences.outputs(case)(case.model)
    curvature = torch.autograd.functional.hessian(lambda f: cross_entropy(f, case.targets), values)
    curved = pushed @ curvature.reshape(values.numel(), -1) @ pushed
    # vᵀGv = (Jv)ᵀB(Jv) is quadratic in the differences.
    assert float(v @ Gv) == pytest.approx(float(curved), rel=2 * differences.CLOSE)


SMALL = ["tied embedding", "branches", "partly frozen", "without effect", "gru", "checkpoint of a function"]


@pytest.mark.parametrize("name", SMALL)
def test_whole_matrix(name):
    case = make(name)
    H = HessianOperator(*case.arguments, chunk_size=3)
    expected = models.dense_hessian(without_checkpoints(case))
    # Entries are sums of some hundred terms of order 1 at 2e-16, with a margin of 30.
    torch.testing.assert_close(H @ torch.eye(len(expected)), expected, rtol=0, atol=1e-12)
    shared = sum(parameter.numel() for parameter in case.model.parameters() if parameter.requires_grad)
    assert H.shape == (shared, shared)


def without_checkpoints(case):
    if "inner" not in dict(case.model.named_children()) or not hasattr(case.model, "drop"):
        return case
    plain = copy.deepcopy(case.model)
    plain.run = lambda self, inputs: self.last(linear(self.first(inputs).tanh(), self.inner[0].weight))
    return Case(plain, case.loss, case.inputs, case.targets)


@pytest.mark.parametrize("name", ["lstm", "transformer", "weight norm"])
def test_float32_takes_other_kernels_to_the_same_result(name):
    """oneDNN has recurrent layers of its own for float32."""
    case = make(name)
    single = Case(copy.deepcopy(case.model).float(), case.loss, case.inputs.float(), case.targets)
    v = differences.direction(HessianOperator(*case.arguments).shape[0])
    expected = HessianOperator(*case.arguments) @ v
    Hv = HessianOperator(*single.arguments) @ v
    # Sums of some hundred terms at 6e-8, of which some cancel.
    assert (Hv.double() - expected).norm() <= 1e-4 * expected.norm()


@pytest.mark.parametrize("budget", [0, 10**9])
@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("checkpoint")])
def test_a_checkpoint_is_evaluated_again_with_the_weights_of_then(name, budget, monkeypatch):
    monkeypatch.setattr("workers.curvature.chunked.kept_bytes", lambda _: budget)
    case = make(name)
    case.model.float()
    H, G = (
        operator(*case.arguments, chunk_size=2, precision="float64")
        for operator in (HessianOperator, GaussNewtonOperator)
    )
    v = differences.direction(H.shape[0])
    Hv, Gv = H @ v, G @ v
    case.model.eval()
    with torch.no_grad():
        for parameter in case.model.parameters():
            parameter.mul_(2)
    # The same operations on the same numbers.
    assert torch.equal(H @ v, Hv)
    assert torch.equal(G @ v, Gv)
    assert not any(module.training for module in case.model.modules())


def test_outputs_of_another_type():
    """Losses are often taken in float64 of a float32 model."""
    model = Net(lambda self, inputs: self.layer(inputs).double(), layer=nn.Linear(4, 3))
    case = Case(model, cross_entropy, torch.randn(SAMPLES, 4), torch.arange(SAMPLES) % CLASSES)
    double = Case(copy.deepcopy(model).double(), case.loss, case.inputs.double(), case.targets)
    for operator in (HessianOperator, GaussNewtonOperator):
        H = operator(*case.arguments)
        assert H.dtype == torch.float32
        product = (H @ torch.eye(15)).double()
        # Entries are sums of a few terms of order 1 at 6e-8, with a margin of 10.
        torch.testing.assert_close(product, models.dense_hessian(double), rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch's compiler
@pytest.mark.parametrize("whole", [True, False])
def test_compiled_code_runs_as_it_is_written(whole):
    case = models.make("mlp")
    if whole:
        compiled = torch.compile(case.model, backend="aot_eager")
    else:
        compiled = nn.Sequential(case.model[0], case.model[1])
        compiled[1].compile(backend="aot_eager")
        compiled.append(case.model[2])
    compiled(case.inputs)
    H = HessianOperator(compiled, case.loss, case.inputs, case.targets)
    # The same operations on the same numbers.
    assert torch.equal(H @ torch.eye(43), HessianOperator(*case.arguments) @ torch.eye(43))


class Square(torch.autograd.Function):
    """x² with a backward of numbers, as one written in C or NumPy would be."""

    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(context, gradient):
        return 2 * context.saved_tensors[0] * gradient


def script():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        return torch.jit.trace(nn.Linear(5, 5), torch.ones(1, 5))


def bag(self, hidden):
    return embedding_bag(torch.arange(SAMPLES)[:, None], hidden)


TWICE = r"^model: has no second derivative, must be differentiable twice: "
REFUSED = {
    "once_differentiable": (
        lambda: net(lambda self, hidden: Square.apply(hidden)),
        ValueError,
        TWICE + r"a function \(Square\) is marked once_differentiable; write its backward",
    ),
    "embedding bag": (
        lambda: net(bag),
        ValueError,
        TWICE
        + r"the derivative for '_embedding_bag_backward' is not implemented; use torch.nn.Embedding and",
    ),
    "reentrant checkpoint": (
        lambda: net(lambda self, hidden: checkpoint(torch.tanh, hidden, use_reentrant=True)),
        ValueError,
        TWICE + r"it uses torch.utils.checkpoint with use_reentrant=True; set use_reentrant=False",
    ),
    "reentrant checkpoint of inputs": (
        lambda: Net(
            lambda self, inputs: self.last(checkpoint(self.first, inputs, use_reentrant=True)),
            first=nn.Linear(4, 5),
            last=nn.Linear(5, 3),
        ),
        ValueError,
        TWICE + r"it uses torch.utils.checkpoint with use_reentrant=True",
    ),
    "bare weight norm": (
        lambda: net(
            lambda self, hidden: linear(hidden, torch._weight_norm(self.v, self.g, 0)),
            v=nn.Parameter(torch.randn(5, 5)),
            g=nn.Parameter(torch.ones(5, 1)),
        ),
        ValueError,
        TWICE + r"that of torch._weight_norm is wrong; use torch.nn.utils.parametrizations.weight_norm",
    ),
    "TorchScript": (
        lambda: net(lambda self, hidden: self.inner(hidden), inner=script()),
        TypeError,
        "^model: inner is TorchScript, must be the module that it was made from",
    ),
    "DataParallel": (
        lambda: nn.DataParallel(net(tanh)),
        TypeError,
        r"^model: it is a DataParallel, must be the module inside, its `.module`",
    ),
}


@pytest.mark.parametrize("operator", [HessianOperator, GaussNewtonOperator])
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_second_derivative_is_refused(name, operator):
    build, error, message = REFUSED[name]
    model = build().double()
    arguments = cross_entropy, data(FLOATS), torch.arange(SAMPLES) % CLASSES
    size = sum(parameter.numel() for parameter in model.parameters())
    with differences.left_as_it_was(model), pytest.raises(error, match=message):
        operator(model, *arguments) @ torch.ones(size)


@pytest.mark.parametrize("operator", [HessianOperator, GaussNewtonOperator])
def test_a_sparse_gradient_is_refused(operator):
    model = nn.Sequential(nn.Embedding(7, 4, sparse=True), nn.Flatten(), nn.Linear(20, 3))
    with pytest.raises(ValueError, match=r"^model: a gradient is sparse, must be dense; use .* sparse=False"):
        operator(model, cross_entropy, data(WORDS), torch.arange(SAMPLES) % CLASSES)


class Failing(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        raise RuntimeError("out of paper")


def test_another_error_of_the_model_is_its_own():
    arguments = cross_entropy, torch.ones(2, 4), torch.tensor([0, 1])
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        HessianOperator(nn.Linear(3, 3), *arguments)
    with pytest.raises(RuntimeError, match=r"^out of paper$"):
        HessianOperator(net(lambda self, hidden: Failing.apply(hidden)), *arguments)


def test_recurrent_layers_do_without_cudnn():
    """Which differentiates them once only. Seen from within, since it takes a GPU to be used."""
    seen = []

    def run(self, inputs):
        seen.append(torch.backends.cudnn.enabled)
        return self.head(self.layer(inputs)[0][:, -1])

    model = Net(run, layer=nn.GRU(4, 3, batch_first=True), head=nn.Linear(3, 3)).double()
    HessianOperator(model, cross_entropy, data(SERIES), torch.arange(SAMPLES) % CLASSES)
    assert seen
    assert not any(seen)
    assert torch.backends.cudnn.enabled
