"""Localisation of what speaks *for* the class: how does the positive part fall on a region B?

    Loc = |{g > 0} ∩ B| / |{g > 0} ∪ B|         EG = Σ_B g⁺ / Σ g⁺        PP = Σ_B g⁺ / Σ_B |g|

with g the value of a pixel, its channels together. :class:`Concentration` needs no region: how close to
its centre of mass a map is. As with every localisation, a low score may be a true explanation of a
model that looks elsewhere.

Reference: wang2022, section 5 (localisation scores); wang2020score, section 4 (energy-based
pointing game).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attribution.similarity import centre, shares
from conjoin.core.naming import Better
from conjoin.core.protocols import Attributor, Batch, Model
from conjoin.metrics.localisation import features_in, region_of
from conjoin.metrics.ordering import by_feature


@dataclass(frozen=True, slots=True, eq=False)
class PositiveOverlap:
    """Intersection over union of the features that are above 0 and of the region (Loc): 0..1.

    Attributes:
        region: Boolean, ``(1, *input)`` for one that all examples share, or one per example of
            the data, ``(batch, *input)``.
    """

    reference: ClassVar[str] = "wang2022"
    title: ClassVar[str] = "overlap of the positive part"
    meaning: ClassVar[str] = "intersection over union of the features above 0 and of the region"
    better: ClassVar[Better] = Better.NEITHER
    region: Tensor

    def __repr__(self) -> str:
        """Show the region's size instead of its elements."""
        return _shown(self, self.region)

    def rows(self, keep: Tensor, count: int, /) -> PositiveOverlap:
        """Return the score of some of the examples."""
        return replace(self, region=region_of(self.region, keep, count))

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the share, per example.

        Raises:
            DataError: If a region is empty, or does not fit.
        """
        inside, above = features_in(self.region, values), by_feature(values) > 0
        both, either = (part.sum(1).to(values.dtype) for part in (inside & above, inside | above))
        return both / either


@dataclass(frozen=True, slots=True, eq=False)
class EnergyInside:
    """Share of the positive part inside the region (EG): 0..1; 0 where nothing is positive.

    Attributes:
        region: Boolean, ``(1, *input)`` for one that all examples share, or one per example of
            the data, ``(batch, *input)``.
    """

    reference: ClassVar[str] = "wang2020score"
    title: ClassVar[str] = "energy in the region"
    meaning: ClassVar[str] = "share of the positive part of the attribution inside the region"
    better: ClassVar[Better] = Better.NEITHER
    region: Tensor

    def __repr__(self) -> str:
        """Show the region's size instead of its elements."""
        return _shown(self, self.region)

    def rows(self, keep: Tensor, count: int, /) -> EnergyInside:
        """Return the score of some of the examples."""
        return replace(self, region=region_of(self.region, keep, count))

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the share, per example.

        Raises:
            DataError: If a region is empty, or does not fit.
        """
        inside, above = features_in(self.region, values), by_feature(values).clamp(min=0)
        return _share((above * inside).sum(1), above.sum(1))


@dataclass(frozen=True, slots=True, eq=False)
class PositiveShare:
    """Share of the positive part in the magnitude inside the region (PP): 0..1; 0 of a zero map.

    Attributes:
        region: Boolean, ``(1, *input)`` for one that all examples share, or one per example of
            the data, ``(batch, *input)``.
    """

    reference: ClassVar[str] = "wang2022"
    title: ClassVar[str] = "positive share in the region"
    meaning: ClassVar[str] = "how much of the attribution inside the region speaks for the class"
    better: ClassVar[Better] = Better.NEITHER
    region: Tensor

    def __repr__(self) -> str:
        """Show the region's size instead of its elements."""
        return _shown(self, self.region)

    def rows(self, keep: Tensor, count: int, /) -> PositiveShare:
        """Return the score of some of the examples."""
        return replace(self, region=region_of(self.region, keep, count))

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the share, per example.

        Raises:
            DataError: If a region is empty, or does not fit.
        """
        own = by_feature(values) * features_in(self.region, values)
        return _share(own.clamp(min=0).sum(1), own.abs().sum(1))


@dataclass(frozen=True, slots=True)
class Concentration:
    """Mean of ``1 / (1 + distance)`` to the centre of mass, weighted by magnitude (Con): 0..1.

    Distances are in features (pixels); 1 is a map of one pixel, and the paper's score has no 1 added,
    so that one pixel at the centre decides it. 0 of an all-zero map.
    """

    reference: ClassVar[str] = "wang2022"
    title: ClassVar[str] = "concentration"
    meaning: ClassVar[str] = "how close to its centre of mass the attribution lies"
    better: ClassVar[Better] = Better.NEITHER

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the concentration, per example."""
        whole = values.double()
        places = values.shape[2:] if values.ndim == 4 else values.shape[1:]
        lines = [torch.arange(n, dtype=whole.dtype, device=whole.device) for n in places]
        grid = torch.stack(torch.meshgrid(*lines, indexing="ij"), -1).flatten(0, -2)
        steps = torch.tensor(places, dtype=whole.dtype, device=whole.device) - 1
        away = torch.linalg.vector_norm(grid - (centre(whole) * steps)[:, None], dim=2)
        near: Tensor = (shares(whole) / (1 + away)).sum(1).to(values.dtype)
        return near


def _share(part: Tensor, whole: Tensor) -> Tensor:
    least = torch.finfo(whole.dtype).tiny
    return torch.where(whole > 0, part / whole.clamp(min=least), 0)


def _shown(metric: object, region: Tensor) -> str:
    """Show the region's size instead of its elements."""
    return f"{type(metric).__name__}({int(region[0].sum())} of {region[0].numel()} elements)"


__all__ = ["Concentration", "EnergyInside", "PositiveOverlap", "PositiveShare"]
