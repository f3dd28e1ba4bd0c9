"""How inputs, changes of inputs and maps over inputs are shown, by the kind of data.

A kind of data brings one class with four methods; sections ask :func:`pictures_of` and know no kind.
Whatever the size of an input, what is shown of it is bounded. Every picture carries its words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from markupsafe import Markup
from torch import Tensor

from conjoin.audit.pictures.bars import MOST, Bars
from conjoin.audit.pictures.image import Images, map_scale, planes
from conjoin.audit.pictures.line import Lines
from conjoin.audit.pictures.sound import Waves
from conjoin.audit.pictures.text import Tokens
from conjoin.core.dataset import Dataset
from conjoin.data.sounds import Sounds
from conjoin.data.texts import Texts


@runtime_checkable
class Pictures(Protocol):
    """Shows inputs of one kind; empty where there is nothing to see.

    Attributes:
        coloured: Whether a map is told by its colours, and can be laid over the input.
    """

    @property
    def coloured(self) -> bool: ...  # noqa: D102 - above

    def of_input(self, x: Tensor, words: str, /) -> Markup:
        """Show an input."""
        ...

    def of_change(self, z: Tensor, x: Tensor, factor: float, words: str, /) -> Markup:
        """Show what changed from ``x`` to ``z``, ``factor`` times as large."""
        ...

    def of_map(self, values: Tensor, scale: float, x: Tensor, words: str, /) -> Markup:
        """Show one signed value per element, ``scale`` being that of full colour."""
        ...

    def scale(self, maps: Sequence[Tensor], /) -> float:
        """Return the value of full colour, or of a full bar, that some maps share."""
        ...


class Nothing:
    """Shows inputs of which there is no picture."""

    coloured = False

    def of_input(self, x: Tensor, words: str, /) -> Markup:
        """Show nothing."""
        return Markup("")

    def of_change(self, z: Tensor, x: Tensor, factor: float, words: str, /) -> Markup:
        """Show nothing."""
        return Markup("")

    def of_map(self, values: Tensor, scale: float, x: Tensor, words: str, /) -> Markup:
        """Show nothing."""
        return Markup("")

    def scale(self, maps: Sequence[Tensor], /) -> float:
        """Return that of images."""
        return map_scale(maps)


def ends_of(
    data: Dataset, bounds: tuple[float, float]
) -> tuple[float, float] | tuple[Tensor, Tensor]:
    """Return the range of the inputs: ``bounds``, or that of each column, ``(columns,)``."""
    if not data.features:
        return bounds
    low = data.x.new_tensor([f.low for f in data.features])
    high = data.x.new_tensor([f.high for f in data.features])
    return low, torch.where(high > low, high, low + 1)


def factor_of(z: Tensor, x: Tensor, data: Dataset, bounds: tuple[float, float]) -> float:
    """Return by how much a change from ``x`` to ``z`` is amplified, to be seen."""
    low, high = ends_of(data, bounds)
    return amplification(float(((z - x).abs() / (high - low)).max()), 1.0)


def pictures_of(data: Dataset, bounds: tuple[float, float]) -> Pictures:
    """Return what shows the inputs of these data, which lie between ``bounds``."""
    x = data.select([0]).x[0]
    if isinstance(data, Texts) or not x.is_floating_point():
        return Tokens(data.words if isinstance(data, Texts) else ()) if x.ndim == 1 else Nothing()
    if isinstance(data, Sounds):
        return Waves(bounds, data.rate)
    if x.ndim == 2 and len(x) == 1:  # one channel of a signal
        return Lines(bounds)
    if planes(x) is not None:
        return Images(bounds)
    if x.ndim == 1 and len(x) > 1:
        few = data.features or len(x) <= MOST
        return Bars(ends_of(data, bounds), data.features) if few else Lines(bounds)
    return Nothing()


def moved(pictures: Pictures, z: Tensor, x: Tensor, words: str) -> Markup:
    """Show an input that was changed from ``x``; in a text the replaced words are marked."""
    if isinstance(pictures, Tokens):
        return pictures.of_replaced(z, x, words)
    return pictures.of_input(z, words)


def amplification(change: float, width: float) -> float:
    """Return the largest of 1, 2, 5, 10, … by which a change still fits into half the range."""
    best = 1.0
    for power in range(5):
        for digit in (1, 2, 5):
            factor = digit * 10.0**power
            if 0 < change * factor <= width / 2:
                best = factor
    return best


__all__ = ["Nothing", "Pictures", "amplification", "ends_of", "factor_of", "moved", "pictures_of"]
