"""Augmentation of images from seeded streams: an example's numbers depend on its place alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from conjoin.core.random import Streams
from conjoin.errors import DataError, PlanError


@runtime_checkable
class Augmentation(Protocol):
    """A random change of inputs that keeps the label."""

    def __call__(self, x: Tensor, rng: Streams, /) -> Tensor:
        """Return changed inputs, shaped as they were."""
        ...


@dataclass(frozen=True, slots=True)
class Shift:
    """Move images by up to ``pixels`` along both axes; what comes in is 0."""

    pixels: int = 2

    def __post_init__(self) -> None:
        if self.pixels < 1:
            raise PlanError(f"a shift is by at least one pixel; got {self.pixels}")

    def __call__(self, x: Tensor, rng: Streams, /) -> Tensor:
        """Shift each image on its own."""
        _check_images(x, self)
        height, width = x.shape[-2:]
        draws = rng.fold("shift").uniform(2, dtype=torch.float64)
        by = (draws * (2 * self.pixels + 1)).long()
        wide = functional.pad(x, [self.pixels] * 4)
        rows = by[:, :1] + torch.arange(height, device=x.device)
        columns = by[:, 1:] + torch.arange(width, device=x.device)
        n, c = x.shape[:2]
        picked = wide.gather(2, rows[:, None, :, None].expand(n, c, height, wide.shape[3]))
        return picked.gather(3, columns[:, None, None].expand(n, c, height, width))


@dataclass(frozen=True, slots=True)
class Flip:
    """Mirror half of the images, left to right."""

    def __call__(self, x: Tensor, rng: Streams, /) -> Tensor:
        """Flip each image on its own."""
        _check_images(x, self)
        turned = rng.fold("flip").uniform(1)[:, 0] < 0.5
        return torch.where(turned[:, None, None, None], x.flip(-1), x)


def _check_images(x: Tensor, asked: object) -> None:
    if x.ndim != 4:
        raise DataError(
            f"{asked!r} moves images (batch, channels, height, width); got {tuple(x.shape)}"
        )


__all__ = ["Augmentation", "Flip", "Shift"]
