"""Adversarial inputs that are pictures: on the grid of 8 bits, inside S(x).

What an attack finds is stored as k/255 or not at all, and rounding it may undo it. So: round to the
nearest level, towards x where that leaves S(x), then search the rounding: one level downhill in the n
elements with the largest |∇Q|, for the n that lowers Q most, again until it is won. It is a repair of
what another attack found, *not* a search of the grid by itself.

In real arithmetic the floats k/255 are no multiples of one number, so an eps of 8/255 holds a step of 8
levels about half of the time; ``Linf(8.5 / 255)`` holds it always, and never one of 9.

Reference: bonnet2020, section 4 (the rounding is part of the attack).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.core.arguments import check_method
from conjoin.core.counted import check_numbers
from conjoin.core.gradient import value_and_gradient
from conjoin.core.postcondition import check_candidates, contained, part_of, value_of
from conjoin.core.projection import column
from conjoin.core.protocols import Attack, Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.threat import Enclosed, Projectable, Threat
from conjoin.errors import PlanError

GROWTH = 4  # numbers of elements that are tried: 1, 4, 16, ..., all


@dataclass(frozen=True, slots=True)
class OnGrid:
    """Run an attack, move what it found onto a grid of levels, and win again what rounding lost.

    Every element that differs from x lies on the grid, exactly: in 0..1 it is the float nearest to
    k/(levels - 1). Elements of x that are on no level stay as they are unless they are moved.

    Attributes:
        attack: Finds the adversarial inputs. What it returns is held to what the drivers ask of it.
        levels: Values that an element may take, ends included.
        low, high: The least and the greatest of them, in input units.
        rounds: Searches of the rounding where it undid a success, each with one gradient; 0 for none.

    Raises:
        PlanError: If it is no attack, or there is no grid.
    """

    reference: ClassVar[str] = "bonnet2020"
    title: ClassVar[str] = "an attack on whole levels"
    meaning: ClassVar[str] = "what an attack found, moved onto the levels that a file can store"
    attack: Attack
    levels: int = 256
    low: float = 0.0
    high: float = 1.0
    rounds: int = 10

    def __post_init__(self) -> None:
        check_numbers(self)
        check_method(self.attack, "an attack, e.g. PGD()")
        if self.levels < 2 or self.rounds < 0 or not self.low < self.high:
            raise PlanError(
                f"expected two levels at least, rounds >= 0 and low < high; got {self!r}"
            )

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return what was found, on the grid where it differs from x."""
        came = self.attack(model, batch.copied(), threat, quantity)
        found = check_candidates(self.attack, came, batch.x, threat)
        levels = self._levels(found)
        inner = _towards(levels, found, batch.x)
        near = torch.where(found == batch.x, found, _nearest(levels, found))
        z = _kept(threat, near, inner, batch.x)
        if self.rounds == 0:
            return z
        before = value_of(model, quantity, batch.at(found)) <= quantity.goal
        lost = before & (value_of(model, quantity, batch.at(z)) > quantity.goal)
        places = lost.nonzero()[:, 0]
        if len(places):
            own = part_of(threat, places)
            z[places] = self._searched(model, batch.rows(places), own, quantity, z[places], levels)
        return z

    def _levels(self, like: Tensor) -> Tensor:
        """Return the values on the grid, ascending, in the precision of the inputs."""
        steps = torch.arange(self.levels, dtype=like.dtype, device=like.device)
        return self.low + (self.high - self.low) * (steps / (self.levels - 1))

    def _searched(
        self,
        model: Model,
        batch: Batch,
        threat: Threat,
        quantity: Quantity,
        z: Tensor,
        levels: Tensor,
    ) -> Tensor:
        """Move elements to the next level downhill while that lowers the quantity above the goal."""
        best, places = z.clone(), torch.arange(len(z), device=z.device)
        for _ in range(self.rounds):
            part, own, z = batch.rows(places), part_of(threat, places), best[places]
            value, gradient = value_and_gradient(model, quantity, part.at(z))
            down = _next(levels, z, -gradient)
            if isinstance(own, Enclosed):  # what cannot move by itself is not tried
                box = own.enclosure(part.x)
                down = torch.where((down >= box.low) & (down <= box.high), down, z)
            steep = torch.where(down == z, 0, gradient.abs()).flatten(1)
            order = steep.argsort(dim=1, descending=True, stable=True)
            rank = torch.empty_like(order)
            rank.scatter_(1, order, torch.arange(order.shape[1], device=z.device).expand_as(order))
            least, new = value, z
            count = 1
            while count < GROWTH * rank.shape[1]:
                chosen = (rank < count).reshape(z.shape)
                trial = _kept(own, torch.where(chosen, down, z), z, part.x)
                reached = value_of(model, quantity, part.at(trial))
                better = reached < least
                least, new = torch.where(better, reached, least), _picked(better, trial, new)
                count *= GROWTH
            best[places] = new
            places = places[(least < value) & (least > quantity.goal)]
            if len(places) == 0:
                break
        return best


def _picked(flags: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(column(flags, yes), yes, no)


def _kept(threat: Threat, z: Tensor, inner: Tensor, x: Tensor) -> Tensor:
    """Return ``z`` where it lies in S(x); else with those of its elements that do by themselves.

    The others are those of ``inner``, and all of them if that is not enough; if even they leave a set
    that is no ball, x.
    """
    whole = contained(threat, z, x)
    if isinstance(threat, Projectable):  # of a box the projection moves only what lies outside
        z = _picked(whole, z, torch.where(threat.project(z, x) == z, z, inner))
        whole = contained(threat, z, x)
    return _picked(whole, z, _picked(contained(threat, inner, x), inner, x))


def _around(levels: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the level at or below ``z`` and that at or above it; an end stands for all beyond it."""
    z, last = z.contiguous(), len(levels) - 1
    below = torch.searchsorted(levels, z, right=True) - 1
    above = torch.searchsorted(levels, z)
    return levels[below.clamp(0, last)], levels[above.clamp(0, last)]


def _nearest(levels: Tensor, z: Tensor) -> Tensor:
    below, above = _around(levels, z)
    return torch.where(z - below <= above - z, below, above)


def _towards(levels: Tensor, z: Tensor, x: Tensor) -> Tensor:
    """Return the level next to ``z`` on the way to x, or x if there is none between."""
    below, above = _around(levels, z)
    level = torch.where(z > x, below, above)
    between = torch.where(z > x, (level > x) & (level <= z), (level < x) & (level >= z))
    return torch.where(between, level, x)


def _next(levels: Tensor, z: Tensor, direction: Tensor) -> Tensor:
    """Return the next level up or down from ``z``; ``z`` where the direction is 0, or none is left."""
    last = len(levels) - 1
    below = torch.searchsorted(levels, z.contiguous()) - 1
    above = torch.searchsorted(levels, z.contiguous(), right=True)
    down = torch.where(below >= 0, levels[below.clamp(0, last)], z)
    up = torch.where(above <= last, levels[above.clamp(0, last)], z)
    return torch.where(direction > 0, up, torch.where(direction < 0, down, z))


__all__ = ["OnGrid"]
