"""The schema of ``run.json``: what an audit found, for a machine.

Every number carries its class of evidence. ``conjoin schema`` exports this as JSON Schema; readers
check ``schema_version`` (major.minor; a minor change only adds).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from conjoin.core.result import Evidence, EvidenceClass

SCHEMA_VERSION = "1.0"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EvidenceRecord(_Part):
    """How strong a number is: its class, and what makes that concrete."""

    kind: EvidenceClass
    detail: str = ""


class Number(_Part):
    """A number with its evidence; ``low`` and ``high`` are a confidence interval over examples."""

    value: float
    low: float | None = None
    high: float | None = None
    evidence: EvidenceRecord


class Curve(_Part):
    """Accuracy against eps: the truth lies between ``certified`` and ``attacked``."""

    eps: tuple[float, ...]
    attacked: tuple[float, ...] = Field(description="upper bounds, from the distances found")
    certified: tuple[float, ...] = Field(description="lower bounds, from the certified radii")
    attacked_evidence: EvidenceRecord
    certified_evidence: EvidenceRecord


class ThreatResult(_Part):
    """One model under one threat; accuracies count right *and* robust examples."""

    threat: str
    norm: Literal["linf", "l2", "l1"]
    eps: float
    robust_accuracy: Number = Field(description="upper bound: what the attack left standing")
    certified_accuracy: Number = Field(description="lower bound: what is proved")
    certified: int
    falsified: int
    unknown: int
    median_distance: Number | None = Field(
        description="median distance, among examples that were right, of the nearest adversarial "
        "input found; an upper bound; none if fewer than half were fooled"
    )
    median_radius: Number = Field(description="median certified radius of examples that were right")
    curve: Curve
    attack: str
    certifier: str
    claim: str = Field(default="", description="of what network the certificates are true")
    note: str = ""


class ScoreResult(_Part):
    """The mean of a score of explanations over examples."""

    explanation: str
    metric: str
    meaning: str
    better: Literal["higher", "lower", "neither"]
    mean: Number
    count: int


class ModelResult(_Part):
    """What was found of one model."""

    name: str
    summary: str
    weights: str
    parameters: int | None
    notes: tuple[str, ...]
    clean_accuracy: Number
    blanked_accuracy: Number | None
    region_share: Number | None = Field(
        description="share of the attribution's magnitude inside the region, first explanation"
    )
    threats: tuple[ThreatResult, ...]
    scores: tuple[ScoreResult, ...]


class FindingRecord(_Part):
    """A claim with its numbers; ``sentence`` is made from them."""

    kind: str
    severity: Literal["alarm", "warning", "note", "good"]
    model: str | None
    sentence: str
    numbers: dict[str, Number]
    method: str
    reference: str
    limits: str


class Standing(_Part):
    """A model's place in the summary, and why."""

    model: str
    verdict: Literal["trust within limits", "with care", "do not trust"]
    reasons: tuple[str, ...]


class ExampleRecord(_Part):
    """An example that is shown with its explanations."""

    id: str
    index: int
    label: int
    chosen_for: str
    predictions: dict[str, int]
    confidences: dict[str, Number]


class DataRecord(_Part):
    """The audited examples."""

    name: str
    count: int
    available: int
    sha256: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    region: str | None
    region_area: float | None


class StandardRecord(_Part):
    """Where an auditor finds the terms of a standard."""

    standard: str
    term: str
    evidence: str


class CostRecord(_Part):
    """What the run cost; the only part that differs between equal runs."""

    seconds: float
    finished: str
    hardware: str


class Run(_Part):
    """An audit's manifest and results."""

    schema_version: Annotated[str, Field(pattern=r"^1\.\d+$")] = SCHEMA_VERSION
    plan: dict[str, Any]
    plan_sha256: str
    versions: dict[str, str]
    data: DataRecord
    models: tuple[ModelResult, ...]
    standings: tuple[Standing, ...]
    findings: tuple[FindingRecord, ...]
    examples: tuple[ExampleRecord, ...]
    limits: tuple[str, ...]
    standards: tuple[StandardRecord, ...]
    files: dict[str, str] = Field(description="each file of the folder and what it holds")
    cost: CostRecord


def number(value: float, evidence: Evidence, interval: tuple[float, float] | None = None) -> Number:
    """Make a number with its evidence and, if there is one, its interval."""
    low, high = interval if interval else (None, None)
    return Number(value=value, low=low, high=high, evidence=record(evidence))


def record(evidence: Evidence) -> EvidenceRecord:
    """Write evidence as it stands in ``run.json``."""
    return EvidenceRecord(kind=evidence.kind, detail=evidence.detail)
