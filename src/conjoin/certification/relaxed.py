"""Linear bounds of a piecewise linear network over a cell of its polyhedral complex.

A cell fixes on which side of their kinks some neurons lie. Within its bounds l <= h <= u of every
pre-activation, where a decided neuron has l = 0 or u = 0, a row ρ of any activation is bounded from
below by a linear function of the input, ρ·a(z) >= w·z + c, by carrying ρ back through the operators.
Where a kink is decided the function is linear; where it bends *against* ρ (q = ρ (above - below) < 0)
it is replaced by the chord between l and u; where it bends with ρ, by the tangent at a given point z.
At z the bound misses the row by exactly the gaps of the chords, so a cell without gaps needs no
splitting: there the bound is the network. It is *not* a bound of anything outside the cell or the
bounds l, u.

Everything is in double precision; ``slack`` holds the rounding errors of a row, a priori, for every z
in the region.

Reference: ehlers2017, section 3 (the chord of a kink).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from conjoin.certification.rounding import TINY, gamma
from conjoin.core.linear import Dense, Linear, flat
from conjoin.core.operator import Add, Affine, Elementwise, Fixed, Given, Reshape, Step
from conjoin.errors import CapabilityError


@dataclass(frozen=True, slots=True, eq=False)
class Kinked:
    """A network of affine maps and functions with one kink, at 0.

    Attributes:
        steps: The operators.
        slopes: Below and above the kink, by the place of the step.
        terms: Of the longest chain of sums from the input to an output, and of the input itself.
    """

    steps: tuple[Step, ...]
    slopes: Mapping[int, tuple[float, float]]
    terms: int

    @classmethod
    def of(cls, steps: tuple[Step, ...], method: object) -> Kinked:
        """Read it off the operators.

        Raises:
            CapabilityError: If an operator is none of these, naming it.
        """
        slopes, terms = {}, [0] * len(steps)
        for place, step in enumerate(steps):
            op, own = step.op, 8
            if isinstance(op, Elementwise) and op.kinks == (0.0,):
                ends = op(torch.tensor([-1.0, 1.0, 0.0], dtype=torch.float64)).tolist()
                if ends[2] != 0 or op.jump:
                    raise CapabilityError(_unknown(method, step))
                slopes[place] = (-ends[0], ends[1])
            elif isinstance(op, Affine):
                own += op.map.terms
            elif isinstance(op, Add):
                own += len(step.sources)
            elif isinstance(op, Elementwise) or not isinstance(op, Given | Fixed | Reshape):
                raise CapabilityError(_unknown(method, step))
            terms[place] = own + max((terms[source] for source in step.sources), default=0)
        return cls(steps, slopes, max(terms) + math.prod(steps[0].shape))

    @property
    def neurons(self) -> int:
        """The number of kinks."""
        return sum(math.prod(self.steps[place].shape) for place in self.slopes)

    def room(self, size: Tensor) -> Tensor:
        """Bound the rounding of what was summed up from numbers of this size."""
        return gamma(8 * (self.terms + 32)) * size + self.terms * TINY

    def magnitudes(self, reach: Tensor) -> list[Tensor]:
        """Bound, for inputs of these magnitudes, all that a carried row sums up, by step."""
        found: list[Tensor] = []
        for place, step in enumerate(self.steps):
            own = [found[source] for source in step.sources]
            op = step.op
            if isinstance(op, Given):
                found.append(reach)
            elif isinstance(op, Fixed):
                found.append(op.value.double().abs())
            elif isinstance(op, Affine):
                size = op.bias if op.size is None else op.size
                whole = op.map.absolute()(own[0])
                found.append(whole if size is None else whole + size.abs())
            elif isinstance(op, Elementwise):
                # both slopes times h, and a chord's intercept: high |low| / (high - low) <= |h| / 2
                below, above = self.slopes[place]
                found.append((abs(below) + 1.5 * abs(above - below)) * own[0])
            elif isinstance(op, Add):
                found.append(torch.stack(own).sum(0))
            else:
                assert isinstance(op, Reshape)  # noqa: S101 - by the table
                found.append(op(*own))
        return found


def _unknown(method: object, step: Step) -> str:
    return (
        f"{method!r} walks networks of affine layers, sums, maxima, short sorts and functions with one "
        f"kink at 0 (ReLU, leaky ReLU, abs); {step.name} ({type(step.op).__name__}) is none. "
        "Interval() and Lipschitz() bound more layers"
    )


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Linear functions w·z + c <= ρ·a(z), one per row.

    Attributes:
        w: ``(rows, features)``.
        c: ``(rows,)``.
        slack: What rounding may have added, at any point of the region.
        gaps: At the point of the tangents, by step, ``(rows, neurons)``: what each chord gives away.
    """

    w: Tensor
    c: Tensor
    slack: Tensor
    gaps: Mapping[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Where a bound holds: inputs of known magnitude, and what they make of every pre-activation.

    Attributes:
        network: Its operators.
        low, high: Bounds of the pre-activations, by the step of the kink, ``(1, *shape)``: a neuron
            whose lower bound is 0 is decided.
        sizes: Of :meth:`Kinked.magnitudes`.
    """

    network: Kinked
    low: Mapping[int, Tensor]
    high: Mapping[int, Tensor]
    sizes: Sequence[Tensor]

    @property
    def empty(self) -> bool:
        """Whether the bounds of some neuron exclude each other: there is no such point."""
        return any(bool((low > self.high[place]).any()) for place, low in self.low.items())

    def bound(self, start: int, rows: Tensor, values: Sequence[Tensor]) -> Rows:
        """Bound rows of the value of a step from below.

        Args:
            start: The step.
            rows: ``(rows, *shape)`` of it.
            values: Of all steps at the point of the tangents, ``(1, *shape)`` each.
        """
        pending = {start: rows}
        constant, gaps, w = rows.new_zeros(len(rows)), {}, None
        for place in range(start, -1, -1):
            coef = pending.pop(place, None)
            if coef is None:
                continue
            step = self.network.steps[place]
            if isinstance(step.op, Given):
                w = flat(coef)
            elif isinstance(step.op, Fixed):
                constant = constant + flat(coef * step.op.value.double()).sum(1)
            elif isinstance(step.op, Elementwise):
                source = step.sources[0]
                coef, more, gaps[place] = self._through(place, coef, values[source])
                constant = constant + more
                _add(pending, source, coef)
            else:
                constant = constant + _BACK[type(step.op)](step, coef, pending)
        shape = len(rows), self.network.steps[0].shape
        w = rows.new_zeros(shape[0], math.prod(shape[1])) if w is None else w
        whole = flat(rows.abs() * self.sizes[start]).sum(1)
        return Rows(w, constant, self.network.room(whole), gaps)

    def _through(self, place: int, coef: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Carry rows through a kink; return them, the constants, and the gaps at h."""
        below, above = self.network.slopes[place]
        low, high = self.low[place], self.high[place]
        up, down = low >= 0, (high <= 0) & (low < 0)
        bend = coef * (above - below)
        chord = high / torch.where(high > low, high - low, 1)
        against = (bend < 0) & ~up & ~down
        share = torch.where(against, chord, (h > 0).double())
        share = torch.where(up, 1.0, torch.where(down, 0.0, share))
        offset = torch.where(against, -bend * chord * low, 0)
        over = chord * (h - low) - h.clamp(min=0)
        gaps = flat(torch.where(against, -bend * over, 0))
        return coef * below + bend * share, flat(offset).sum(1), gaps


def _add(pending: dict[int, Tensor], place: int, rows: Tensor) -> None:
    pending[place] = pending[place] + rows if place in pending else rows


def transposed(map: Linear, rows: Tensor) -> Tensor:
    """Return rows times the map."""
    if isinstance(map, Dense):
        return rows @ map.weight.double()
    return map.transposed(rows)


def _affine(step: Step, coef: Tensor, pending: dict[int, Tensor]) -> Tensor | float:
    op = step.op
    assert isinstance(op, Affine)  # noqa: S101 - by the table
    _add(pending, step.sources[0], transposed(op.map, coef))
    return 0.0 if op.bias is None else flat(coef * op.bias.double()).sum(1)


def _reshape(step: Step, coef: Tensor, pending: dict[int, Tensor]) -> float:
    assert isinstance(step.op, Reshape)  # noqa: S101 - by the table
    _add(pending, step.sources[0], step.op.transposed(coef))
    return 0.0


def _sum(step: Step, coef: Tensor, pending: dict[int, Tensor]) -> float:
    assert isinstance(step.op, Add)  # noqa: S101 - by the table
    for sign, source in zip(step.op.signs, step.sources, strict=True):
        _add(pending, source, sign * coef)
    return 0.0


_Back = Callable[[Step, Tensor, dict[int, Tensor]], "Tensor | float"]
_BACK: dict[type, _Back] = {Affine: _affine, Reshape: _reshape, Add: _sum}

__all__ = ["Kinked", "Region", "Rows", "transposed"]
