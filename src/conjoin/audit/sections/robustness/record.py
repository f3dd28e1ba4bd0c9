"""From the columns of a sweep to numbers, each with its evidence, and to a verdict per example."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from conjoin.audit.columns import Columns
from conjoin.audit.schema import Bound, EvidenceRecord, Number, Part, Unit, number
from conjoin.audit.statistics import share
from conjoin.audit.wording import INPUT_UNITS
from conjoin.core.evidence import NOT_DIAGNOSED, Claim, Evidence, EvidenceClass, Verdict

CURVE_POINTS = 60
NEAREST = "nearest-word"  # changes that nobody vouches for
WITHIN = 1 + 1e-6  # of a radius that is kept in single precision


class Curve(Part):
    """Accuracy against the size of the change: what attacks left standing, and what is proved."""

    eps: tuple[float, ...]
    attacked: tuple[float, ...]
    certified: tuple[float, ...]


class UnderThreat(Part):
    """One model under one threat."""

    threat: str
    norm: str
    eps: float
    unit: str
    robust: Number
    certified: Number
    gap: Number
    standing: int
    proved: int
    falsified: int
    unknown: int
    count: int
    median_distance: Number | None
    median_radius: Number
    curve: Curve
    claim: str
    verdict: str = Field(
        default=NOT_DIAGNOSED,
        description="whether robust can be believed: green, amber, red, not diagnosed",
    )
    reasons: tuple[str, ...] = Field(default=(), description="of an amber or red verdict")

    def told(self, verdict: str, reasons: tuple[str, ...]) -> UnderThreat:
        """Return the same with a verdict on what the attacks left standing."""
        robust = self.robust.model_copy(update={"verdict": verdict})
        return self.model_copy(update={"robust": robust, "verdict": verdict, "reasons": reasons})

    @property
    def changes(self) -> str:
        """Say the set of changes in words."""
        of = "" if self.unit == INPUT_UNITS else f" {self.unit}"
        return f"{self.norm} changes of at most {self.eps:g}{of}"


class Record(Part):
    """What is said of one model."""

    threats: tuple[UnderThreat, ...]
    vanishing: Number | None = Field(description="null: the model gives no gradient to look at")
    blind: int
    count: int
    attack: str
    queried: bool = Field(
        default=False, description="whether it was attacked by queries alone, without gradients"
    )
    labelled: bool = Field(
        default=False, description="whether its outputs are labels: one 1 and otherwise 0"
    )
    certifiers: tuple[str, ...]
    refused: dict[str, str]


class Size(NamedTuple):
    """How large the changes are: norm, audited radius, the last one looked at, and in what unit."""

    norm: str
    eps: float
    largest: float
    unit: str = INPUT_UNITS


@dataclass(frozen=True, slots=True)
class Found:
    """The columns of one model under one threat.

    Attributes:
        right: Where the model is right without any change; a tie is wrong.
        distance: Of the nearest adversarial input found; infinite where there is none.
        radius: Certified.
        lower: The bound of the margin at eps.
        deployed: Where that bound covers the network as it is computed.
        size: Of the changes.
    """

    right: Tensor
    distance: Tensor
    radius: Tensor
    lower: Tensor
    deployed: Tensor
    size: Size

    @classmethod
    def read(cls, columns: Columns | Mapping[str, Tensor], size: Size) -> Found:
        """Read the columns of a task key, of all shards or of one."""
        names = ("right", "distance", "radius", "lower", "deployed")
        right, distance, radius, lower, deployed = (columns[name] for name in names)
        return cls(right, distance, radius, lower, deployed, size)

    def broken(self, eps: float) -> Tensor:
        """Tell which examples are wrong, or have an adversarial input within ``eps``."""
        return ~self.right | (self.distance <= eps * WITHIN)

    def verdicts(self) -> list[Verdict]:
        """Return the verdict of each example at the audited radius."""
        fallen, proved = self.broken(self.size.eps).tolist(), (self.lower > 0).tolist()
        return [
            Verdict.FALSIFIED if bad else Verdict.CERTIFIED if good else Verdict.UNKNOWN
            for bad, good in zip(fallen, proved, strict=True)
        ]

    def rows(self, attack: str, certifiers: Sequence[str]) -> Mapping[str, Sequence[object]]:
        """Return what is derived for each example: its verdict, why, and by what evidence."""
        made = self.verdicts()
        told = zip(made, self.right.tolist(), self.lower.tolist(), strict=True)
        count = len(made)
        return {
            "norm": [self.size.norm] * count,
            "eps": [self.size.eps] * count,
            "verdict": [verdict.value for verdict in made],
            "reason": [_reason(*one) for one in told],
            "attacked_evidence": [f"empirical: {attack}"] * count,
            "certified_evidence": [f"certified: {best_of(certifiers)}"] * count,
        }


def _reason(verdict: Verdict, right: bool, lower: float) -> str:
    if verdict is Verdict.CERTIFIED:
        return f"the margin is proved to stay above {max(lower, 0.0):.3g}"
    if verdict is Verdict.FALSIFIED:
        return "an adversarial input was found" if right else "wrong without any change"
    proved = "no certificate applies" if lower == -math.inf else f"the bound is {lower:.3g}"
    return f"the attack found nothing; {proved}"


def best_of(certifiers: Sequence[str]) -> str:
    """Name what proved the bounds."""
    return f"best of {', '.join(certifiers)}" if certifiers else "no certifier applies"


def under(
    name: str, found: Found, attack: str, certifiers: Sequence[str], alpha: float
) -> UnderThreat:
    """Summarise one model under one threat."""
    made, count = found.verdicts(), len(found.right)
    tally = {verdict: made.count(verdict) for verdict in Verdict}
    empirical = Evidence.empirical(attack)
    proved = Evidence.certified(best_of(certifiers))
    standing = count - tally[Verdict.FALSIFIED]
    robust = share(standing, count, alpha, empirical, Bound.UPPER)
    certified = share(tally[Verdict.CERTIFIED], count, alpha, proved, Bound.LOWER)
    some = bool(found.right.any())
    middle = _median(found.distance[found.right]) if some else math.inf
    radius = _median(found.radius[found.right]) if some else 0.0
    return UnderThreat(
        threat=name,
        norm=found.size.norm,
        eps=found.size.eps,
        unit=found.size.unit,
        robust=robust,
        certified=certified,
        gap=difference(robust, certified),
        standing=standing,
        proved=tally[Verdict.CERTIFIED],
        falsified=tally[Verdict.FALSIFIED],
        unknown=tally[Verdict.UNKNOWN],
        count=count,
        median_distance=None
        if math.isinf(middle)
        else number(middle, empirical, bound=Bound.UPPER),
        median_radius=number(radius, proved, bound=Bound.LOWER),
        curve=_curve(found),
        claim=_claim(found) if certifiers else "",
    ).told(NOT_DIAGNOSED, ())


def difference(upper: Number, lower: Number) -> Number:
    """Subtract two shares; the difference has no interval of its own."""
    evidence = EvidenceRecord(kind=EvidenceClass.HEURISTIC, detail="difference of two estimates")
    return Number(value=upper.value - lower.value, unit=Unit.POINTS, evidence=evidence)


def _claim(found: Found) -> str:
    return (Claim.SOUND_DEPLOYED if bool(found.deployed.all()) else Claim.SOUND_REAL).value


def _median(values: Tensor) -> float:
    ordered = values.double().sort().values
    return float(ordered[(len(ordered) - 1) // 2])


def _curve(found: Found) -> Curve:
    eps = torch.linspace(0, found.size.largest, CURVE_POINTS + 1, dtype=torch.float64).tolist()
    count, radius = len(found.right), found.radius.double()
    # The radius is itself certified, so eps up to and including it is.
    proved = [float((found.right & (radius >= e)).sum()) / count for e in eps]
    return Curve(
        eps=tuple(eps),
        attacked=tuple(float((~found.broken(e)).sum()) / count for e in eps),
        certified=tuple(proved),
    )


__all__ = ["NEAREST", "Curve", "Found", "Record", "UnderThreat", "best_of", "difference", "under"]
