"""Decoupled direction and norm: the radius changes by a constant factor a step.

The search of :mod:`conjoin.attacks.fmn` with the simplest rule for the radius: ε shrinks by 1 - γ while
the example has fallen and grows by 1 + γ while it has not. The paper's norm is Euclid's and its first
radius 1; here the norm is the threat's, and the first radius is that of the nearest linearised
boundary, which has no unit to be wrong in. It is *not* quantised to 8 bits.

Reference: rony2019, algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attacks.fmn import Schedule, Turn, check_schedule, followed
from conjoin.attacks.nearest import searchable
from conjoin.core.counted import check_numbers
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.threat import Threat


@dataclass(frozen=True, slots=True)
class DDN:
    """Shrink the radius by a constant factor where the example has fallen, else grow it.

    Attributes:
        steps: Gradient steps.
        step_size: Of the first step, as a share of the radius.
        last_step: Of the last step.
        shrink: Share by which the radius shrinks or grows.
        candidates: Classes whose boundaries are looked at for the first step, one backward pass each.
    """

    reference: ClassVar[str] = "rony2019"
    title: ClassVar[str] = "decoupled direction and norm"
    meaning: ClassVar[str] = "descends inside a radius that changes by a constant factor"
    steps: int = 100
    step_size: float = 4.0
    last_step: float = 0.01
    shrink: float = 0.05
    candidates: int = 9

    def __post_init__(self) -> None:
        check_numbers(self)
        check_schedule(self, self._schedule, self.shrink)

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return the nearest point that reaches the goal, else the one with the least quantity.

        Raises:
            CapabilityError: If nothing can be projected onto the threat, it has no radius, the quantity
                has no finite goal, or the model or its inputs have no gradient.
        """
        return followed(model, batch, searchable(self, threat, quantity), quantity, self._schedule)

    @property
    def _schedule(self) -> Schedule:
        return Schedule(self.steps, self.step_size, self.last_step, self.candidates, self._radius)

    def _radius(self, turn: Turn) -> Tensor:
        return turn.eps * torch.where(turn.fell, 1 - self.shrink, 1 + self.shrink)


__all__ = ["DDN"]
