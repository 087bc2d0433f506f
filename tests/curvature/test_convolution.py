"""Convolutions that differentiate twice by the fast kernels, beside torch's own."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from workers.curvature import HessianOperator
from workers.curvature.convolution import FastConvolutions

GEOMETRIES = [
    {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    for stride, padding, dilation, groups in itertools.product(
        (1, 2, (2, 1)), (0, (1, 2), "valid", "same"), (1, (1, 2)), (1, 2)
    )
    if padding != "same" or stride == 1
]


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def derivatives(convolve, operands):
    """Value, first, second and third derivatives of a smooth function of a convolution, along fixed vectors."""
    value = convolve(*operands).tanh().square().sum()
    first = torch.autograd.grad(value, operands, create_graph=True)
    along = [normal(*operand.shape, seed=1) for operand in operands]
    second = torch.autograd.grad(first, operands, along, create_graph=True)
    third = torch.autograd.grad(sum(part.square().sum() for part in second), operands)
    return torch.cat([part.detach().reshape(-1) for part in (value, *first, *second, *third)])


def assert_equal_to_native(convolve, *operands):
    operands = [operand.requires_grad_() for operand in operands]
    expected = derivatives(convolve, operands)
    with FastConvolutions():
        actual = derivatives(convolve, operands)
    # The same sums of some hundreds of terms in another order, three derivatives deep.
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11 * float(expected.abs().max()))


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda geometry: "-".join(map(str, geometry.values())))
def test_equals_torch_to_the_third_derivative(geometry):
    weight = normal(4, 4 // geometry["groups"], 3, 3, seed=2)
    assert_equal_to_native(
        lambda x, w, b: functional.conv2d(x, w, b, **geometry),
        normal(2, 4, 7, 6),
        weight,
        normal(4, seed=3),
    )


def test_one_and_three_dimensions_and_no_bias():
    assert_equal_to_native(
        lambda x, w: functional.conv1d(x, w, padding=2), normal(2, 3, 8), normal(5, 3, 3, seed=2)
    )
    assert_equal_to_native(functional.conv3d, normal(2, 2, 4, 4, 3), normal(3, 2, 2, 2, 2, seed=2))


@pytest.mark.filterwarnings("ignore:Using padding=.same.:UserWarning")
def test_what_has_no_batch_or_an_uneven_padding_is_left_to_torch():
    assert_equal_to_native(functional.conv2d, normal(3, 5, 5), normal(2, 3, 2, 2, seed=2))
    assert_equal_to_native(
        lambda x, w: functional.conv2d(x, w, padding="same"), normal(2, 3, 5, 5), normal(2, 3, 2, 2, seed=2)
    )


def width_of_kernels(work):
    """The widest kernel that any convolution has in it."""
    with torch.profiler.profile(record_shapes=True) as profile:
        work()
    return max(event.input_shapes[1][-1] for event in profile.events() if event.name == "aten::convolution")


def test_second_derivative_needs_no_kernel_as_large_as_the_image():
    """What the whole file is for: torch's own second derivative convolves with the image for a kernel."""
    x, w = normal(4, 2, 12, 12).requires_grad_(), normal(3, 2, 3, 3, seed=2).requires_grad_()

    def largest_kernel(context):
        with context:
            value = functional.conv2d(x, w, padding=1).tanh().square().sum()
        first = torch.autograd.grad(value, (x, w), create_graph=True)
        return width_of_kernels(
            lambda: torch.autograd.grad(first, (x, w), [torch.ones_like(x), torch.ones_like(w)])
        )

    assert largest_kernel(FastConvolutions()) == 3
    assert largest_kernel(torch.enable_grad()) > 3


def test_function_transforms_and_complex_numbers_are_left_to_torch():
    x, w = normal(3, 1, 2, 5, 5), normal(2, 2, 3, 3, seed=2)
    expected = torch.stack([functional.conv2d(image, w) for image in x])
    complex_expected = torch.complex(expected[0], 0 * expected[0])
    with FastConvolutions():
        # The same sums in another order.
        torch.testing.assert_close(torch.func.vmap(lambda image: functional.conv2d(image, w))(x), expected)
        torch.testing.assert_close(
            functional.conv2d(x[0].cfloat().cdouble(), w.cdouble()), complex_expected, rtol=1e-6, atol=1e-6
        )


def test_products_with_the_hessian_use_them():
    convolutions = [nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 3, 3, padding=1), nn.Tanh()]
    model = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(3 * 12 * 12, 4)).double()
    targets = torch.zeros(5, dtype=torch.long)
    H = HessianOperator(model, functional.cross_entropy, normal(5, 2, 12, 12), targets)
    assert width_of_kernels(lambda: H @ normal(H.shape[0])) == 3
