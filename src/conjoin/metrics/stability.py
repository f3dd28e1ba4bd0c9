"""Stability: does the explanation survive a small change of the input?

Inputs are sampled in a small threat set and explained again, for the same class. The score is the
*least* similarity seen, an upper bound on the true minimum: an attack would find less.

Reference: ghorbani2019, section 3 (top-k intersection and rank correlation).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.core.naming import Better
from conjoin.core.protocols import Attributor, Batch, Sliceable
from conjoin.core.threat import Threat
from conjoin.metrics.ordering import ranks


@dataclass(frozen=True, slots=True)
class RankStability:
    """Spearman's rank correlation of the maps, least over the draws: -1..1, higher is stabler.

    Attributes:
        threat: Where the inputs are sampled.
        draws: Number of samples.
    """

    reference: ClassVar[str] = "ghorbani2019"
    title: ClassVar[str] = "rank stability"
    meaning: ClassVar[str] = "least rank correlation under small random changes"
    better: ClassVar[Better] = Better.HIGHER
    threat: Threat
    draws: int = 4

    def __call__(
        self, model: Sliceable, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the least correlation seen, per example."""
        return _least(model, batch, values, attributor, self.threat, self.draws, spearman)


@dataclass(frozen=True, slots=True)
class TopStability:
    """Share of the top features kept, least over the draws: 0..1, higher is stabler.

    Attributes:
        threat: Where the inputs are sampled.
        draws: Number of samples.
        share: Which share of the features, by magnitude, is the top.
    """

    reference: ClassVar[str] = "ghorbani2019"
    title: ClassVar[str] = "top stability"
    meaning: ClassVar[str] = "least share of the top features kept under small random changes"
    better: ClassVar[Better] = Better.HIGHER
    threat: Threat
    draws: int = 4
    share: float = 0.1

    def __call__(
        self, model: Sliceable, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the least intersection seen, per example."""

        def kept(a: Tensor, b: Tensor) -> Tensor:
            return top_intersection(a, b, self.share)

        return _least(model, batch, values, attributor, self.threat, self.draws, kept)


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Correlate the ranks of two maps, per example; 0 where a map is constant."""
    left, right = ranks(a.flatten(1).double()), ranks(b.flatten(1).double())
    left = left - left.mean(1, keepdim=True)
    right = right - right.mean(1, keepdim=True)
    length = left.square().sum(1).sqrt() * right.square().sum(1).sqrt()
    return torch.where(length > 0, (left * right).sum(1) / length.clamp(min=1e-300), 0).to(a.dtype)


def top_intersection(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Return which share of the top features of ``a``, by magnitude, is in the top of ``b``."""
    left, right = a.flatten(1).abs(), b.flatten(1).abs()
    count = max(1, round(share * left.shape[1]))
    top = torch.zeros_like(left, dtype=torch.bool).scatter(1, left.topk(count).indices, True)
    return top.gather(1, right.topk(count).indices).to(a.dtype).mean(1)


def _least(
    model: Sliceable,
    batch: Batch,
    values: Tensor,
    attributor: Attributor,
    threat: Threat,
    draws: int,
    similarity: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    least = torch.full_like(values.flatten(1)[:, 0], torch.inf)
    for draw in range(draws):
        z = threat.sample(batch.x, batch.rng.fold("stability").fold(draw))
        other = attributor(model, batch.at(z))
        least = torch.minimum(least, similarity(values, other))
    return least
