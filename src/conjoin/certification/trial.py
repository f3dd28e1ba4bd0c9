"""Counterexamples on the way: what the network itself gives where a relaxation is least.

Points are brought into the set by its own projection and judged by a fresh pass: what is kept is an
upper bound of the minimum, with the input that has it. It is a by-product, *not* an attack.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.core.protocols import Attack, Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.rung import meets
from conjoin.core.threat import Projectable, Threat


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

    def look(self, rows: Tensor, points: Tensor) -> None:
        """Try points for the examples of the given numbers, brought into their sets."""
        if not len(points):
            return
        many, part = self.batch.rows(rows), self.threat.rows(rows)
        z = points.reshape(many.x.shape).to(many.x.dtype)
        if meets(part, Projectable):
            z = part.project(z, many.x)
        with torch.no_grad():
            value = self.quantity(self.model(many.at(z)), many.aim)
        value = value.masked_fill(~part.contains(z, many.x), math.inf)
        best = self.value.scatter_reduce(0, rows, value, "amin")
        new = ((value == best[rows]) & (best < self.value)[rows]).nonzero()[:, 0]
        self.value, self.inputs[rows[new]] = best, z[new]


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
        rows = torch.full((len(points),), self.row, device=points.device)
        self.trial.look(rows, points)


__all__ = ["Search", "Trial"]
