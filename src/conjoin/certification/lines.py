"""Two lines that hold a function of one number over an interval: what CROWN puts in its place.

    a x + c  <=  f(x)  <=  b x + d      for all x in [low, high]

Slopes may be any numbers: f(x) - a x is bounded over the interval, and its extremes are the
offsets. Of a piecewise linear function they lie at its kinks or at the ends; of any other, on a
grid between whose points the slope's range says how far the function can stray. Rounding is added
to the offsets. Among a few slopes (of the chord, at the ends) the line is taken that is best in the
middle.

Reference: zhang2018crown, section 3.1 (lines); singh2019 (the choice between the two slopes of ReLU).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import torch
from torch import Tensor

from conjoin.certification.rounding import TINY, UNIT
from conjoin.core.operator import Elementwise

CELLS = 16  # of the grid
_BELLS = frozenset({"sigmoid", "tanh", "atan", "erf", "softsign"})  # the slope falls away from 0
_MONOTONE = frozenset({"log_sigmoid", "exp", "square"})  # the slope rises throughout, or falls


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """The line ``below · x + under`` below a function and ``above · x + over`` above it."""

    below: Tensor
    under: Tensor
    above: Tensor
    over: Tensor

    def part(self, some: slice | Tensor) -> Lines:
        """Select examples."""
        return Lines(self.below[some], self.under[some], self.above[some], self.over[some])

    @property
    def steepest(self) -> Tensor:
        """The larger magnitude of the slopes."""
        return torch.maximum(self.below.abs(), self.above.abs())

    @property
    def farthest(self) -> Tensor:
        """The larger magnitude of the offsets."""
        return torch.maximum(self.under.abs(), self.over.abs())


def lines(op: Elementwise, low: Tensor, high: Tensor, ends: tuple[Tensor, Tensor]) -> Lines:
    """Return lines of a function over intervals; constants, its own bounds, where it has none.

    Args:
        op: The function.
        low, high: The intervals.
        ends: Bounds of the function over them.
    """
    middle = low / 2 + high / 2
    first, *others = slopes_at(op, low, high)
    least, most = offsets(op, first, low, high)
    below, under, above, over = first, least, first, most
    for slope in others:
        least, most = offsets(op, slope, low, high)
        better = slope * middle + least > below * middle + under
        below, under = torch.where(better, slope, below), torch.where(better, least, under)
        better = slope * middle + most < above * middle + over
        above, over = torch.where(better, slope, above), torch.where(better, most, over)
    flat = ~(below.isfinite() & under.isfinite())
    below, under = below.masked_fill(flat, 0.0), torch.where(flat, ends[0], under)
    flat = ~(above.isfinite() & over.isfinite())
    return Lines(below, under, above.masked_fill(flat, 0.0), torch.where(flat, ends[1], over))


def slopes_at(op: Elementwise, low: Tensor, high: Tensor) -> tuple[Tensor, ...]:
    """Return slopes to try: of the chord, at both ends and in the middle; any slopes are right."""
    width = (high - low).clamp(min=TINY)
    chord = ((op(high) - op(low)) / width).nan_to_num(nan=0.0)
    chord = chord.clamp(*op.slopes)
    if op.kinks is not None:
        first, last = outer_slopes(op, low, high)
        return chord, first, last
    cell = (width / CELLS).clamp(min=1e-6)  # of narrow intervals, as good as the slope
    places = low, low / 2 + high / 2, high
    return chord, *(
        ((op(p + cell / 2) - op(p - cell / 2)) / cell).clamp(*op.slopes) for p in places
    )


def outer_slopes(op: Elementwise, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the slopes at both ends of an interval, of a piecewise linear function."""
    assert op.kinks is not None  # noqa: S101 - it is
    points = sorted(op.kinks)
    spots = [points[0] - 1.0, *((a + b) / 2 for a, b in pairwise(points))]
    reach = [1.0, *((b - a) / 4 for a, b in pairwise(points))]
    spots, reach = [*spots, points[-1] + 1.0], [*reach, 1.0]
    pieces = []
    for spot, half in zip(spots, reach, strict=True):
        at = low.new_full((1, *low.shape[1:]), spot)
        pieces.append((op(at + half / 2) - op(at - half / 2)) / half)
    first, last = pieces[0].expand_as(low), pieces[-1].expand_as(high)
    for number, kink in enumerate(points):
        first = torch.where(low >= kink, pieces[number + 1], first)
        before = len(points) - 1 - number
        last = torch.where(high <= points[before], pieces[before], last)
    return first, last


def offsets(op: Elementwise, slope: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Bound f(x) - slope · x over intervals from below and above; differentiable in the slope."""
    if op.kinks is not None:
        points = [low, high, *(low.clamp(min=k).minimum(high) for k in op.kinks)]
        least, most = _at(op, points[0], slope)
        for point in points[1:]:
            lower, upper = _at(op, point, slope)
            least, most = torch.minimum(least, lower), torch.maximum(most, upper)
        return least, most
    return _between(op, slope, low, high)


def _at(op: Elementwise, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Bound f(x) - slope · x at a point."""
    value, line = op(x), slope * x
    room = 16 * UNIT * ((1 + op.rounding) * (value.abs() + x.abs()) + line.abs().detach())
    room = room + TINY + op.jump
    return value - line - room, value - line + room


def _between(op: Elementwise, slope: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Bound f(x) - slope · x by a grid: in a cell it rises at most with M - s and falls with m - s."""
    width = (high - low) / CELLS
    lowest, highest = [], []
    left = _at(op, low, slope)
    for cell in range(CELLS):
        start = low + width * cell
        end = high if cell == CELLS - 1 else low + width * (cell + 1)
        right = _at(op, end, slope)
        falls, rises = slope_range(op, start, end)
        down, up = (falls - slope).clamp(max=0.0), (rises - slope).clamp(min=0.0)
        room = 16 * UNIT * (up - down) * (low.abs() + high.abs())
        lowest.append(_dip(left[0], right[0], down, up, width) - room)
        highest.append(room - _dip(-left[1], -right[1], -up, -down, width))
        left = right
    return reduce(torch.minimum, lowest), reduce(torch.maximum, highest)


def _dip(left: Tensor, right: Tensor, down: Tensor, up: Tensor, width: Tensor) -> Tensor:
    """Return how low a function may get between two values, with slopes between down and up."""
    spread = (up - down).clamp(min=1e-300)
    meet = ((left - right + up * width) / spread).clamp(min=0.0).minimum(width)
    dipped = torch.minimum(left + down * meet, right - up * (width - meet))
    return torch.minimum(torch.minimum(left, right), dipped)


def slope_range(op: Elementwise, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Bound the slope of a function over intervals; where no more is known, by that anywhere.

    Reference: weng2018, section 3.3 (the slopes that ReLU can have over an interval).
    """
    if op.kinks is not None:
        return _piece_range(op, low, high)
    anywhere = low.new_full((), op.slopes[0]), low.new_full((), op.slopes[1])
    if op.name not in _BELLS | _MONOTONE:
        return anywhere[0].expand_as(low), anywhere[1].expand_as(low)
    ends = [_derivative(op, x) for x in (low, high)]
    falls, rises = torch.minimum(*ends), torch.maximum(*ends)
    if op.name in _BELLS:
        rises = torch.where((low <= 0) & (high >= 0), anywhere[1], rises)
    room = 1e-12 * torch.maximum(falls.abs(), rises.abs()) + 1e-15
    falls = (falls - room).nan_to_num(nan=-torch.inf).maximum(anywhere[0])
    rises = (rises + room).nan_to_num(nan=torch.inf).minimum(anywhere[1])
    return falls, rises


def _piece_range(op: Elementwise, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Bound the slopes of the pieces that an interval meets."""
    assert op.kinks is not None  # noqa: S101 - by the caller
    pairs = [outer_slopes(op, low, high), *_inner(op, low, high)]
    falls = reduce(torch.minimum, [slope for pair in pairs for slope in pair])
    rises = reduce(torch.maximum, [slope for pair in pairs for slope in pair])
    room = 16 * UNIT * (1 + max(abs(s) for s in op.slopes))
    if op.rounding == 0:  # of ReLU and its like the slopes are whole numbers, and computed exactly
        room = 0.0
    least, most = (low.new_tensor(slope) for slope in op.slopes)
    return (falls - room).maximum(least), (rises + room).minimum(most)


def _inner(op: Elementwise, low: Tensor, high: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The slopes next to each kink that lies inside, and those at the ends where it does not."""
    found = []
    for kink in op.kinks or ():
        at = low.clamp(min=kink).minimum(high)
        found.append(outer_slopes(op, at, at))
    return found


def _derivative(op: Elementwise, x: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(op(leaf).sum(), leaf)
    return slope


__all__ = ["Lines", "lines", "offsets", "outer_slopes", "slope_range", "slopes_at"]
