"""Localisation: how much of an explanation falls on a given region?

Reference: kohlbrenner2020, section IV (relevance mass accuracy).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.core.naming import Better
from conjoin.core.protocols import Attributor, Batch, Sliceable


@dataclass(frozen=True, slots=True, eq=False)
class MassInside:
    """Share of the attribution's magnitude inside the region: 0..1; 0 for an all-zero map.

    Attributes:
        region: Boolean, ``(1, *input)`` for one that all examples share, or one per example of
            the data, ``(batch, *input)``, in one batch.
    """

    reference: ClassVar[str] = "kohlbrenner2020"
    title: ClassVar[str] = "mass in the region"
    meaning: ClassVar[str] = "share of the attribution inside the region"
    better: ClassVar[Better] = Better.NEITHER
    region: Tensor

    def __repr__(self) -> str:
        """Show the region's size instead of its elements."""
        return f"MassInside({int(self.region[0].sum())} of {self.region[0].numel()} elements)"

    def __call__(
        self, model: Sliceable, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the share, per example."""
        magnitude = values.abs().flatten(1)
        inside = (magnitude * self.region.flatten(1).to(values.device)).sum(1)
        total = magnitude.sum(1)
        return torch.where(total > 0, inside / total.clamp(min=1e-30), 0)
