"""From an adversarial input to one nearer the boundary: bisection on the segment to x.

Only points of S(x) are taken (where it is convex, that is the whole segment), so this is an attack
like any other; it trades confidence for distance. The distance found is an *upper* bound on that of
the nearest decision boundary.

Reference: brendel2018, section 2 (binary search towards the boundary).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.core.arguments import check_method
from conjoin.core.boundary import bisected
from conjoin.core.counted import check_numbers
from conjoin.core.postcondition import check_candidates, contained, part_of, value_of
from conjoin.core.projection import column
from conjoin.core.protocols import Attack, Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.threat import Threat


@dataclass(frozen=True, slots=True)
class Closest:
    """Run an attack, then pull what it fooled back towards x as far as it stays fooled.

    Attributes:
        attack: Finds the adversarial inputs. What it returns is held to what the drivers ask of it.
        steps: Bisections; the distance is resolved to 2^-steps of itself.

    Raises:
        PlanError: If it is no attack.
    """

    reference: ClassVar[str] = "brendel2018"
    title: ClassVar[str] = "bisection towards the boundary"
    meaning: ClassVar[str] = (
        "what an attack found, pulled back to the example as far as it still fools"
    )
    attack: Attack
    steps: int = 8

    def __post_init__(self) -> None:
        check_numbers(self)
        check_method(self.attack, "an attack, e.g. PGD()")

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return the last fooled point of each segment; others as the attack left them."""
        came = self.attack(model, batch.copied(), threat, quantity)
        found = check_candidates(self.attack, came, batch.x, threat)
        with torch.no_grad():
            fooled = (value_of(model, quantity, batch.at(found)) <= quantity.goal).nonzero()[:, 0]
            if len(fooled) == 0:
                return found
            part, near_by, z = batch.rows(fooled), part_of(threat, fooled), found[fooled]

            def on_segment(share: Tensor) -> Tensor:
                return part.x + column(share, z) * (z - part.x)

            def fools(point: Tensor) -> Tensor:
                still = quantity(model(part.at(point)), part.aim) <= quantity.goal
                return still & contained(near_by, point, part.x)  # rounding must not lead out of it

            best = bisected(on_segment, fools, z, self.steps)
        return found.index_copy(0, fooled, best)
