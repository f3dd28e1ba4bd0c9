"""Bounds on boxes: is Q above 0 on all of them?

All boxes that ask for the same conditions are bounded as one batch, the cheapest way first. Of few
inputs, boxes are halved (:mod:`conjoin.certification.halving`), those that are open together. Of
many, the kinks of the network are divided first, box by box. Every bound is a bound, so the largest
is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from conjoin.audit.verification.conditions import Chosen, Violation, boxed
from conjoin.audit.verification.deadline import Deadline
from conjoin.certification import BranchAndBound, Crown, Interval
from conjoin.certification.bounded import Bounded
from conjoin.certification.halving import Halving, few
from conjoin.core.evidence import Claim
from conjoin.core.protocols import Batch, Certifier
from conjoin.core.random import Streams
from conjoin.core.threat import Enclosure
from conjoin.errors import CapabilityError
from conjoin.models.torch import TorchModel

MOST = 2**20  # parts of each box
METHODS: tuple[Interval | Crown, ...] = (Interval(Claim.SOUND_REAL), Crown(Claim.SOUND_REAL))


class Proof:
    """The search; iterating over it yields points where Q may be at or below 0, with their boxes.

    Attributes:
        lower: What is proved of each box.
        reason: How it ended.

    Raises:
        CapabilityError: If no certifier knows the network.
    """

    def __init__(
        self, model: TorchModel, quantity: Violation, low: Tensor, high: Tensor, deadline: Deadline
    ) -> None:
        self.model, self.quantity, self.deadline = model, quantity, deadline
        self.low, self.high = low, high
        self.lower = torch.full((len(low),), -math.inf, dtype=torch.float64)
        self.won = torch.zeros(len(low), dtype=torch.bool)
        self.reason = "it was not looked at"
        self.methods = self._prepared((low + high)[:1] / 2)

    @property
    def proved(self) -> bool:
        """Whether Q is above 0 everywhere."""
        return bool((self.lower > 0).all())

    def _prepared(self, x: Tensor) -> list[Certifier]:
        """Prepare what knows the network."""
        batch, known, refused = self._batch(x, self._aim(x)), [], []
        for method in METHODS:
            try:
                known.append(method.prepare(self.model, batch))
            except CapabilityError as error:
                refused.append(str(error))
        if not known:
            raise CapabilityError(refused[0])
        return known

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Search until every box is proved, or the time is over."""
        given = self._given()
        self.lower = self._bounds()
        if not bool(few(given).all()):
            yield from self._divided()
        yield from self._halved(given)
        self.reason = "every box is excluded by a bound" if self.proved else self.reason

    def _given(self) -> Enclosure:
        radius = torch.full((len(self.low),), math.inf, dtype=torch.float64)
        return Enclosure(self.low, self.high, (self.low + self.high) / 2, radius, math.inf)

    def _bounds(self) -> Tensor:
        """Return the best lower bound on each box; -inf where no method has one."""
        x, best = self._given().centre, self.lower.clone()
        with torch.no_grad():
            aim = self.quantity.chosen(self.model(self._batch(x, self._aim(x))))
        threat = boxed(self.low, self.high)
        for method in self.methods:
            left = ~(best > 0)
            if not bool(left.any()) or self.deadline.over:
                break
            batch = self._batch(x[left], aim[left])
            found = method(self.model, batch, threat.rows(left), Chosen()).lower.double()
            best[left] = torch.maximum(best[left], found)
        return best

    def _divided(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Divide the kinks, one open box after another; yield what wins there."""
        for row in (~(self.lower > 0)).nonzero()[:, 0]:
            if self.deadline.over:
                return
            some = row[None]
            low, high = self.low[some], self.high[some]
            x = (low + high) / 2
            with torch.no_grad():
                aim = self.quantity.chosen(self.model(self._batch(x, self._aim(x))))
            method = BranchAndBound(self.deadline.left, splits=MOST, claim=Claim.SOUND_REAL)
            try:
                found = method(self.model, self._batch(x, aim), boxed(low, high), Chosen())
            except CapabilityError:  # a layer that is not piecewise linear
                return
            self.lower[some] = torch.maximum(self.lower[some], found.lower.double())
            if found.witness is not None and found.upper is not None and bool(found.upper <= 0):
                yield found.witness, some

    def _halved(self, given: Enclosure) -> Iterator[tuple[Tensor, Tensor]]:
        """Halve all open boxes together; yield what may win there."""
        if self.proved or self.deadline.over:
            self.reason = "the time is over"
            return
        x = given.centre
        network = Bounded.of(self.model, self._batch(x[:1], self._aim(x[:1])), METHODS[-1])
        with torch.no_grad():
            outputs = self.model(self._batch(x[:1], self._aim(x[:1]))).shape[1]
            rows = torch.eye(outputs, dtype=torch.float64).expand(len(x), -1, -1)
            halving = Halving(
                *(network, given, rows, self.lower, 0.0), choose=self.quantity.deciding
            )
        while True:
            self.lower = halving.lower
            points, owner = halving.points
            with torch.no_grad():
                value = self.quantity(self.model(self._batch(points, self._aim(points))), points)
            if bool((value <= 0).any()):
                yield points[value <= 0], owner[value <= 0]
            halving.drop(halving.made >= MOST)
            if self.deadline.over or not bool(halving.undecided.any()):
                break
            with torch.no_grad():
                halving.round()
        count = len(halving.open)
        if self.deadline.over:
            self.reason = f"the time is over, with {count} boxes open"
        elif bool(halving.stuck.any()):
            self.reason = "a box is as small as numbers are, and still open"
        else:
            self.reason = f"{MOST} boxes were looked at"

    def _aim(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), len(self.quantity.groups), dtype=torch.long)

    def _batch(self, x: Tensor, aim: Tensor) -> Batch:
        return Batch(x, aim, Streams.of(0, torch.arange(len(x))))


__all__ = ["METHODS", "Proof"]
