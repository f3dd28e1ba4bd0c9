"""Two results on the same points: is one model more robust than the other, or is it chance?

Points that both models keep, or both lose, say nothing about which is better. Of the others each is a
throw of a fair coin if neither is (McNemar's test, by the exact binomial).

Reference: mcnemar1947.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from conjoin.audit.evaluation.result import Evaluation
from conjoin.audit.statistics import mcnemar
from conjoin.errors import DataError


@dataclass(frozen=True, slots=True)
class Paired:
    """How two models fare on the same points.

    Attributes:
        both, neither: Points that stand under both, or under neither.
        first, second: Points that stand under the first alone, or under the second alone.
        p_value: How likely the two are so far apart, or farther, if neither model is better.
    """

    reference: ClassVar[str] = "mcnemar1947"
    both: int
    first: int
    second: int
    neither: int
    p_value: float

    def __str__(self) -> str:
        """Say it in a sentence."""
        count = self.both + self.first + self.second + self.neither
        return (
            f"of {count} points {self.both} stand under both models, {self.first} under the first "
            f"alone, {self.second} under the second alone, {self.neither} under neither: "
            f"p = {self.p_value:.3g} if neither is better"
        )


def compared(first: Evaluation, second: Evaluation) -> Paired:
    """Compare what stands under two models, point by point.

    Raises:
        DataError: If they are not on the same points under the same threat, quantity and aims.
    """
    for name in ("data", "threat", "quantity"):
        one, two = (getattr(r.provenance, name) for r in (first, second))
        if one != two:
            raise DataError(
                f"the two results differ in {name}: {one} and {two}; evaluate both on the same"
            )
    if first.data.positions.tolist() != second.data.positions.tolist():
        raise DataError(
            f"the two results looked at {len(first)} and {len(second)} points, not the same ones; "
            "evaluate both without stop, or with the same points"
        )
    apart = first.aim != second.aim.to(first.aim.device)
    if bool(apart.any()):
        count = int(apart.reshape(len(apart), -1).any(1).sum())
        raise DataError(
            f"the two results aim at different classes at {count} of {len(first)} points, and so "
            "answer two questions; evaluate both with the target given, or the same one"
        )
    a, b = first.standing, second.standing.to(first.standing.device)
    alone = int((a & ~b).sum()), int((~a & b).sum())
    return Paired(int((a & b).sum()), *alone, int((~a & ~b).sum()), mcnemar(*alone))


__all__ = ["Paired", "compared"]
