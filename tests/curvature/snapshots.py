"""Snapshots of a small trial in float64, and what dense matrices of the same model say."""

from pathlib import Path

import curvature_models as models
import torch
from torch import nn

from workers import find
from workers.data import load_data
from workers.initialization import model_of
from workers.losses import LOSSES
from workers.observer import Observer
from workers.snapshot import Snapshot
from workers.spec import Component, Request, TrialSpec

SPEC = TrialSpec(
    architecture=Component("mlp", {"widths": [4], "activation": "tanh"}),
    dataset=Component("digits", {"classes": 3, "samples": 40}),
    precision="float64",
    batch_size=8,
    measure={"top_eigenpairs": Request(options={"tol": 1e-9})},
)
K, P = 3, 64 * 4 + 4 + 4 * 3 + 3

OF_VECTORS = 1e-6
"""Vectors are off by residual / gap, here 1e-9 / 0.01 at the most, and a share by twice that."""

OF_PRODUCTS = 1e-12
"""A product with a vector of 275 components in float64, with a margin of 10."""


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


def with_batch_norm():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)
    ).double()


def case_of(snapshot, inputs, targets):
    return models.Case(snapshot.model, snapshot.loss, inputs, targets)


def measure(name, snapshot, **options):
    return find.function("measurements", name)(snapshot, **options)


def product_count(name, **options):
    return find.module("measurements", name).products(K, **options)


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
