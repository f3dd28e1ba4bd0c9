"""Blur: out of focus, behind frosted glass, in motion, and while zooming.

The strengths are those of CIFAR-10-C, in pixels of a 32-pixel image. Ours: bilinear values along the
line of motion, where ImageMagick takes the nearest pixel; zooming about the exact middle; the glass of
images larger than 32 pixels, whose neighbours lie further off.

Reference: hendrycks2019, section 3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from conjoin.core.random import Streams
from conjoin.data.corruptions.filters import bell, blurred, correlated, swept, unit, zoomed

DEFOCUS = (
    (0.3, 0.4),
    (0.4, 0.5),
    (0.5, 0.6),
    (1.0, 0.2),
    (1.5, 0.1),
)  # radius, softness of its edge
GLASS = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))  # sigma, reach, rounds
MOTION = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))  # radius, sigma
ZOOM = (7, 12, 16, 21, 26)  # how many factors 1.00, 1.01, ...


def defocus_blur(x: Tensor, severity: int, rng: Streams) -> Tensor:
    """Average over a disk, as a lens out of focus does."""
    radius, soft = DEFOCUS[severity - 1]
    radius *= unit(x)
    reach = math.floor(radius)
    edge = 1 if radius <= 8 else 2
    place = torch.arange(-reach - edge, reach + edge + 1)
    disk = (place[:, None] ** 2 + place[None] ** 2 <= radius**2).double()
    weight = bell(soft, edge)
    disk = _spread(disk / disk.sum(), weight)
    return correlated(x, disk).clamp(0, 1)


def _spread(kernel: Tensor, weight: Tensor) -> Tensor:
    """Soften a kernel that is 0 at its edges."""
    reach, (height, width) = len(weight) // 2, kernel.shape
    padded = torch.nn.functional.pad(kernel, (reach,) * 4)
    total = torch.zeros_like(kernel)
    for r, first in enumerate(weight.tolist()):
        for c, second in enumerate(weight.tolist()):
            total = total + first * second * padded[r : r + height, c : c + width]
    return total


def glass_blur(x: Tensor, severity: int, rng: Streams) -> Tensor:
    """Let each pixel take the value of a neighbour, drawn at random, between two slight blurs.

    The published loop means to swap the two, but both sides of its exchange are views of one array, so
    that one value is lost: what it computes is this. The neighbour lies up to ``reach`` above or to the
    left, or up to ``reach`` - 1 below or to the right; pixels at the edges keep their own.
    """
    sigma, reach, rounds = GLASS[severity - 1]
    sigma, reach = sigma * unit(x), round(reach * unit(x))
    height, width = x.shape[-2:]
    row, column = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    inside = ((row > reach) & (row <= height - reach))[:, None]
    inside = inside & ((column > reach) & (column <= width - reach))
    here = row[:, None] * width + column
    flat = blurred(x, sigma).flatten(2)
    for turn in range(rounds):
        drawn = rng.fold(turn).uniform(2, height, width)
        step = (drawn * 2 * reach).floor().long() - reach  # -reach, ..., reach - 1
        there = here + torch.where(inside, step[:, 0] * width + step[:, 1], 0)
        flat = flat.gather(2, there.flatten(1)[:, None].expand(-1, flat.shape[1], -1))
    return blurred(flat.reshape(x.shape), sigma).clamp(0, 1)


def motion_blur(x: Tensor, severity: int, rng: Streams) -> Tensor:
    """Smear along a line, at an angle of up to 45 degrees."""
    radius, sigma = MOTION[severity - 1]
    angle = 90 * rng.uniform(1, dtype=x.dtype)[:, 0] - 45
    return swept(x, radius * unit(x), sigma * unit(x), angle).clamp(0, 1)


def zoom_blur(x: Tensor, severity: int, rng: Streams) -> Tensor:
    """Average the picture with enlargements of itself."""
    count = ZOOM[severity - 1]
    total = x
    for step in range(count):
        total = total + zoomed(x, 1 + step / 100)
    return (total / (count + 1)).clamp(0, 1)


__all__ = ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur"]
