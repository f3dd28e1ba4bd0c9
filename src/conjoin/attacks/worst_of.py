"""The worst of several attacks, example by example: what one misses another may find.

Losses fail in different ways: the cross-entropy saturates, the margin sees one competitor at a time.
Each attack gets only what still stands, so the second costs little where the first succeeds. What
does not apply to the model, the threat or the quantity is passed over, and the provenance says so; if
none applies, that is an error.

Reference: croce2020, section 1 (a reported number must not depend on one attack).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

from torch import Tensor

from conjoin.attacks.kept import Kept
from conjoin.core.arguments import check_parts
from conjoin.core.passed_over import pass_over
from conjoin.core.postcondition import check_candidates, part_of, value_of
from conjoin.core.protocols import Attack, Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError

log = logging.getLogger(__name__)


@cache
def _tell(what: str) -> None:
    """Log something once, not for every batch."""
    log.warning("passed over: %s", what)


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
        """Return the worst point found, per example.

        Raises:
            CapabilityError: If none of the attacks applies.
        """
        refused: list[CapabilityError] = []
        kept = Kept.at(batch.x)
        for number, attack in enumerate(self.attacks):
            standing = kept.standing(quantity.goal)
            if len(standing) == 0:
                break
            part = batch.rows(standing)
            part = replace(part, rng=part.rng.fold("attack").fold(number))
            own = part_of(threat, standing)
            try:
                came = attack(model, part.copied(), own, quantity)
            except CapabilityError as error:
                _tell(pass_over(attack, error))
                refused.append(error)
                continue
            found = check_candidates(attack, came, part.x, own)
            value = value_of(model, quantity, part.at(found)).double()
            kept.take(standing, value, found)
        if len(refused) == len(self.attacks):
            raise refused[0]
        return kept.best
