"""Images between their pixels: bilinear values at any positions, per example.

Pixel (r, c) lies at row r and column c: positions are counted in pixels, and an image is what it is at
its own, bit for bit, since there the weights are 1 and 0. Differentiable in the image and, piecewise,
in the positions. Sums go element by element in one order, so no result depends on the batch. It is
*not* made for shrinking, where pixels would be skipped.
"""

from __future__ import annotations

from enum import Enum

import torch
from jaxtyping import Float
from torch import Tensor


class Beyond(Enum):
    """What lies beyond the edge of an image."""

    ZERO = "zero"  # nothing
    EDGE = "edge"  # the nearest pixel
    MIRROR = "mirror"  # the image, mirrored in its outermost pixels


def sampled(
    x: Float[Tensor, "batch *channels height width"],
    row: Float[Tensor, "batch h w"],
    column: Float[Tensor, "batch h w"],
    beyond: Beyond = Beyond.ZERO,
) -> Float[Tensor, "batch *channels h w"]:
    """Return the values of images at (row, column), in pixels from the middle of the first one."""
    height, width = x.shape[-2:]
    flat = x.reshape(len(x), -1, height * width)
    top, left = row.floor(), column.floor()
    down, right = (row - top)[:, None], (column - left)[:, None]
    total = torch.zeros((), dtype=x.dtype, device=x.device)
    for r, vertical in ((top, 1 - down), (top + 1, down)):
        for c, horizontal in ((left, 1 - right), (left + 1, right)):
            at = _inside(r, height, beyond) * width + _inside(c, width, beyond)
            value = flat.gather(2, at.flatten(1)[:, None].expand(-1, flat.shape[1], -1))
            weight = vertical * horizontal
            if beyond is Beyond.ZERO:
                seen = (r >= 0) & (r < height) & (c >= 0) & (c < width)
                weight = weight * seen[:, None]
            total = total + value.reshape(len(x), -1, *row.shape[1:]) * weight
    return total.reshape(*x.shape[:-2], *row.shape[1:])


def _inside(place: Tensor, size: int, beyond: Beyond) -> Tensor:
    """Return which pixel of a line stands for a whole position."""
    if beyond is Beyond.MIRROR and size > 1:
        turn = 2 * (size - 1)
        place = place.remainder(turn)
        place = torch.minimum(place, turn - place)
    return place.clamp(0, size - 1).long()


def positions(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return row and column of each pixel, from the middle of the image, ``(1, height, width)``."""
    height, width = x.shape[-2:]
    row = torch.arange(height, dtype=x.dtype, device=x.device) - (height - 1) / 2
    column = torch.arange(width, dtype=x.dtype, device=x.device) - (width - 1) / 2
    return row[None, :, None].expand(1, height, width), column[None, None].expand(1, height, width)


__all__ = ["Beyond", "positions", "sampled"]
