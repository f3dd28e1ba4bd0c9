"""Weather and light: snow, frost, fog, brightness.

The strengths are those of CIFAR-10-C. Ours: **frost** is procedural (ridges of smooth noise, thick
where a cloud of noise is), where the original lays photographs of windows over the picture; snow is
smeared as in :mod:`conjoin.data.corruptions.blur`. The grey of pictures of other than three channels is
the mean of all; their brightness, as of any, that of the largest.

Reference: hendrycks2019, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from conjoin.core.random import Streams
from conjoin.core.resample import Beyond, positions, sampled
from conjoin.data.corruptions.filters import swept, unit, zoomed

# Mean, spread and enlargement of the flakes, threshold, radius and sigma of their fall, light kept.
SNOW = (
    (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
    (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
)
FROST = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))  # of picture, of frost
FOG = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))  # thickness, smoothness
BRIGHTNESS = (0.05, 0.1, 0.15, 0.2, 0.3)  # added to the value of HSV
LUMINANCE = (0.299, 0.587, 0.114)
ICE = (0.86, 0.94, 1.0)  # the tint of frost on pictures of three channels


def snow(x: Tensor, severity: int, rng: Streams) -> Tensor:
    """Whiten the picture and let flakes fall through it."""
    mean, spread, size, least, radius, sigma, kept = SNOW[severity - 1]
    flakes = mean + spread * rng.fold("flakes").normal(1, *x.shape[-2:], dtype=x.dtype)
    flakes = zoomed(flakes, size)
    flakes = torch.where(flakes < least, 0, flakes).clamp(0, 1)
    angle = -135 + 90 * rng.fold("angle").uniform(1, dtype=x.dtype)[:, 0]
    flakes = swept(flakes, radius * unit(x), sigma * unit(x), angle)
    white = torch.maximum(x, 1.5 * _grey(x) + 0.5)
    return (kept * x + (1 - kept) * white + flakes + flakes.flip(-1, -2)).clamp(0, 1)


def frost(x: Tensor, severity: int, rng: Streams) -> Tensor:
    """Lay ice over the picture: procedural, not a photograph."""
    picture, ice = FROST[severity - 1]
    layer = crystals(x, rng)
    if x.shape[1] == 3:
        layer = layer * torch.tensor(ICE, dtype=x.dtype, device=x.device)[:, None, None]
    return (picture * x + ice * layer).clamp(0, 1)


def fog(x: Tensor, severity: int, rng: Streams) -> Tensor:
    """Add a cloud, and darken the whole so that the brightest stays possible."""
    thickness, smooth = FOG[severity - 1]
    most = x.flatten(1).amax(1)[:, None, None, None]
    return ((x + thickness * plasma(x, smooth, rng)) * (most / (most + thickness))).clamp(0, 1)


def brightness(x: Tensor, severity: int, rng: Streams) -> Tensor:
    """Raise the value of HSV; hue and saturation stay."""
    value = x.amax(1, keepdim=True)
    raised = (value + BRIGHTNESS[severity - 1]).clamp(max=1)
    return torch.where(value > 0, x * (raised / value.clamp(min=1e-12)), raised).clamp(0, 1)


def _grey(x: Tensor) -> Tensor:
    channels = x.shape[1]
    weights = LUMINANCE if channels == 3 else (1 / channels,) * channels
    total = torch.zeros_like(x[:, :1])
    for channel, weight in enumerate(weights):
        total = total + weight * x[:, channel : channel + 1]
    return total


def plasma(x: Tensor, decay: float, rng: Streams) -> Tensor:
    """Return a cloud in 0..1, ``(batch, 1, height, width)``, by the diamond-square algorithm.

    On a torus whose side is the next power of two. Each halving of the step shrinks the noise by the
    square of ``decay``, as in the original, whose amplitude enters twice.
    """
    side = 1 << (max(x.shape[-2:]) - 1).bit_length()
    cloud = x.new_zeros(len(x), side, side)
    step, amplitude = side, 1.0
    while step >= 2:
        half, drawn = step // 2, rng.fold(f"cloud {step}")
        corners = cloud[:, ::step, ::step]
        cloud[:, half::step, half::step] = _mean(corners, drawn.fold(0), amplitude, (1, 2), True)
        middles, corners = cloud[:, half::step, half::step], cloud[:, ::step, ::step]
        cloud[:, ::step, half::step] = _edge(corners, middles, 2, drawn.fold(1), amplitude)
        cloud[:, half::step, ::step] = _edge(corners, middles, 1, drawn.fold(2), amplitude)
        step, amplitude = half, amplitude / decay**2
    flat = cloud.flatten(1)
    low, high = flat.amin(1)[:, None, None], flat.amax(1)[:, None, None]
    cloud = (cloud - low) / (high - low).clamp(min=1e-12)
    return cloud[:, None, : x.shape[-2], : x.shape[-1]].contiguous()


def _mean(
    corners: Tensor, rng: Streams, amplitude: float, axes: tuple[int, int], both: bool
) -> Tensor:
    rows = corners + corners.roll(-1, axes[0])
    total = rows + rows.roll(-1, axes[1])
    return total / 4 + amplitude * (2 * rng.uniform(*total.shape[1:], dtype=total.dtype) - 1)


def _edge(corners: Tensor, middles: Tensor, axis: int, rng: Streams, amplitude: float) -> Tensor:
    """Return the points between two corners along an axis and two middles across it."""
    total = corners + corners.roll(-1, axis) + middles + middles.roll(1, 3 - axis)
    return total / 4 + amplitude * (2 * rng.uniform(*total.shape[1:], dtype=total.dtype) - 1)


def crystals(x: Tensor, rng: Streams) -> Tensor:
    """Return frost in 0..1, ``(batch, 1, height, width)``: ridges of noise, denser under a cloud.

    Four octaves of smooth noise on lattices that are turned and stretched, each example by itself;
    a ridge is where the noise crosses its mean.
    """
    row, column = positions(x)
    scale = max(x.shape[-2:])
    turn = torch.pi * rng.fold("turn").uniform(1, dtype=x.dtype)[:, :, None]
    along = (row * turn.sin() + column * turn.cos()) / scale
    across = (row * turn.cos() - column * turn.sin()) / scale
    total, weights = torch.zeros_like(x[:, :1]), 0.0
    for octave in range(4):
        cells, weight = 4 << octave, 0.7**octave
        lattice = rng.fold(f"crystals {octave}").uniform(1, 2 * cells, 2 * cells, dtype=x.dtype)
        noise = sampled(
            lattice, cells * (1 + 1.4 * across), cells * (1 + 0.5 * along), Beyond.MIRROR
        )
        total = total + weight * (1 - (2 * noise - 1).abs()) ** 3
        weights += weight
    cover = plasma(x, 1.5, rng.fold("cover"))
    return (0.15 + 1.1 * (0.35 + cover) * total / weights).clamp(0, 1)


__all__ = ["brightness", "crystals", "fog", "frost", "plasma", "snow"]
