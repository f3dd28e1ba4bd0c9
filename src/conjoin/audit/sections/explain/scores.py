"""Scores of explanations, averaged over the examples that were drawn, with an interval of the mean.

The examples that are shown were chosen for what they are, so no mean counts them. A mean is a
``statistical`` number where the score's range is known: its interval then holds for whatever the scores
are distributed like. What a score says of an explanation stays a heuristic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from conjoin.audit.schema import Number, Part, Unit, number
from conjoin.audit.statistics import mean_between
from conjoin.core.evidence import Evidence
from conjoin.core.naming import Better, described
from conjoin.core.protocols import Metric

CORRELATION = (-1.0, 1.0)
ROUNDING = 1e-5  # by so much of its range a score may leave it


class Scored(Part):
    """The mean score of one explanation, over a sample of the examples."""

    explanation: str
    metric: str
    title: str
    meaning: str
    better: str
    mean: Number
    count: int


def drawn(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the values of the examples that were not chosen for show, if there are any."""
    return values if bool(chosen.all()) else values[~chosen]


def mean_of(
    values: Tensor,
    chosen: Tensor,
    alpha: float,
    between: tuple[float, float] | None,
    unit: Unit = Unit.NONE,
) -> tuple[Number, int]:
    """Average over the drawn examples; return the mean and how many there are.

    Args:
        values: One an example.
        chosen: Which examples were chosen for show.
        alpha: The interval fails with this probability at most.
        between: The least and the greatest value that there can be; without them there is no interval.
        unit: Of the values.
    """
    own = drawn(values.double(), chosen)
    mean = float(own.mean())
    if bool(chosen.all()):
        whose = "that are shown, which were chosen for what they are"
        return number(
            mean, Evidence.heuristic(f"mean over {len(own)} examples {whose}"), unit=unit
        ), len(own)
    if between is None or not _within(own, between):
        why = f"mean over {len(own)} examples of a seeded sample"
        return number(mean, Evidence.heuristic(why), unit=unit), len(own)
    interval = mean_between(own, between, alpha)
    return number(mean, Evidence.statistical(alpha), unit=unit, interval=interval), len(own)


def _within(values: Tensor, between: tuple[float, float]) -> bool:
    least, most = between
    room = ROUNDING * (most - least)
    return bool(((values >= least - room) & (values <= most + room)).all())


def scored(
    told: tuple[Tensor, Tensor], method: str, metric: str, built: Metric, alpha: float
) -> Scored:
    """Average a score, given with which examples were chosen for show."""
    said = described(built)
    unit = Unit.CORRELATION if said.between == CORRELATION else Unit.NONE
    mean, count = mean_of(*told, alpha, said.between, unit)
    return Scored(
        explanation=method,
        metric=metric,
        title=said.title,
        meaning=said.meaning,
        better=(said.better or Better.NEITHER).value,
        mean=mean,
        count=count,
    )


def table(records: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Scored]]:
    """Arrange the scores by explanation and metric, then by model."""
    out: dict[tuple[str, str], dict[str, Scored]] = {}
    for model, record in records.items():
        for one in record.scores:
            out.setdefault((one.explanation, one.metric), {})[model] = one
    return out


__all__ = ["CORRELATION", "Scored", "drawn", "mean_of", "scored", "table"]
