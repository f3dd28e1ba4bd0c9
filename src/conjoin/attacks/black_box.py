"""Black box: by outputs where they tell something, by decisions where they do not.

A model that gives no gradient is asked for its outputs alone. Random points of S(x) show whether these
move round an example: where they do, a search by *scores* goes downhill (Square); where they do not, as
those of a classifier that gives labels, or of a tree on a plateau, only the *decision* is left
(HopSkipJump). So it picks by what the model can, example by example. It is *not* as strong as gradients
are: what it leaves standing is an upper bound of robust accuracy, and a weak one.

Reference: brendel2018, section 1 (score-based and decision-based attacks).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attacks.decision import HopSkipJump
from conjoin.attacks.kept import Kept
from conjoin.attacks.square import Square
from conjoin.core.counted import check_numbers
from conjoin.core.passed_over import pass_over
from conjoin.core.postcondition import check_candidates, part_of, value_of
from conjoin.core.protocols import Attack, Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.threat import Graded, Threat
from conjoin.errors import CapabilityError, PlanError


@dataclass(frozen=True, slots=True)
class BlackBox:
    """Search S(x) by scores, or by decisions where scores do not move.

    Attributes:
        queries: Of :class:`~conjoin.attacks.Square`, where outputs move.
        rounds: Of :class:`~conjoin.attacks.HopSkipJump`, where they do not.
        directions: Of its first round.
        samples: Random points of S(x) that show which.

    Raises:
        PlanError: If one of them is not positive.
    """

    reference: ClassVar[str] = "brendel2018"
    title: ClassVar[str] = "black-box search"
    meaning: ClassVar[str] = "queries alone: by scores where these move, else by decisions"
    queries: int = 1000
    rounds: int = 8
    directions: int = 40
    samples: int = 200

    def __post_init__(self) -> None:
        check_numbers(self)
        if min(self.queries, self.rounds, self.samples) < 1 or self.directions < 2:
            raise PlanError(f"expected positive numbers, and directions >= 2; got {self!r}")

    @property
    def scores(self) -> Square:
        """The search where outputs move."""
        return Square(self.queries)

    @property
    def decisions(self) -> HopSkipJump:
        """The search where they do not."""
        return HopSkipJump(self.rounds, self.directions)

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return the worst point found, per example.

        Raises:
            CapabilityError: If points of the set cannot be drawn, or neither attack applies where it
                is wanted.
        """
        if isinstance(threat, Graded) and not bool(threat.radius(batch.x).isfinite().all()):
            raise CapabilityError(
                f"{self!r} draws points of a set of finite radius; that of {threat} is infinite. "
                "HopSkipJump() looks for the nearest input, at any distance"
            )
        kept, moves = self._probed(model, batch, threat, quantity)
        standing = kept.standing(quantity.goal)
        refused: list[CapabilityError] = []
        for attack, wanted in self._parts():
            rows = standing[moves[standing] == wanted]
            if len(rows) == 0:
                continue
            part, own = batch.rows(rows), part_of(threat, rows)
            try:
                came = attack(model, part.copied(), own, quantity)
            except CapabilityError as error:
                pass_over(attack, error)
                refused.append(error)
                continue
            found = check_candidates(attack, came, part.x, own)
            kept.take(rows, value_of(model, quantity, part.at(found)).double(), found)
        if refused:
            raise refused[0]
        return kept.best

    def _parts(self) -> tuple[tuple[Attack, bool], ...]:
        return (self.scores, True), (self.decisions, False)

    def _probed(
        self, model: Model, batch: Batch, threat: Threat, quantity: Quantity
    ) -> tuple[Kept, Tensor]:
        """Return the least of some random points, and where the quantity is not the same at all."""
        every = torch.arange(len(batch), device=batch.x.device)
        draws, kept = batch.rng.fold("probe"), Kept.at(batch.x)
        clean = value_of(model, quantity, batch)
        kept.take(every, clean.double(), batch.x)
        moves = torch.zeros_like(clean, dtype=torch.bool)
        for number in range(self.samples):
            z = threat.sample(batch.x, draws.fold(number))
            value = value_of(model, quantity, replace(batch, x=z))
            kept.take(every, value.double(), z)
            moves |= value != clean
        return kept, moves


__all__ = ["BlackBox"]
