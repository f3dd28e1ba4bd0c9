"""Findings: typed claims with their numbers, and what each allows a verdict to be.

A section states findings; a verdict folds their bearing and never reads a sentence. Words are made
from numbers, never the other way round: a bound is rounded so that what is said stays true.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from conjoin.audit.schema import Bound, FindingRecord, Number, Unit


class Bearing(StrEnum):
    """What a finding says about trust in the model."""

    AGAINST = "against"
    FOR = "for"
    OPEN = "open"


class Verdict(IntEnum):
    """What is to be done with a model, worst first."""

    GUESSING = 0
    DO_NOT_TRUST = 1
    TOO_FEW = 2
    WITH_CARE = 3
    TRUST = 4

    @property
    def words(self) -> str:
        """Say it as a report does."""
        return (
            "no better than guessing",
            "do not trust",
            "too little evidence to say",
            "with care",
            "trust within limits",
        )[self]


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a rule made of some counts.

    Attributes:
        bearing: For, against, or neither.
        cap: The best verdict that it leaves.
        enough: How many examples would decide, at the same shares; ``None`` if that is not why.
    """

    bearing: Bearing
    cap: Verdict
    enough: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A claim about one model, or about the comparison of all.

    Attributes:
        kind: What it is about, one word for all models.
        model: Its name; ``None`` for a comparison.
        ruling: What it means for the verdict.
        text: A sentence with ``{model}`` and the names of the numbers in braces.
        numbers: By name, in their own units.
        method: What measured them.
        references: Papers of the method.
        limits: What does not follow.
    """

    kind: str
    model: str | None
    ruling: Ruling
    text: str
    numbers: Mapping[str, Number] = field(default_factory=dict)
    method: str = ""
    references: tuple[str, ...] = ()
    limits: str = ""

    def record(self, section: str) -> FindingRecord:
        """Make the sentence and the record."""
        words = {name: written(number) for name, number in self.numbers.items()}
        return FindingRecord(
            section=section,
            kind=self.kind,
            model=self.model,
            bearing=self.ruling.bearing.value,
            cap=self.ruling.cap.words,
            sentence=self.text.format(model=self.model, **words),
            numbers=dict(self.numbers),
            method=self.method,
            references=self.references,
            limits=self.limits,
        )


def judge(rulings: Iterable[tuple[str, Ruling]], required: Iterable[str]) -> Verdict:
    """Fold rulings, with the kinds of their findings: the least cap of all.

    *Trust* needs a finding for the model of each required kind as well; of a model of which nothing
    was found nothing can be said.
    """
    given = list(rulings)
    least = min((ruling.cap for _, ruling in given), default=Verdict.TOO_FEW)
    if least is Verdict.TRUST and wanting(given, required):
        return Verdict.WITH_CARE
    return least


def wanting(rulings: Iterable[tuple[str, Ruling]], required: Iterable[str]) -> tuple[str, ...]:
    """Return the required kinds of which no finding speaks for the model."""
    spoken = {kind for kind, ruling in rulings if ruling.bearing is Bearing.FOR}
    return tuple(kind for kind in required if kind not in spoken)


def written(number: Number) -> str:
    """Write a number in its unit, with its verdict; a bound is rounded to where it stays true."""
    told = _digits(number)
    return told if number.verdict is None else f"{told} ({number.verdict})"


def _digits(number: Number) -> str:
    match number.unit:
        case Unit.SHARE:
            return _tenths(number.bound, 1000 * number.value) + " %"
        case Unit.POINTS:
            return f"{round(100 * number.value, 1):g} points"
        case Unit.CORRELATION:
            return f"{number.value:.2f}"
        case Unit.NONE:
            return f"{number.value:.3g}"


def _tenths(bound: Bound, count: float) -> str:
    whole = {
        Bound.LOWER: math.floor(count + 1e-6),
        Bound.UPPER: math.ceil(count - 1e-6),
        Bound.ESTIMATE: round(count),
    }[bound]
    return f"{whole / 10:g}"


def plain(text: str) -> str:
    """Protect words from outside in a sentence that is still to be formatted."""
    return text.replace("{", "{{").replace("}", "}}")


__all__ = ["Bearing", "Finding", "Ruling", "Verdict", "judge", "plain", "wanting", "written"]
