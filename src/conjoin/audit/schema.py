"""The frame of ``run.json``: what an audit found, for a machine.

Every number carries its class of evidence. What a section found stands under its own name, in the
shape that the section gives. ``schema_version`` is major.minor: a minor change only adds, and readers
ignore what they do not know.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from conjoin.core.evidence import Evidence, EvidenceClass

SCHEMA_VERSION = "2.3"


class Part(BaseModel):
    """A part of the document: frozen, and open to what a later minor version adds."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Bound(StrEnum):
    """On which side of a number the truth lies."""

    ESTIMATE = "estimate"
    LOWER = "lower"  # the number is a lower bound
    UPPER = "upper"  # the number is an upper bound


class Unit(StrEnum):
    """What a number counts."""

    SHARE = "share"  # of the examples, 0..1
    POINTS = "points"  # a difference of shares
    CORRELATION = "correlation"
    NONE = ""


class EvidenceRecord(Part):
    """How strong a number is: its class, and what makes that concrete."""

    kind: EvidenceClass
    detail: str = ""


class Number(Part):
    """A number with its evidence; ``low`` and ``high`` are a confidence interval over examples.

    ``verdict`` stands beside what attacks left standing: whether it can be believed, as the indicators
    say (green, amber, red), or that they were not asked (not diagnosed).
    """

    value: float
    low: float | None = None
    high: float | None = None
    bound: Bound = Bound.ESTIMATE
    unit: Unit = Unit.NONE
    evidence: EvidenceRecord
    verdict: str | None = None


class FindingRecord(Part):
    """A claim with its numbers; ``sentence`` is made from them."""

    section: str
    kind: str
    model: str | None
    bearing: str = Field(description="for, against or open: what it says about trust in the model")
    cap: str = Field(description="the best verdict that it leaves")
    sentence: str
    numbers: dict[str, Number]
    method: str
    references: tuple[str, ...]
    limits: str


class Standing(Part):
    """A model's place in the summary, best first, and the findings that put it there."""

    model: str
    verdict: str
    reasons: tuple[str, ...]


class ModelRecord(Part):
    """A model as it came."""

    name: str
    summary: str
    weights: str = Field(description="SHA-256; empty if the model cannot tell")
    notes: tuple[str, ...] = ()


class SectionRecord(Part):
    """What a section found, by model: its own record; or why there is none."""

    title: str
    models: dict[str, dict[str, Any]]
    lacks: dict[str, str] = Field(description="what a model or the data lack, in words")
    failed: dict[str, str] = Field(description="what went wrong, in words")


class TermRecord(Part):
    """A property of a standard, and what is evidence towards it; no statement that it is met."""

    section: str
    standard: str
    term: str
    evidence: str


class DataRecord(Part):
    """The audited examples."""

    name: str
    count: int
    available: int
    sha256: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]


class ExampleRecord(Part):
    """An example that is shown."""

    id: str
    index: int
    label: int
    chosen_for: str


class CostRecord(Part):
    """What the run cost; the only part that differs between equal runs."""

    seconds: float
    finished: str
    hardware: str


class Run(Part):
    """An audit's manifest and results."""

    schema_version: Annotated[str, Field(pattern=r"^2\.\d+$")] = SCHEMA_VERSION
    plan: dict[str, Any]
    plan_sha256: str
    versions: dict[str, str]
    data: DataRecord
    models: tuple[ModelRecord, ...]
    sections: dict[str, SectionRecord]
    standings: tuple[Standing, ...]
    findings: tuple[FindingRecord, ...]
    examples: tuple[ExampleRecord, ...]
    complete: bool = Field(description="whether every task of every section succeeded")
    limits: tuple[str, ...]
    terms: tuple[TermRecord, ...] = ()
    cost: CostRecord


def number(
    value: float,
    evidence: Evidence,
    *,
    unit: Unit = Unit.NONE,
    bound: Bound = Bound.ESTIMATE,
    interval: tuple[float, float] | None = None,
) -> Number:
    """Make a number with its evidence and, if there is one, its interval."""
    low, high = interval if interval else (None, None)
    said = EvidenceRecord(kind=evidence.kind, detail=evidence.detail)
    return Number(value=value, low=low, high=high, bound=bound, unit=unit, evidence=said)


__all__ = [
    "Bound",
    "CostRecord",
    "DataRecord",
    "EvidenceRecord",
    "ExampleRecord",
    "FindingRecord",
    "ModelRecord",
    "Number",
    "Part",
    "Run",
    "SectionRecord",
    "Standing",
    "TermRecord",
    "Unit",
    "number",
]
