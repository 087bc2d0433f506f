"""Class means, test loss, mini-batches, random vectors and layers in a row, against dense matrices in float64."""

from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import curvature_models as models
import pytest
import torch

from workers import find
from workers.curvature import HessianOperator
from workers.curvature.class_means import class_means
from workers.data import load_data
from workers.initialization import model_of
from workers.losses import LOSSES
from workers.result import TrialStatus
from workers.snapshot import Observer, Snapshot
from workers.spec import Component, Request, SpecError, TrialSpec
from workers.training import Training
from workers.trial import TrialContext, run_trial

SPEC = TrialSpec(
    architecture=Component("mlp", {"widths": [4], "activation": "tanh"}),
    dataset=Component("digits", {"classes": 3, "samples": 40}),
    precision="float64",
    batch_size=8,
    measure={"top_eigenpairs": Request(options={"tol": 1e-9})},
)
NAMES = ("class_means", "test_set", "batch_sharpness", "random_vectors", "layer_mass")
K, P = 3, 64 * 4 + 4 + 4 * 3 + 3


def data_of(spec):
    return load_data(
        spec.dataset,
        folder=Path("absent"),
        search=None,
        loss=spec.loss,
        precision=spec.precision,
        device="cpu",
    )


def snapshot_of(spec, model=None, data=None, step=0):
    data = data or data_of(spec)
    return Snapshot(Observer(spec, data, model or model_of(spec, data), LOSSES[spec.loss]), step=step)


@pytest.fixture(scope="module")
def data():
    return data_of(SPEC)


@pytest.fixture(scope="module")
def snapshot(data):
    return snapshot_of(SPEC, data=data)


@pytest.fixture(scope="module")
def train(snapshot, data):
    return models.Case(snapshot.model, snapshot.loss, data.x_train, data.y_train)


@pytest.fixture(scope="module")
def test(snapshot, data):
    return models.Case(snapshot.model, snapshot.loss, data.x_test, data.y_test)


def measure(name, snapshot, **options):
    return find.function("measurements", name)(snapshot, **options)


def gradient(case):
    loss, _, vector = models.flat(case)
    return torch.autograd.functional.jacobian(loss, vector)


def top(matrix, count=K):
    return torch.linalg.eigh(matrix)[1].flip(1)[:, :count]


def rayleigh(matrix, vector):
    return float(vector @ matrix @ vector / (vector @ vector))


def cosine(matrix, vector):
    return float(columnwise_cosine(matrix @ vector, vector))


def columnwise_cosine(first, second):
    return torch.nn.functional.cosine_similarity(first, second, dim=0)


def share(vectors, vector):
    return float((vectors.T @ vector).square().sum() / (vector @ vector))


# Vectors are off by residual / gap, here 1e-9 / 0.01 at the most, and a share by twice that.
OF_VECTORS = 1e-6
# A product with a vector of 275 components in float64, with a margin of 10.
OF_PRODUCTS = 1e-12


def test_class_means(snapshot, train):
    record = measure("class_means", snapshot)
    means = class_means(train.model, train.inputs, train.targets)
    vectors = top(models.dense_hessian(train))
    assert record.class_mean_overlap == pytest.approx(means.class_overlap(vectors), abs=OF_VECTORS)
    assert record.cross_class_overlap == pytest.approx(means.cross_class_overlap(vectors), abs=OF_VECTORS)
    assert len(record.class_mean_eigenvalues) == K
    assert len(record.cross_class_eigenvalues) == K * (K - 2)
    values = record.class_mean_eigenvalues + record.cross_class_eigenvalues
    trace = float(models.dense_gauss_newton(train).trace())
    # Rounding of a sum of that size.
    assert -1e-12 * trace < min(values) <= sum(values) < trace
    assert record.class_mean_eigenvalues == sorted(record.class_mean_eigenvalues, reverse=True)
    assert K / P < record.class_mean_overlap <= 1
    assert K / P < record.cross_class_overlap <= 1
    # The span of the δ_c lies in that of the δ_{c,c'}, and both shares are of spaces of k dimensions.
    assert record.class_mean_overlap <= record.cross_class_overlap


def test_class_means_refuse_what_they_are_not_defined_for():
    with pytest.raises(SpecError, match="loss: mse: class_means weighs by softmax outputs; must be cross"):
        measure("class_means", snapshot_of(replace(SPEC, loss="mse")))
    spec = replace(
        SPEC,
        architecture=Component("convnet", {"batch_norm": True}),
        dataset=Component("mnist5k", {"classes": 2, "samples": 8}),
        batch_size=4,
        batch_norm="train",
    )
    with pytest.raises(SpecError, match="batch_norm: train: class_means needs a gradient for each sample"):
        measure("class_means", snapshot_of(spec))
    few = {"top_eigenpairs": Request(options={"count": 1})}
    population = measure("class_means", snapshot_of(replace(spec, batch_norm="eval", measure=few)))
    assert population.class_mean_eigenvalues[0] > 0
    assert population.class_mean_overlap is population.cross_class_overlap is None
    # Without a batch norm the setting means nothing, and nothing is refused.
    plain = snapshot_of(replace(SPEC, batch_norm="train", batch_size=20))
    assert measure("class_means", plain).class_mean_overlap > 0


def test_test_set(snapshot, train, test):
    H, G, g = models.dense_hessian(train), models.dense_hessian(test), gradient(test)
    record = measure("test_set", snapshot, tol=1e-9)
    assert record.test_hessian_gradient_overlap == pytest.approx(cosine(G, g), abs=OF_PRODUCTS)
    assert record.test_gradient_in_top == pytest.approx(share(top(H), g), abs=OF_VECTORS)
    assert record.test_f_top == pytest.approx(share(top(G), g), abs=OF_VECTORS)
    largest = float(torch.linalg.eigvalsh(G)[-1])
    # An eigenvalue is at most a residual away.
    assert record.test_sharpness == pytest.approx(largest, rel=1e-9)
    assert record.test_top_overlap == pytest.approx(
        float((top(G).T @ top(H)).square().sum()) / K, abs=OF_VECTORS
    )
    assert record.test_converged
    assert record.test_f_top != pytest.approx(record.test_gradient_in_top, abs=1e-2)


def test_test_set_without_pairs(snapshot):
    _, before = snapshot.pairs, snapshot.hessian_products
    cheap = measure("test_set", snapshot, eigenpairs=False)
    assert snapshot.hessian_products == before + 1 == before + product_count("test_set", eigenpairs=False)
    whole = measure("test_set", snapshot)
    assert snapshot.hessian_products > before + 2
    assert cheap.test_gradient_in_top == whole.test_gradient_in_top
    assert (
        cheap.test_f_top,
        cheap.test_sharpness,
        cheap.test_top_overlap,
        cheap.test_converged,
    ) == (None,) * 4


def test_the_test_set_is_seen_with_population_statistics():
    spec = replace(
        SPEC,
        architecture=Component("convnet", {"batch_norm": True}),
        dataset=Component("mnist5k", {"samples": 8}),
        batch_size=4,
    )
    data = data_of(spec)
    data = replace(data, x_test=data.x_test[:6], y_test=data.y_test[:6])
    found = {}
    for mode in ("train", "eval"):
        snapshot = snapshot_of(replace(spec, batch_norm=mode), data=data)
        with snapshot.operator(HessianOperator, split="test") as G:
            found[mode] = G.loss, G.gradient
        # Means of the same six losses, in float64.
        assert found[mode][0] == pytest.approx(snapshot.evaluate("test")[0], rel=1e-12)
    assert torch.equal(found["train"][1], found["eval"][1])
    assert found["eval"][0] != pytest.approx(snapshot.evaluate("train")[0], rel=1e-3)


def test_a_test_loss_that_is_infinite_is_no_divergence(data):
    broken = replace(data, x_test=data.x_test.clone().index_fill_(0, torch.tensor(0), torch.inf))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)).double()
    record = measure("test_set", snapshot_of(SPEC, model, broken))
    assert set(vars(record).values()) == {None}


def batches_of(snapshot, monkeypatch, **options):
    """The record, and the index sets that it was made of."""
    seen = []
    operator = Snapshot.operator

    def kept(self, kind, *, batch=None, **rest):
        seen.append(batch)
        return operator(self, kind, batch=batch, **rest)

    monkeypatch.setattr(Snapshot, "operator", kept)
    return measure("batch_sharpness", snapshot, **options), seen


def test_batch_sharpness(snapshot, train, monkeypatch):
    record, batches = batches_of(snapshot, monkeypatch, batches=5)
    assert [len(batch.unique()) for batch in batches] == [8] * 5
    assert len({tuple(batch.tolist()) for batch in batches}) == 5
    cases = [replace(train, inputs=train.inputs[b], targets=train.targets[b]) for b in batches]
    values = [rayleigh(models.dense_hessian(case), gradient(case)) for case in cases]
    values = torch.tensor(values, dtype=torch.float64)
    # As a product, relative to the largest of them.
    scale = OF_PRODUCTS * float(values.abs().max())
    assert record.batch_sharpness == pytest.approx(float(values.mean()), abs=scale)
    assert record.batch_sharpness_error == pytest.approx(float(values.std()) / 5**0.5, abs=scale)
    assert measure("batch_sharpness", snapshot, batches=1).batch_sharpness_error is None


def test_mini_batches_differ_between_steps_and_seeds_and_are_the_same_again(data):
    def value(step=0, seed=0):
        model = model_of(SPEC, data)
        return measure("batch_sharpness", snapshot_of(replace(SPEC, seed=seed), model, data, step), batches=2)

    assert value() == value()
    assert len({value().batch_sharpness, value(step=1).batch_sharpness, value(seed=1).batch_sharpness}) == 3


@pytest.mark.parametrize("batch_size", [40, 64, "full"])
def test_of_a_full_batch_it_is_that_of_the_loss(batch_size, data, train, monkeypatch):
    snapshot = snapshot_of(replace(SPEC, batch_size=batch_size, measurement_samples=10), data=data)
    record, batches = batches_of(snapshot, monkeypatch)
    assert [len(batch) for batch in batches] == [40]
    # As a product; the measurement set of ten samples has no part in it.
    assert record.batch_sharpness == pytest.approx(
        rayleigh(models.dense_hessian(train), gradient(train)), rel=OF_PRODUCTS
    )
    assert record.batch_sharpness_error is None
    assert snapshot.hessian_products == 1


def test_batches_without_a_gradient_are_left_out(data):
    # Of inputs that are 0 but for those of one sample, a layer without bias has a gradient from that one alone.
    inputs = torch.zeros_like(data.x_train)
    inputs[0] = 1.0
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3, bias=False)).double()
    torch.nn.init.zeros_(model[1].weight)
    some = snapshot_of(SPEC, model, replace(data, x_train=inputs))
    record = measure("batch_sharpness", some, batches=20)
    # g_B = (p − e_y) ⊗ x/8 and H_B = (diag p − ppᵀ) ⊗ xxᵀ/8 with p = 1/3 and ‖x‖² = 64: (1/3) · 64/8, whichever they were.
    assert record.batch_sharpness == pytest.approx(64 / 8 / 3, rel=OF_PRODUCTS)
    # Equal values, to the rounding of each.
    assert record.batch_sharpness_error == pytest.approx(0.0, abs=OF_PRODUCTS)
    none = snapshot_of(SPEC, model, replace(data, x_train=torch.zeros_like(inputs)))
    assert set(vars(measure("batch_sharpness", none, batches=3)).values()) == {None}


def test_random_vectors(snapshot, train):
    H = models.dense_hessian(train)
    _, before = snapshot.pairs, snapshot.hessian_products
    record = measure("random_vectors", snapshot, vectors=300)
    assert snapshot.hessian_products - before == 600 == product_count("random_vectors", vectors=300)
    generator = torch.Generator().manual_seed(1)
    anywhere = torch.randn(P, 4000, dtype=torch.float64, generator=generator)
    within = top(H) @ torch.randn(K, 4000, dtype=torch.float64, generator=generator)
    for found, samples in (
        (record.random_vector_overlap, columnwise_cosine(H @ anywhere, anywhere)),
        (record.random_vector_f_top, (top(H).T @ anywhere).square().sum(0) / anywhere.square().sum(0)),
        (record.random_top_vector_overlap, columnwise_cosine(H @ within, within)),
    ):
        # Four and a half standard errors of 300 draws, with those of 4,000 in them; and the seed is fixed.
        error = float(samples.std()) / 300**0.5
        assert found == pytest.approx(float(samples.mean()), abs=4.5 * error)
    # A beta distribution about k/p, with a relative deviation of some √(2/k): of a mean over 300, 5 % and six of it.
    assert record.random_vector_f_top == pytest.approx(K / P, rel=0.3)
    few = replace(SPEC, measure={"top_eigenpairs": Request(options={"count": 2})})
    record = measure("random_vectors", snapshot_of(few))
    assert record.random_vector_f_top is record.random_top_vector_overlap is None
    assert record.random_vector_overlap is not None


def test_random_vectors_differ_between_steps_and_seeds_and_are_the_same_again(data):
    def overlap(step=0, seed=0):
        model = model_of(SPEC, data)
        return measure("random_vectors", snapshot_of(replace(SPEC, seed=seed), model, data, step), vectors=2)

    assert overlap() == overlap()
    found = [overlap(), overlap(step=1), overlap(seed=1)]
    assert len({record.random_vector_overlap for record in found}) == 3


@pytest.mark.parametrize("seed", range(3))
def test_random_vectors_of_a_diagonal_operator(seed):
    """2 I on the top and zeros elsewhere, where every answer is known."""
    diagonal = torch.zeros(2000, dtype=torch.float64)
    diagonal[:500] = 2.0
    stand_in = SimpleNamespace(
        spec=replace(SPEC, seed=seed),
        step=0,
        classes=500,
        parameters=2000,
        hessian=torch.diag(diagonal),
        pairs=SimpleNamespace(vectors=torch.eye(2000, dtype=torch.float64)[:, :500]),
    )
    record = measure("random_vectors", stand_in, vectors=20)
    # vᵀHv/(‖v‖‖Hv‖) is here the root of the share in the top, and that is beta-distributed about 1/4 with a variance of
    # (1/4)(3/4)/1001; of a mean over 20 that is 0.0031, and four of it.
    assert record.random_vector_f_top == pytest.approx(0.25, abs=0.013)
    assert record.random_vector_overlap == pytest.approx(0.5, abs=0.013)
    # Every vector of the top is an eigenvector; rounding of sums of 2,000 terms.
    assert record.random_top_vector_overlap == pytest.approx(1.0, abs=1e-12)


def test_random_vectors_without_curvature():
    stand_in = SimpleNamespace(
        spec=SPEC,
        step=0,
        classes=2,
        parameters=5,
        hessian=torch.zeros(5, 5),
        pairs=SimpleNamespace(vectors=torch.eye(5)[:, :2]),
    )
    record = measure("random_vectors", stand_in)
    assert record.random_vector_overlap is record.random_top_vector_overlap is None
    assert 0 < record.random_vector_f_top < 1


def test_layer_mass(snapshot, train):
    vectors = top(models.dense_hessian(train), 2 * K)
    _, before = snapshot.pairs, snapshot.hessian_products
    first, second = measure("layer_mass", snapshot).layer_mass
    assert snapshot.hessian_products == before
    assert (first.layer, first.parameters) == ("1", 260)
    assert (second.layer, second.parameters) == ("3", 15)
    for layer, rows in ((first, slice(0, 260)), (second, slice(260, 275))):
        assert layer.mass == pytest.approx(vectors[rows].square().sum(0).tolist(), abs=OF_VECTORS)
    # Unit vectors to rounding.
    assert [a + b for a, b in zip(first.mass, second.mass, strict=True)] == pytest.approx(
        [1.0] * 6, abs=1e-12
    )


def test_layer_mass_of_shared_and_frozen_parameters():
    for model in (models.Tied(), models.partly_frozen()):
        names = dict(model.named_parameters())
        p = sum(value.numel() for value in names.values() if value.requires_grad)
        stand_in = SimpleNamespace(model=model, pairs=SimpleNamespace(vectors=torch.eye(p)))
        found = measure("layer_mass", stand_in).layer_mass
        masses = torch.tensor([layer.mass for layer in found])
        # Of unit vectors along the axes: each is in one layer, and a layer has as many as parameters.
        assert torch.equal(masses.sum(0), torch.ones(p))
        assert masses.sum(1).tolist() == [layer.parameters for layer in found]


def product_count(name, **options):
    return find.module("measurements", name).products(K, **options)


@pytest.fixture(scope="module")
def trial():
    measurements = {name: Request() for name in NAMES}
    return replace(
        SPEC,
        architecture=Component("mlp", {"widths": [8]}),
        dataset=Component("digits", {"classes": 5, "samples": 200}),
        precision="float32",
        batch_size=32,
        steps=6,
        measure={"top_eigenpairs": Request(at=(0, 6)), **measurements, "batch_sharpness": Request(at=(0, 6))},
    )


def finished(spec):
    *rows, result = run_trial(spec, TrialContext(data=Path("absent")))
    assert result.status == TrialStatus.COMPLETED
    return rows, result


def test_in_a_trial_every_column_is_filled_and_the_same_again(trial):
    rows, _ = finished(trial)
    records = [find.module("measurements", name).Record for name in NAMES]
    columns = {field.name for record in records for field in fields(record)}
    assert len(columns) == 16
    for row in rows:
        assert {name for name in columns if row[name] is None} == set()
    assert finished(trial)[0] == rows


def test_training_is_the_same_to_the_bit_with_them(trial, monkeypatch):
    made = []

    class Kept(Training):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr("workers.trial.Training", Kept)
    finished(trial)
    finished(replace(trial, measure={}))
    assert torch.equal(made[0].weights(), made[1].weights())


def test_they_leave_the_model_of_the_snapshot_as_it_was(data):
    snapshot = snapshot_of(SPEC, data=data)
    before = {name: value.clone() for name, value in snapshot.model.state_dict().items()}
    random_state = torch.get_rng_state()
    for name in NAMES:
        measure(name, snapshot)
    assert all(torch.equal(value, before[name]) for name, value in snapshot.model.state_dict().items())
    assert all(parameter.grad is None for parameter in snapshot.model.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_what_plan_expects_is_about_what_is_spent(snapshot):
    _ = snapshot.pairs
    for name in NAMES:
        before = snapshot.hessian_products
        measure(name, snapshot)
        spent = snapshot.hessian_products - before
        # The model is small, so that its pairs take more or fewer: a factor of three.
        assert product_count(name) / 3 <= spent <= 3 * product_count(name), name
