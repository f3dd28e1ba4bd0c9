"""Bounds on boxes, and their halves where a bound does not do: branch and bound over the input.

A lower bound of Q above 0 closes a box. The others are halved across the side where |∂Q/∂x_i| times the
width is largest, and wait with their bound; the least is looked at first, a batch at a time. Every
certifier's bound is a bound, so the largest is kept, and a half inherits its parent's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from conjoin.audit.verification.conditions import Chosen, Violation, boxed
from conjoin.audit.verification.deadline import Deadline
from conjoin.certification import BranchAndBound, Crown, Interval
from conjoin.core.protocols import Batch, Certifier
from conjoin.core.random import Streams
from conjoin.core.result import Claim
from conjoin.errors import CapabilityError
from conjoin.models.torch import TorchModel

LARGEST = 512  # boxes in a batch
SLOW = 0.5  # seconds for a batch; a quicker one is doubled
MOST = 2**20  # boxes that wait
METHODS: tuple[Interval | Crown, ...] = (Interval(Claim.SOUND_REAL), Crown(Claim.SOUND_REAL))
FEW = 12  # inputs; of more, the kinks of the network are divided before the box is


class Halving:
    """The search; iterating over it yields the centres at which Q is at or below 0.

    Attributes:
        proved: Whether every box was closed.
        reason: How it ended.

    Raises:
        CapabilityError: If no certifier knows the network.
    """

    def __init__(
        self, model: TorchModel, quantity: Violation, low: Tensor, high: Tensor, deadline: Deadline
    ) -> None:
        self.model, self.quantity, self.deadline = model, quantity, deadline
        self.low, self.high = low, high
        self.bound = torch.full((1,), -math.inf, dtype=torch.float64)
        self.proved, self.reason = False, "it was not looked at"
        self.methods = self._prepared((low + high) / 2)

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

    def __iter__(self) -> Iterator[Tensor]:
        """Search until every box is closed, the time is over, or too many wait."""
        size = 1
        if self.low[0].numel() > FEW:
            yield from self._divided()
        while len(self.low):
            if self.deadline.over:
                self.reason = f"the time is over, with {len(self.low)} boxes open"
                return
            if len(self.low) > MOST:
                self.reason = f"{len(self.low)} boxes are open"
                return
            began = time.monotonic()
            order = self.bound.argsort()
            first, rest = order[:size], order[size:]
            low, high, bound = self.low[first], self.high[first], self.bound[first]
            self.low, self.high, self.bound = self.low[rest], self.high[rest], self.bound[rest]
            centre = _middle(low, high)
            value, slope, aim = self._looked(centre)
            if bool((value <= 0).any()):
                yield centre[value <= 0]
            lower = torch.maximum(bound, self._bounds(centre, aim, low, high))
            open_ = ~(lower > 0)
            if not self._halved(low[open_], high[open_], lower[open_], slope[open_]):
                return
            if time.monotonic() - began < SLOW:
                size = min(2 * size, LARGEST)
        self.proved, self.reason = True, "every box is excluded by a bound"

    def _divided(self) -> Iterator[Tensor]:
        """Bound the whole box, then by branch and bound over the kinks; yield what wins there."""
        centre = _middle(self.low, self.high)
        aim, threat = self._looked(centre)[2], boxed(self.low, self.high)
        lower = self._bounds(centre, aim, self.low, self.high)
        if not bool(lower > 0) and not self.deadline.over:
            method = BranchAndBound(self.deadline.left, splits=MOST, claim=Claim.SOUND_REAL)
            try:
                found = method(self.model, self._batch(centre, aim), threat, Chosen())
            except CapabilityError:  # a layer that is not piecewise linear
                return
            lower = torch.maximum(lower, found.lower.double())
            if found.witness is not None and found.upper is not None and bool(found.upper <= 0):
                yield found.witness
        self.bound = lower
        if bool(lower > 0):
            self.low, self.high, self.bound = self.low[:0], self.high[:0], self.bound[:0]

    def _looked(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the value at the centres, its gradient, and the conditions to bound."""
        x = x.clone().requires_grad_()
        with torch.enable_grad(), self.model.held():
            outputs = self.model(self._batch(x, torch.zeros(len(x), dtype=torch.long)))
            value = self.quantity(outputs, x)
            (slope,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), slope, self.quantity.chosen(outputs.detach())

    def _bounds(self, x: Tensor, aim: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the best lower bound on each box; -inf where no method has one."""
        best = torch.full((len(x),), -math.inf, dtype=torch.float64)
        threat, quantity = boxed(low, high), Chosen()
        for method in self.methods:
            left = ~(best > 0)
            if not bool(left.any()) or self.deadline.over:
                break
            batch = self._batch(x[left], aim[left])
            with torch.no_grad():
                found = method(self.model, batch, threat.rows(left), quantity).lower.double()
            best[left] = torch.maximum(best[left], found)
        return best

    def _halved(self, low: Tensor, high: Tensor, bound: Tensor, slope: Tensor) -> bool:
        """Put the halves of boxes among those that wait; tell whether all could be halved."""
        width = (high - low).flatten(1)
        score = width * slope.abs().flatten(1).nan_to_num()
        score = torch.where(score.amax(1, keepdim=True) > 0, score, width)
        side = score.argmax(1, keepdim=True)
        middle = _middle(low, high).flatten(1)
        first, second = high.flatten(1).clone(), low.flatten(1).clone()
        cut = middle.gather(1, side)
        inner = (cut > low.flatten(1).gather(1, side)) & (cut < high.flatten(1).gather(1, side))
        if not bool(inner.all()):
            self.reason = "a box is as small as numbers are, and still open"
            return False
        first.scatter_(1, side, cut)
        second.scatter_(1, side, cut)
        self.low = torch.cat([self.low, low, second.reshape(low.shape)])
        self.high = torch.cat([self.high, first.reshape(high.shape), high])
        self.bound = torch.cat([self.bound, bound, bound])
        return True

    def _aim(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), len(self.quantity.groups), dtype=torch.long)

    def _batch(self, x: Tensor, aim: Tensor) -> Batch:
        return Batch(x, aim, Streams.of(0, torch.arange(len(x))))


def _middle(low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(low + (high - low) / 2, low), high)


__all__ = ["METHODS", "Halving"]
