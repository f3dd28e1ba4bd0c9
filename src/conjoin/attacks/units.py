"""Sets in units of their own, for attacks that know balls: the model is changed, not the attack.

S(x) = {z : ‖(z - x) / s‖_p <= eps} is a ball of radius eps round 0 in u = (z - x) / s, and
u ↦ f(x + s u) a model. Of a vector, elements that the mask holds are left out, so that a search by
queries spends none on them. What was found is taken back and projected onto S(x), as the box is rounded
on the way. It is *not* a lifted model that a user makes: x and s stand behind it, example by example.

Reference: croce2020, section 2 (the problem that is solved, whatever its units).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeGuard

import torch
from torch import Tensor

from conjoin.core.ball import Ball
from conjoin.core.protocols import Attack, Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.scaled import Scaled
from conjoin.core.threat import Threat
from conjoin.models.around import Around

X, UNIT = "displaced x", "displaced unit"  # what stands behind


@dataclass(frozen=True, slots=True)
class Displaced(Around):
    """A model of how far the input moves, in units.

    Attributes:
        free: Places in a vector that may move; ``None`` for every element.
    """

    free: Tensor | None

    def __call__(self, batch: Batch, /) -> Tensor:
        """Move what stands behind, then pass through the model."""
        others = {name: v for name, v in batch.context.items() if name not in (X, UNIT)}
        x, unit = batch.context[X], batch.context[UNIT]
        return self.model(Batch(self.moved(x, unit, batch.x), batch.aim, batch.rng, others))

    def moved(self, x: Tensor, unit: Tensor, u: Tensor) -> Tensor:
        """Return x + s u."""
        if self.free is None:
            return x + unit * u
        return x.index_copy(1, self.free, x[:, self.free] + unit * u)


def has_units(threat: Threat, x: Tensor) -> TypeGuard[Ball | Scaled]:
    """Tell whether a ball has units of its own, or holds elements of a vector as they are."""
    if isinstance(threat, Scaled):
        return True
    return isinstance(threat, Ball) and _free(threat, x) is not None


def in_units(
    attack: Attack, model: Model, batch: Batch, threat: Ball | Scaled, quantity: Quantity
) -> Tensor:
    """Run an attack on a ball round 0 in units, and return what it found, inside S(x)."""
    x, free = batch.x, _free(threat, batch.x)
    held = threat.ball if isinstance(threat, Scaled) else threat
    scale = torch.as_tensor(getattr(threat, "scale", 1.0), dtype=torch.float64, device=x.device)
    unit = scale.expand_as(x)
    low, high = (torch.as_tensor(end, dtype=torch.float64, device=x.device) for end in held.bounds)
    ends = [((end - x.double()) / unit) for end in (low, high)]
    mask = held.mask
    if free is not None:
        if len(free) == 0:
            return x.clone()
        unit, ends, mask = unit[:, free], [end[:, free] for end in ends], None
    unit = unit.to(x.dtype)
    ball = type(held)(held.radius(x), (ends[0].clamp(max=0), ends[1].clamp(min=0)), mask)
    moved = Displaced(model, free)
    context = {**batch.context, X: x, UNIT: unit}
    found = attack(moved, replace(batch, x=torch.zeros_like(unit), context=context), ball, quantity)
    return threat.project(moved.moved(x, unit, found), x)


def _free(threat: Ball | Scaled, x: Tensor) -> Tensor | None:
    """Return the places of a vector that may move, if the same for all examples and not every one."""
    mask = threat.mask
    if mask is None or x.ndim != 2 or len(mask) != 1 or bool(mask.all()):
        return None
    return mask[0].expand(x.shape[1]).nonzero()[:, 0]


__all__ = ["Displaced", "has_units", "in_units"]
