"""Quantities of inner activations and of dense outputs: units and channels, the largest, a threshold.

The value at the stop of a slice is ``(batch, units, *places)``: units of a dense layer have no places,
channels of a convolution have those of an image, the positions of a sequence are the units of
``(batch, positions, features)``. None of these quantities has a goal.

Reference: leino2018, section 3 (quantities of interest).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.errors import CutError, DataError, PlanError
from conjoin.typing import Aims, PerExample


class Over(Enum):
    """What is made of the values of one unit at all places."""

    SUM = "sum"
    MEAN = "mean"
    MAX = "max"

    def of(self, values: Tensor) -> Tensor:
        """Reduce all axes after the second, ``(batch, units, *places)`` to ``(batch, units)``."""
        flat = values.reshape(*values.shape[:2], -1)
        return _REDUCED[self](flat)


_REDUCED: dict[Over, Callable[[Tensor], Tensor]] = {
    Over.SUM: lambda flat: flat.sum(2),
    Over.MEAN: lambda flat: flat.mean(2),
    Over.MAX: lambda flat: flat.amax(2),
}


@dataclass(frozen=True, slots=True)
class Units:
    """Take some units or channels of an inner activation, added up.

    Attributes:
        units: Their positions along axis 1.
        over: What is made of each one's values at all places.
    """

    goal: ClassVar[float] = -math.inf
    units: tuple[int, ...]
    over: Over = Over.SUM

    def __post_init__(self) -> None:
        if not self.units or len(set(self.units)) < len(self.units):
            raise PlanError(f"expected units, each once; got {self.units}")

    def __call__(self, outputs: Tensor, aim: Aims, /) -> PerExample:
        """Return the sum over the units.

        Raises:
            CutError: If there are fewer.
        """
        count = outputs.shape[1] if outputs.ndim > 1 else 0
        if wrong := [unit for unit in self.units if not -count <= unit < count]:
            raise CutError(f"there is no unit {wrong[0]}; the activation has {count} along axis 1")
        places = [unit % count for unit in self.units]
        if len(set(places)) < len(places):
            raise CutError(f"{self!r} names one of {count} units twice")
        return self.over.of(outputs[:, places]).sum(1)


@dataclass(frozen=True, slots=True)
class Largest:
    """Take the largest output at each point: its class may change along a path.

    What ``logit`` is of the class predicted at x is one class throughout.
    """

    goal: ClassVar[float] = -math.inf

    def __call__(self, outputs: Tensor, aim: Aims, /) -> PerExample:
        """Return the maximum over all elements."""
        return outputs.flatten(1).amax(1)


@dataclass(frozen=True, slots=True)
class Threshold:
    """Take the elements above a threshold less those below, Σ sign(z - t) z.

    Attributes:
        threshold: In units of the activation.
    """

    goal: ClassVar[float] = -math.inf
    threshold: float

    def __call__(self, outputs: Tensor, aim: Aims, /) -> PerExample:
        """Return the signed sum."""
        return ((outputs - self.threshold).sign() * outputs).flatten(1).sum(1)


@dataclass(frozen=True, slots=True)
class Dense:
    """Take the outputs aimed at, added up over the places of a dense model, e.g. of a segmentation.

    Outputs are ``(batch, classes, *places)``, the aim a class for each place, ``(batch, *places)``;
    places with a negative one are left out. ``predicted`` aims at the class of each place,
    :class:`Places` at those of one class alone.
    """

    goal: ClassVar[float] = -math.inf

    def __call__(self, outputs: Tensor, aim: Aims, /) -> PerExample:
        """Return the sum over the places.

        Raises:
            DataError: If the aim is not a class for each place.
        """
        if aim.shape != (len(outputs), *outputs.shape[2:]):
            raise DataError(
                f"{self!r} is about a class at each place; its aim has shape {tuple(aim.shape)}, "
                f"expected {(len(outputs), *outputs.shape[2:])}: target=predicted, or Places(class)"
            )
        chosen = outputs.gather(1, aim.clamp(min=0)[:, None])[:, 0]
        return torch.where(aim >= 0, chosen, 0).reshape(len(outputs), -1).sum(1)


@dataclass(frozen=True, slots=True)
class Places:
    """Aim at the places where a dense model predicts a class at the example itself."""

    label: int

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the class there, -1 elsewhere."""
        return torch.where(outputs.argmax(1) == self.label, self.label, -1)


__all__ = ["Dense", "Largest", "Over", "Places", "Threshold", "Units"]
