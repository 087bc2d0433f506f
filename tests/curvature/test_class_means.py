"""The parts of Gauss-Newton that class means make, against every sample's own gradients, dense and one by one."""

import curvature_models as models
import pytest
import solvable
import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from workers import solvable_model
from workers.curvature import HessianOperator, top_eigenpairs
from workers.curvature.class_means import class_means

CLASSIFIERS = [name for name, (_, _, loss) in models.FACTORIES.items() if loss is cross_entropy]


def dense(case):
    """w_{i,c'}, (n, k), and δ_{i,c'}, (n, k, p), from the whole Jacobian."""
    _, outputs, vector = models.flat(case)
    shares = outputs(vector).softmax(1).detach()
    jacobian = torch.autograd.functional.jacobian(outputs, vector)
    labels = torch.eye(shares.shape[1], dtype=shares.dtype)
    return shares / len(shares), torch.einsum("ijk,ikp->ijp", shares[:, None] - labels, jacobian)


def parts(case):
    """G_class, G_cross, G_within and G_{c=c'} as matrices, with the means δ_c and δ_{c,c'} as rows."""
    weights, deltas = dense(case)
    k, p = weights.shape[1], deltas.shape[2]
    G = {name: torch.zeros(p, p, dtype=deltas.dtype) for name in ("class", "cross", "within", "own")}
    rows = {"class": [], "cross": []}
    for c in range(k):
        members = case.targets == c
        if not members.any():
            continue
        w, d = weights[members], deltas[members]
        means = torch.einsum("ij,ijp->jp", w, d) / w.sum(0)[:, None]
        others = [other for other in range(k) if other != c]
        mean = (w.sum(0)[others, None] * means[others]).sum(0) / w[:, others].sum()
        G["class"] += w[:, others].sum() * torch.outer(mean, mean)
        for other in others:
            off = means[other] - mean
            G["cross"] += w[:, other].sum() * torch.outer(off, off)
            within = d[:, other] - means[other]
            G["within"] += within.T @ (w[:, other, None] * within)
        G["own"] += d[:, c].T @ (w[:, c, None] * d[:, c])
        rows["class"].append(mean)
        rows["cross"].extend(means[others])
    return G, {name: torch.stack(found) for name, found in rows.items()}


def descending(matrix):
    return torch.linalg.eigvalsh(matrix).flip(0)


def orthonormal(count, size):
    generator = torch.Generator().manual_seed(0)
    return torch.linalg.qr(torch.randn(size, count, dtype=torch.float64, generator=generator))[0]


@pytest.fixture(params=[None, 3], ids=["one chunk", "chunks of 3"])
def chunks(request, monkeypatch):
    if request.param is not None:
        monkeypatch.setattr("workers.curvature.class_means._chunk_size", lambda *_: request.param)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_eigenvalues_are_those_of_the_dense_parts(name, chunks):
    case = models.make(name)
    G, _ = parts(case)
    found = class_means(case.model, case.inputs, case.targets)
    k = len(found.weights)
    # Sums of 10 · 3 products of numbers of order 1, in float64: 30 · 2e-16, and a margin of 100.
    torch.testing.assert_close(sum(G.values()), models.dense_gauss_newton(case), rtol=0, atol=1e-12)
    # Of a symmetric matrix eigenvalues move by no more than its entries' errors times its size, some ten here.
    torch.testing.assert_close(found.class_eigenvalues(), descending(G["class"])[:k], rtol=0, atol=1e-12)
    cross = descending(G["cross"])
    torch.testing.assert_close(found.cross_class_eigenvalues(), cross[: k * (k - 2)], rtol=0, atol=1e-12)
    assert float(cross[k * (k - 2)]) < 1e-12  # there are no more
    # Parts of a sum of positive semidefinite matrices have at most its trace.
    total = float(found.class_eigenvalues().sum() + found.cross_class_eigenvalues().sum())
    assert 0 < total < float(models.dense_gauss_newton(case).trace())


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_overlaps_are_those_of_orthonormal_bases(name):
    case = models.make(name)
    _, rows = parts(case)
    vectors = orthonormal(4, rows["class"].shape[1])
    found = class_means(case.model, case.inputs, case.targets)
    for overlap, spanning, shares in (
        (found.class_overlap, rows["class"], len(rows["class"])),
        (found.cross_class_overlap, rows["cross"], 4),
    ):
        basis, lengths, _ = torch.linalg.svd(spanning.T, full_matrices=False)
        assert float(lengths[-1] / lengths[0]) > 1e-3  # so that the rank is in no doubt
        # The Gram matrix has the square of that condition: 2e-16 / 1e-6, and a margin of 50.
        assert overlap(vectors) == pytest.approx(float((basis.T @ vectors).square().sum()) / shares, abs=1e-8)


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_the_solvable_model(classes):
    steps = 200
    model, (inputs, targets) = solvable.trained(classes, 1.0, steps), solvable.data(classes)
    error = solvable_model.error(classes, solvable_model.logit_gap(classes, 1.0, steps))
    found = class_means(model, inputs, targets)
    # Outer products of x_c with p_c minus the mean of e_{c'}, and with that mean minus e_{c'}. Relative rounding of a
    # dozen operations each, on eigenvalues that are all of one size, with a margin of 100.
    expected = torch.full((classes,), error * (1 - error) ** 2 / (classes - 1), dtype=torch.float64)
    torch.testing.assert_close(found.class_eigenvalues(), expected, rtol=1e-12, atol=0)
    expected = torch.full((classes * (classes - 2),), error / (classes * (classes - 1)), dtype=torch.float64)
    torch.testing.assert_close(found.cross_class_eigenvalues(), expected, rtol=1e-12, atol=0)
    # The top k eigenvectors of H are those of G_class, and residuals of 1e-9 move them by 1e-8.
    H = HessianOperator(model, cross_entropy, inputs, targets)
    top = top_eigenpairs(H, count=classes, tol=1e-9).vectors
    assert found.class_overlap(top) == pytest.approx(1.0, abs=1e-8)
    assert found.cross_class_overlap(top) == pytest.approx(1.0, abs=1e-8)


def test_means_are_right_where_probabilities_vanish():
    inputs, targets = solvable.data(3)
    model = solvable.model(torch.diag(torch.tensor([120.0, 115.0, 110.0]))).float()
    found = class_means(model, inputs.float(), targets)
    # p_{0,1} = e⁻¹²⁰, far below the smallest float32, and δ_{0,1} = (e_0 − e_1) ⊗ x_0 beside it.
    assert float(found.weights[0, 0].log()) == pytest.approx(-120 - torch.tensor(3.0).log().item(), rel=1e-7)
    expected = torch.outer(torch.tensor([1.0, -1.0, 0.0]), torch.tensor([1.0, 0.0, 0.0])).flatten()
    assert torch.equal(found.means[0, 0], expected)


def test_float32_agrees_with_float64():
    single, double = models.make("convnet", torch.float32), models.make("convnet")
    double.model.load_state_dict(single.model.state_dict())
    found = class_means(single.model, single.inputs, single.targets)
    expected = class_means(double.model, single.inputs.double(), single.targets)
    assert found.means.dtype == torch.float32
    # Relative rounding of 6e-8 for each of the some ten operations that a gradient went through, with a margin of 5.
    torch.testing.assert_close(
        found.class_eigenvalues(),
        expected.class_eigenvalues(),
        rtol=0,
        atol=3e-6 * float(expected.class_eigenvalues()[0]),
    )
    vectors = orthonormal(3, found.means.shape[2])
    # The shortest direction of the span is some hundredth of the longest: 100 times that.
    assert found.cross_class_overlap(vectors.float()) == pytest.approx(
        expected.cross_class_overlap(vectors), abs=3e-4
    )


def test_a_class_without_samples_has_no_part():
    case = models.make("mlp")
    present = case.targets != 1
    case = models.Case(case.model, case.loss, case.inputs[present], case.targets[present])
    G, rows = parts(case)
    found = class_means(case.model, case.inputs, case.targets)
    # As above.
    torch.testing.assert_close(found.class_eigenvalues(), descending(G["class"])[:3], rtol=0, atol=1e-12)
    torch.testing.assert_close(
        found.cross_class_eigenvalues(), descending(G["cross"])[:3], rtol=0, atol=1e-12
    )
    basis = torch.linalg.qr(rows["class"].T)[0]
    vectors = orthonormal(4, len(basis))
    # r = 2 of three.
    assert found.class_overlap(vectors) == pytest.approx(
        float((basis.T @ vectors).square().sum()) / 2, abs=1e-8
    )


def test_means_that_vanish_span_nothing():
    model = nn.Linear(2, 3, bias=False)
    found = class_means(model, torch.zeros(4, 2), torch.arange(4) % 3)
    vectors = torch.eye(6)[:, :3]
    assert found.class_overlap(vectors) is None
    assert found.cross_class_overlap(vectors) is None
    assert found.class_eigenvalues().tolist() == found.cross_class_eigenvalues().tolist() == [0.0] * 3


def test_the_model_is_left_as_it_was():
    case = models.make("batch norm in eval")
    case.model[0].weight.grad = torch.ones_like(case.model[0].weight)
    state = {name: value.clone() for name, value in case.model.state_dict().items()}
    random_state = torch.get_rng_state()
    with torch.no_grad():
        assert not class_means(case.model, case.inputs, case.targets).means.requires_grad
    assert all(torch.equal(value, state[name]) for name, value in case.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.equal(case.model[0].weight.grad, torch.ones_like(case.model[0].weight))
    assert all(p.grad is None for name, p in case.model.named_parameters() if name != "0.weight")
    assert not case.model[1].training


def test_refusals():
    case = models.make("batch norm in eval")
    inputs, targets = case.inputs, case.targets
    with pytest.raises(ValueError, match=r"targets: torch.int64 of shape \(10, 3\), must be \(10,\) class"):
        class_means(case.model, inputs, one_hot(targets))
    with pytest.raises(ValueError, match=r"targets: torch.float64 of shape \(10,\), must be"):
        class_means(case.model, inputs, targets.double())
    with pytest.raises(ValueError, match="targets: 0 to 3, must be 0 to 2"):
        class_means(case.model, inputs, targets.where(targets < 2, targets + 1))
    with pytest.raises(
        ValueError, match=r"model: outputs of shape \(10, 1\), must be \(10, k\) with k at least 2"
    ):
        class_means(nn.Linear(4, 1).double(), inputs, targets)
    case.model.train()
    with pytest.raises(
        ValueError, match="model: a batch norm on batch statistics leaves a sample no Jacobian"
    ):
        class_means(case.model, inputs, targets)
