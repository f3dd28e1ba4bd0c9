"""Homotopy: descend on ever sharper smoothed twins of the network, then on the network itself.

A kinked network trained against an attack may have gradients that are clean, and lead into a poor
local minimum. Those of its smoothed twin see past the kinks; as the twin sharpens, each descent
starts at the best point, *by the network's own quantity*, of the last. Success is judged on the
network alone, so what it finds is adversarial whatever the twin says. It is *not* a remedy where a
network has no gradients: a step function stays one.

Reference: allgower1990, chapter 2 (numerical continuation).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from conjoin.attacks.apgd import Descent
from conjoin.attacks.descent import descended, steppable
from conjoin.attacks.kept import Kept
from conjoin.core.counted import check_numbers
from conjoin.core.gradient import need_floats
from conjoin.core.naming import name_of
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Quantity, Question, log_likelihood
from conjoin.core.threat import Threat
from conjoin.errors import PlanError
from conjoin.models.smoothed import smoothed


@dataclass(frozen=True, slots=True)
class Homotopy:
    """Descend along twins of rising sharpness.

    Attributes:
        sharpness: Of the twins, in order, in units of 1/σ of each layer; the network comes last.
        steps: Gradient steps on each.
        surrogate: Descended in place of the quantity, as
            :func:`~conjoin.attacks.descent.descended` says; ``None`` for the quantity itself.
    """

    reference: ClassVar[str] = "allgower1990"
    title: ClassVar[str] = "descent on smoothed twins"
    meaning: ClassVar[str] = "gradient steps on ever sharper smoothed versions of the network"
    sharpness: tuple[float, ...] = (2.0, 4.0, 8.0, 16.0)
    steps: int = 15
    surrogate: Question | None = log_likelihood

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.steps < 1 or not self.sharpness or min(self.sharpness) <= 0:
            raise PlanError(
                f"steps and sharpness must be positive, and some sharpness given; got {self!r}"
            )

    def __repr__(self) -> str:
        """Show the sharpnesses and the budget, and the loss by its name."""
        loss = "None" if self.surrogate is None else name_of(self.surrogate)
        sharp = ", ".join(f"{value:g}" for value in self.sharpness)
        return f"Homotopy(sharpness=({sharp}), steps={self.steps}, surrogate={loss})"

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return the point with the least quantity seen, per example.

        Raises:
            CapabilityError: If nothing can be projected onto the threat, it has no finite radius, the
                model or its inputs have no gradient, or nothing of it can be rounded off.
        """
        need_floats(batch)
        threat = steppable(self, threat, batch.x)
        surrogate = descended(self.surrogate, quantity)
        start = threat.sample(batch.x, batch.rng.fold("start"))
        kept = Kept.at(batch.x)
        guides: list[Model] = [smoothed(model, value) for value in self.sharpness]
        for guide in (*guides, model):
            standing = kept.standing(quantity.goal)
            if len(standing) == 0:
                break
            descent = Descent(model, guide, surrogate, quantity, self.steps)
            part, own = batch.rows(standing), threat.rows(standing)
            value, z = descent(part, own, start[standing])
            kept.take(standing, value, z)
            start = kept.best
        return kept.best


__all__ = ["Homotopy"]
