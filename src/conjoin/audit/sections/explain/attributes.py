"""The attributes of a table: how much each weighs in a model's answers, over the scored examples.

Inputs that one categorical attribute became are added up. Each example's sum is a column of the
results; the report shows the mean magnitude of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from torch import Tensor

from conjoin.audit.pictures.bars import SHOWN, drawn
from conjoin.audit.schema import Number, Part, number
from conjoin.core.dataset import Dataset, grouped
from conjoin.core.evidence import Evidence

MOST = 256  # attributes: a column of the results each
PREFIX = "attribution of "


class Weight(Part):
    """The mean magnitude of an attribute in one explanation."""

    explanation: str
    attribute: str
    mean: Number
    count: int


def sums(values: Tensor, data: Dataset) -> dict[str, Tensor]:
    """Return the sum of each attribute's attributions, one a row; nothing if the data are no table."""
    places = grouped(data.features)
    if not 0 < len(places) <= MOST or values.shape != data.x.shape:
        return {}
    return {PREFIX + name: values[:, own].double().sum(1) for name, own in places.items()}


def weights(told: Mapping[str, Tensor], data: Dataset, method: str) -> list[Weight]:
    """Average over the examples that were not chosen for show, if there are any."""
    found = []
    for attribute in grouped(data.features):
        if PREFIX + attribute not in told:
            return []
        chosen, values = told["shown"], told[PREFIX + attribute].abs()
        values = values if bool(chosen.all()) else values[~chosen]
        mean = number(float(values.mean()), Evidence.heuristic(f"mean over {len(values)} examples"))
        found.append(Weight(explanation=method, attribute=attribute, mean=mean, count=len(values)))
    return found


@dataclass(frozen=True, slots=True)
class Summary:
    """One explanation's weights: a picture for each model, and the numbers, heaviest first."""

    pictures: dict[str, Markup]
    rows: dict[str, dict[str, float]]
    scale: str
    count: int


def summaries(records: Mapping[str, Any]) -> dict[str, Summary]:
    """Draw the weights of every explanation, all models on one scale."""
    told: dict[str, dict[str, list[Weight]]] = {}
    for model, record in records.items():
        for one in record.weights:
            told.setdefault(one.explanation, {}).setdefault(model, []).append(one)
    return {method: _summary(method, models) for method, models in told.items()}


def _summary(method: str, models: Mapping[str, list[Weight]]) -> Summary:
    scale = max(one.mean.value for own in models.values() for one in own)
    rows: dict[str, dict[str, float]] = {}
    pictures = {}
    for model, own in models.items():
        ordered = sorted(own, key=lambda one: -one.mean.value)
        for one in ordered:
            rows.setdefault(one.attribute, {})[model] = one.mean.value
        lines = [
            (f"{o.attribute}: {o.mean.value:.3g}", o.mean.value / max(scale, 1e-30))
            for o in ordered
        ]
        words = f"what weighs in the answers of {model} by {method}, heaviest first"
        pictures[model] = drawn(lines[:SHOWN], words, signed=False)
    count = next(iter(models.values()))[0].count
    return Summary(pictures, rows, f"{scale:.3g}", count)


__all__ = ["PREFIX", "Summary", "Weight", "summaries", "sums", "weights"]
