"""The parts of a set that branch and bound divides, for one example.

A part is given by the sides of the kinks on which some arguments lie. All that are open lie in one
pool: for each row of the quantity, the least bound of its parts is a bound of the row.

Reference: bunel2020 (what to divide); wang2021 (bounds of a part).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.certification.alpha import Ascent, Tilt
from conjoin.certification.backward import Descent, Relaxed
from conjoin.certification.relaxing import NUMBERS, Relaxing, kink_of
from conjoin.core.linear import flat
from conjoin.core.operator import Elementwise

PARTS = 128  # that are divided at once
TRIED = 8  # points of each round that the network is asked about
PATIENCE = 30  # rounds in which a part that cannot be divided may still rise

Parts = dict[int, Tensor]


@dataclass(slots=True, eq=False)
class Pool:
    """Parts that are not decided: bounds, rows, sides, slopes and multipliers."""

    bound: Tensor
    row: Tensor
    tries: Tensor
    signs: Parts
    slopes: Parts
    prices: Parts

    def __len__(self) -> int:
        """Count the parts."""
        return len(self.bound)

    def part(self, some: Tensor) -> Pool:
        """Select parts."""
        return Pool(
            self.bound[some],
            self.row[some],
            self.tries[some],
            *({p: v[some] for p, v in x.items()} for x in (self.signs, self.slopes, self.prices)),
        )

    def joined(self, other: Pool) -> Pool:
        """Put two pools together."""
        pairs = zip(
            (self.signs, self.slopes, self.prices),
            (other.signs, other.slopes, other.prices),
            strict=True,
        )
        return Pool(
            torch.cat([self.bound, other.bound]),
            torch.cat([self.row, other.row]),
            torch.cat([self.tries, other.tries]),
            *({p: torch.cat([a[p], b[p]]) for p in a} for a, b in pairs),
        )


class Tree:
    """The search for one example.

    Attributes:
        lower: What is proved of each row.
        made: How many parts were made.
    """

    def __init__(
        self, relaxing: Relaxing, known: Relaxed, rows: Tensor, direct: Tensor, lost: Tensor
    ) -> None:
        self.relaxing, self.known, self.rows, self.lost = relaxing, known, rows, lost
        self.lower, self.made = direct, 0
        self.places = [
            place
            for place, step in enumerate(known.steps)
            if isinstance(step.op, Elementwise) and step.op.kinks and len(step.op.kinks) == 1
        ]
        self.done = torch.full_like(direct, math.inf)  # the least bound of parts that are done
        width = max(math.prod(step.shape) for step in known.steps)
        self.at_once = max(1, min(PARTS, NUMBERS // (4 * width)))
        self.pool: Pool | None = None

    def root(self, iterations: int) -> None:
        """Bound all rows without dividing anything."""
        count = len(self.rows)
        whole = self.known.part(torch.zeros(count, dtype=torch.int64, device=self.rows.device))
        signs = {p: torch.zeros_like(whole.boxes[p].low, dtype=torch.int8) for p in self.places}
        ascent = Ascent(whole, self.rows[:, None], signs)
        ascent.climb(iterations)
        self.pool = self._pool(ascent, torch.arange(count, device=self.rows.device), signs, None)
        self.lower = torch.maximum(self.lower, self.pool.bound)

    def undecided(self, goal: float) -> bool:
        """Drop the parts of rows that are proved; tell whether any is left."""
        pool = self.pool
        assert pool is not None  # noqa: S101 - the root was made
        self.pool = pool.part((self.lower[pool.row] <= goal).nonzero()[:, 0])
        going = bool((self.pool.tries < PATIENCE).all())
        return bool(self.places) and len(self.pool) > 0 and going

    def round(self, goal: float, iterations: int) -> Tensor:
        """Divide the worst parts; return points at which to look."""
        pool = self.pool
        assert pool is not None  # noqa: S101 - the root was made
        order = pool.bound.argsort()
        taken, rest = pool.part(order[: self.at_once]), pool.part(order[self.at_once :])
        ascent, _ = self._ascent(taken)
        met = ascent.evaluate(frozenset(self.places))
        points = self.known.region.lowest(met.rows[:, 0][None])[0][:TRIED]
        children = self._divided(taken, ascent, met)
        ascent, empty = self._ascent(children)
        ascent.climb(iterations)
        made = self._pool(ascent, children.row, children.signs, children)
        made.bound[empty] = math.inf
        self.made += len(made)
        active = torch.zeros_like(self.lower, dtype=torch.bool)
        active[pool.row] = True  # what is said of the others rests on parts that are gone
        closed = made.bound > goal
        self.done = self.done.scatter_reduce(0, made.row[closed], made.bound[closed], "amin")
        self.pool = rest.joined(made.part((~closed).nonzero()[:, 0]))
        now = self.done.scatter_reduce(0, self.pool.row, self.pool.bound, "amin")
        self.lower = torch.maximum(self.lower, torch.where(active & now.isfinite(), now, -math.inf))
        return points

    def _ascent(self, pool: Pool) -> tuple[Ascent, Tensor]:
        """Relax parts; tell which are empty."""
        index = torch.zeros(len(pool), dtype=torch.int64, device=self.rows.device)
        known = self.relaxing.narrowed(self.known.part(index), pool.signs)
        empty = index.bool()
        for box in known.boxes.values():
            empty = empty | flat(box.low > box.high).any(1)
        rows = self.rows[pool.row][:, None]
        return Ascent(known, rows, pool.signs, (pool.slopes, pool.prices)), empty

    def _pool(self, ascent: Ascent, row: Tensor, signs: Parts, old: Pool | None) -> Pool:
        bound = ascent.best[:, 0] - self.lost[row]
        tries = torch.zeros_like(row)
        if old is not None:
            bound, tries = torch.maximum(bound, old.bound), old.tries
        return Pool(bound, row, tries, signs, dict(ascent.slopes), dict(ascent.prices))

    def _divided(self, pool: Pool, ascent: Ascent, met: Descent) -> Pool:
        """Divide each part at the kink whose relaxation costs most; those without one stay."""
        gains = {p: self._gain(ascent.known, p, met.met, pool.signs[p]) for p in self.places}
        most, where = torch.cat([flat(gain) for gain in gains.values()], 1).max(1)
        split = most > 0
        twice = torch.cat([torch.arange(len(pool)), split.cpu().nonzero()[:, 0]])
        children = pool.part(twice.to(split.device))
        first = torch.arange(len(children), device=split.device) < len(pool)
        side = torch.where(first, 1, -1).to(torch.int8)
        chosen, start = where[twice.to(where.device)], 0
        for place, gain in gains.items():
            size = gain[0].numel()
            here = (chosen >= start) & (chosen < start + size) & split[twice.to(split.device)]
            rows, spot = here.nonzero()[:, 0], (chosen - start)[here]
            signs = children.signs[place].clone()
            flat(signs)[rows, spot] = side[here]
            children.signs[place] = signs
            start += size
        children.tries = torch.where(split[twice.to(split.device)], 0, children.tries + 1)
        return children

    def _gain(self, known: Relaxed, place: int, met: Mapping[int, Tensor], signs: Tensor) -> Tensor:
        """Estimate what each free line costs: the coefficient times the gap at the kink."""
        tilt = Tilt.of(known, place)
        value = met.get(place)
        if tilt is None or value is None:
            return torch.zeros_like(signs, dtype=torch.float64)
        pair, kink = known.lines[place], kink_of(known.steps[place])
        at = tilt.op(torch.full_like(pair.over, kink))
        gap = (pair.above * kink + pair.over - at).clamp(min=0)
        other = torch.minimum(tilt.high[:, 0] - kink, kink - tilt.low[:, 0]).clamp(min=0)
        up, down = value[:, 0].clamp(min=0), -value[:, 0].clamp(max=0)
        free = tilt.free[:, 0] & (signs == 0)
        return torch.where(free, down * gap + 0.5 * up * other + 1e-30, 0.0)


__all__ = ["Pool", "Tree"]
