"""JPEG as it loses: 8-bit YCbCr, halved chroma, blocks of 8 x 8 cosines, rounded by a table.

Baseline JPEG with the example tables of the standard (annex K), scaled by a quality as the Independent
JPEG Group does; what is lossless, the coding of the rounded numbers, is left out. Sums go element by
element in one order, so that no rounding falls otherwise in another batch.

Reference: wallace1992, sections 4 and 8.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from conjoin.core.resample import Beyond, sampled

LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
BLOCK = 8


def compressed(x: Tensor, quality: int) -> Tensor:
    """Return images in 0..1, ``(batch, channels, height, width)``, as a JPEG file holds them."""
    pixels = (x.double() * 255).round().clamp(0, 255)
    if x.shape[1] != 3:
        return (_coded(pixels, LUMINANCE, quality) / 255).to(x.dtype)
    red, green, blue = (pixels[:, k : k + 1] for k in range(3))
    y = (0.299 * red + 0.587 * green + 0.114 * blue).round()
    cb = (128 - 0.168736 * red - 0.331264 * green + 0.5 * blue).round().clamp(0, 255)
    cr = (128 + 0.5 * red - 0.418688 * green - 0.081312 * blue).round().clamp(0, 255)
    y = _coded(y, LUMINANCE, quality)
    cb, cr = (_doubled(_coded(_halved(c), CHROMINANCE, quality), x) - 128 for c in (cb, cr))
    channels = (y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb)
    return (torch.cat(channels, 1).round().clamp(0, 255) / 255).to(x.dtype)


def _halved(x: Tensor) -> Tensor:
    """Average squares of 2 x 2, an odd edge repeated; halves go down and up in turn."""
    x = _padded(x, 2)
    total = x[..., ::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, ::2] + x[..., 1::2, 1::2]
    bias = torch.arange(total.shape[-1], device=x.device) % 2 + 1
    return ((total + bias) / 4).floor()


def _doubled(x: Tensor, like: Tensor) -> Tensor:
    """Interpolate linearly to the size of ``like``; the new pixels lie a quarter off the old ones."""
    height, width = like.shape[-2:]
    row = (torch.arange(height, dtype=x.dtype, device=x.device) + 0.5) / 2 - 0.5
    column = (torch.arange(width, dtype=x.dtype, device=x.device) + 0.5) / 2 - 0.5
    shape = (len(x), height, width)
    there = row[None, :, None].expand(shape), column[None, None].expand(shape)
    return sampled(x, *there, Beyond.EDGE).round()


def _padded(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column up to a multiple."""
    for axis in (-1, -2):
        size = x.shape[axis]
        places = torch.arange(math.ceil(size / multiple) * multiple, device=x.device)
        x = x.index_select(axis, places.clamp(max=size - 1))
    return x


def _coded(x: Tensor, table: tuple[tuple[int, ...], ...], quality: int) -> Tensor:
    """Round the cosine coefficients of each block to multiples of the table's entries."""
    height, width = x.shape[-2:]
    x = _padded(x, BLOCK)
    tall, wide = x.shape[-2] // BLOCK, x.shape[-1] // BLOCK
    blocks = x.reshape(*x.shape[:2], tall, BLOCK, wide, BLOCK).transpose(-3, -2) - 128
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    steps = torch.tensor(table, dtype=x.dtype, device=x.device)
    steps = ((steps * scale + 50) / 100).floor().clamp(1, 255)
    cosines = _cosines().to(x.device)
    waves = _turned(_turned(blocks, cosines, -1), cosines, -2) / steps
    waves = steps * waves.sign() * (waves.abs() + 0.5).floor()
    back = _turned(_turned(waves, cosines.T, -1), cosines.T, -2)
    back = (back + 128).round().clamp(0, 255).transpose(-3, -2).reshape(x.shape)
    return back[..., :height, :width]


def _cosines() -> Tensor:
    """Return the orthonormal cosine transform of 8 numbers, ``(wave, place)``."""
    wave, place = torch.arange(BLOCK, dtype=torch.float64)[:, None], torch.arange(BLOCK)
    table = torch.cos((2 * place + 1) * wave * torch.pi / (2 * BLOCK)) / 2
    table[0] /= math.sqrt(2)
    return table


def _turned(blocks: Tensor, table: Tensor, axis: int) -> Tensor:
    """Multiply an axis by a table: eight products, summed in order."""
    blocks = blocks.transpose(axis, -1)
    total = torch.zeros_like(blocks)
    for k in range(BLOCK):
        total = total + blocks[..., k : k + 1] * table[:, k]
    return total.transpose(axis, -1)


__all__ = ["compressed"]
