"""RISE: what is a quantity on average while an element can be seen?

    a_i = 1 / (p N) Σ_k Q(b + m_k ⊙ (x - b)) · m_k,i

over N random masks in 0..1. A mask is a coarse grid of cells, each visible with probability p,
enlarged linearly and shifted by a random part of a cell; of a table every column is a cell. Units of
the quantity: it estimates the mean of Q given that i is visible. So all values carry the same offset,
the mean of Q over the masks; their order and differences mean something, their sign and sum do *not*.
The error of an estimate falls as 1/√N.

Reference: petsiuk2018, equation 6 and section 3.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from conjoin.attribution.perturbed import (
    asked,
    blank_of,
    chunks,
    over_channels,
    places,
    spelled,
)
from conjoin.core.counted import check_numbers
from conjoin.core.distribution import Reference, per_pass, zeros
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Question, logit
from conjoin.core.random import Streams
from conjoin.core.slice import Slice
from conjoin.errors import CapabilityError, PlanError

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True, slots=True)
class Rise:
    """The mean of a quantity under random masks, by what they show; see :func:`rise`.

    Attributes:
        masks: N, of each example.
        cells: Cells of a mask along each axis of places; at most as many as the axis has places.
        visible: p, the probability that a cell is visible.
        baseline: What stands where nothing is visible.
        quantity: What is averaged; the paper takes the probability of the class.
    """

    needs: ClassVar[type] = Model
    where: ClassVar[Slice] = Slice()
    reference: ClassVar[str] = "petsiuk2018"
    title: ClassVar[str] = "RISE"
    meaning: ClassVar[str] = "the mean output over random masks that show the feature"
    masks: int = 1000
    cells: int = 7
    visible: float = 0.5
    baseline: Reference = zeros
    quantity: Question = logit

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.masks < 1 or self.cells < 1:
            raise PlanError(f"RISE needs one mask of one cell at least; got {self!r}")
        if not 0 < self.visible < 1:
            raise PlanError(f"visible is a probability between 0 and 1; got {self.visible}")

    def __repr__(self) -> str:
        """Show the parameters, the same in every process."""
        return spelled(self)

    def __call__(self, model: Model, batch: Batch, /) -> Tensor:
        """Return the mean of the quantity over the masks, weighted by what they show.

        Raises:
            CapabilityError: If the inputs have more than three axes of places.
        """
        x, sides = batch.x, places(batch.x)
        if len(sides) not in LINEAR:
            raise CapabilityError(
                f"RISE enlarges masks along one to three axes; inputs of shape {tuple(x.shape[1:])} "
                f"have {len(sides)} axes of places. Explain by feature_ablation()"
            )
        blank = blank_of(self.baseline, model, batch)
        total: Tensor | None = None
        for chunk in chunks(self.masks, per_pass(x)):
            masks = self._drawn(batch.rng.fold("rise"), chunk, sides, x)
            shown = over_channels(masks, x)
            if x.is_floating_point():
                inputs = blank + shown * (x - blank)
            else:  # tokens are there or not
                inputs = torch.where(shown > 0.5, x, blank)
            values = asked(model, batch, self.quantity, inputs)
            # One by one: a sum's order may depend on how many go into a pass.
            for value, mask in zip(values, masks, strict=True):
                share = value.reshape(-1, *[1] * len(sides)) * mask
                total = share if total is None else total + share
        assert total is not None  # noqa: S101 - there is one mask at least
        mean = total / (self.visible * self.masks)
        return over_channels(mean, x).expand(x.shape).clone()

    def ends(self, model: Model, batch: Batch, /) -> None:
        """Promise no completeness."""

    def _drawn(self, rng: Streams, draws: range, sides: tuple[int, ...], x: Tensor) -> Tensor:
        """Return masks of several draws, ``(draws, batch, *sides)``."""
        streams, table = rng.each(draws), x.ndim == 2
        dtype = x.dtype if x.is_floating_point() else torch.float32
        size = sides if table else tuple(min(self.cells, side) for side in sides)
        grid = (streams.fold("cells").uniform(*size) < self.visible).to(dtype)
        if not table:
            step = [math.ceil(side / n) for side, n in zip(sides, size, strict=True)]
            large = [(n + 1) * cell for n, cell in zip(size, step, strict=True)]
            grid = interpolate(
                grid[:, None], size=large, mode=LINEAR[len(sides)], align_corners=False
            )[:, 0]
            moves = streams.fold("shift").uniform(len(sides), dtype=torch.float64)
            for axis, (side, cell) in enumerate(zip(sides, step, strict=True)):
                first = (moves[:, axis] * cell).long()
                index = first[:, None] + torch.arange(side, device=x.device)
                index = index.reshape(-1, *[side if a == axis else 1 for a in range(len(sides))])
                grid = grid.take_along_dim(index, axis + 1)
        return grid.reshape(len(draws), -1, *sides)


def rise(
    masks: int = 1000,
    cells: int = 7,
    visible: float = 0.5,
    *,
    baseline: Reference = zeros,
    quantity: Question = logit,
) -> Rise:
    """Average the quantity over random masks, for each element over those that show it.

    All values carry the same offset, the mean of the quantity over the masks.

    Reference: petsiuk2018, equation 6.
    """
    return Rise(masks, cells, visible, baseline, quantity)


__all__ = ["Rise", "rise"]
