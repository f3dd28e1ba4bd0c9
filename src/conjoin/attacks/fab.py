"""Fast adaptive boundary: towards the nearest point of the linearised boundary, biased towards x.

At z the quantity is Q(z) + <w, u - z>; its zero is a plane. Both z and x are projected onto it
within the box, exactly, in the norm of the threat, and the next point is a mixture of the two, the
more of x the nearer x is. What has crossed is kept if it is nearer than before, and the search goes
on from a point pulled back towards x. It minimises the *distance*, so it finds what descent inside
the ball steps over; it stops at a point of the ball, since no shorter one is asked for here. It is
*not* bound to the ball on its way, only to the box.

Reference: croce2020fab, section 2 (algorithm 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attacks.descent import LEAVING
from conjoin.attacks.units import in_units
from conjoin.core.ball import Ball
from conjoin.core.counted import check_numbers
from conjoin.core.gradient import outputs_and_gradient
from conjoin.core.hyperplane import onto_plane
from conjoin.core.projection import column
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Quantity, Question
from conjoin.core.scaled import Scaled
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, PlanError

MOST, BEYOND, BACK = 0.1, 1.05, 0.9  # share of x; length of a step; what is kept when pulled back
JUST = 1 + 1e-5  # of the way to the boundary, at the end


@dataclass(frozen=True, slots=True)
class FAB:
    """Search for the nearest boundary; what lies inside S(x) counts.

    Attributes:
        steps: Gradient steps per start.
        restarts: The first starts at x, others at random in S(x); only what stands takes part.
        surrogate: Whose zero is searched for in place of the quantity's goal, e.g. ``Contrast()``
            headed for each target; ``None`` for the quantity itself. Success is always the quantity's.
    """

    reference: ClassVar[str] = "croce2020fab"
    title: ClassVar[str] = "fast adaptive boundary"
    meaning: ClassVar[str] = "steps to the nearest point of the linearised decision boundary"
    steps: int = 100
    restarts: int = 1
    surrogate: Question | None = None

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.steps < 1 or self.restarts < 1:
            raise PlanError(f"steps and restarts must be positive; got {self!r}")

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return the first point of S(x) that reached the goal, else the nearest one projected onto it.

        Raises:
            CapabilityError: If the threat is no ball, the quantity has no goal to cross, or the model
                or its inputs have no gradient.
        """
        if isinstance(threat, Scaled):
            return in_units(self, model, batch, threat, quantity)
        if not isinstance(threat, Ball):
            raise CapabilityError(
                f"{self!r} measures in the norm of a ball (Linf, L2, L1); {threat} is none. PGD "
                "applies to what can be projected onto"
            )
        if quantity.goal == -torch.inf:
            raise CapabilityError(
                f"{self!r} looks for the boundary where the quantity reaches its goal; {quantity!r} "
                "has none. APGD minimises without end"
            )
        best = batch.x.clone()
        open_ = torch.ones(len(best), dtype=torch.bool, device=best.device)
        for restart in range(self.restarts):
            standing = open_.nonzero()[:, 0]
            if len(standing) == 0:
                break
            part, own = batch.rows(standing), threat.rows(standing)
            start = part.x
            if restart:
                start = own.sample(start, part.rng.fold("restart").fold(restart))
            z, won = self._search(model, part, own, quantity, start)
            best[standing] = z
            open_[standing] = ~won
        return best

    def _search(
        self, model: Model, batch: Batch, threat: Ball, quantity: Quantity, z: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run from one start; return the points, and which reached the goal inside S(x)."""
        place = torch.arange(len(z), device=z.device)
        best, won = batch.x.clone(), torch.zeros(len(z), dtype=torch.bool, device=z.device)
        near = torch.full((len(z),), torch.inf, dtype=torch.float64, device=z.device)
        whole, everywhere, room = batch, threat, _Room.of(threat, batch.x)
        sought = self.surrogate or quantity
        for _ in range(self.steps):
            outputs, above, normal = outputs_and_gradient(model, sought, batch.at(z))
            value = above if sought is quantity else quantity(outputs, batch.aim)
            above = above - (quantity.goal if sought is quantity else 0)
            crossed = value <= quantity.goal
            # The nearest that crossed; what has won rests at its first, until it leaves.
            distance = threat.distance(z, batch.x)
            nearer = ~won[place] & (crossed & (distance < near[place]) | near[place].isinf())
            best[place] = torch.where(column(nearer, z), z, best[place])
            near[place] = torch.where(nearer & crossed, distance, near[place])
            won[place] |= crossed & threat.contains(z, batch.x)
            standing = (~won[place]).nonzero()[:, 0]  # the one wait for the device in a step
            if len(standing) == 0:
                return best, won
            if len(standing) <= len(z) * (1 - LEAVING):
                place, batch, threat = place[standing], batch.rows(standing), threat.rows(standing)
                room = room.rows(standing)
                z, crossed = z[standing], crossed[standing]
                above, normal = above[standing], normal[standing]
            plane = _Plane(z, above, normal)
            z = _next(plane, crossed, room)
        # What crossed outside S(x) may have crossed at its edge, and so may the plane's nearest point.
        direct = best.clone()
        direct[place] = batch.x + JUST * plane.nearest(batch.x, room)
        with torch.no_grad():
            ends = [everywhere.project(end, whole.x) for end in (direct, best)]
            for end in ends:
                best = torch.where(column(won, end), best, end)
                won = won | (quantity(model(whole.at(best)), whole.aim) <= quantity.goal)
        return best, won


@dataclass(frozen=True, slots=True)
class _Plane:
    """Where the quantity, linearised at ``z``, reaches its goal.

    Attributes:
        z: Where it was linearised, ``(batch, *input)``.
        above: The quantity there, less the goal.
        normal: Its gradient there.
    """

    z: Tensor
    above: Tensor
    normal: Tensor

    def nearest(self, u: Tensor, room: _Room) -> Tensor:
        """Return the shortest way to it from ``u``, within the box of S(x)."""
        w = self.normal.flatten(1)
        change = -self.above - (w * (u - self.z).flatten(1)).sum(1)
        low, high = ((end - u).flatten(1) for end in (room.low, room.high))
        return onto_plane(w, change, low, high, room.order).reshape(u.shape)


@dataclass(frozen=True, slots=True)
class _Room:
    """Where the search may go: the box of S(x), without its radius.

    Attributes:
        x: The examples.
        low, high: The box, shaped like x.
        order: The p of the norm.
    """

    x: Tensor
    low: Tensor
    high: Tensor
    order: float

    @classmethod
    def of(cls, threat: Ball, x: Tensor) -> _Room:
        """Look it up, in floats that lie inside it."""
        whole = threat.at(torch.inf)
        low, high = (whole.project(torch.full_like(x, end), x) for end in (-torch.inf, torch.inf))
        return cls(x, low, high, threat.order)

    def rows(self, keep: Tensor) -> _Room:
        """Select examples."""
        return _Room(self.x[keep], self.low[keep], self.high[keep], self.order)


def _next(plane: _Plane, crossed: Tensor, room: _Room) -> Tensor:
    """Return the next point: between the steps to the plane from ``z`` and from ``x``.

    A point that has crossed is pulled back instead, for the plane there is another.
    """
    z, x = plane.z, room.x
    own, first = (plane.nearest(u, room) for u in (z, x))
    lengths = [
        torch.linalg.vector_norm(d.flatten(1), ord=room.order, dim=1).clamp_min(1e-8)
        for d in (own, first)
    ]
    share = column((lengths[0] / (lengths[0] + lengths[1])).clamp_max(MOST), x)
    ahead = (1 - share) * (z + BEYOND * own) + share * (x + BEYOND * first)
    after = torch.where(column(crossed, x), x + BACK * (z - x), ahead)
    return torch.minimum(torch.maximum(after, room.low), room.high)


__all__ = ["FAB"]
