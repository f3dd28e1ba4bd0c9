"""How far computed numbers are from real ones, a priori.

A sum of k products in floating point with unit roundoff u differs from the real one by at most
γ_k = k u / (1 - k u) times the sum of the magnitudes, in any order of summation, with or without
fused multiplication; where a product underflows, by at most the smallest normal number more (also if
the processor flushes to zero). It covers no kernel that computes something else: Winograd, FFT, TF32.

Reference: rump2010, section 2; higham2002, section 3.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

UNIT = 2.0**-53  # half the spacing of doubles at 1: the roundoff of the bounds' own arithmetic
SMALLEST = 5e-324
TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True, slots=True)
class Rounding:
    """The arithmetic of a network as it is deployed.

    Attributes:
        unit: Its unit roundoff: 2^-24 in single, 2^-53 in double precision.
        tiny: Its smallest normal number.
        largest: Numbers below it may be added in fours without overflow.
    """

    unit: float
    tiny: float
    largest: float

    @classmethod
    def of(cls, dtype: torch.dtype) -> Rounding:
        """Return the arithmetic of a precision."""
        info = torch.finfo(dtype)
        return cls(info.eps / 2, info.tiny, info.max / 4)

    def gamma(self, terms: float) -> float:
        """Return γ for a sum of so many products; infinite where it says nothing."""
        return gamma(terms, self.unit)


def gamma(terms: float, unit: float = UNIT) -> float:
    """Return γ_k = k u / (1 - k u)."""
    share = terms * unit
    return share / (1 - share) * (1 + 1e-12) if share < 0.5 else math.inf


def up(*factors: float) -> float:
    """Multiply numbers >= 0, rounded up; never 0 unless one of them is."""
    product = 1.0
    for factor in factors:
        if factor == 0:
            return 0.0
        product = max(product * factor * (1 + 4 * UNIT), SMALLEST)
    return product


def total(*terms: float) -> float:
    """Add numbers >= 0, rounded up."""
    return math.fsum(terms) * (1 + 4 * UNIT)


def rounded_down(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert to a precision without ever rising."""
    near = value.to(dtype)
    return torch.where(near > value, near.nextafter(near.new_tensor(-torch.inf)), near)


__all__ = ["SMALLEST", "TINY", "UNIT", "Rounding", "gamma", "rounded_down", "total", "up"]
