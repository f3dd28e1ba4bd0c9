"""A set whose samples are points that were given: how any attack is started where another ended.

Attacks that start from a random point of S(x) ask the threat for it; so a warm start is a threat, and
no attack has to know. It is *not* another set: membership, distances and projections are the old ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.attacks.descent import Steppable
from conjoin.core.random import Streams


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Started:
    """A set that is sampled at given points.

    Attributes:
        inside: The set.
        start: A point of it for each example.
    """

    inside: Steppable
    start: Tensor

    def __repr__(self) -> str:
        """Show the set."""
        return f"{self.inside!r}, from given points"

    def contains(self, z: Tensor, x: Tensor) -> Tensor:
        """Tell which ``z`` lie in S(x)."""
        return self.inside.contains(z, x)

    def sample(self, x: Tensor, rng: Streams) -> Tensor:
        """Return the points."""
        return self.start

    def distance(self, z: Tensor, x: Tensor) -> Tensor:
        """Measure as the set does."""
        return self.inside.distance(z, x)

    def rows(self, keep: Tensor) -> Started:
        """Select examples."""
        return Started(self.inside.rows(keep), self.start[keep])

    def to(self, device: torch.device) -> Started:
        """Move to a device."""
        return Started(self.inside.to(device), self.start.to(device))

    def check(self, x: Tensor) -> None:
        """Refuse inputs that do not fit."""
        self.inside.check(x)

    def project(self, z: Tensor, x: Tensor) -> Tensor:
        """Return the point of S(x) nearest to ``z``."""
        return self.inside.project(z, x)

    def steepest(self, gradient: Tensor, z: Tensor) -> Tensor:
        """Return the step of unit length that ascends most."""
        return self.inside.steepest(gradient, z)

    def radius(self, x: Tensor) -> Tensor:
        """Return the radius of each example's set."""
        return self.inside.radius(x)

    def at(self, eps: float | Tensor) -> Started:
        """Return the same set with another radius."""
        return Started(self.inside.at(eps), self.start)


__all__ = ["Started"]
