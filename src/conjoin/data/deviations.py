"""Deviations: threats to tables, whose columns move in units of their own and by what they are.

``Deviations.of(data).threat(Linf, 0.5)`` is S(x) = {z : |z_i - x_i| <= 0.5 σ_i where column i may
move}, σ_i its standard deviation, within the columns' ranges. It says nothing of *which* changes are
likely: correlations between columns are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.core.ball import Ball
from conjoin.core.dataset import Dataset, Kind
from conjoin.core.scaled import Scaled
from conjoin.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class Deviations:
    """What a threat needs to know of a table: units, box, and which columns can move.

    Make it with :meth:`of`. Immutable columns do not move, nor do categorical ones, whose values have
    nothing between them, nor those that do not vary in the data. Ordinal ones move by degrees: the
    threat holds more than their levels, so that what is proved of it is proved of them.

    Attributes:
        scale: The standard deviation of each column, ``(1, columns)``; 1 where it is 0.
        mask: True where a column may move, ``(1, columns)``.
        low, high: The box, ``(1, columns)``.
    """

    scale: Tensor
    mask: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, data: Dataset) -> Deviations:
        """Take deviations from the data, box and mask from its ``features``.

        Raises:
            DataError: If the data has no features, or no column that may move.
        """
        if not data.features:
            raise DataError(
                f"{data.name} names no columns; expected a table: conjoin.data.table, or "
                "Dataset(features=...)"
            )
        deviation = data.x.double().std(dim=0, correction=0)
        free = [not f.immutable and f.kind is not Kind.CATEGORICAL for f in data.features]
        mask = torch.tensor(free, device=deviation.device) & (deviation > 0)
        if not bool(mask.any()):
            raise DataError(
                f"no column of {data.name} may move: all are immutable, categorical or constant"
            )
        ends = ([f.low for f in data.features], [f.high for f in data.features])
        low, high = (torch.tensor([e], dtype=torch.float64, device=deviation.device) for e in ends)
        return cls(torch.where(deviation > 0, deviation, 1)[None], mask[None], low, high)

    def threat(self, kind: type[Ball], eps: float | Tensor) -> Scaled:
        """Return the threat in which columns move by ``eps`` deviations, e.g. ``threat(Linf, 0.5)``."""
        return Scaled(kind(eps, (self.low, self.high), self.mask), self.scale)


__all__ = ["Deviations"]
