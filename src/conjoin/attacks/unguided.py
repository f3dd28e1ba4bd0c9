"""Unguided: queries where no gradient leads.

Descent has nothing to go by where a model gives outputs alone, or where the gradient of the quantity at
an example is zero in every element, as behind a rounding. There, and only there, the attacks within are
run in turn: such as ask for outputs or decisions. Each example tells for itself, so nothing depends on
the batch. Where a gradient leads, the one that was taken to find out is worth a single step, and no
query is made. It is *not* a test for gradients that mislead without being zero: that is for diagnosis.

Reference: athalye2018, section 3.1 (shattered gradients).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attacks.descent import steppable
from conjoin.attacks.worst_of import WorstOf
from conjoin.core.arguments import check_parts
from conjoin.core.gradient import value_and_gradient
from conjoin.core.postcondition import check_candidates, part_of
from conjoin.core.projection import column
from conjoin.core.protocols import Attack, Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError


@dataclass(frozen=True, slots=True)
class Unguided:
    """Attack where no gradient leads.

    Attributes:
        attacks: Run in turn on what still stands; those of scores or decisions.
        flat: Whether also at examples of zero gradient; else only where the model gives none.

    Raises:
        PlanError: If they are no attacks, or none.
    """

    reference: ClassVar[str] = "athalye2018"
    title: ClassVar[str] = "queries where no gradient leads"
    meaning: ClassVar[str] = "attacks by outputs alone, where the gradient is zero or there is none"
    attacks: tuple[Attack, ...]
    flat: bool = True

    def __post_init__(self) -> None:
        check_parts(self.attacks, "an attack by queries, e.g. BlackBox()")

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return the worst point found, per example; one step down where a gradient leads.

        Raises:
            CapabilityError: If none of the attacks applies where they are wanted.
        """
        gradient, given = _gradient(model, batch, quantity)
        found = _stepped(self, threat, batch.x, gradient)
        rows = (gradient == 0).flatten(1).all(1).nonzero()[:, 0]
        if len(rows) and (self.flat or not given):
            part, own, turns = batch.rows(rows), part_of(threat, rows), WorstOf(self.attacks)
            came = turns(model, part.copied(), own, quantity)
            found[rows] = check_candidates(turns, came, part.x, own)
        return found


def _gradient(model: Model, batch: Batch, quantity: Quantity) -> tuple[Tensor, bool]:
    """Return the gradient of the quantity, and whether there is one; zero where there is none."""
    try:
        return value_and_gradient(model, quantity, batch)[1], True
    except CapabilityError:
        return torch.zeros_like(batch.x), False


def _stepped(method: Unguided, threat: Threat, x: Tensor, gradient: Tensor) -> Tensor:
    """Take the one step that a gradient is worth, of the whole radius; none where it is zero."""
    led = column((gradient != 0).flatten(1).any(1), x)
    try:
        ball = steppable(method, threat, x)
    except CapabilityError:
        return x.clone()
    if not bool(led.any()):
        return x.clone()
    step = column(ball.radius(x).to(x.dtype), x) * ball.steepest(-gradient, x)
    return torch.where(led, ball.project(x + step, x), x)


__all__ = ["Unguided"]
