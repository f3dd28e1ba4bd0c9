"""The Gram matrices of a convolution: exact on some axes of its image, on a torus along the others.

A convolution with zero padding is a compression of the convolution on any torus that is large
enough for a window never to meet a pixel round the back. On the torus, the Fourier transform splits
it into one small block W(f) per frequency, and

    W(f) W(f)* = Σ_d e^{i f·d} R_d,      R_d = Σ_{a - a' = d} K_a K_a'ᵀ

needs only the correlations R_d of the taps K_a, computed once. A stride s is taken away first: pixels
become s channels each (their residues), taps become blocks, exactly. An axis that is short is better
not closed to a ring: its positions become channels of the blocks, and nothing is lost at its ends.
With no axis left, the block is the operator's own Gram matrix.

Reference: sedghi2019, section 2 (torus).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from conjoin.certification.eigenvalues import UNIT, largest_eigenvalue
from conjoin.core.linear import Convolution

WORK = 3e9  # multiplications that one factorisation of the whole map may need
CLOSED_WORK = 7e8  # ... and all those of the blocks, if an axis is written out but not every one
LONGEST = 64  # an axis with more positions is closed: its ends count for little
_ENTRIES = 2**18  # of the matrices that are held at once: they stay in the cache
_PRODUCTS = 2**23  # entries of the products of taps, where axes are written out


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a convolution: output m sees the pixels stride · m + dilation · t - padding.

    Attributes:
        taps: Length of the kernel.
        inputs: Number of pixels.
        outputs: Number of outputs.
    """

    taps: int
    stride: int
    padding: int
    dilation: int
    inputs: int
    outputs: int

    def blocks(self) -> tuple[Tensor, Tensor]:
        """Return block and residue of each tap: stride · block + residue = dilation · t."""
        place = self.dilation * torch.arange(self.taps)
        return place // self.stride, place % self.stride

    @property
    def period(self) -> int:
        """The least circumference of a ring (in blocks) on which no window meets itself.

        Counted from the first place of padding, pixels lie at p to p + n - 1, and windows cover
        places up to n + 2 p - 1 at most. On a ring of N >= n + p places, those beyond the last pixel
        are at most p - 1 round the back, so that they meet padding; outputs beyond N, which would
        coincide with others, see padding alone. A kernel within one block decouples the windows, and
        any ring does.
        """
        if self.dilation * (self.taps - 1) < self.stride:
            return 1
        return -(-(self.padding + self.inputs) // self.stride)

    @property
    def lossless(self) -> bool:
        """Whether the ring gives the same norm: windows are decoupled, and one lies inside."""
        reach = self.dilation * (self.taps - 1)
        whole = -(-self.padding // self.stride)  # the first window that starts inside
        end = whole * self.stride - self.padding + reach
        return reach < self.stride and whole < self.outputs and end < self.inputs

    def coincidences(self, columns: bool) -> Tensor:
        """Count how often taps t and u connect positions x and y: ``(taps, taps, x, y)``.

        Positions are pixels that an output sees together where ``columns``, else outputs that see
        the same pixel.
        """
        seen = torch.zeros(self.taps, self.outputs, self.inputs, dtype=torch.float64)
        t = torch.arange(self.taps)[:, None].expand(-1, self.outputs)
        m = torch.arange(self.outputs).expand(self.taps, -1)
        q = self.stride * m + self.dilation * t - self.padding
        inside = (q >= 0) & (q < self.inputs)
        seen[t[inside], m[inside], q[inside]] = 1.0
        return torch.einsum("tmx,umy->tuxy" if columns else "txm,uym->tuxy", seen, seen)


@dataclass(frozen=True, eq=False)
class Layout:
    """A way to write a convolution's Gram matrix in blocks.

    Attributes:
        kernel: ``(groups, outputs / groups, inputs / groups, *taps)``, in double precision.
        axes: One per dimension of the image.
        exact: Which axes are written out; the others are closed to rings.
        columns: Whether it is the Gram matrix of the columns, else of the rows.
    """

    kernel: Tensor
    axes: tuple[Axis, ...]
    exact: tuple[bool, ...]
    columns: bool

    @property
    def written(self) -> list[Axis]:
        """The axes that are written out."""
        return [axis for axis, exact in zip(self.axes, self.exact, strict=True) if exact]

    @property
    def rings(self) -> list[Axis]:
        """The axes that are closed."""
        return [axis for axis, exact in zip(self.axes, self.exact, strict=True) if not exact]

    @property
    def side(self) -> int:
        """Rows of a block."""
        side = self.kernel.shape[2 if self.columns else 1]
        for axis, written in zip(self.axes, self.exact, strict=True):
            if written:
                side *= axis.inputs if self.columns else axis.outputs
            elif self.columns:
                side *= len(axis.blocks()[1].unique())
        return side

    @property
    def periods(self) -> list[int]:
        """Circumference of each ring."""
        return [axis.period for axis in self.rings]

    @property
    def work(self) -> float:
        """Multiplications of the factorisations."""
        frequencies = math.prod(self.periods[:-1]) * (
            self.periods[-1] // 2 + 1 if self.rings else 1
        )
        kind = 4 if frequencies > 1 else 1  # complex numbers take four
        return len(self.kernel) * frequencies * kind * self.side**3 / 3

    @property
    def allowed(self) -> bool:
        """Whether the work and the memory are in bounds; all axes closed always are."""
        rows = self.kernel.shape[2 if self.columns else 1]
        taps = rows * math.prod(axis.taps for axis in self.written)
        whole = all(axis.lossless for axis in self.rings)
        return not self.written or (
            all(max(axis.inputs, axis.outputs) <= LONGEST for axis in self.written)
            and self.work <= (WORK if whole else CLOSED_WORK)
            and len(self.kernel) * taps**2 <= _PRODUCTS
        )

    @cached_property
    def taps(self) -> tuple[Tensor, Tensor]:
        """Places on the rings ``(p, rings)`` and matrices ``(groups, p, taps written out, n, m)``.

        n runs over what the Gram matrix is about, m is what it sums over.
        """
        places = []
        order = sorted(range(len(self.axes)), key=lambda number: self.exact[number])  # rings first
        kernel = self.kernel.permute(0, 1, 2, *(3 + number for number in order))
        for number, axis in enumerate(self.rings):
            block, residue = axis.blocks()
            place, at = block.unique(return_inverse=True)
            kinds, kind = residue.unique(return_inverse=True)
            spread = kernel.movedim(3 + number, -1)
            split = spread.new_zeros(*spread.shape[:-1], len(kinds), len(place))
            split[..., kind, at] = spread
            kernel = split.movedim((-2, -1), (3, 4 + number)).flatten(2, 3)  # residues: channels
            places.append(place)
        grid = torch.zeros(1, 0, dtype=torch.int64)
        if places:
            grid = torch.cartesian_prod(*places).reshape(-1, len(places))
        kernel = kernel.reshape(*kernel.shape[:3], len(grid), -1).permute(0, 3, 4, 1, 2)
        return grid, kernel.mT if self.columns else kernel

    def correlations(self) -> tuple[Tensor, Tensor]:
        """Return half of the lags ``(lags, rings)``, zero first, and R_d ``(lags, g, side, side)``."""
        places, kernel = self.taps
        number = torch.zeros(len(places), dtype=torch.int64)  # its sign is that of the half
        for place, axis in zip(places.unbind(1), self.rings, strict=True):
            number = number * (2 * int(axis.blocks()[0].max()) + 1) + place
        values, order = (number[:, None] - number).flatten().sort(stable=True)
        values, counts = values.unique_consecutive(return_counts=True)
        lags, found = [], []
        for value, pairs in zip(values.tolist(), order.split(counts.tolist()), strict=True):
            if value < 0:
                continue
            left, right = pairs // len(places), pairs % len(places)
            lags.append(places[left[0]] - places[right[0]])
            a, b = (
                kernel[:, at].permute(0, 2, 3, 1, 4).flatten(3).flatten(1, 2)
                for at in (left, right)
            )
            found.append(self._spread(a @ b.mT))
        return torch.stack(lags), torch.stack(found)

    def _spread(self, products: Tensor) -> Tensor:
        """Put the products of taps where their positions coincide, on the axes written out."""
        groups, n = len(products), self.taps[1].shape[3]
        if not self.written:
            return products
        counts = [axis.taps for axis in self.written]
        value = products.reshape(groups, *counts, n, *counts, n)
        for number, axis in enumerate(self.written):  # (taps, taps) of this axis become (x, y)
            first, second = 1 + number, 2 + len(counts) + number
            value = torch.tensordot(
                axis.coincidences(self.columns), value, dims=([0, 1], [first, second])
            ).movedim((0, 1), (first, second))
        return value.reshape(groups, self.side, self.side)

    def blocks(self) -> Iterator[Tensor]:
        """Yield the Gram matrices, some at a time; conjugate frequencies have equal spectra."""
        lags, found = self.correlations()
        groups, side = found.shape[1:3]
        even = torch.cat([found[:1], found[1:] + found[1:].mT]).flatten(1)
        if len(lags) == 1:
            yield even.reshape(groups, side, side)
            return
        odd = torch.cat([found[:1] * 0, found[1:] - found[1:].mT]).flatten(1)
        periods = self.periods
        halves = [*periods[:-1], periods[-1] // 2 + 1]
        common = math.lcm(*periods)
        steps = lags * torch.tensor([common // period for period in periods])
        chunk = max(1, _ENTRIES // even.shape[1])
        for start in range(0, math.prod(halves), chunk):
            number = torch.arange(start, min(start + chunk, math.prod(halves)))
            turns = torch.zeros(len(number), len(lags), dtype=torch.int64)
            for size, step in zip(reversed(halves), reversed(steps.unbind(1)), strict=True):
                turns += (number % size)[:, None] * step
                number = number // size
            turns %= common  # exact, as integers
            angle = turns.to(torch.float64) / common * (2 * math.pi)
            grams = torch.complex(angle.cos() @ even, angle.sin() @ odd)
            yield grams.reshape(-1, side, side)

    def error(self) -> float:
        """Bound ‖fl(G) - G‖ for all blocks G, a priori.

        An entry of G sums products of taps over m and over pairs of taps, at most T m products into
        one R_d and then the lags; each product is rounded, each cosine and sine is off by at most
        32 u (its angle, below 2π, is rounded three times), and both parts count: elementwise
        |fl(G) - G| <= 8 (T m + lags + T + 16) u |A| |A|ᵀ, with room. And ‖|A|‖ <= ‖Σ_t |K_t|‖_F,
        for a ring's largest block is that of frequency 0, and residues only split its entries.
        """
        places, kernel = self.taps
        taps, terms = self.kernel[0, 0, 0].numel(), kernel.shape[4]
        lags = 1 + len(places) * (len(places) - 1) // 2
        mass = float(self.kernel.abs().flatten(3).sum(3).square().sum((1, 2)).max())
        return 8 * (taps * terms + lags + taps + 16) * UNIT * mass * (1 + 1e-9)


def square_bound(layout: Layout) -> float:
    """Bound the square of the norm by the blocks of a layout."""
    return largest_eigenvalue(layout.blocks()) + layout.error()


def best_layout(map: Convolution, kernel: Tensor) -> Layout:
    """Choose what to write out: as many short axes as the work allows.

    Args:
        map: The convolution; a transposed one is the adjoint of one and has its norm.
        kernel: Its weight, scaled, in double precision.
    """
    axes = axes_of(map)
    split = kernel.reshape(map.groups, -1, *kernel.shape[1:])
    choices = [
        Layout(split, axes, exact, columns)
        for exact in itertools.product((False, True), repeat=len(axes))
        for columns in (False, True)
        if not any(axis.lossless and written for axis, written in zip(axes, exact, strict=True))
    ]
    allowed = [layout for layout in choices if layout.allowed]
    return min(allowed, key=lambda layout: (-sum(layout.exact), layout.work))


def axes_of(map: Convolution) -> tuple[Axis, ...]:
    """Describe the axes of a convolution, or of the one whose adjoint it is."""
    ends: Sequence[tuple[int, ...]] = (map.source[1:], map.target[1:])
    inputs, outputs = reversed(ends) if map.backwards else ends
    return tuple(
        Axis(*numbers)
        for numbers in zip(
            map.weight.shape[2:],
            map.stride,
            map.padding,
            map.dilation,
            inputs,
            outputs,
            strict=True,
        )
    )
