"""The decision boundary near an example: found, met by bisection, and drawn near.

    {z : Q(f(z)) = goal},   Q the margin of a class: where another class takes over

A point beyond it is walked to by linearisations, or comes from any attack; bisection on the way back to
the example meets the boundary. There the quantity is linearised again and the example projected onto
that plane, inside the box; where the ray to it crosses the boundary nearer, this is the new point. So
distances only fall. They are *upper* bounds of the distance to the boundary: nothing here proves that
no nearer part of it exists. What is returned as found lies on the other side, by rounding.

Reference: moosavi2016, section 3 (the walk); wang2022, section 3 (boundaries for attribution).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
    free = threat.at(torch.inf)
    x = batch.x
    low, high = (free.project(torch.full_like(x, end), x) for end in (-torch.inf, torch.inf))

    def fools(points: Tensor) -> Tensor:
        with torch.no_grad():
            times = len(points) // len(x)
            several = batch.repeated(times).at(points)
            return quantity(model(several), several.aim) <= quantity.goal

    def back(end: Tensor) -> Tensor:
        def on_way(share: Tensor) -> Tensor:
            return free.project(torch.lerp(x, end, column(share, x)), x)

        return bisected(on_way, fools, end, HALVINGS)

    found = fools(z)
    best = torch.where(column(found, x), back(z), x)
    distance = torch.where(found, free.distance(best, x), torch.inf)
    for _ in range(rounds):
        value, slope = value_and_gradient(model, quantity, batch.at(best))
        w = slope.flatten(1)
        change = quantity.goal - value - (w * (x - best).flatten(1)).sum(1)
        way = onto_plane(w, change, (low - x).flatten(1), (high - x).flatten(1), threat.order)
        rays = [free.project(x + scale * way.reshape(x.shape), x) for scale in SCALES]
        crossed = fools(torch.cat(rays)).chunk(len(rays))
        end, any_ = best, torch.zeros_like(found)
        for ray, over in zip(reversed(rays), reversed(crossed), strict=True):
            end, any_ = torch.where(column(over, x), ray, end), any_ | over
        nearer = back(end)
        length = free.distance(nearer, x)
        better = found & any_ & (length < distance)
        best = torch.where(column(better, x), nearer, best)
        distance = torch.where(better, length, distance)
    # A pass in other company may round to the other side.
    found = found & fools(best)
    return Crossing(
        torch.where(column(found, x), best, x), found, torch.where(found, distance, torch.inf)
    )


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


__all__ = ["Boundary", "Crossing", "bisected", "crossing", "walked"]
