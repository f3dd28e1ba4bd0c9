"""Complexity: on how many features does an explanation rest?

Each score is a function of the magnitudes of the values alone; it needs no pass. A map that rests on
few features is easier to read; that does *not* make it true, and a constant map of one bright pixel is
the best of all.

Reference: chalasani2020 (Gini index); bhatt2020 (entropy); nguyen2020 (effective complexity).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.core.counted import check_numbers
from conjoin.core.naming import Better
from conjoin.core.protocols import Attributor, Batch, Model
from conjoin.errors import PlanError
from conjoin.metrics.ordering import by_feature


@dataclass(frozen=True, slots=True)
class Sparseness:
    """Gini index of the magnitudes: 0 (all equal) .. 1 - 1/d (one feature alone), higher is sparser.

    0 for an all-zero map.
    """

    reference: ClassVar[str] = "chalasani2020"
    title: ClassVar[str] = "sparseness"
    meaning: ClassVar[str] = "Gini index of the values' magnitudes"
    better: ClassVar[Better] = Better.HIGHER
    between: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the index, per example."""
        ordered = _magnitudes(values).sort(1).values
        count = ordered.shape[1]
        place = torch.arange(1, count + 1, device=values.device, dtype=torch.float64)
        total = ordered.sum(1)
        index = ((2 * place - count - 1) * ordered).sum(1) / (count * total).clamp(min=1e-300)
        return torch.where(total > 0, index, 0.0).to(values.dtype)


@dataclass(frozen=True, slots=True)
class Complexity:
    """Entropy of the shares of the magnitudes: 0 .. ln d nats, **lower** is simpler.

    0 for an all-zero map.
    """

    reference: ClassVar[str] = "bhatt2020"
    title: ClassVar[str] = "complexity"
    meaning: ClassVar[str] = "entropy of the shares of the values' magnitudes"
    better: ClassVar[Better] = Better.LOWER

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the entropy, per example."""
        size = _magnitudes(values)
        return entropy(size / size.sum(1, keepdim=True).clamp(min=1e-300)).to(values.dtype)


@dataclass(frozen=True, slots=True)
class EffectiveComplexity:
    """Number of features whose magnitude exceeds a share of the largest: 0 .. d, **lower** is simpler.

    The paper takes the fewest features that fix the output; this is its count by the map alone.

    Attributes:
        threshold: That share.
    """

    reference: ClassVar[str] = "nguyen2020"
    title: ClassVar[str] = "effective complexity"
    meaning: ClassVar[str] = "number of features above a share of the largest magnitude"
    better: ClassVar[Better] = Better.LOWER
    threshold: float = 0.05

    def __post_init__(self) -> None:
        check_numbers(self)
        if not 0 <= self.threshold < 1:
            raise PlanError(f"threshold is a share of the largest, 0..1; got {self.threshold}")

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the number, per example."""
        size = _magnitudes(values)
        return (size > self.threshold * size.amax(1, keepdim=True)).sum(1).to(values.dtype)


def entropy(shares: Tensor) -> Tensor:
    """-Σ p ln p over each row, in nats."""
    return -torch.xlogy(shares, shares).sum(1)


def _magnitudes(values: Tensor) -> Tensor:
    return by_feature(values).abs().double()


__all__ = ["Complexity", "EffectiveComplexity", "Sparseness", "entropy"]
