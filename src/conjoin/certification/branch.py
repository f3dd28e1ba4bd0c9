"""Branch and bound: certificates and counterexamples where one relaxation does not decide.

An argument of ReLU is >= 0 or <= 0: the set falls into two parts, on each of which this ReLU is linear. On a
part, ρ·z is bounded as by alpha-CROWN, with one multiplier β >= 0 more for each condition s h >= 0,

    min ρ·z  >=  min (ρ·z - β s h)      where s h >= 0,

and slopes and multipliers ascend together. Parts whose bound exceeds the goal are done, the worst of
the others are divided further, many at a time. Where nothing is left to divide the bound is the dual of a
convex problem, so that the search is complete but for ties; it is *not* bound to end in the time given:
then the bound is what is proved so far. Points where the relaxations are least are tried on the network.

Reference: wang2021 (the multipliers); bunel2020 (what to divide).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.certification.alpha import Ascent, Tilt
from conjoin.certification.backward import Descent, Relaxed
from conjoin.certification.box import Boxes
from conjoin.certification.crown import Bounded, bounded, void
from conjoin.certification.head import Asked
from conjoin.certification.known import linear_rows
from conjoin.certification.relaxing import NUMBERS, Relaxing, kink_of
from conjoin.core.operator import Elementwise
from conjoin.core.protocols import Attack, Batch, Certifier, Model
from conjoin.core.quantity import PiecewiseLinear, Quantity
from conjoin.core.result import Bounds, Claim
from conjoin.core.rung import meets
from conjoin.core.threat import Projectable, Threat
from conjoin.errors import PlanError

PARTS = 128  # that are divided at once
TRIED = 8  # points of each round that the network is asked about
PATIENCE = 30  # rounds in which a part that cannot be divided may still rise


@dataclass(frozen=True, slots=True)
class BranchAndBound:
    """Divide the set at the kinks of a rectifier network until it is certified or refuted.

    Attributes:
        seconds: Time for each example, looked at between rounds; may be infinite.
        splits: Parts that are made of each example at most.
        iterations: Steps of the ascent on each part.
        attack: Searches for a counterexample first; ``None`` for the relaxations' own points alone.
        claim: What the bounds must be true of; ``None`` for the deployed network where that gives
            bounds, else real arithmetic.

    Raises:
        PlanError: If there is no time, or a number is negative.
    """

    reference: ClassVar[str] = "wang2021"
    title: ClassVar[str] = "branch and bound (beta-CROWN)"
    meaning: ClassVar[str] = "the set divided at ReLUs until every part is proved or an input wins"
    seconds: float = 10.0
    splits: int = 20_000
    iterations: int = 10
    attack: Attack | None = None
    claim: Claim | None = None

    def __post_init__(self) -> None:
        if not self.seconds > 0 or self.splits < 0 or self.iterations < 1:
            raise PlanError(
                "expected seconds > 0, splits >= 0 and iterations >= 1; got "
                f"{self.seconds!r}, {self.splits!r} and {self.iterations!r}"
            )

    def prepare(self, model: Model, example: Batch, /) -> Certifier:
        """Read the operators off the model, once.

        Raises:
            CapabilityError: If a layer is not known.
        """
        return PreparedBranching(Bounded.of(model, example, self), self)

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Bounds:
        """Return bounds over S(x), and inputs that win where some were found; prepares first."""
        return self.prepare(model, batch)(model, batch, threat, quantity)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedBranching:
    """Branch and bound on one model, whose operators are known.

    Attributes:
        network: The operators.
        method: What it prepares.
    """

    reference: ClassVar[str] = "wang2021"
    network: Bounded
    method: BranchAndBound

    def __repr__(self) -> str:
        """Show it as the method it prepares."""
        return repr(self.method)

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Bounds:
        """Return lower bounds of the quantity over S(x), and what points in it have.

        Raises:
            CapabilityError: If the quantity, the threat or an operator is not known to it.
            ModelError: If it was prepared for another model.
        """
        ask = linear_rows(quantity, self)
        trial = Trial(model, batch, threat, quantity)
        if self.method.attack is not None:
            trial.attempt(self.method.attack)

        def bound(domain: Boxes, some: slice, outputs: Tensor) -> Tensor:
            asked = Asked.of(ask.rows(batch.aim[some], outputs.shape[1]))
            return self._example(domain, outputs, asked, trial.about(some.start, ask.goal))

        found = bounded(
            self.network, model, batch, threat, self.method.claim, bound, examples=1
        )
        lower = torch.minimum(found.lower, trial.value)  # of what is refuted, the value seen
        return Bounds(lower, found.claim, upper=trial.value, witness=trial.inputs)

    def _example(
        self, domain: Boxes, outputs: Tensor, asked: Asked, trial: Search
    ) -> Tensor:
        """Search one example."""
        known = self.network.relaxed(domain, outputs)
        direct, lost = self.network.start(known, domain, asked)
        relaxing = Relaxing(self.network.steps, domain)
        tree = Tree(relaxing, known, asked.rows[0], direct[0].clone(), lost[0])
        tree.root(2 * self.method.iterations)
        deadline = time.perf_counter() + self.method.seconds
        while tree.undecided(trial.goal) and tree.made < self.method.splits:
            if trial.won or time.perf_counter() > deadline:
                break
            trial.look(tree.round(trial.goal, self.method.iterations))
        return void(known, tree.lower[None]).amin(1)


class Trial:
    """The least values that were seen, and where.

    Attributes:
        value: Per example, at first that at x itself.
        inputs: Where it was seen.
    """

    def __init__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity) -> None:
        self.model, self.batch, self.threat, self.quantity = model, batch, threat, quantity
        self.inputs = batch.x.clone()
        with torch.no_grad():
            self.value = quantity(model(batch), batch.aim)

    def attempt(self, attack: Attack) -> None:
        """Let an attack search."""
        with torch.enable_grad():
            came = attack(self.model, self.batch.copied(), self.threat, self.quantity)
        inside = self.threat.contains(came, self.batch.x)
        with torch.no_grad():
            value = self.quantity(self.model(self.batch.at(came)), self.batch.aim)
        better = inside & (value < self.value)
        self.value = torch.where(better, value, self.value)
        self.inputs[better] = came[better]

    def about(self, row: int, goal: float) -> Search:
        """Return what is seen of one example."""
        return Search(self, row, goal)

    def look(self, row: int, points: Tensor) -> None:
        """Try points, brought into the set."""
        if not len(points):
            return
        index = torch.full((len(points),), row, device=points.device)
        many, part = self.batch.rows(index), self.threat.rows(index)
        z = points.reshape(many.x.shape).to(many.x.dtype)
        if meets(part, Projectable):
            z = part.project(z, many.x)
        with torch.no_grad():
            value = self.quantity(self.model(many.at(z)), many.aim)
        value = value.masked_fill(~part.contains(z, many.x), math.inf)
        best = int(value.argmin())
        if value[best] < self.value[row]:
            self.value[row], self.inputs[row] = value[best], z[best]


@dataclass(frozen=True, slots=True)
class Search:
    """What is seen of one example of a trial."""

    trial: Trial
    row: int
    goal: float

    @property
    def won(self) -> bool:
        """Whether an input is known that wins."""
        return bool(self.trial.value[self.row] <= self.goal)

    def look(self, points: Tensor) -> None:
        """Try points."""
        self.trial.look(self.row, points)


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
        return len(self.pool) > 0 and bool((self.pool.tries < PATIENCE).all())

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
            empty = empty | (box.low > box.high).flatten(1).any(1)
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
        flat = torch.cat([gain.flatten(1) for gain in gains.values()], 1)
        most, where = flat.max(1)
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
            signs.flatten(1)[rows, spot] = side[here]
            children.signs[place] = signs
            start += size
        children.tries = torch.where(split[twice.to(split.device)], 0, children.tries + 1)
        return children

    def _gain(
        self, known: Relaxed, place: int, met: Mapping[int, Tensor], signs: Tensor
    ) -> Tensor:
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


__all__ = ["BranchAndBound", "PreparedBranching", "Tree", "Trial"]
