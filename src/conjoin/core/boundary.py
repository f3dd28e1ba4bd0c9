"""The decision boundary near an example: found, met on a segment, and drawn near.

    {z : Q(f(z)) = goal},   Q the margin of a class: where another class takes over

A point beyond it is walked to by linearisations, or comes from any attack; false position on the way
back to the example meets the boundary. There the quantity is linearised again and the example projected
onto that plane, inside the box; where the ray to it crosses the boundary nearer, this is the new point.
So distances only fall. They are *upper* bounds of the distance to the boundary: nothing here proves
that no nearer part of it exists. What is returned as found lies on the other side, by rounding.

Reference: moosavi2016, section 3 (the walk); wang2022, section 3 (boundaries for attribution);
oliveira2020 (where a segment meets the boundary).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from conjoin.core.ball import L2, Ball
from conjoin.core.gradient import value_and_gradient
from conjoin.core.hyperplane import onto_plane
from conjoin.core.linearised import nearest_plane
from conjoin.core.projection import column
from conjoin.core.protocols import Batch, Model, Sliceable
from conjoin.core.quantity import Quantity, margin
from conjoin.typing import Flags, Inputs, PerExample

HALVINGS = 24  # of the way to x: the boundary is met within 2^-24 of it
SCALES = (1.0, 1.01, 1.05, 1.2)  # how far beyond the plane the ray is looked at
OVERSHOOT = 0.02
CANDIDATES = 9  # classes whose boundaries are linearised, the nearest ones


def bisected(
    path: Callable[[Tensor], Tensor], fools: Callable[[Tensor], Tensor], end: Tensor, steps: int
) -> Tensor:
    """Return the last point that fools, on the way back from ``end`` to ``path(0)``.

    ``path`` takes one share of the way per example, in the precision of ``end``, which is returned
    where nothing nearer fools.
    """
    near = torch.zeros(len(end), dtype=end.dtype, device=end.device)
    far, best = torch.ones_like(near), end
    for _ in range(steps):
        middle = (near + far) / 2
        point = path(middle)
        still = fools(point)
        near, far = torch.where(still, near, middle), torch.where(still, middle, far)
        best = torch.where(column(still, point), point, best)
    return best


def met(
    path: Callable[[Tensor], Tensor],
    value: Callable[[Tensor], Tensor],
    ends: tuple[Tensor, Tensor],
    end: Tensor,
    halvings: int,
) -> Tensor:
    """Return the last point seen at or below 0, on the way back from ``end``, within 2^-halvings.

    False position, drawn a little to the middle, and never so far from it that bisection would be more
    than a step ahead: of a piecewise linear function a third of the steps of :func:`bisected`, which
    needs no values. An example that is near enough rests, whatever the others do.

    Args:
        path: Takes one share of the way per example, in the precision of ``end``.
        value: Of points, one per example; above 0 on this side.
        ends: The values at ``path(0)`` and at ``end``.
        end: Returned where nothing nearer is at or below 0.
        halvings: As many as bisection would need.

    Reference: oliveira2020, section 2 (ITP).
    """
    width = 2.0**-halvings
    above, below = (v.double() for v in ends)
    near, far = torch.zeros_like(above), torch.ones_like(above)
    best = end
    for left in reversed(range(halvings + 1)):
        open_ = far - near > width
        if not bool(open_.any()):
            break
        middle, half = (near + far) / 2, (far - near) / 2
        inwards = middle - (near * below - far * above) / (below - above)
        inwards = torch.where((above > 0) & (below <= 0), inwards, 0).nan_to_num(0, 0, 0)
        drawn = (inwards.abs() - 0.2 * (far - near) ** 2).clamp(min=0)
        room = (width * 2.0**left - half).clamp(min=0)
        share = (middle - inwards.sign() * drawn.minimum(room)).to(end.dtype)
        point = path(share)
        found, share = value(point).double(), share.double()
        over, short = open_ & (found <= 0), open_ & ~(found <= 0)
        far, below = torch.where(over, share, far), torch.where(over, found, below)
        near, above = torch.where(short, share, near), torch.where(short, found, above)
        best = torch.where(column(over, point), point, best)
    return best


@dataclass(frozen=True, slots=True)
class Crossing:
    """Points on the other side of the boundary, hardly.

    Attributes:
        inputs: The points; the example itself where none was found.
        found: Where the quantity is at or below its goal there.
        distance: From the example in the norm of the ball; infinite where none was found.
    """

    inputs: Inputs
    found: Flags
    distance: PerExample


def crossing(
    model: Model, batch: Batch, threat: Ball, quantity: Quantity, z: Tensor, rounds: int
) -> Crossing:
    """Draw points onto the boundary and near to the examples.

    Args:
        model: Differentiable.
        batch: The examples.
        threat: Its norm and its box; the radius plays no part.
        quantity: With a finite goal.
        z: Points to begin with, inside the box; those that lie on this side stay unfound.
        rounds: Of projection onto the linearised boundary.
    """
    drawing = _Drawing(model, batch, threat.at(torch.inf), quantity)
    clean, beyond = drawing.value(batch.x), drawing.value(z)
    found = beyond <= 0
    best = torch.where(column(found, z), drawing.back(z, (clean, beyond)), batch.x)
    distance = torch.where(found, drawing.free.distance(best, batch.x), torch.inf)
    rows = found.nonzero()[:, 0]
    for _ in range(rounds):
        if not len(rows):
            break
        nearer = drawing.rows(rows).nearer(best[rows], clean[rows])
        length = drawing.free.rows(rows).distance(nearer, batch.x[rows])
        better = length < distance[rows]  # what stays would be drawn to the same point again
        rows = rows[better]
        best[rows], distance[rows] = nearer[better], length[better]
    # A pass in other company may round to the other side.
    found = found & (drawing.value(best) <= 0)
    return Crossing(
        torch.where(column(found, best), best, batch.x),
        found,
        torch.where(found, distance, torch.inf),
    )


@dataclass(frozen=True, slots=True)
class _Drawing:
    """What draws points near, of some examples."""

    model: Model
    batch: Batch
    free: Ball
    quantity: Quantity

    def rows(self, rows: Tensor) -> _Drawing:
        """Return the same of some of the examples."""
        return replace(self, batch=self.batch.rows(rows), free=self.free.rows(rows))

    def value(self, points: Tensor) -> Tensor:
        """Return how far the quantity is above its goal, at points of each example in turn."""
        with torch.no_grad():
            several = self.batch.repeated(len(points) // len(self.batch)).at(points)
            return self.quantity(self.model(several), several.aim) - self.quantity.goal

    def back(self, end: Tensor, ends: tuple[Tensor, Tensor]) -> Tensor:
        """Return where the way from the examples to ``end`` meets the boundary."""
        x = self.batch.x

        def on_way(share: Tensor) -> Tensor:
            return self.free.project(torch.lerp(x, end, column(share, x)), x)

        return met(on_way, self.value, ends, end, HALVINGS)

    def nearer(self, z: Tensor, clean: Tensor) -> Tensor:
        """Return where the ray to the plane of the boundary at ``z`` crosses it; else ``z``."""
        x, free = self.batch.x, self.free
        value, slope = value_and_gradient(self.model, self.quantity, self.batch.at(z))
        w = slope.flatten(1)
        change = self.quantity.goal - value - (w * (x - z).flatten(1)).sum(1)
        low, high = (free.project(torch.full_like(x, side), x) for side in (-torch.inf, torch.inf))
        way = onto_plane(w, change, (low - x).flatten(1), (high - x).flatten(1), free.order)
        rays = [free.project(x + scale * way.reshape(x.shape), x) for scale in SCALES]
        values = self.value(torch.cat(rays)).chunk(len(rays))
        end, there = z, torch.full_like(values[0], torch.inf)
        for ray, beyond in zip(reversed(rays), reversed(values), strict=True):
            over = beyond <= 0
            end = torch.where(column(over, x), ray, end)
            there = torch.where(over, beyond, there)
        return torch.where(column(there <= 0, x), self.back(end, (clean, there)), z)


def walked(model: Model, batch: Batch, threat: Ball, quantity: Quantity, steps: int) -> Tensor:
    """Walk beyond the nearest linearised boundary, step by step; return where it ends.

    An example rests once it has crossed.
    """
    free, z = threat.at(torch.inf), batch.x.clone()
    for _ in range(steps):
        value, step, _ = nearest_plane(model, batch.at(z), batch.x, free, quantity, CANDIDATES)
        open_ = value > quantity.goal
        if not bool(open_.any()):
            break
        further = free.project(z + (1 + OVERSHOOT) * step, batch.x)
        z = torch.where(column(open_, z), further, z)
    return z


@dataclass(frozen=True, slots=True)
class Boundary:
    """Take the nearest boundary point that is found as baseline; the example itself where none is.

    Stronger searches are attacks: ``conjoin.attacks.nearest_boundary``.

    Attributes:
        threat: Its norm and its box; the radius plays no part.
        quantity: Whose boundary: the margin of the class that is explained.
        steps: Of the walk.
        rounds: Of projection onto the linearised boundary.

    Reference: wang2022, section 3.
    """

    threat: Ball = L2(torch.inf)  # noqa: RUF009 - frozen
    quantity: Quantity = margin
    steps: int = 30
    rounds: int = 6

    def __call__(self, model: Sliceable, batch: Batch) -> Tensor:
        """Return the boundary points."""
        threat = self.threat.to(batch.x.device)
        z = walked(model, batch, threat, self.quantity, self.steps)
        return crossing(model, batch, threat, self.quantity, z, self.rounds).inputs


__all__ = ["Boundary", "Crossing", "bisected", "crossing", "met", "walked"]
