"""alpha-CROWN: the slopes of the lower lines chosen so that the bound is best, row by row.

Below a convex kink any slope between those of its two sides gives a line; CROWN takes the one that
is best for the function, alpha-CROWN the one that is best for the *bound*: each row of the quantity
has its own slopes, which ascend by Adam. Whatever the search arrives at is a bound: it is evaluated
as rigorously as CROWN, so that nothing of the search need be trusted.

Reference: xu2021, section 3 (slopes as parameters).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.certification.backward import Backward, Descent, Relaxed
from conjoin.certification.bounded import Bounded, Relaxation, void
from conjoin.certification.box import Boxes
from conjoin.certification.head import Asked
from conjoin.certification.lines import Lines, offsets, outer_slopes
from conjoin.certification.relaxing import NUMBERS, apart
from conjoin.core.counted import check_numbers
from conjoin.core.evidence import Claim
from conjoin.core.operator import Elementwise, SortPairs
from conjoin.core.protocols import Batch
from conjoin.core.quantity import PiecewiseLinear
from conjoin.errors import PlanError
from conjoin.models.activations import relu

RATE, FIRST, SECOND = 0.25, 0.9, 0.99  # of Adam; the rate falls to a tenth


@dataclass(frozen=True, slots=True)
class AlphaCrown(Relaxation):
    """Bound the quantity by backward linear relaxation with optimised slopes.

    Attributes:
        iterations: Steps of the ascent; 0 is :class:`~conjoin.certification.crown.Crown`.
        claim: What the bounds must be true of; ``None`` for the deployed network where that gives
            bounds, else real arithmetic.

    Raises:
        PlanError: If there are fewer than 0 iterations.
    """

    reference: ClassVar[str] = "xu2021"
    title: ClassVar[str] = "linear bounds with optimised slopes (alpha-CROWN)"
    meaning: ClassVar[str] = "linear bounds whose slopes are chosen for each example and class"
    iterations: int = 20
    claim: Claim | None = None

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.iterations < 0:
            raise PlanError(f"expected iterations >= 0; got {self.iterations!r}")

    def rows(
        self, network: Bounded, domain: Boxes, some: Batch, outputs: Tensor, ask: PiecewiseLinear
    ) -> Tensor:
        """Bound each row of the quantity over the set of a domain, ``(batch, k)``."""
        asked = Asked.of(ask.rows(some.aim, outputs.shape[1]))
        known = network.relaxed(domain, outputs)
        direct, lost = network.start(known, domain, asked)
        width = max(math.prod(step.shape) for step in network.steps) * len(some)
        parts = []
        for rows in asked.rows.split(max(1, NUMBERS // width), dim=1):
            ascent = Ascent(known, rows)
            ascent.climb(self.iterations)
            parts.append(ascent.best)
        found = (torch.cat(parts, 1) - lost).nan_to_num(nan=-math.inf, neginf=-math.inf)
        return void(known, torch.maximum(found, direct))


class Ascent:
    """Rows whose slopes (and, of split problems, multipliers) are moved to where the bound is best.

    Attributes:
        known: Of the activations.
        rows: Of the outputs, ``(batch, k, classes)``.
        slopes: Where each free line lies between the slopes of its two sides, from 0 to 1, by step.
        signs: Of split problems, on which side of its kink each argument is: 1, -1, or 0 for either; by
            the step that it is the argument of.
        prices: Their multipliers, >= 0.
        best: The bounds at the best slopes and multipliers, ``(batch, k)``.
    """

    def __init__(
        self,
        known: Relaxed,
        rows: Tensor,
        signs: Mapping[int, Tensor] | None = None,
        state: tuple[Mapping[int, Tensor], Mapping[int, Tensor]] | None = None,
    ) -> None:
        self.known, self.rows, self.signs = known, rows, dict(signs or {})
        self.tilts = {place: Tilt.of(known, place) for place in known.lines}
        free = {place: tilt for place, tilt in self.tilts.items() if tilt is not None}
        count = rows.shape[1]
        if state is None:
            self.slopes = {p: t.start(known.lines[p], count) for p, t in free.items()}
            self.prices = {
                p: rows.new_zeros(len(s), count, *s.shape[1:]) for p, s in self.signs.items()
            }
        else:
            self.slopes, self.prices = dict(state[0]), dict(state[1])
        self.best = rows.new_full(rows.shape[:2], -math.inf)
        self.chosen = (self.slopes, self.prices)

    def evaluate(self, keep: frozenset[int] = frozenset(), *, rigorous: bool = True) -> Descent:
        """Bound the rows with the slopes and multipliers as they are."""
        lines = {p: self._lines(p, slope) for p, slope in self.slopes.items()}
        prices: dict[int, Tensor] = {}
        for place, price in self.prices.items():
            source = self.known.steps[place].sources[0]
            part = price * self.signs[place][:, None]
            prices[source] = prices[source] + part if source in prices else part
        last = len(self.known.steps) - 1
        return Backward(self.known, lines, prices, keep, rigorous)(last, self.rows)

    def climb(self, iterations: int) -> None:
        """Ascend; afterwards the state is that of the best step of each row, ``best`` its bound."""
        leaves = [*self.slopes.values(), *self.prices.values()]
        moments = [(torch.zeros_like(leaf), torch.zeros_like(leaf)) for leaf in leaves]
        for number in range(iterations + 1):
            with torch.enable_grad():
                for leaf in leaves:
                    leaf.requires_grad_(number < iterations)
                found = self.evaluate(rigorous=False).bound
            self._remember(found.detach())
            if number == iterations or not leaves or not found.requires_grad:
                break
            with torch.enable_grad():
                clear = torch.where(found.isfinite(), found, 0.0).sum()
                gradients = torch.autograd.grad(clear, leaves, allow_unused=True)
            rate = RATE * 0.1 ** (number / max(1, iterations))
            with torch.no_grad():
                for k, (leaf, gradient) in enumerate(zip(leaves, gradients, strict=True)):
                    if gradient is not None:
                        leaves[k] = self._stepped(leaf, gradient, moments[k], number, rate, k)
            self._put(leaves)
        self._put([*self.chosen[0].values(), *self.chosen[1].values()])
        self.best = self.evaluate().bound.nan_to_num(nan=-math.inf)

    def _stepped(
        self,
        leaf: Tensor,
        gradient: Tensor,
        moments: tuple[Tensor, Tensor],
        number: int,
        rate: float,
        k: int,
    ) -> Tensor:
        gradient = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        first, second = moments
        first.mul_(FIRST).add_(gradient, alpha=1 - FIRST)
        second.mul_(SECOND).addcmul_(gradient, gradient, value=1 - SECOND)
        step = first / (1 - FIRST ** (number + 1))
        step = step / ((second / (1 - SECOND ** (number + 1))).sqrt() + 1e-12)
        moved = leaf.detach() + rate * step
        return moved.clamp(0.0, 1.0) if k < len(self.slopes) else moved.clamp(min=0.0)

    def _put(self, leaves: list[Tensor]) -> None:
        count = len(self.slopes)
        self.slopes = dict(zip(self.slopes, leaves[:count], strict=True))
        self.prices = dict(zip(self.prices, leaves[count:], strict=True))

    def _remember(self, found: Tensor) -> None:
        found = found.nan_to_num(nan=-math.inf)
        better = found > self.best
        self.best = torch.where(better, found, self.best)

        def kept(new: dict[int, Tensor], old: dict[int, Tensor]) -> dict[int, Tensor]:
            return {
                p: torch.where(
                    better.reshape(*better.shape, *[1] * (v.ndim - 2)), v, old[p]
                ).detach()
                for p, v in new.items()
            }

        self.chosen = kept(self.slopes, self.chosen[0]), kept(self.prices, self.chosen[1])

    def _lines(self, place: int, slope: Tensor) -> Lines:
        tilt = self.tilts[place]
        assert tilt is not None  # noqa: S101 - slopes are of tilts
        return tilt.lines(self.known.lines[place], slope)


@dataclass(frozen=True, slots=True, eq=False)
class Tilt:
    """The free line of a function with one kink: below it where it is convex, above it else.

    Attributes:
        op: The function.
        low, high: The intervals of its argument.
        ends: The slopes at both ends.
        free: Where the kink lies inside, ``(batch, 1, *shape)``.
    """

    op: Elementwise
    low: Tensor
    high: Tensor
    ends: tuple[Tensor, Tensor]
    free: Tensor

    @classmethod
    def of(cls, known: Relaxed, place: int) -> Tilt | None:
        """Return that of a step; ``None`` if it has no free line."""
        step = known.steps[place]
        box = known.boxes[step.sources[0]]
        if isinstance(step.op, SortPairs):
            op, (low, high, _) = relu(), apart(step.op, box)
        elif isinstance(step.op, Elementwise) and step.op.kinks and len(step.op.kinks) == 1:
            op, low, high = step.op, box.low, box.high
        else:
            return None
        assert op.kinks is not None  # noqa: S101 - it has one
        free = ((low < op.kinks[0]) & (high > op.kinks[0]))[:, None]
        first, last = (e[:, None] for e in outer_slopes(op, low, high))
        return cls(op, low[:, None], high[:, None], (first, last), free)

    def start(self, known: Lines, count: int) -> Tensor:
        """Return where CROWN's own lines lie."""
        first, last = self.ends
        convex = first <= last
        slope = torch.where(convex, known.below[:, None], known.above[:, None])
        width = torch.where(first == last, 1.0, last - first)
        place = ((slope - first) / width).clamp(0.0, 1.0)
        return place.expand(-1, count, *place.shape[2:]).clone()

    def lines(self, known: Lines, place: Tensor) -> Lines:
        """Return lines with the free one where it is said to be."""
        below, under, above, over = (
            t[:, None] for t in (known.below, known.under, known.above, known.over)
        )
        if self.op.name == "relu":  # through the kink, exactly
            return Lines(
                torch.where(self.free, place, below),
                torch.where(self.free, 0.0, under),
                above,
                over,
            )
        first, last = self.ends
        slope = first + place * (last - first)
        least, most = offsets(self.op, slope, self.low, self.high)
        convex, concave = self.free & (first <= last), self.free & (first > last)
        return Lines(
            torch.where(convex, slope, below),
            torch.where(convex, least, under),
            torch.where(concave, slope, above),
            torch.where(concave, most, over),
        )


__all__ = ["AlphaCrown", "Ascent", "Tilt"]
