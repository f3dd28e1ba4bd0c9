"""The least that several attempts found, example by example: each looks only at what still stands.

Restarts, targets, twins and the parts of an ensemble are such attempts. What has reached the goal is
left as it is. It is *not* a search of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(slots=True)
class Kept:
    """The best point of each example so far, and its quantity; infinite where none was tried.

    Attributes:
        best: Points, shaped like the inputs; the example itself before the first attempt.
        least: The quantity there, in double precision.
    """

    best: Tensor
    least: Tensor

    @classmethod
    def at(cls, x: Tensor) -> Kept:
        """Begin with nothing tried."""
        return cls(
            x.clone(), torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        )

    def standing(self, goal: float) -> Tensor:
        """Return the rows that have not reached the goal."""
        return (self.least > goal).nonzero()[:, 0]

    def take(self, rows: Tensor, value: Tensor, z: Tensor) -> None:
        """Keep what an attempt on some rows made less."""
        better = value < self.least[rows]
        self.least[rows[better]] = value[better].double()
        self.best[rows[better]] = z[better]


__all__ = ["Kept"]
