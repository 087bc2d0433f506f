"""One file per architecture: `build(input_shape, num_classes, *, options) -> torch.nn.Module`.

`input_shape` is that of one sample, (channels, height, width) or (d,); the module maps (n, *input_shape) to
(n, num_classes): logits, or the outputs of a regression.
"""

from collections.abc import Sequence

from workers.spec import SpecError


def check_image(architecture: str, input_shape: Sequence[int], least: int = 1) -> tuple[int, int, int]:
    """(channels, height, width) of images of at least `least` × `least` pixels. Raises SpecError for other
    inputs.

    >>> check_image("convnet", (3, 32, 32), least=10)
    (3, 32, 32)
    """
    if len(input_shape) != 3:
        raise SpecError(
            f"architecture: {architecture}: needs images (channels, height, width), "
            f"but the data's inputs are of shape {tuple(input_shape)}"
        )
    channels, height, width = input_shape
    if min(height, width) < least:
        raise SpecError(
            f"architecture: {architecture}: needs images of at least {least}×{least} pixels, "
            f"but the data's are {height}×{width}"
        )
    return channels, height, width


__all__ = ["check_image"]
