"""Random numbers as a pure function of (seed, example, draw, element).

A counter-based generator, SplitMix64 in 64-bit integer tensor arithmetic: the stream of an example
depends on its index in the data alone, never on its batch, its place in it, or the device. It is
*not* cryptographic, and it keeps no state: ask twice and the same numbers come.

Reference: steele2014, SplitMix64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed integer, the golden ratio
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB


def _word(number: int) -> int:
    """Wrap a Python integer to a signed 64-bit word, as tensor arithmetic does."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _shift(z: Tensor, bits: int) -> Tensor:
    return (z >> bits) & ((1 << (64 - bits)) - 1)  # logical, not arithmetic


def _mix(z: Tensor) -> Tensor:
    """Finalise SplitMix64: a bijection on 64-bit words; multiplication wraps."""
    z = (z ^ _shift(z, 30)) * _MIX1
    z = (z ^ _shift(z, 27)) * _MIX2
    return z ^ _shift(z, 31)


@dataclass(frozen=True, slots=True)
class Streams:
    """One independent random stream per example of a batch.

    Build with :meth:`of`, derive with :meth:`fold`; every method is pure.
    """

    key: Int[Tensor, "batch"]

    @classmethod
    def of(cls, seed: int, index: Int[Tensor, "batch"]) -> Streams:
        """Make the streams of the examples ``index`` (positions in the whole data) for a seed."""
        start = torch.full_like(index, _word(seed), dtype=torch.int64)
        return cls(_mix(_mix(start + _GAMMA) + index.to(torch.int64) * _GAMMA))

    def fold(self, draw: int) -> Streams:
        """Derive other streams, one per value of ``draw`` (a restart, a sample, a purpose)."""
        return Streams(_mix(self.key + _word((draw + 1) * _MIX1)))

    def rows(self, keep: Tensor) -> Streams:
        """Select examples by a mask or by positions."""
        return Streams(self.key[keep])

    def uniform(
        self, *shape: int, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "batch *shape"]:
        """Draw from the open interval (0, 1), shape ``(batch, *shape)``."""
        element = torch.arange(1, math.prod(shape) + 1, device=self.key.device)
        words = _mix(self.key[:, None] + element * _GAMMA)
        unit = (_shift(words, 12).to(torch.float64) + 0.5) * 2.0**-52
        # Rounded to single precision the largest values would become 1: keep the interval open.
        unit = unit.clamp(max=1 - 2.0**-25)
        return unit.to(dtype).reshape(-1, *shape)

    def normal(
        self, *shape: int, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "batch *shape"]:
        """Draw from N(0, 1) by the Box-Muller transform, shape ``(batch, *shape)``."""
        radius = self.fold(1).uniform(*shape, dtype=torch.float64).log().mul(-2).sqrt()
        angle = self.fold(2).uniform(*shape, dtype=torch.float64).mul(2 * math.pi)
        return (radius * angle.cos()).to(dtype)
