"""Carlini and Wagner's attack: distance and quantity in one sum, without a radius.

Minimise ‖z - x‖² + c · max(Q(f(z)) - goal, -κ) by Adam, with the weight c of each example found by a
search: less while it falls, more while it does not. The box is no constraint: where it is finite,
z = centre + half side · tanh(w). c starts at 2 (Q - goal) / ‖∇Q‖², which is right where Q is linear, so
few searches do. Euclid's norm alone is minimised; it takes several times the passes of
:class:`~conjoin.attacks.fmn.FMN`, and is here as an independent judge of it.

Reference: carlini2017, sections V and VI (box, choice of c).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attacks.nearest import Nearest, Searchable, searchable
from conjoin.core.ball import L2
from conjoin.core.counted import check_numbers
from conjoin.core.gradient import outputs_and_gradient
from conjoin.core.linearised import inner
from conjoin.core.projection import column
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, PlanError

DECAYS = 0.5, 0.9  # of Adam's two means
SMALL = 1e-8  # added to the root of the second, in units of the distance
EDGE = (
    1 - 1e-3
)  # of the half side: where the search starts for an x on a wall, whose slope would be 0
EVERY = 10  # steps its progress is looked at
PROGRESS = 0.9999  # of the least objective; an example that makes less takes smaller steps
SLOWER = 0.7  # by this factor
REST = 0.01  # of the first step: an example whose steps are smaller rests
LEAST = 1e-12  # weight and unit: of an example that is at its goal from the start
FACTOR = 10.0  # of the weight, until it is bracketed


@dataclass(frozen=True, slots=True)
class CarliniWagner:
    """Minimise distance plus a weight times the quantity; search the weight.

    Attributes:
        steps: Of Adam, for each weight.
        searches: Weights that are tried.
        step_size: Of the first steps of each element, as a share of the linearised distance.
        confidence: κ: how far below the goal it still pays to go.
    """

    reference: ClassVar[str] = "carlini2017"
    title: ClassVar[str] = "Carlini and Wagner"
    meaning: ClassVar[str] = "minimises squared distance plus a weighted quantity"
    steps: int = 200
    searches: int = 6
    step_size: float = 0.05
    confidence: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(self)
        counts = min(self.steps, self.searches)
        if counts < 1 or not self.step_size > 0 or not self.confidence >= 0:
            raise PlanError(
                "steps, searches and step_size must be positive, confidence at least 0; got "
                f"{self!r}"
            )

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return the nearest point that reaches the goal, else the one with the least quantity.

        Raises:
            CapabilityError: If the threat is no Euclidean ball, the quantity has no finite goal, or the
                model or its inputs have no gradient.
        """
        own = searchable(self, threat, quantity)
        if not isinstance(own, L2):
            raise CapabilityError(
                f"{self!r} minimises the Euclidean distance; expected a ball L2(eps), got {threat}. "
                "FMN, DDN and DeepFool follow the norm of any threat"
            )
        kept = Nearest.none(batch.x, own, quantity.goal)
        _, value, gradient = outputs_and_gradient(model, quantity, batch)
        kept.see(batch.x, value)
        gap, steep = value.double() - quantity.goal, inner(gradient, gradient)
        known = steep > 0
        weight = torch.where(known, 2 * gap.abs() / steep, 1).clamp(min=LEAST)
        unit = torch.where(known, gap.abs() / steep.sqrt(), 1).clamp(min=LEAST)
        change = Change.of(batch.x, own, unit)
        low, high = torch.zeros_like(weight), torch.full_like(weight, math.inf)
        for _ in range(self.searches):
            start = Descent.of(change, weight, unit, self.step_size)
            fell = self._descend(model, batch, quantity, kept, start)
            low, high = torch.where(fell, low, weight), torch.where(fell, weight, high)
            middle = torch.where(high.isinf(), low * FACTOR, (low * high).sqrt())
            weight = torch.where(low == 0, high / FACTOR, middle)
        return _ended(kept, model, batch, quantity)

    def _descend(
        self, model: Model, batch: Batch, quantity: Quantity, kept: Nearest, state: Descent
    ) -> Tensor:
        """Minimise for one weight of each example; return which fell on the way."""
        fallen = torch.zeros(len(batch), dtype=torch.bool, device=batch.x.device)
        for step in range(self.steps):
            z, part = state.change.point(state.w), batch.rows(state.open)
            _, value, gradient = outputs_and_gradient(model, quantity, part.at(z))
            fell, distance = kept.see(z, value, state.open)
            fallen[state.open] |= fell
            excess = value.double() - quantity.goal
            loss = distance**2 + state.weight * excess.clamp(min=-self.confidence)
            push = torch.where(excess > -self.confidence, state.weight, 0).to(z.dtype)
            state.move(step, loss, 2 * (z - part.x) + column(push, z) * gradient)
            if step % EVERY == EVERY - 1:
                going = state.judged(REST * self.step_size)
                if len(going) == 0:
                    break
                if len(going) < len(state.open):
                    state = state.rows(going)
        return fallen


@dataclass(slots=True)
class Descent:
    """Adam on w, of the examples that still take part.

    Attributes:
        open: Their places in the batch.
        change: Their change of variables.
        weight, unit: c and the linearised distance, per example.
        size: Step sizes, per example.
        w, mean, square: The variables, and Adam's two means of the gradient.
        least, last: The least objective seen, and what it was at the last look.
    """

    open: Tensor
    change: Change
    weight: Tensor
    unit: Tensor
    size: Tensor
    w: Tensor
    mean: Tensor
    square: Tensor
    least: Tensor
    last: Tensor

    @classmethod
    def of(cls, change: Change, weight: Tensor, unit: Tensor, size: float) -> Descent:
        """Start at x."""
        w, never = change.start, torch.full_like(weight, math.inf)
        zero, sizes = torch.zeros_like(w), torch.full_like(weight, size)
        places = torch.arange(len(w), device=w.device)
        return cls(places, change, weight, unit, sizes, w, zero, zero, never, never)

    def move(self, step: int, loss: Tensor, slope: Tensor) -> None:
        """Take a step down; ``slope`` is the gradient of the objective in z."""
        self.least = torch.minimum(self.least, loss)
        slope = self.change.slope(self.w) * slope / column(self.unit.to(slope.dtype), slope)
        first, second = DECAYS
        self.mean = first * self.mean + (1 - first) * slope
        self.square = second * self.square + (1 - second) * slope**2
        root = (self.square / (1 - second ** (step + 1))).sqrt() + SMALL
        pace = self.change.pace * column(self.size.to(slope.dtype), slope)
        self.w = self.w - pace * self.mean / (1 - first ** (step + 1)) / root

    def judged(self, rest: float) -> Tensor:
        """Slow down what makes no progress; return the places of those whose steps are not at rest."""
        self.size = torch.where(self.least < PROGRESS * self.last, self.size, SLOWER * self.size)
        self.last = self.least
        return (self.size >= rest).nonzero()[:, 0]

    def rows(self, keep: Tensor) -> Descent:
        """Go on with some."""
        parts = (getattr(self, field.name) for field in fields(self) if field.name != "change")
        place, *others = (part[keep] for part in parts)
        return Descent(place, self.change.rows(keep), *others)


@dataclass(frozen=True, slots=True)
class Change:
    """The change of variables, element by element: z = centre + side · tanh(w), or x + unit · w.

    Attributes:
        low, high: The limits of each element; equal where it may not move.
        start: w at x.
        centre, side: Centre and half side; x and the unit of w where the box is infinite.
        boxed: Where the box is finite.
        pace: What changes z by the unit, as far as the change is linear.
    """

    low: Tensor
    high: Tensor
    start: Tensor
    centre: Tensor
    side: Tensor
    boxed: Tensor
    pace: Tensor

    @classmethod
    def of(cls, x: Tensor, threat: Searchable, unit: Tensor) -> Change:
        """Read box and mask off a set of infinite radius; ``unit`` is one length per example."""
        whole, far = threat.at(math.inf), torch.full_like(x, math.inf)
        low, high = whole.project(-far, x), whole.project(far, x)
        boxed = low.isfinite() & high.isfinite()
        side = torch.where(boxed, (high - low) / 2, column(unit.to(x.dtype), x))
        centre = torch.where(boxed, low + side, x)
        width = torch.where(side > 0, side, 1)
        start = torch.where(boxed, ((x - centre) / width).clamp(-EDGE, EDGE).atanh(), 0)
        pace = torch.where(boxed, column(unit.to(x.dtype), x) / width, 1)
        return cls(low, high, start, centre, side, boxed, pace)

    def rows(self, keep: Tensor) -> Change:
        """Select examples."""
        return Change(*(getattr(self, field.name)[keep] for field in fields(self)))

    def point(self, w: Tensor) -> Tensor:
        """Return z."""
        z = self.centre + self.side * torch.where(self.boxed, w.tanh(), w)
        return torch.minimum(torch.maximum(z, self.low), self.high)

    def slope(self, w: Tensor) -> Tensor:
        """Return dz/dw."""
        return self.side * torch.where(self.boxed, 1 - w.tanh() ** 2, 1)


def _ended(kept: Nearest, model: Model, batch: Batch, quantity: Quantity) -> Tensor:
    """Project what fell beyond the threat's radius, and see whether it still does."""
    beyond = kept.distance > kept.threat.radius(batch.x)
    kept.distance[beyond] = math.inf
    z = kept.threat.project(kept.point, batch.x)
    with torch.no_grad():
        kept.see(z, quantity(model(batch.at(z)), batch.aim))
    return kept.whole(model, batch, quantity)


__all__ = ["CarliniWagner"]
