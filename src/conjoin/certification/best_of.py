"""The best of several lower bounds, example by example: each is a bound, so is their maximum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from conjoin.core.arguments import check_parts
from conjoin.core.evidence import Bounds, Claim
from conjoin.core.meter import known
from conjoin.core.postcondition import asked, check_bounds, check_radius, outputs_of
from conjoin.core.protocols import Batch, Certifier, Model, Preparable
from conjoin.core.quantity import Quantity
from conjoin.core.rung import meets
from conjoin.core.threat import Threat


@dataclass(frozen=True, slots=True)
class BestOf:
    """Take the largest of the bounds of several certifiers; no method dominates.

    Attributes:
        certifiers: What each returns is held to what the drivers ask of it.

    Raises:
        PlanError: If they are no certifiers, or none.
    """

    reference: ClassVar[str] = ""
    title: ClassVar[str] = "best of several certifiers"
    meaning: ClassVar[str] = "the largest of their lower bounds, example by example"
    certifiers: tuple[Certifier, ...]

    def __post_init__(self) -> None:
        check_parts(self.certifiers, "a certifier, e.g. Lipschitz()")

    def prepare(self, model: Model, example: Batch, /) -> BestOf:
        """Prepare each certifier."""
        return BestOf(
            tuple(c.prepare(model, example) if meets(c, Preparable) else c for c in self.certifiers)
        )

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Bounds:
        """Return the element-wise largest lower bound; it claims what the weakest of them claims.

        It has radii only if all of them have: the largest.
        """
        outputs = outputs_of(model, batch)
        clean = asked(quantity, outputs, batch.aim)
        found = []
        for certifier in self.certifiers:
            own = batch.copied()  # what one writes there must not reach the others
            bounds = certifier(known(model, own, outputs.clone()), own, threat, quantity)
            check_bounds(certifier, bounds, clean, outputs, quantity.goal)
            check_radius(certifier, bounds, threat, batch.x, quantity.goal)
            found.append(bounds)
        radii = [bounds.radius for bounds in found if bounds.radius is not None]
        return Bounds(
            torch.stack([bounds.lower for bounds in found]).amax(0),
            Claim.weakest(bounds.claim for bounds in found),
            radius=torch.stack(radii).amax(0) if len(radii) == len(found) else None,
        )
