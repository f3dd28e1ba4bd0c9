"""Faithfulness: does the output follow the features the explanation ranks highest?

Features are replaced by a baseline (deletion) or brought back from it (insertion) in the order of
their attribution, largest first, while the probability of the explained class is recorded; the score
is the mean height of that curve (trapezoid rule over the share of features). What it says depends on
the baseline, since blanked inputs are unlike any the model was trained on.

Reference: petsiuk2018, section 3.3; samek2017 for the order.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.core.baseline import Reference
from conjoin.core.naming import Better
from conjoin.core.probing import per_pass
from conjoin.core.protocols import Attributor, Batch, Sliceable
from conjoin.metrics.ordering import by_feature

ROWS = 256  # rows of one pass, at most


@dataclass(frozen=True, slots=True)
class Deletion:
    """Remove the highest-ranked features first: 0..1, **lower** is more faithful.

    Attributes:
        steps: Points of the curve after the first; each removes an equal share.
        baseline: Value that removed features take, in input units, or what gives one for each.
    """

    reference: ClassVar[str] = "petsiuk2018"
    title: ClassVar[str] = "deletion"
    meaning: ClassVar[str] = "mean probability while the top features are removed"
    better: ClassVar[Better] = Better.LOWER
    steps: int = 14
    baseline: float | Reference = 0.0

    def __call__(
        self, model: Sliceable, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the mean probability along the curve, per example."""
        return _curve(model, batch, values, self, keep=False)


@dataclass(frozen=True, slots=True)
class Insertion:
    """Bring the highest-ranked features back first: 0..1, **higher** is more faithful.

    Attributes:
        steps: Points of the curve after the first; each restores an equal share.
        baseline: Value of the features not yet restored, in input units, or what gives one for
            each.
    """

    reference: ClassVar[str] = "petsiuk2018"
    title: ClassVar[str] = "insertion"
    meaning: ClassVar[str] = "mean probability while the top features are brought back"
    better: ClassVar[Better] = Better.HIGHER
    steps: int = 14
    baseline: float | Reference = 0.0

    def __call__(
        self, model: Sliceable, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the mean probability along the curve, per example."""
        return _curve(model, batch, values, self, keep=True)


def _curve(
    model: Sliceable, batch: Batch, values: Tensor, method: Deletion | Insertion, *, keep: bool
) -> Tensor:
    """Evaluate every point of the curve, several to a pass."""
    base = method.baseline
    blank = base(model, batch) if callable(base) else base
    scores = by_feature(values)
    place = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)  # 0 for the highest
    shape = (len(place), 1, *batch.x.shape[2:]) if values.ndim == 4 else batch.x.shape
    shares = torch.linspace(0, 1, method.steps + 1, device=place.device)
    at_once = min(per_pass(batch.x), max(1, ROWS // len(batch)))
    heights: list[Tensor] = []
    for chosen in shares.split(at_once):
        inputs = []
        for share in chosen:
            touched = (place < (share * place.shape[1]).round()).reshape(shape)
            inputs.append(torch.where(touched == keep, batch.x, blank))
        with torch.no_grad():
            several = batch.repeated(len(chosen)).at(torch.cat(inputs))
            outputs = model(several).softmax(1)
        label = several.aim[:, None]
        heights += outputs.gather(1, label).reshape(len(chosen), -1).unbind()
    # Added up one by one: a reduction's order may depend on the number of examples.
    area = torch.zeros_like(heights[0])
    for left, right in pairwise(heights):
        area = area + (left + right) / 2
    return area / method.steps
