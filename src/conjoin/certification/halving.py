"""A box of few inputs, halved until every part is proved: branch and bound over the input itself.

A part is bounded by affine forms forwards and linear bounds backwards, both of the part alone. What
is not proved is halved across the side to which relaxations owe most
(:mod:`conjoin.certification.sides`), and waits with its bound; in each round the worst parts of
every example are taken, and all are bounded as one batch. Any function that can be relaxed will do,
also where it has no kink. It does *not* pay where inputs are many: of d sides all that matter must be
halved.

Reference: wang2018reluval, section 4 (bisection); bunel2020.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from conjoin.certification.backward import Backward
from conjoin.certification.bounded import Bounded, void
from conjoin.certification.box import Boxes
from conjoin.certification.forms import Forms
from conjoin.certification.head import Asked
from conjoin.certification.relaxing import Relaxing
from conjoin.certification.rounding import Rounding
from conjoin.certification.sides import chosen, costs
from conjoin.core.linear import flat
from conjoin.core.threat import Enclosure

FEW = 12  # sides of a box that is halved before the network is divided
PARTS = 512  # of an example, that are halved at once
NUMBERS = 2**22  # of the shares that are held at once, in the widest activation

Choose = Callable[[Tensor, Tensor], Tensor]  # rows' bounds and owners -> the row that decides


@dataclass(slots=True, eq=False)
class Parts:
    """Boxes of examples: corners ``(n, *shape)``, bounds, owners, and the side to halve."""

    low: Tensor
    high: Tensor
    bound: Tensor
    owner: Tensor
    side: Tensor

    def __len__(self) -> int:
        """Count them."""
        return len(self.bound)

    def part(self, some: Tensor) -> Parts:
        """Select some."""
        return Parts(*(getattr(self, name)[some] for name in self.__slots__))

    def joined(self, other: Parts) -> Parts:
        """Put two together."""
        return Parts(
            *(torch.cat([getattr(self, name), getattr(other, name)]) for name in self.__slots__)
        )

    @property
    def centre(self) -> Tensor:
        """The middle of each."""
        return torch.minimum(
            torch.maximum(self.low + (self.high - self.low) / 2, self.low), self.high
        )


def few(given: Enclosure) -> Tensor:
    """Tell which sets are boxes of few sides, or lie in one."""
    sides = flat(given.high > given.low).sum(1)
    finite = flat((given.high - given.low).isfinite()).all(1)
    return (sides <= FEW) & finite


def least(bounds: Tensor, owner: Tensor) -> Tensor:
    """Choose the row of the least bound: Q is the least of its rows."""
    return bounds.argmin(1)


@dataclass(slots=True, eq=False)
class Halving:
    """The search for some examples at once.

    Attributes:
        network: The operators.
        given: The set of each example; its box is halved.
        rows: Of the quantity, ``(examples, k, classes)``.
        lower: What is proved of each example; at first what is known of it.
        goal: Above it a part is proved.
        rounding: Of the deployed network; ``None`` for real arithmetic.
        choose: Which of the rows' bounds is the quantity's.
        made: How many parts were made of each.
        stuck: Of which examples a part is as small as numbers are.
        done: The least bound of the parts that are proved.
        open: The parts that are not.
        points: Where they may be least, and of which examples.
    """

    network: Bounded
    given: Enclosure
    rows: Tensor
    lower: Tensor
    goal: float
    rounding: Rounding | None = None
    choose: Choose = least
    made: Tensor = field(init=False)
    stuck: Tensor = field(init=False)
    done: Tensor = field(init=False)
    open: Parts = field(init=False)
    points: tuple[Tensor, Tensor] = field(init=False)
    rounds: int = 0

    def __post_init__(self) -> None:
        count = len(self.rows)
        self.done = self.rows.new_full((count,), math.inf)  # the least bound of parts that are done
        self.made = torch.zeros(count, dtype=torch.int64, device=self.rows.device)
        self.stuck = self.made.bool()
        owner = torch.arange(count, device=self.rows.device)
        low, high = self.given.low, self.given.high
        self.open, self.points = self._bounded(
            Parts(low, high, self.lower.clone(), owner, owner.clone())
        )
        self._raise(torch.ones_like(self.stuck))

    @property
    def undecided(self) -> Tensor:
        """Which examples have parts that are not proved, and can be halved."""
        found = torch.zeros_like(self.stuck)
        found[self.open.owner] = True
        return found & ~self.stuck

    def drop(self, owners: Tensor) -> None:
        """Search no more for the examples of a mask; what is proved of them stays."""
        self.open = self.open.part((~owners[self.open.owner]).nonzero()[:, 0])

    def round(self) -> None:
        """Halve the worst parts of each example that is undecided."""
        active = self.undecided
        taken, rest = self._worst(min(2**self.rounds, PARTS))
        self.rounds += 1
        halves = self._halved(taken)
        self.made.index_add_(0, halves.owner, torch.ones_like(halves.owner))
        children, self.points = self._bounded(halves)
        self.open = rest.joined(children)
        self._raise(active)

    def _raise(self, active: Tensor) -> None:
        """Take the least bound of all parts as what is proved of the whole."""
        now = self.done.scatter_reduce(0, self.open.owner, self.open.bound, "amin")
        self.lower = torch.where(active, torch.maximum(self.lower, now), self.lower)

    def _worst(self, count: int) -> tuple[Parts, Parts]:
        """Take some parts of the least bounds of each example, whoever else is there."""
        order = self.open.bound.argsort(stable=True)
        order = order[self.open.owner[order].argsort(stable=True)]
        owner = self.open.owner[order]
        place = torch.arange(len(owner), device=owner.device)
        first = torch.searchsorted(owner, owner)  # where the example's own begin
        some = (place - first < count) & ~self.stuck[owner]
        return self.open.part(order[some]), self.open.part(order[~some])

    def _halved(self, parts: Parts) -> Parts:
        """Halve each across its side; what is as small as numbers are stays, its example stuck."""
        low, high, side = flat(parts.low), flat(parts.high), parts.side[:, None]
        cut = flat(parts.centre).gather(1, side)
        inner = ((cut > low.gather(1, side)) & (cut < high.gather(1, side)))[:, 0]
        self.stuck[parts.owner[~inner]] = True
        upper = high.scatter(1, side, torch.where(inner[:, None], cut, high.gather(1, side)))
        lower = low.scatter(1, side, cut)[inner]
        twice = torch.cat([torch.arange(len(inner), device=inner.device), inner.nonzero()[:, 0]])
        both = parts.part(twice)
        both.low = torch.cat([low, lower]).reshape(both.low.shape)
        both.high = torch.cat([upper, high[inner]]).reshape(both.high.shape)
        return both

    def _bounded(self, parts: Parts) -> tuple[Parts, tuple[Tensor, Tensor]]:
        """Bound parts; return the open ones, and points where they may be least with their owners."""
        points = []
        size = max(1, NUMBERS // self.network.numbers)
        for some in torch.arange(len(parts), device=parts.bound.device).split(size):
            bound, side, point = self._some(parts.part(some))
            parts.bound[some], parts.side[some] = torch.maximum(parts.bound[some], bound), side
            points.append(point)
        open_ = ~(parts.bound > self.goal)
        shut = parts.bound.masked_fill(open_, math.inf)
        self.done = self.done.scatter_reduce(0, parts.owner, shut, "amin")
        left = parts.part(open_.nonzero()[:, 0])
        where = torch.cat([torch.cat(points)[open_], left.centre])
        return left, (where, torch.cat([left.owner, left.owner]))

    def _some(self, parts: Parts) -> tuple[Tensor, Tensor, Tensor]:
        """Return bounds, the sides to halve, and where the linear bounds are least."""
        given = self.given
        domain = Boxes(
            Enclosure(
                *(parts.low, parts.high, given.centre[parts.owner], given.radius[parts.owner]),
                given.order,
            ),
            self.rounding,
        )
        asked = Asked.of(self.rows[parts.owner])
        steps = self.network.steps
        forms = Forms(steps, domain) if self.network.numbers <= NUMBERS else None
        known = Relaxing(steps, domain)() if forms is None else forms()
        direct, lost = self.network.start(known, domain, asked)
        met = Backward(known, keep=frozenset(known.lines))(len(steps) - 1, asked.rows)
        found = (met.bound - lost).nan_to_num(nan=-math.inf, neginf=-math.inf)
        found = void(known, torch.maximum(found, direct))
        which = self.choose(found, parts.owner)[:, None]
        slope = met.rows.gather(1, which[..., None].expand(-1, -1, met.rows.shape[2]))
        width = flat(parts.high - parts.low)
        cost = width * slope[:, 0].abs().nan_to_num()  # of what is linear, where nothing else costs
        if forms is not None:
            owed = costs(forms, known, met, which)
            cost = torch.where(owed.amax(1, keepdim=True) > 0, owed, cost)
        side = chosen(cost, width, flat(given.high - given.low)[parts.owner])
        point = known.region.lowest(slope)[:, 0].reshape(parts.low.shape)
        bound = found.gather(1, which)[:, 0]
        return bound.masked_fill(self._outside(parts), math.inf), side, point

    def _outside(self, parts: Parts) -> Tensor:
        """Tell which boxes the ball does not meet."""
        if not math.isfinite(self.given.order):
            return torch.zeros_like(parts.owner, dtype=torch.bool)
        centre = self.given.centre[parts.owner]
        gap = torch.maximum(parts.low - centre, centre - parts.high).clamp(min=0)
        far: Tensor = torch.linalg.vector_norm(flat(gap), ord=self.given.order, dim=1)
        return far * (1 - 1e-9) > self.given.radius[parts.owner]


__all__ = ["FEW", "Halving", "Parts", "few", "least"]
