"""What a search for the nearest adversarial input keeps, and how it ends: on the boundary.

Of each example, of all points seen: the one nearest to x at which the quantity has reached its goal,
and the one with the least quantity for those that never did. At the end the nearest is drawn towards x
until it hardly still fools. The distance is an *upper* bound on that of the boundary, as
any attack's; the norm is the threat's, so nothing here knows one.

Reference: brendel2018, section 2 (the search towards the boundary).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from conjoin.core.boundary import met
from conjoin.core.projection import column
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.threat import Graded, Projectable, Threat
from conjoin.errors import CapabilityError

HALVINGS = 16  # of the way to x: the boundary is met within 2^-16 of it


@runtime_checkable
class Searchable(Projectable, Graded, Protocol):
    """A set of any radius that can be projected onto: what a minimum-norm attack searches."""


def searchable(method: object, threat: Threat, quantity: Quantity) -> Searchable:
    """Return the threat if a nearest point of it can be searched for.

    Raises:
        CapabilityError: If nothing can be projected onto it, it has no radius, or there is no goal to
            reach.
    """
    if not isinstance(threat, Searchable):
        raise CapabilityError(
            f"{method!r} looks for the smallest radius of a set that it can project onto; {threat} "
            "tells neither radius nor projection. Closest(attack) needs less"
        )
    if not math.isfinite(quantity.goal):
        raise CapabilityError(
            f"{method!r} looks for the nearest input at which the quantity reaches its goal; that of "
            f"{quantity!r} is {quantity.goal}, expected a finite one: margin, Asked(function, goal=0); "
            "PGD minimises without a goal"
        )
    return threat


@dataclass(slots=True)
class Nearest:
    """The points to be kept of a whole batch.

    Attributes:
        x: The examples.
        threat: Measures how far a point is from them.
        goal: At or below it an example has fallen.
        distance: Of the nearest point that fell; infinite where none did.
        point: That point.
        least: The least quantity seen within the threat's radius.
        worst: Where it was seen; x before anything was.
    """

    x: Tensor
    threat: Searchable
    goal: float
    distance: Tensor
    point: Tensor
    least: Tensor
    worst: Tensor

    @classmethod
    def none(cls, x: Tensor, threat: Searchable, goal: float) -> Nearest:
        """Start with nothing seen."""
        never = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        return cls(x, threat, goal, never, x.clone(), never.clone(), x.clone())

    def see(
        self, z: Tensor, value: Tensor, rows: Tensor | slice = slice(None)
    ) -> tuple[Tensor, Tensor]:
        """Keep what is better of the examples ``rows``; return what fell and the distances."""
        threat = self.threat.rows(rows) if isinstance(rows, Tensor) else self.threat
        x = self.x[rows]
        distance, fell = threat.distance(z, x), value <= self.goal
        nearer = fell & (distance < self.distance[rows])
        self.distance[rows] = torch.where(nearer, distance, self.distance[rows])
        self.point[rows] = torch.where(column(nearer, z), z, self.point[rows])
        lower = (value < self.least[rows]) & (distance <= threat.radius(x))
        self.least[rows] = torch.where(lower, value.double(), self.least[rows])
        self.worst[rows] = torch.where(column(lower, z), z, self.worst[rows])
        return fell, distance

    def whole(
        self, model: Model, batch: Batch, quantity: Quantity, path: Tensor | None = None
    ) -> Tensor:
        """Return one point of S(x) for each example: on the boundary, or the worst that was seen.

        ``path`` holds points behind ``point``, as seen from x, before these were projected: the way
        back then leads along their projections. What is returned as fallen was seen to fall in a pass
        of the whole batch, as whoever called will see it.
        """
        fell = self.distance.isfinite().nonzero()[:, 0]
        far = self.point if path is None else path
        drawn = self.worst.clone()
        with torch.no_grad():
            if len(fell):
                near_by, part = self.threat.rows(fell), batch.rows(fell)
                x, far = part.x, far[fell]

                def on_path(share: Tensor) -> Tensor:
                    return near_by.project(x + column(share, x) * (far - x), x)

                def value(z: Tensor) -> Tensor:
                    return quantity(model(part.at(z)), part.aim) - self.goal

                end = near_by.project(self.point[fell], x)
                drawn[fell] = met(on_path, value, (value(x), value(end)), end, HALVINGS)
            # On the boundary a pass in other company may round to the other side.
            still = quantity(model(batch.at(drawn)), batch.aim) <= self.goal
            inside = self.distance <= self.threat.radius(self.x)
            kept = torch.where(column(inside, drawn), self.point, self.worst)
        return torch.where(column(still, drawn), drawn, kept)


__all__ = ["Nearest", "Searchable", "searchable"]
