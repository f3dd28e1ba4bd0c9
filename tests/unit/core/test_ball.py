"""Balls: what rounding would lose, at radii where it shows."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from conjoin.core.ball import L1, L2, Ball, Linf
from conjoin.core.random import Streams


@pytest.mark.parametrize("kind", [Linf, L2, L1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_enclosure_is_rounded_outwards(kind: type[Ball], dtype: torch.dtype) -> None:
    x = Streams.of(7, torch.arange(4)).uniform(50, dtype=dtype)
    eps = 0.1  # the sums of single precision with 0.3 or 0.7 are exact or always rounded outwards
    held = kind(eps, bounds=(-9.0, 9.0)).enclosure(x)
    rounded = 0
    for low, high, a in zip(*(v.flatten().tolist() for v in (held.low, held.high, x)), strict=True):
        least, most = Fraction(a) - Fraction(eps), Fraction(a) + Fraction(eps)
        assert Fraction(low) <= least and Fraction(high) >= most
        assert high - low <= 2 * eps + 1e-14
        rounded += Fraction(a - eps) > least or Fraction(a + eps) < most
    assert rounded > 10, "rounding to nearest would have led inwards"
