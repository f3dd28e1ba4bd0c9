"""Rotations and shifts, as a transformation for a lifted model.

θ = (angle, dx, dy) of each example, in degrees and pixels: the picture is turned about its middle, then
shifted; bilinear between pixels, black beyond the edge. What an adversary may do is a box in θ, an
ordinary threat::

    limits = torch.tensor([[30.0, 3.0, 3.0]])
    turned = data.lifted(torch.zeros(len(data), 3))
    box = Linf(inf, bounds=(-limits, limits))
    attack(lifted(model, rotated_and_shifted), turned, Grid((31, 5, 5)), box, seed=0)

``Scaled(Linf(1.0, (-inf, inf)), limits)`` is the same box with a radius, for attacks that take steps.
It is *not* a ball in x: the pixels may change by any amount.

Reference: engstrom2019, section 3.
"""

from __future__ import annotations

from torch import Tensor

from conjoin.core.naming import describe
from conjoin.core.resample import positions, sampled
from conjoin.errors import DataError
from conjoin.typing import Inputs


def rotated_and_shifted(x: Inputs, theta: Tensor) -> Tensor:
    """Turn images by an angle about their middle, then shift them.

    A positive angle turns counter-clockwise as one looks at the picture, a positive dx moves it to the
    right, a positive dy down: x'(R(p - m) + m + d) = x(p), with row 0 at the top. At θ = 0, and for
    whole shifts, pixels come back bit for bit; the gradient in θ has kinks where positions cross
    pixels, so there it is that of one side.

    Args:
        x: Images, ``(batch, ..., height, width)``, of any number of channels and any size.
        theta: (angle in degrees, dx in pixels, dy in pixels), ``(batch, 3)``.

    Raises:
        DataError: If images or parameters have another shape.
    """
    if x.ndim < 3 or not x.is_floating_point():
        raise DataError(
            f"expected images (batch, channels, height, width) in floating point; got {describe(x)}"
        )
    if theta.shape != (len(x), 3):
        raise DataError(
            f"expected (angle, dx, dy) of each of {len(x)} images, of shape ({len(x)}, 3); got "
            f"{describe(theta)}: data.lifted(torch.zeros(len(data), 3))"
        )
    angle, dx, dy = (theta.to(x.dtype)[:, k, None, None] for k in range(3))
    cos, sin = angle.deg2rad().cos(), angle.deg2rad().sin()
    row, column = positions(x)
    down, right = row - dy, column - dx
    middle = (x.shape[-2] - 1) / 2, (x.shape[-1] - 1) / 2
    return sampled(x, right * sin + down * cos + middle[0], right * cos - down * sin + middle[1])


__all__ = ["rotated_and_shifted"]
