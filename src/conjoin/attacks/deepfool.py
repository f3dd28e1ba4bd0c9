"""DeepFool: linearise, step onto the nearest hyperplane, do it again.

The steps to the nearest linearised boundary (:mod:`conjoin.core.linearised`), each from where the
last one led, add up to r, which stays in S(x), and z = P_{S(x)}(x + (1 + overshoot) r). It is the
cheapest of the minimum-norm attacks, and *not* the strongest: nothing pulls z back along the boundary
towards x.

Reference: moosavi2016, algorithm 2 and section 3.3 (other norms).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attacks.nearest import Nearest, searchable
from conjoin.core.counted import check_numbers
from conjoin.core.linearised import nearest_plane
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.threat import Threat
from conjoin.errors import PlanError


@dataclass(frozen=True, slots=True)
class DeepFool:
    """Step onto the nearest linearised boundary until the example has fallen.

    Attributes:
        steps: Linearisations; each costs one forward pass and as many backward as candidates.
        candidates: Linear parts of the quantity that are looked at, the least ones: other classes.
        overshoot: Share by which the sum of the steps goes too far.
    """

    reference: ClassVar[str] = "moosavi2016"
    title: ClassVar[str] = "DeepFool"
    meaning: ClassVar[str] = "steps onto the nearest of the linearised boundaries"
    steps: int = 50
    candidates: int = 9
    overshoot: float = 0.02

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.steps < 1 or self.candidates < 1 or not 0 <= self.overshoot < 1:
            raise PlanError(
                f"steps and candidates must be positive and 0 <= overshoot < 1; got {self!r}"
            )

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return the point found, drawn back onto the boundary, else that of the least quantity.

        Raises:
            CapabilityError: If nothing can be projected onto the threat, it has no radius, the quantity
                has no finite goal, or the model or its inputs have no gradient.
        """
        own = searchable(self, threat, quantity)
        kept = Nearest.none(batch.x, own, quantity.goal)
        z, foot, path = batch.x.clone(), batch.x.clone(), batch.x.clone()
        open_ = torch.arange(len(z), device=z.device)
        for _ in range(self.steps):
            part, near_by = batch.rows(open_), own.rows(open_)
            here = part.at(z[open_])
            value, step, _ = nearest_plane(model, here, part.x, near_by, quantity, self.candidates)
            fell, _ = kept.see(z[open_], value, open_)
            left = (~fell).nonzero()[:, 0]
            if len(left) == 0:
                return kept.whole(model, batch, quantity, path)
            open_, part, near_by = open_[left], part.rows(left), near_by.rows(left)
            foot[open_] = near_by.project(foot[open_] + step[left], part.x)
            path[open_] = part.x + (1 + self.overshoot) * (foot[open_] - part.x)
            z[open_] = near_by.project(path[open_], part.x)
        with torch.no_grad():
            part = batch.rows(open_).at(z[open_])
            kept.see(part.x, quantity(model(part), part.aim), open_)
        return kept.whole(model, batch, quantity, path)


__all__ = ["DeepFool"]
