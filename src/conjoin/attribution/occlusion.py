"""Occlusion: how far does a quantity fall when a window is blanked?

    a_i = mean over the windows W that cover i of  Q(x) - Q(x with W at the baseline)

Units of the quantity; positive where what is hidden spoke for it. All channels of a place are hidden
together. It is *not* a share of Q: windows overlap and hide what they hide together, so the values
sum to nothing in particular, and a window that is larger than the object finds no edge of it.

Reference: zeiler2014 (occlusion sensitivity).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attribution.perturbed import (
    asked,
    blank_of,
    cells,
    chunks,
    over_channels,
    places,
    spelled,
)
from conjoin.core.distribution import Reference, per_pass, zeros
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Question, logit
from conjoin.core.slice import Slice
from conjoin.errors import PlanError

Size = int | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Occlusion:
    """The fall of a quantity when a window is blanked; see :func:`occlusion`.

    Attributes:
        window: Sides of the window, one for all axes of places or one each; ``None`` for single
            columns of a table, and else for one cell of a grid of 49.
        stride: Steps between windows, at most the window; ``None`` for half of it.
        baseline: What stands in the window.
        quantity: What falls.
    """

    needs: ClassVar[type] = Model
    where: ClassVar[Slice] = Slice()
    reference: ClassVar[str] = "zeiler2014"
    title: ClassVar[str] = "occlusion"
    meaning: ClassVar[str] = "the fall of the output when a window is blanked"
    window: Size | None = None
    stride: Size | None = None
    baseline: Reference = zeros
    quantity: Question = logit

    def __post_init__(self) -> None:
        for name in ("window", "stride"):
            size = getattr(self, name)
            if size is not None and min(size if isinstance(size, tuple) else (size,)) < 1:
                raise PlanError(f"{name} must be at least 1; got {size}")

    def __repr__(self) -> str:
        """Show the parameters, the same in every process."""
        return spelled(self)

    def __call__(self, model: Model, batch: Batch, /) -> Tensor:
        """Return the mean fall over the windows that cover each element.

        Raises:
            PlanError: If window and stride do not fit the inputs.
        """
        x, sides = batch.x, places(batch.x)
        window, stride = self._sizes(x)
        starts = [
            [step * k for k in range(1 + math.ceil((side - size) / step))]
            for side, size, step in zip(sides, window, stride, strict=True)
        ]
        windows = [
            tuple(slice(at, at + size) for at, size in zip(corner, window, strict=True))
            for corner in product(*starts)
        ]
        blank = blank_of(self.baseline, model, batch)
        clean = asked(model, batch, self.quantity, x[None])[0]
        total = clean.new_zeros(len(x), *sides)
        cover = clean.new_zeros(sides)
        for chunk in chunks(len(windows), per_pass(x)):
            hidden = torch.zeros(len(chunk), *sides, dtype=torch.bool, device=x.device)
            for mask, k in zip(hidden, chunk, strict=True):
                mask[windows[k]] = True
            inputs = torch.where(over_channels(hidden, x)[:, None], blank, x)
            falls = clean - asked(model, batch, self.quantity, inputs)
            for fall, k in zip(falls, chunk, strict=True):
                total[:, *windows[k]] += fall.reshape(-1, *[1] * len(sides))
                cover[windows[k]] += 1
        # Contiguous: every channel of a place has its value.
        return over_channels(total / cover, x).expand(x.shape).clone()

    def ends(self, model: Model, batch: Batch, /) -> None:
        """Promise no completeness."""

    def _sizes(self, x: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        sides = places(x)
        window = _each(self.window, sides, (1,) if x.ndim == 2 else cells(sides))
        stride = _each(self.stride, sides, tuple(math.ceil(size / 2) for size in window))
        for side, size, step in zip(sides, window, stride, strict=True):
            if not step <= size <= side:
                raise PlanError(
                    f"a window of {window} with stride {stride} does not fit places of {sides}; a "
                    "window is no larger than its side, and a stride no larger than the window"
                )
        return window, stride


def _each(size: Size | None, sides: tuple[int, ...], usual: tuple[int, ...]) -> tuple[int, ...]:
    """Return one size for each axis of places."""
    if size is None:
        return usual
    each = size if isinstance(size, tuple) else (size,) * len(sides)
    if len(each) != len(sides):
        raise PlanError(f"{len(each)} sizes {each} for {len(sides)} axes of places, {sides}")
    return each


def occlusion(
    window: Size | None = None,
    stride: Size | None = None,
    *,
    baseline: Reference = zeros,
    quantity: Question = logit,
) -> Occlusion:
    """Blank one window after another and record how far the quantity falls.

    By default a window is one column of a table, and else one cell of a grid of 49 (4 by 4 places of 28
    by 28), moved by half of itself.

    Reference: zeiler2014 (occlusion sensitivity).
    """
    return Occlusion(window, stride, baseline, quantity)


__all__ = ["Occlusion", "occlusion"]
