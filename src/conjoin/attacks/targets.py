"""Towards each of the likeliest wrong classes in turn: the untargeted loss sees one at a time.

For the k classes with the largest outputs at x, the right one left out, an attack is run with the
pair (right class, class k) as its aim: losses made for pairs, such as ``logit_ratio``, then lead
there. Any wrong answer is a success, wherever the attack was headed. It is *not* an attack towards a
class that a user names; that is the quantity ``Avoid``.

Reference: croce2020, section 4.2 (targeted Auto-PGD).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attacks.kept import Kept
from conjoin.core.arguments import check_method
from conjoin.core.counted import check_numbers
from conjoin.core.postcondition import check_candidates, outputs_of, part_of, value_of
from conjoin.core.protocols import Attack, Batch, Model
from conjoin.core.quantity import Margin, Quantity, margin
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, PlanError


@dataclass(frozen=True, slots=True)
class EachTarget:
    """Run an attack towards the likeliest wrong classes, on what still stands.

    Attributes:
        attack: Its surrogate must take pairs of classes, as ``logit_ratio`` does.
        targets: How many classes; as many as there are, if these are fewer.

    Raises:
        PlanError: If it is no attack, or there are no targets.
    """

    reference: ClassVar[str] = "croce2020"
    title: ClassVar[str] = "an attack on each of the likeliest classes"
    meaning: ClassVar[str] = "an attack headed for the likeliest wrong classes in turn"
    attack: Attack
    targets: int = 9

    def __post_init__(self) -> None:
        check_numbers(self)
        check_method(self.attack, "an attack, e.g. APGD(surrogate=logit_ratio)")
        if self.targets < 1:
            raise PlanError(f"targets must be positive; got {self.targets}")

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return the worst point found, per example.

        Raises:
            CapabilityError: If the quantity is not the margin: others name their own classes.
        """
        if not isinstance(quantity, Margin):
            raise CapabilityError(
                f"{self!r} looks for any wrong answer, the goal of the quantity margin; "
                f"{quantity!r} already says which classes it is about: attack it directly"
            )
        outputs = outputs_of(model, batch)
        own = batch.aim[:, None]
        wrong = outputs.scatter(1, own, -torch.inf)
        order = wrong.topk(min(self.targets, outputs.shape[1] - 1), dim=1).indices
        kept = Kept(batch.x.clone(), margin(outputs, batch.aim).double())
        for number in range(order.shape[1]):
            standing = kept.standing(quantity.goal)
            if len(standing) == 0:
                break
            part, set_ = batch.rows(standing), part_of(threat, standing)
            pair = torch.stack([part.aim, order[standing, number]], 1)
            headed = replace(part, aim=pair, rng=part.rng.fold("target").fold(number))
            came = self.attack(model, headed.copied(), set_, misled)
            found = check_candidates(self.attack, came, part.x, set_)
            value = value_of(model, quantity, part.at(found)).double()
            kept.take(standing, value, found)
        return kept.best


@dataclass(frozen=True, slots=True)
class Misled(Margin):
    """The margin of the first class of a pair: the second is where an attack is headed."""

    def __repr__(self) -> str:
        """Show the name of the quantity."""
        return "misled"

    def __call__(self, outputs: Tensor, aim: Tensor, /) -> Tensor:
        """Return the margin of the first class."""
        return margin(outputs, aim[:, 0])

    def rows(self, aim: Tensor, classes: int, /) -> Tensor:
        """Return the rows of the first class."""
        return margin.rows(aim[:, 0], classes)


misled = Misled()

__all__ = ["EachTarget", "Misled", "misled"]
