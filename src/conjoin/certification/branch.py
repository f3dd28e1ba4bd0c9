"""Branch and bound: certificates and counterexamples where one relaxation does not decide.

An argument of ReLU is >= 0 or <= 0: the set falls into two parts, on each of which this ReLU is
linear. On a part, ρ·z is bounded as by alpha-CROWN, with one multiplier β >= 0 more for each
condition s h >= 0,

    min ρ·z  >=  min (ρ·z - β s h)      where s h >= 0,

and slopes and multipliers ascend together. Parts whose bound exceeds the goal are done, the worst
of the others are divided further, many at a time. Where nothing is left to divide the bound is the
dual of a convex problem, so that the search is complete but for ties; it is *not* bound to end in
the time given: then the bound is what is proved so far. Points where the relaxations are least are
tried on the network.

A box of at most twelve sides is halved instead, whatever the functions of the network are
(:mod:`conjoin.certification.halving`), those of all examples together.

Reference: wang2021 (the multipliers); bunel2020 (what to divide).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.certification.bounded import Bounded, Relaxation, bounded, void
from conjoin.certification.box import Boxes
from conjoin.certification.crown import crown_bounds
from conjoin.certification.halving import Halving, few
from conjoin.certification.head import Asked
from conjoin.certification.known import enclosed, linear_rows
from conjoin.certification.relaxing import Relaxing
from conjoin.certification.tree import Tree
from conjoin.certification.trial import Search, Trial
from conjoin.core.counted import check_numbers
from conjoin.core.evidence import Bounds, Claim
from conjoin.core.protocols import Attack, Batch, Model
from conjoin.core.quantity import PiecewiseLinear, Quantity
from conjoin.core.threat import Threat
from conjoin.errors import PlanError


@dataclass(frozen=True, slots=True)
class BranchAndBound(Relaxation):
    """Divide the set until it is certified or refuted: at kinks, or, of few inputs, a box in halves.

    Attributes:
        seconds: Time for each example, looked at between rounds; may be infinite. Examples that are
            searched together share it.
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
    meaning: ClassVar[str] = "the set divided until every part is proved or an input wins"
    seconds: float = 10.0
    splits: int = 20_000
    iterations: int = 10
    attack: Attack | None = None
    claim: Claim | None = None

    def __post_init__(self) -> None:
        check_numbers(self)
        if not self.seconds > 0 or self.splits < 0 or self.iterations < 1:
            raise PlanError(
                "expected seconds > 0, splits >= 0 and iterations >= 1; got "
                f"{self.seconds!r}, {self.splits!r} and {self.iterations!r}"
            )

    def rows(
        self, network: Bounded, domain: Boxes, some: Batch, outputs: Tensor, ask: PiecewiseLinear
    ) -> Tensor:
        """Bound each row over the whole set, before anything is divided."""
        return crown_bounds(network, domain, outputs, ask, some.aim)

    def searched(
        self, network: Bounded, model: Model, batch: Batch, threat: Threat, quantity: Quantity
    ) -> Bounds:
        """Return lower bounds of the quantity over S(x), and what points in it have."""
        linear_rows(quantity, self)
        short = few(enclosed(threat, batch.x, self))
        if bool(short.all()) or not bool(short.any()):
            return self._alike(network, model, batch, threat, quantity, bool(short.all()))
        both = [short.nonzero()[:, 0], (~short).nonzero()[:, 0]]
        found = [
            self._alike(
                network, model, batch.rows(some), threat.rows(some), quantity, some is both[0]
            )
            for some in both
        ]
        order = torch.cat(both).argsort()

        def joined(values: Iterable[Tensor | None]) -> Tensor:
            return torch.cat([value for value in values if value is not None])[order]

        return Bounds(
            joined(part.lower for part in found),
            Claim.weakest(part.claim for part in found),
            upper=joined(part.upper for part in found),
            witness=joined(part.witness for part in found),
        )

    def _alike(
        self,
        network: Bounded,
        model: Model,
        batch: Batch,
        threat: Threat,
        quantity: Quantity,
        short: bool,
    ) -> Bounds:
        """Search examples whose boxes are all of few sides, or all of many."""
        ask = linear_rows(quantity, self)
        trial = Trial(model, batch, threat, quantity)
        if self.attack is not None:
            trial.attempt(self.attack)

        def divided(domain: Boxes, some: slice, outputs: Tensor) -> Tensor:
            asked = Asked.of(ask.rows(batch.aim[some], outputs.shape[1]))
            return self._example(network, domain, outputs, asked, trial.about(some.start, ask.goal))

        def halved(domain: Boxes, some: slice, outputs: Tensor) -> Tensor:
            rows = ask.rows(batch.aim[some], outputs.shape[1])
            known = self.rows(network, domain, batch.rows(some), outputs, ask).amin(1)
            halving = Halving(network, domain.given, rows, known, ask.goal, domain.rounding)
            return self._together(halving, trial)

        found = bounded(
            *(network, model, batch, threat, self.claim),
            halved if short else divided,
            examples=len(batch) if short else 1,
        )
        lower = torch.minimum(found.lower, trial.value)  # of what is refuted, the value seen
        return Bounds(lower, found.claim, upper=trial.value, witness=trial.inputs)

    def _together(self, halving: Halving, trial: Trial) -> Tensor:
        """Halve the boxes of all examples, as long as all of them may take."""
        deadline = time.perf_counter() + self.seconds * len(halving.rows)
        while True:
            trial.look(halving.points[1], halving.points[0])
            halving.drop((trial.value <= halving.goal) | (halving.made >= self.splits))
            if time.perf_counter() > deadline or not bool(halving.undecided.any()):
                return halving.lower
            halving.round()

    def _example(
        self, network: Bounded, domain: Boxes, outputs: Tensor, asked: Asked, trial: Search
    ) -> Tensor:
        """Search one example."""
        known = network.relaxed(domain, outputs)
        direct, lost = network.start(known, domain, asked)
        relaxing = Relaxing(network.steps, domain)
        tree = Tree(relaxing, known, asked.rows[0], direct[0].clone(), lost[0])
        tree.root(2 * self.iterations)
        deadline = time.perf_counter() + self.seconds
        while tree.undecided(trial.goal) and tree.made < self.splits:
            if trial.won or time.perf_counter() > deadline:
                break
            trial.look(tree.round(trial.goal, self.iterations))
        return void(known, tree.lower[None]).amin(1)


__all__ = ["BranchAndBound"]
