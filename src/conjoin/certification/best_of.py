"""The best of several lower bounds, example by example: each is a bound, so is their maximum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from conjoin.core.protocols import Batch, Certifier, Model, Preparable
from conjoin.core.quantity import Quantity
from conjoin.core.result import Bounds, Claim
from conjoin.core.threat import Threat


@dataclass(frozen=True, slots=True)
class BestOf:
    """Take the largest of the bounds of several certifiers; no method dominates."""

    reference: ClassVar[str] = ""
    title: ClassVar[str] = "best of several certifiers"
    meaning: ClassVar[str] = "the largest of their lower bounds, example by example"
    certifiers: tuple[Certifier, ...]

    def prepare(self, model: Model, example: Batch, /) -> BestOf:
        """Prepare each certifier."""
        return BestOf(
            tuple(
                c.prepare(model, example) if isinstance(c, Preparable) else c
                for c in self.certifiers
            )
        )

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Bounds:
        """Return the element-wise largest lower bound; it claims what the weakest of them claims.

        It has radii only if all of them have: the largest.
        """
        found = [certifier(model, batch, threat, quantity) for certifier in self.certifiers]
        radii = [bounds.radius for bounds in found if bounds.radius is not None]
        return Bounds(
            torch.stack([bounds.lower for bounds in found]).amax(0),
            Claim.weakest(bounds.claim for bounds in found),
            radius=torch.stack(radii).amax(0) if len(radii) == len(found) else None,
        )
