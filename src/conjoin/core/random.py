"""Random numbers as a pure function of (seed, example, purpose, element).

A counter-based generator, SplitMix64 in 64-bit integer tensor arithmetic: the stream of an example
depends on its index in the data alone, never on its batch, its place in it, or the device. Streams
are *folded* by purpose, a name or a number, so no two uses share their numbers. The generator is
*not* cryptographic, and it keeps no state: ask twice and the same numbers come.

Integer arithmetic and the uniform numbers are exact, hence the same bits on every device; normal
numbers go through a logarithm, a sine and a cosine, which devices may round differently.

Reference: steele2014, SplitMix64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed integer, the golden ratio
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB
_ROUNDS = ((30, _MIX1), (27, _MIX2), (31, 1))
_BLOCK = 1 << 15  # words mixed at a time on a CPU: they and the scratch fit the cache


def _word(number: int) -> int:
    """Wrap a Python integer to a signed 64-bit word, as tensor arithmetic does."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _blocks(flat: Tensor) -> tuple[Tensor, ...]:
    """Split along the first axis into views that a cache holds; a GPU takes all at once."""
    if len(flat) <= _BLOCK or flat.device.type != "cpu":
        return (flat,)
    parts: tuple[Tensor, ...] = flat.split(_BLOCK)
    return parts


def _mix_(z: Tensor) -> Tensor:
    """Finalise SplitMix64 in place: a bijection on 64-bit words; multiplication wraps."""
    for part in _blocks(z.view(-1)):
        if part.device.type == "cpu":  # NumPy has unsigned words, and fewer steps
            _finalise(part.numpy().view(np.uint64))
            continue
        for bits, factor in _ROUNDS:
            shifted = part >> bits  # arithmetic: the mask makes it logical
            part.bitwise_xor_(shifted.bitwise_and_((1 << (64 - bits)) - 1)).mul_(factor)
    return z


def _finalise(words: npt.NDArray[np.uint64]) -> None:
    shifted = np.empty_like(words)
    for bits, factor in _ROUNDS:
        np.right_shift(words, bits, out=shifted)
        words ^= shifted
        if factor != 1:
            words *= np.uint64(factor % (1 << 64))


def _box_muller(radius: Tensor, angle: Tensor, bits: int, real: torch.dtype) -> Tensor:
    """Turn words into pairs of normal numbers: radius from the low ``bits``, angle from the top."""
    kind = torch.complex64 if real is torch.float32 else torch.complex128
    pairs = torch.empty(radius.shape, dtype=kind, device=radius.device)
    columns = (_blocks(value.view(-1)) for value in (radius, angle, pairs))
    for r, a, out in zip(*columns, strict=True):
        turn = a.to(real).mul_(math.pi * 2.0**-63)
        size = r.bitwise_and((1 << bits) - 1).to(real)
        size.add_(0.5).mul_(2.0**-bits).log_().mul_(-2).sqrt_()
        torch.complex(turn.cos().mul_(size), turn.sin_().mul_(size), out=out)
    return torch.view_as_real(pairs).flatten(1)


@lru_cache(maxsize=1024)
def _purpose(purpose: int | str) -> int:
    """Write a purpose as a word: numbers become even, names odd, so the two never meet."""
    if isinstance(purpose, str):
        name = blake2b(purpose.encode(), digest_size=8).digest()
        return _word(2 * int.from_bytes(name, "little") + 1)
    return _word(2 * purpose)


@lru_cache(maxsize=1024)
def _start(seed: int) -> int:
    """Write a seed as a word."""
    return int(_mix_(torch.tensor([_word(seed + _GAMMA)])))


@dataclass(frozen=True, slots=True, eq=False)
class Streams:
    """One independent random stream per example of a batch.

    Build with :meth:`of`, derive with :meth:`fold`; every method is pure. Keys are computed when they
    are first asked for: most methods draw nothing.

    Attributes:
        made: Gives the keys, the same every time.
    """

    made: Callable[[], Int[Tensor, "batch"]]

    @property
    def key(self) -> Int[Tensor, "batch"]:
        """One word for each example."""
        return self.made()

    @classmethod
    def of(cls, seed: int, index: Int[Tensor, "batch"]) -> Streams:
        """Make the streams of the examples ``index`` (positions in the whole data) for a seed."""
        own = index.to(torch.int64, copy=True)
        return cls(cache(lambda: _mix_(own * _GAMMA + _start(seed))))

    def fold(self, purpose: int | str) -> Streams:
        """Derive other streams, one per purpose: a name, or a number modulo 2^63.

        For one stream the map is one-to-one, up to the 63-bit hash of a name.
        """
        return Streams(cache(lambda: _mix_(self.key + _word(_purpose(purpose) * _GAMMA))))

    def each(self, numbers: Iterable[int]) -> Streams:
        """Fold by several numbers, one whole batch after another, as ``Batch.repeated`` lays out.

        ``each(range(k))`` holds the streams of ``fold(0)``, ..., ``fold(k - 1)``: the numbers of k
        draws, in one call.
        """
        words = [_word(_purpose(number) * _GAMMA) for number in numbers]
        steps = torch.tensor(words, dtype=torch.int64, device=self.key.device)
        return Streams(cache(lambda: _mix_(self.key + steps[:, None]).view(-1)))

    def rows(self, keep: Tensor | slice) -> Streams:
        """Select examples by a mask, by positions or as a slice."""
        if isinstance(keep, slice):
            return Streams(cache(lambda: self.key[keep]))
        key = self.key[keep]  # now: whoever chose may choose others in the same memory
        return Streams(lambda: key)

    def copied(self) -> Streams:
        """Return the same streams, with keys in memory of their own."""
        return Streams(cache(lambda: self.key.clone()))  # noqa: PLW0108 - not yet

    def repeated(self, times: int) -> Streams:
        """Return them ``times`` times, one whole batch after another."""
        return Streams(cache(lambda: self.key.repeat(times)))

    def uniform(
        self, *shape: int, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "batch *shape"]:
        """Draw from the open interval (0, 1), shape ``(batch, *shape)``.

        The numbers are the odd multiples of 2^-24, in double precision of 2^-53, all equally
        likely: half a word per element, or one. A longer shape goes on where a shorter one ends.
        """
        count, single = math.prod(shape), dtype is torch.float32
        words = self._words(f"uniform {dtype}", (count + 1) // 2 if single else count)
        # A random mantissa under the exponent of [1, 2): exact, and cheaper than a conversion.
        size, one = (23, 127 << 23) if single else (52, 1023 << 52)
        bits = words.view(torch.int32) if single else words
        bits.bitwise_and_((1 << size) - 1).bitwise_or_(one)
        unit = bits.view(torch.float32 if single else torch.float64).sub_(1 - 2.0 ** -(size + 1))
        return unit[:, :count].reshape(len(self.key), *shape).to(dtype)

    def normal(
        self, *shape: int, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "batch *shape"]:
        """Draw from N(0, 1) by the Box-Muller transform, shape ``(batch, *shape)``.

        Both numbers of a pair are used, so a pair costs one word (two in double precision). The
        largest magnitude is 6.7 (8.6): beyond 6 there are 33 radii (7·10^7), each with all angles.
        """
        count, single = math.prod(shape), dtype is torch.float32
        radius = angle = self._words(f"normal {dtype}", (count + 1) // 2)
        if not single:
            angle = self._words(f"angle {dtype}", (count + 1) // 2)
        bits, real = (31, torch.float32) if single else (63, torch.float64)
        drawn = _box_muller(radius, angle, bits, real)
        return drawn[:, :count].reshape(len(self.key), *shape).to(dtype)

    def _words(self, use: str, count: int) -> Int[Tensor, "batch count"]:
        """Return the words of the elements 1, ..., ``count`` for one of the uses here.

        They start from a key of their own, mixed in another way than the folds'.
        """
        steps = torch.arange(1, count + 1, device=self.key.device).mul_(_GAMMA)
        words = torch.empty(len(self.key), count, dtype=torch.int64, device=self.key.device)
        torch.add(_mix_(self.key ^ _purpose(use))[:, None], steps, out=words)
        return _mix_(words)
