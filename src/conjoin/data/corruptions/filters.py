"""Filters of images, element by element in one order: no result depends on the batch.

Convolutions of a library may round a row by its company; these are sums of shifted images. Lengths are
in pixels; those of corruptions are said for images of 32 pixels, and of larger ones times ``unit``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from conjoin.core.resample import Beyond, positions, sampled

SIDE = 32  # of the images that the constants are made for
FAINT = 1e-4  # weights below this share of the largest are left out of a motion blur


def unit(x: Tensor) -> float:
    """Return what one pixel of a 32-pixel image is worth here; of smaller ones, a pixel."""
    return max(1.0, min(x.shape[-2:]) / SIDE)


def mirrored(size: int, reach: int) -> Tensor:
    """Return the pixels of a line that is mirrored in its outermost ones, ``reach`` beyond each end."""
    turn = max(1, 2 * (size - 1))
    place = torch.arange(-reach, size + reach).remainder(turn)
    return torch.minimum(place, turn - place).clamp(0, size - 1)


def correlated(x: Tensor, kernel: Tensor) -> Tensor:
    """Sum shifted images by the weights of an odd kernel, ``(rows, columns)``."""
    height, width = x.shape[-2:]
    up, left = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = x[..., mirrored(height, up).to(x.device), :]
    padded = padded[..., mirrored(width, left).to(x.device)]
    total = torch.zeros_like(x)
    for r, line in enumerate(kernel.tolist()):
        for c, weight in enumerate(line):
            if weight != 0:
                total = total + weight * padded[..., r : r + height, c : c + width]
    return total


def bell(sigma: float, reach: int) -> Tensor:
    """Return the weights of a Gaussian at whole distances up to ``reach``, of sum 1."""
    place = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weight = torch.exp(-(place**2) / (2 * sigma**2)) if sigma > 0 else (place == 0).double()
    return weight / weight.sum()


def blurred(x: Tensor, sigma: float, truncate: float = 4.0) -> Tensor:
    """Blur by a Gaussian, cut at ``truncate`` standard deviations."""
    reach = math.floor(truncate * sigma + 0.5)
    if reach == 0:
        return x
    weight = bell(sigma, reach)
    return correlated(correlated(x, weight[:, None]), weight[None])


def swept(x: Tensor, radius: float, sigma: float, angle: Tensor) -> Tensor:
    """Blur along a line that trails from each pixel at an angle in degrees, ``(batch,)``.

    The weights are half a bell, exp(-i²/2σ²) at the distances i = 0, 1, ..., 2 radius.
    """
    place = torch.arange(2 * math.ceil(radius) + 1, dtype=torch.float64)
    weight = torch.exp(-(place**2) / (2 * sigma**2))
    weight = (weight / weight.sum())[weight >= FAINT]
    turn = angle.deg2rad()[:, None, None]
    row, column = whole_positions(x)
    total = torch.zeros_like(x)
    for i, w in enumerate(weight.tolist()):
        there = sampled(x, row + i * turn.sin(), column + i * turn.cos(), Beyond.EDGE)
        total = total + w * there
    return total


def zoomed(x: Tensor, factor: float) -> Tensor:
    """Enlarge about the middle; the size of the picture stays."""
    row, column = positions(x)
    middle = (x.shape[-2] - 1) / 2, (x.shape[-1] - 1) / 2
    shape = (len(x), *x.shape[-2:])
    return sampled(
        x,
        (row / factor + middle[0]).expand(shape),
        (column / factor + middle[1]).expand(shape),
        Beyond.EDGE,
    )


def whole_positions(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return row and column of each pixel from the first one, ``(1, height, width)``."""
    row, column = positions(x)
    return row + (x.shape[-2] - 1) / 2, column + (x.shape[-1] - 1) / 2


__all__ = [
    "bell",
    "blurred",
    "correlated",
    "mirrored",
    "swept",
    "unit",
    "whole_positions",
    "zoomed",
]
