"""Noise: Gaussian, shot (Poisson) and impulse, as a sensor makes it.

The strengths are those of CIFAR-10-C. Poisson numbers are a pure function of one uniform number each:
the exact quantile for means up to 32, above it its expansion of Cornish and Fisher, which is ours and
differs by one count at most where counts are hundredths of the range.

Reference: hendrycks2019, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from conjoin.core.random import Streams

GAUSSIAN = (0.04, 0.06, 0.08, 0.09, 0.10)  # standard deviation
SHOT = (500, 250, 100, 75, 50)  # photons at full brightness
IMPULSE = (0.01, 0.02, 0.03, 0.05, 0.07)  # share of the elements

SMALL, TERMS = 32.0, 100  # above 100, the probability of a Poisson number of mean 32 is below 1e-20


def gaussian_noise(x: Tensor, severity: int, rng: Streams) -> Tensor:
    """Add normal noise of one size to every element."""
    noise = rng.normal(*x.shape[1:], dtype=x.dtype)
    return (x + GAUSSIAN[severity - 1] * noise).clamp(0, 1)


def shot_noise(x: Tensor, severity: int, rng: Streams) -> Tensor:
    """Count photons: a Poisson number of mean c x, over c."""
    photons = SHOT[severity - 1]
    drawn = poisson(photons * x.double(), rng.uniform(*x.shape[1:], dtype=torch.float64))
    return (drawn / photons).clamp(0, 1).to(x.dtype)


def impulse_noise(x: Tensor, severity: int, rng: Streams) -> Tensor:
    """Set a share of the elements to black or to white, with equal chance."""
    drawn, half = rng.uniform(*x.shape[1:], dtype=x.dtype), IMPULSE[severity - 1] / 2
    return torch.where(drawn < half, 0, torch.where(drawn > 1 - half, 1, x))


def poisson(mean: Tensor, uniform: Tensor) -> Tensor:
    """Return Poisson numbers: the least k with P(X <= k) >= u, in double precision."""
    small = mean <= SMALL
    some = torch.where(small, mean, 0)
    mass = torch.exp(-some)
    below, count = mass, torch.zeros_like(mass)
    for k in range(1, TERMS):
        count = count + (below < uniform)
        mass = mass * some / k
        below = below + mass
    z = torch.special.ndtri(uniform)
    large = (mean + mean.sqrt() * z + (z * z - 1) / 6).round().clamp(min=0)
    return torch.where(small, count, large)


__all__ = ["gaussian_noise", "impulse_noise", "poisson", "shot_noise"]
