"""Layers by name, and their blocks of the dense Hessian."""

import curvature_models as models
import pytest
import torch
from torch import nn

from workers.curvature import HessianOperator
from workers.curvature.layers import layers, only


def names(model):
    own = {id(parameter): name for name, parameter in model.named_parameters()}
    return {layer: [own[id(parameter)] for parameter in found] for layer, found in layers(model).items()}


def test_layers_own_their_parameters():
    assert names(models.mlp()) == {"0": ["0.weight", "0.bias"], "2": ["2.weight", "2.bias"]}
    assert names(nn.Linear(2, 1)) == {"": ["weight", "bias"]}
    # A frozen parameter belongs to none, a shared one to the first.
    assert names(models.partly_frozen()) == {"0": ["0.bias"], "2": ["2.weight", "2.bias"]}
    assert names(models.Tied()) == {"first": ["first.weight", "first.bias"], "second": ["second.bias"]}


@pytest.mark.parametrize("name", ["mlp", "convnet", "tied", "partly frozen", "attention"])
def test_blocks_are_those_of_the_dense_hessian(name):
    case = models.make(name)
    dense, trainable = models.dense_hessian(case), [p for p in case.model.parameters() if p.requires_grad]
    starts = dict(
        zip(
            map(id, trainable),
            torch.tensor([0, *(p.numel() for p in trainable)]).cumsum(0).tolist(),
            strict=False,
        )
    )
    for parameters in layers(case.model).values():
        with only(case.model, parameters):
            block = HessianOperator(*case.arguments, chunk_size=4)
        rows = torch.cat([starts[id(p)] + torch.arange(p.numel()) for p in parameters])
        # As in test_equals_the_dense_matrix.
        torch.testing.assert_close(
            block @ torch.eye(len(rows)).double(), dense[rows][:, rows], rtol=0, atol=1e-12
        )


def test_what_requires_a_gradient_is_restored_even_after_an_error():
    model = models.partly_frozen()

    def flags():
        return [parameter.requires_grad for parameter in model.parameters()]

    def fail():
        assert flags() == [False, False, True, True]
        raise KeyError

    with pytest.raises(KeyError), only(model, layers(model)["2"]):
        fail()
    assert flags() == [False, True, True, True]
