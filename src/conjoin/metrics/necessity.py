"""Necessity and sufficiency: do the units that an explanation of a layer ranks first carry the answer?

    sufficiency = p(y | the first units alone),    necessity = p(y | without them)

with the other units of the layer at a still value. An intervention inside the network, per example: the
units are those of its own explanation, ``(batch, units, *places)``, their places added up. What it says
depends on the still value, since layers never see zeros in the place of most of their units.

Reference: leino2018, section 4 (keeping units); petsiuk2018, section 3.3 (the same of pixels).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.core.counted import check_numbers
from conjoin.core.naming import Better
from conjoin.core.protocols import Attributor, Batch, Sliceable
from conjoin.core.rung import meets
from conjoin.core.slice import INPUT
from conjoin.core.units import Over
from conjoin.errors import CapabilityError, PlanError


@dataclass(frozen=True, slots=True)
class Sufficiency:
    """Probability of the class with the first units of a layer alone: 0..1, **higher** is better.

    Attributes:
        share: Of the units, rounded up.
        fill: The still value of the others, in units of the activation.
    """

    reference: ClassVar[str] = "leino2018"
    title: ClassVar[str] = "sufficiency of units"
    meaning: ClassVar[str] = "probability with the layer's most influential units alone"
    better: ClassVar[Better] = Better.HIGHER
    share: float = 0.25
    fill: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(self)
        _check(self.share)

    def __call__(
        self, model: Sliceable, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the probability, per example.

        Raises:
            CapabilityError: If the explanation is of the input, or the model cannot be cut.
        """
        first = _first(model, values, attributor, self)
        return _probability(model, batch, attributor, first, self.fill)


@dataclass(frozen=True, slots=True)
class Necessity:
    """Probability of the class without the first units of a layer: 0..1, **lower** is better.

    Attributes:
        share: Of the units, rounded up.
        fill: Their still value, in units of the activation.
    """

    reference: ClassVar[str] = "leino2018"
    title: ClassVar[str] = "necessity of units"
    meaning: ClassVar[str] = "probability without the layer's most influential units"
    better: ClassVar[Better] = Better.LOWER
    share: float = 0.25
    fill: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(self)
        _check(self.share)

    def __call__(
        self, model: Sliceable, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the probability, per example.

        Raises:
            CapabilityError: If the explanation is of the input, or the model cannot be cut.
        """
        first = _first(model, values, attributor, self)
        return _probability(model, batch, attributor, ~first, self.fill)


def _first(
    model: Sliceable, values: Tensor, attributor: Attributor, metric: Sufficiency | Necessity
) -> Tensor:
    """Return which units come first, ``(batch, units)``; of equal ones the first."""
    if attributor.where.start == INPUT or not meets(model, Sliceable):
        raise CapabilityError(
            f"{metric!r} keeps units of a layer; explain one, e.g. conductance('3'), of a network "
            "that can be cut. Deletion() and Insertion() score explanations of the input"
        )
    order = Over.SUM.of(values).argsort(dim=1, descending=True, stable=True)
    count = math.ceil(metric.share * order.shape[1])
    return torch.zeros_like(order, dtype=torch.bool).scatter_(1, order[:, :count], True)


def _probability(
    model: Sliceable, batch: Batch, attributor: Attributor, keep: Tensor, fill: float
) -> Tensor:
    cut = attributor.where.start
    with torch.no_grad():
        (z,) = model.run(batch, take=(cut,))
        wide = keep.reshape(*keep.shape, *[1] * (z.ndim - 2))
        (out,) = model.run(batch, put={cut: torch.where(wide, z, fill)})
    return out.softmax(1).gather(1, batch.aim[:, None])[:, 0]


def _check(share: float) -> None:
    if not 0 < share < 1:
        raise PlanError(f"expected a share of the units between 0 and 1; got {share!r}")


__all__ = ["Necessity", "Sufficiency"]
