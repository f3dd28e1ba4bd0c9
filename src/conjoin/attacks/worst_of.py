"""The worst of several attacks, example by example: what one misses another may find.

Losses fail in different ways: the cross-entropy saturates, the margin sees one competitor at a time.
Each attack gets only what still stands, so the second costs little where the first succeeds.

Reference: croce2020, section 1 (a reported number must not depend on one attack).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.core.arguments import check_parts
from conjoin.core.postcondition import check_candidates, part_of, value_of
from conjoin.core.protocols import Attack, Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.threat import Threat


@dataclass(frozen=True, slots=True)
class WorstOf:
    """Run attacks in turn on what still stands; keep the least quantity.

    Attributes:
        attacks: In order, cheap ones first. What each returns is held to what the drivers ask of it.

    Raises:
        PlanError: If they are no attacks, or none.
    """

    reference: ClassVar[str] = "croce2020"
    title: ClassVar[str] = "worst of several attacks"
    meaning: ClassVar[str] = "each attacks what those before it left standing"
    attacks: tuple[Attack, ...]

    def __post_init__(self) -> None:
        check_parts(self.attacks, "an attack, e.g. PGD()")

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return the worst point found, per example."""
        best = batch.x.clone()
        least = torch.full((len(best),), torch.inf, dtype=torch.float64, device=best.device)
        for number, attack in enumerate(self.attacks):
            standing = (least > quantity.goal).nonzero()[:, 0]
            if len(standing) == 0:
                break
            part = batch.rows(standing)
            part = replace(part, rng=part.rng.fold("attack").fold(number))
            own = part_of(threat, standing)
            came = attack(model, part.copied(), own, quantity)
            found = check_candidates(attack, came, part.x, own)
            value = value_of(model, quantity, part.at(found)).double()
            better = value < least[standing]
            least[standing[better]], best[standing[better]] = value[better], found[better]
        return best
