"""What ``run.json`` says of the diagnosis: verdicts, indicators, tiers, and the two accuracies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field
from torch import Tensor

from conjoin.audit.schema import Bound, Number, Part
from conjoin.audit.statistics import share
from conjoin.core.evidence import Evidence


class Answer(Part):
    """What one indicator says."""

    name: str
    value: float | None
    amber: float | None = Field(description="from here on it is a warning; null: never")
    red: float | None = Field(description="from here on it is an alarm; null: never")
    level: str = Field(description="green, amber or red")
    points: tuple[str, ...] = Field(description="ids of the examples that it is about")
    sentence: str


class Tier(Part):
    """What one attack did."""

    method: str
    seed: int
    seen: int
    took: int = Field(description="how many of them it was the first to break")
    forward: int
    backward: int
    again: bool = Field(description="whether it attacked again what the audit's attack had left")


class UnderThreat(Part):
    """One model under one threat."""

    threat: str
    verdict: str
    reasons: tuple[str, ...]
    reported: Number = Field(description="what stands of the sample in the audit's own result")
    again: Number = Field(description="what stands of it once it was attacked again")
    count: int
    indicators: tuple[Answer, ...]
    silent: dict[str, str] = Field(description="indicators that do not apply, and why")
    tiers: tuple[Tier, ...]
    passed_over: tuple[str, ...] = Field(description="attacks that do not apply, and why")


class Record(Part):
    """What is said of one model."""

    threats: tuple[UnderThreat, ...]
    attack: str
    again: str


def under(
    threat: str,
    columns: Mapping[str, Tensor],
    story: str,
    reported: Tensor,
    ids: Sequence[str],
    alpha: float,
    attacks: tuple[str, str],
) -> UnderThreat:
    """Make the record of one threat from the columns of its task.

    Args:
        reported: What stands of the sample in the audit's own result.
        attacks: The audit's, and the one that attacked again, in words.
    """
    told: dict[str, Any] = json.loads(story)
    answers = tuple(
        Answer(**one, points=tuple(ids[k] for k in columns[one["name"]].nonzero()[:, 0].tolist()))
        for one in told.pop("indicators")
    )
    own, again = attacks
    left = {"reported": (reported, own), "again": (reported & columns["stands"], f"{own}; {again}")}
    for name, (flags, by) in left.items():
        made = share(int(flags.sum()), len(flags), alpha, Evidence.empirical(by), Bound.UPPER)
        told[name] = made.model_copy(update={"verdict": told["verdict"]})
    return UnderThreat(threat=threat, count=len(reported), indicators=answers, **told)


__all__ = ["Answer", "Record", "Tier", "UnderThreat", "under"]
