"""ResNet-18 (arXiv:1512.03385) with the stem that small images need."""

from collections.abc import Sequence

from torch import nn

from workers.architectures import check_image


def build(input_shape: Sequence[int], num_classes: int) -> nn.Module:
    """torchvision's ResNet-18 whose stem is a 3×3 convolution of stride 1 without max pooling.

    arXiv:1812.04754 does not say which stem it trained; this one, common for CIFAR, is our choice.

    >>> sum(p.numel() for p in build((3, 32, 32), 10).parameters())
    11173962

    Raises SpecError where inputs are not images.
    """
    from torchvision.models import resnet18

    channels, _, _ = check_image("resnet18", input_shape)
    model: nn.Module = resnet18(weights=None, num_classes=num_classes)
    model.conv1 = nn.Conv2d(channels, 64, kernel_size=3, stride=1, padding=1, bias=False)
    # as torchvision initialises its other convolutions
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    return model
