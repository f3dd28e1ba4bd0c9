"""Digital: contrast, elastic transforms, pixelation and JPEG compression.

The strengths are those of CIFAR-10-C; lengths of the elastic transform are shares of the side, as
there. Ours: an image of other than one or three channels is compressed channel by channel.

Reference: hendrycks2019, section 3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from conjoin.core.random import Streams
from conjoin.core.resample import Beyond, sampled
from conjoin.data.corruptions.filters import blurred, whole_positions
from conjoin.data.corruptions.jpeg import compressed

CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)  # share that is kept
# Size and smoothness of the displacement, and reach of an affine map, in shares of the side.
ELASTIC = (
    (0.0, 0.0, 0.08),
    (0.05, 0.2, 0.07),
    (0.08, 0.06, 0.06),
    (0.1, 0.04, 0.05),
    (0.1, 0.03, 0.03),
)
PIXELATE = (0.95, 0.9, 0.85, 0.75, 0.65)  # share of the side that is left
JPEG = (80, 65, 58, 50, 40)  # quality


def contrast(x: Tensor, severity: int, rng: Streams) -> Tensor:
    """Draw each channel towards its mean."""
    mean = x.double().mean((2, 3), keepdim=True).to(x.dtype)
    return ((x - mean) * CONTRAST[severity - 1] + mean).clamp(0, 1)


def elastic_transform(x: Tensor, severity: int, rng: Streams) -> Tensor:
    """Move three points of the picture at random, affinely, then stretch it like rubber."""
    height, width = x.shape[-2:]
    side = min(height, width)
    size, smooth, reach = (side * share for share in ELASTIC[severity - 1])
    row, column = whole_positions(x)
    x = sampled(x, *_affine(x, reach, rng.fold("affine")), Beyond.MIRROR)
    if size > 0:
        drawn = 2 * rng.fold("rubber").uniform(2, height, width, dtype=x.dtype) - 1
        moved = size * blurred(drawn, smooth, truncate=3.0)
        x = sampled(x, row + moved[:, 0], column + moved[:, 1], Beyond.MIRROR)
    return x.clamp(0, 1)


def _affine(x: Tensor, reach: float, rng: Streams) -> tuple[Tensor, Tensor]:
    """Return where each pixel comes from under the map that moves three points by up to ``reach``.

    With the points p and their images q, a pixel z comes from p_2 + P Q^{-1} (z - q_2); the columns of
    P are p_0 - p_2 and p_1 - p_2, those of Q the same of q.
    """
    height, width = x.shape[-2:]
    middle, third = (height // 2, width // 2), min(height, width) // 3
    r, c = (place for place in middle)
    points = torch.tensor(
        [[r + third, c + third], [r - third, c + third], [r - third, c - third]],
        dtype=torch.float64,
        device=x.device,
    )
    images = points + reach * (2 * rng.uniform(3, 2, dtype=torch.float64) - 1)
    first, second, last = images.unbind(1)
    (a, b), (d, e) = (first - last).unbind(1), (second - last).unbind(1)
    row, column = (place.double() for place in whole_positions(x))
    down, right = row - last[:, 0, None, None], column - last[:, 1, None, None]
    a, b, d, e = (value[:, None, None] for value in (a, b, d, e))
    area = a * e - b * d
    share, other = (down * e - right * d) / area, (right * a - down * b) / area
    one, two = points[0] - points[2], points[1] - points[2]
    source = (points[2, k] + share * one[k] + other * two[k] for k in range(2))
    there = tuple(place.to(x.dtype) for place in source)
    return there[0], there[1]


def pixelate(x: Tensor, severity: int, rng: Streams) -> Tensor:
    """Shrink the picture by averaging, and enlarge it again by repeating pixels."""
    share = PIXELATE[severity - 1]
    for axis in (-1, -2):
        size = x.shape[axis]
        x = _resized(_resized(x, axis, max(1, int(size * share))), axis, size)
    return x


def _resized(x: Tensor, axis: int, size: int) -> Tensor:
    """Let each pixel be the mean of those whose middles lie within it; or the nearest, if none do."""
    before = x.shape[axis]
    scale = before / size
    wide = max(1.0, scale)
    total, counted = None, torch.zeros(size, dtype=x.dtype, device=x.device)
    starts = [math.floor((i + 0.5) * scale - wide / 2 + 0.5) for i in range(size)]
    for k in range(math.ceil(wide) + 1):
        places = [start + k for start in starts]
        offsets = [(p - (i + 0.5) * scale + 0.5) / wide for i, p in enumerate(places)]
        held = [-0.5 < o <= 0.5 and 0 <= p < before for o, p in zip(offsets, places, strict=True)]
        weight = torch.tensor(held, dtype=x.dtype, device=x.device)
        index = torch.tensor(places, device=x.device).clamp(0, before - 1)
        shape = [-1 if a == axis % x.ndim else 1 for a in range(x.ndim)]
        part = x.index_select(axis, index) * weight.reshape(shape)
        total = part if total is None else total + part
        counted = counted + weight
    assert total is not None  # noqa: S101 - one place at least
    return total / counted.reshape(shape)


def jpeg_compression(x: Tensor, severity: int, rng: Streams) -> Tensor:
    """Compress and decompress, with 8 bits a channel and halved chroma."""
    return compressed(x, JPEG[severity - 1])


__all__ = ["contrast", "elastic_transform", "jpeg_compression", "pixelate"]
