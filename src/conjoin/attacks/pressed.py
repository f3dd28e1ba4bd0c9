"""Pressed: dear attacks only where cheap ones came near.

Of the examples that the first attacks leave, those are attacked further whose quantity fell by enough,

    least - goal <= within · (Q(f(x)) - goal),

since dear attacks hardly ever break one that cheap ones, of several kinds, could not move. It spends
the passes where points are in doubt, example by example, so it does not depend on the batch. It is
*not* enough where all of the first are misled: where gradients are hidden nothing comes near, so an
ensemble holds attacks of other kinds on everything as well.

Reference: croce2020, section 5 (an ensemble on what stands).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from conjoin.attacks.worst_of import WorstOf
from conjoin.core.arguments import check_parts
from conjoin.core.counted import check_numbers
from conjoin.core.passed_over import pass_over
from conjoin.core.postcondition import check_candidates, part_of, value_of
from conjoin.core.protocols import Attack, Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, PlanError


@dataclass(frozen=True, slots=True)
class Pressed:
    """Attack, and attack on where that came near.

    Attributes:
        first: Run on everything, in turn.
        then: Run in turn on what stands and is near.
        within: The share of the quantity at x that may be left of it.

    Raises:
        PlanError: If these are no attacks, or the share is not positive.
    """

    reference: ClassVar[str] = "croce2020"
    title: ClassVar[str] = "dear attacks where cheap ones came near"
    meaning: ClassVar[str] = "attacks, and attacks on what they nearly broke"
    first: tuple[Attack, ...]
    then: tuple[Attack, ...]
    within: float = 0.5

    def __post_init__(self) -> None:
        check_numbers(self)
        check_parts(self.first, "an attack, e.g. PGD()")
        check_parts(self.then, "an attack, e.g. PGD(steps=100)")
        if not self.within > 0:
            raise PlanError(f"within must be positive; got {self.within}")

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return the worst point found, per example.

        Raises:
            CapabilityError: If none of the first attacks applies.
        """
        clean = value_of(model, quantity, batch).double()
        best = WorstOf(self.first)(model, batch, threat, quantity)
        least = value_of(model, quantity, batch.at(best)).double()
        goal = quantity.goal
        near = (least > goal) & (least - goal <= self.within * (clean - goal))
        rows = near.nonzero()[:, 0]
        if len(rows) == 0:
            return best
        part, own = batch.rows(rows), part_of(threat, rows)
        part, further = replace(part, rng=part.rng.fold("pressed")), WorstOf(self.then)
        try:
            found = check_candidates(
                further, further(model, part.copied(), own, quantity), part.x, own
            )
        except CapabilityError as error:
            pass_over(further, error)
            return best
        better = value_of(model, quantity, part.at(found)).double() < least[rows]
        best[rows[better]] = found[better]
        return best


__all__ = ["Pressed"]
