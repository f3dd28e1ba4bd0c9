"""Localisation: how much of an explanation falls on a given region?

Of the mass, of the top features, or of the largest one. It is *not* said whether the model looks at the
region: a high score is right where it should, and a low one may be a true explanation of a model that
looks elsewhere.

Reference: kohlbrenner2020, section IV (relevance mass accuracy); arras2022 (relevance rank
accuracy); zhang2018 (pointing game).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.core.naming import Better
from conjoin.core.protocols import Attributor, Batch, Model
from conjoin.errors import DataError
from conjoin.metrics.ordering import by_feature


@dataclass(frozen=True, slots=True, eq=False)
class MassInside:
    """Share of the attribution's magnitude inside the region: 0..1; 0 for an all-zero map.

    Attributes:
        region: Boolean, ``(1, *input)`` for one that all examples share, or one per example of
            the data, ``(batch, *input)``.
    """

    reference: ClassVar[str] = "kohlbrenner2020"
    title: ClassVar[str] = "mass in the region"
    meaning: ClassVar[str] = "share of the attribution inside the region"
    better: ClassVar[Better] = Better.NEITHER
    between: ClassVar[tuple[float, float]] = (0.0, 1.0)
    region: Tensor

    def __repr__(self) -> str:
        """Show the region's size instead of its elements."""
        return f"MassInside({int(self.region[0].sum())} of {self.region[0].numel()} elements)"

    def rows(self, keep: Tensor, count: int, /) -> MassInside:
        """Return the score of some of the examples."""
        return replace(self, region=region_of(self.region, keep, count))

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the share, per example."""
        region, magnitude = self.region, values.abs().flatten(1)
        if region.dtype != torch.bool or region.shape[1:] != values.shape[1:]:
            raise DataError(
                f"expected a region of flags, torch.bool of shape (1, *{tuple(values.shape[1:])}); got "
                f"{region.dtype} of shape {tuple(region.shape)}"
            )
        inside = (magnitude * region.flatten(1).to(values.device)).sum(1)
        total = magnitude.sum(1)
        return torch.where(total > 0, inside / total.clamp(min=1e-30), 0)


@dataclass(frozen=True, slots=True, eq=False)
class RankAccuracy:
    """Share of the K largest values inside the region, K being its size: 0..1.

    Values count with their sign, the channels of a pixel together; equal ones in equal parts.

    Attributes:
        region: Boolean, ``(1, *input)`` for one that all examples share, or one per example of
            the data, ``(batch, *input)``.
    """

    reference: ClassVar[str] = "arras2022"
    title: ClassVar[str] = "rank accuracy in the region"
    meaning: ClassVar[str] = "share of the top features inside the region, as many as it holds"
    better: ClassVar[Better] = Better.NEITHER
    between: ClassVar[tuple[float, float]] = (0.0, 1.0)
    region: Tensor

    def __repr__(self) -> str:
        """Show the region's size instead of its elements."""
        return f"RankAccuracy({int(self.region[0].sum())} of {self.region[0].numel()} elements)"

    def rows(self, keep: Tensor, count: int, /) -> RankAccuracy:
        """Return the score of some of the examples."""
        return replace(self, region=region_of(self.region, keep, count))

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the share, per example.

        Raises:
            DataError: If a region is empty, or does not fit.
        """
        inside = features_in(self.region, values)
        return top_inside(by_feature(values), inside, inside.sum(1))


@dataclass(frozen=True, slots=True, eq=False)
class PointingGame:
    """Whether the largest value lies in the region: 1 or 0; equal ones count in equal parts.

    Values count with their sign, the channels of a pixel together.

    Attributes:
        region: Boolean, ``(1, *input)`` for one that all examples share, or one per example of
            the data, ``(batch, *input)``.
    """

    reference: ClassVar[str] = "zhang2018"
    title: ClassVar[str] = "pointing game"
    meaning: ClassVar[str] = "whether the top feature lies in the region"
    better: ClassVar[Better] = Better.NEITHER
    between: ClassVar[tuple[float, float]] = (0.0, 1.0)
    region: Tensor

    def __repr__(self) -> str:
        """Show the region's size instead of its elements."""
        return f"PointingGame({int(self.region[0].sum())} of {self.region[0].numel()} elements)"

    def rows(self, keep: Tensor, count: int, /) -> PointingGame:
        """Return the score of some of the examples."""
        return replace(self, region=region_of(self.region, keep, count))

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return 1 or 0, per example.

        Raises:
            DataError: If a region is empty, or does not fit.
        """
        inside = features_in(self.region, values)
        return top_inside(by_feature(values), inside, torch.ones_like(inside.sum(1)))


def region_of(region: Tensor, keep: Tensor, count: int) -> Tensor:
    """Return the region of some of ``count`` examples; one that all share is theirs.

    Raises:
        DataError: If there are regions of another number of examples.
    """
    if len(region) == 1:
        return region
    if len(region) != count:
        raise DataError(
            f"there are regions of {len(region)} examples, and the data have {count}; give one for "
            "all, (1, *input), or one for each"
        )
    return region[keep.to(region.device)]


def features_in(region: Tensor, values: Tensor) -> Tensor:
    """Return which features lie in the region, ``(batch, features)``: pixels with any channel in it."""
    if region.shape[1:] != values.shape[1:] or len(region) not in {1, len(values)}:
        raise DataError(
            f"a region of shape {tuple(region.shape)} does not fit explanations of shape "
            f"{tuple(values.shape)}; give one for all, (1, *input), or one for each"
        )
    whole = region.to(values.device).expand_as(values)
    inside = (whole.any(1) if values.ndim == 4 else whole).flatten(1)
    if not bool(inside.any(1).all()):
        raise DataError("the region of an example is empty; expected one element in it at least")
    return inside


def top_inside(scores: Tensor, inside: Tensor, count: Tensor) -> Tensor:
    """Return the share of each row's ``count`` largest that is inside; ties are split evenly."""
    ordered = scores.sort(1, descending=True).values
    least = ordered.gather(1, count[:, None] - 1)
    above, tied = scores > least, scores == least
    room = (count - above.sum(1)) / tied.sum(1)  # of each that is tied, how much is taken
    found = (above & inside).sum(1) + room * (tied & inside).sum(1)
    return (found / count).to(scores.dtype)
