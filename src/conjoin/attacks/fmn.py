"""Fast minimum-norm attacks: the radius of the set shrinks and grows round the boundary.

z ← P_{S(x; ε)}(z - α ∇Q(z)), and before each step ε follows the boundary: until the example falls for
the first time by the linearised distance, ε = (1 + γ)(‖z - x‖ + |Q - goal| / ‖∇Q‖_*), then by a factor
1 - γ while it has fallen and 1 + γ while it has not; α and γ fall along half a cosine. The first step
leads across the nearest linearised boundary, of whichever class. ε never exceeds the threat's own
radius. One run gives each example's distance, so the whole curve of accuracy against eps, at the price
of one run at one eps. It is *not* a bound from below: the boundary may be nearer. There is no l0, since
no threat measures it.

The step runs along the gradient in Euclid's norm, whatever the threat's: it gains as much, to first
order, as the threat's steepest step of length α ε. A sign has no fixed point, and the steepest
step of l1 moves single elements.

Reference: pintor2021, algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attacks.nearest import Nearest, Searchable, searchable
from conjoin.core.ball import L2, Ball
from conjoin.core.counted import check_numbers
from conjoin.core.gradient import outputs_and_gradient
from conjoin.core.linearised import inner, nearest_plane
from conjoin.core.projection import column
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.scaled import Scaled
from conjoin.core.threat import Threat
from conjoin.errors import PlanError

BEYOND = 0.02  # of the way to the first boundary that the first step goes too far


@dataclass(frozen=True, slots=True)
class Turn:
    """What is known of each example when its radius is set anew.

    Attributes:
        eps: The radius so far.
        fell: Whether the point just seen has reached the goal.
        nearest: The distance of the nearest point that has; infinite before the first.
        linear: The radius at which the linearised quantity reaches its goal.
        cosine: From 1 at the first step to 0 after the last.
    """

    eps: Tensor
    fell: Tensor
    nearest: Tensor
    linear: Tensor
    cosine: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a search goes on.

    Attributes:
        steps: Gradient steps, the one across the first boundary included.
        first, last: Length of the first and the last step, as shares of the radius.
        candidates: Classes whose boundaries are looked at for the first step.
        radius: Sets the radius anew.
    """

    steps: int
    first: float
    last: float
    candidates: int
    radius: Callable[[Turn], Tensor]


@dataclass(frozen=True, slots=True)
class FMN:
    """Follow the boundary by the linearised distance, then shrink and grow the radius.

    Attributes:
        steps: Gradient steps.
        step_size: Of the first step, as a share of the radius.
        last_step: Of the last step.
        shrink: Share by which the radius shrinks or grows at first; ``LAST_SHRINK`` at last.
        candidates: Classes whose boundaries are looked at for the first step, one backward pass each.
    """

    reference: ClassVar[str] = "pintor2021"
    title: ClassVar[str] = "fast minimum norm"
    meaning: ClassVar[str] = "descends inside a radius that shrinks until hardly anything fools"
    LAST_SHRINK: ClassVar[float] = 0.001
    steps: int = 100
    step_size: float = 16.0
    last_step: float = 0.01
    shrink: float = 0.15
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
        share = self.LAST_SHRINK + (self.shrink - self.LAST_SHRINK) * turn.cosine
        reached = torch.where(turn.nearest.isfinite(), turn.eps, turn.linear)
        inwards = torch.minimum(turn.eps * (1 - share), turn.nearest)
        return torch.where(turn.fell, inwards, reached * (1 + share))


def check_schedule(method: object, schedule: Schedule, shrink: float) -> None:
    """Refuse a search that takes no step, or whose radius does not move.

    Raises:
        PlanError: Saying what is expected.
    """
    counts = min(schedule.steps, schedule.candidates)
    if counts < 1 or not schedule.first >= schedule.last > 0 or not 0 < shrink < 1:
        raise PlanError(
            "steps and candidates must be positive, step_size >= last_step > 0 and 0 < shrink < 1; "
            f"got {method!r}"
        )


def followed(
    model: Model, batch: Batch, threat: Searchable, quantity: Quantity, schedule: Schedule
) -> Tensor:
    """Step across the nearest linearised boundary, then descend inside a radius that follows it."""
    x, limit, twin = batch.x, threat.radius(batch.x), euclidean(threat)
    kept = Nearest.none(x, threat, quantity.goal)
    value, move, length = nearest_plane(model, batch, x, threat, quantity, schedule.candidates)
    kept.see(x, value)
    eps = torch.minimum(length * (1 + BEYOND), limit)
    z = threat.project(x + (1 + BEYOND) * move, x)
    for step in range(1, schedule.steps):
        cosine = (1 + math.cos(math.pi * step / schedule.steps)) / 2
        _, value, gradient = outputs_and_gradient(model, quantity, batch.at(z))
        fell, distance = kept.see(z, value)
        direction = twin.steepest(gradient, z)
        slope, gain = inner(gradient, direction), inner(gradient, threat.steepest(gradient, z))
        linear = distance + (value.double() - quantity.goal).abs() / gain
        eps = schedule.radius(Turn(eps, fell, kept.distance, linear, cosine))
        eps = torch.minimum(torch.where(eps.isnan(), limit, eps), limit)
        eps = torch.where(eps.isfinite(), eps, distance)  # no slope, no radius: stay
        share = schedule.last + (schedule.first - schedule.last) * cosine
        length = share * eps * torch.where(slope > 0, gain / slope, 0)
        z = threat.at(eps).project(z - column(length.to(z.dtype), z) * direction, x)
    with torch.no_grad():
        kept.see(z, quantity(model(batch.at(z)), batch.aim))
    return kept.whole(model, batch, quantity)


def euclidean(threat: Searchable) -> Searchable:
    """Return the set of the same box, mask and units whose norm is Euclid's; a stranger's as it is."""
    if isinstance(threat, Scaled):
        return Scaled(_euclidean(threat.ball), threat.scale)
    return _euclidean(threat) if isinstance(threat, Ball) else threat


def _euclidean(ball: Ball) -> L2:
    return L2(ball.eps, ball.bounds, ball.mask)


__all__ = ["FMN", "Schedule", "Turn", "check_schedule", "followed"]
