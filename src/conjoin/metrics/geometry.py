"""Geometry of explanations: how far does one agree with another, e.g. with the boundary's normal?

    cos(a, b) = a·b / (‖a‖ ‖b‖),        ‖a - b‖ / ‖a‖

with b the map of another method at the same examples. Of the boundary's normal (the gradient of the
margin at the nearest boundary) and of saliency, or of BIG and of integrated gradients, they say whether
attributions look normal: scores of a *model* as much as of a method. Maps of different units agree in
direction only: take the cosine. Nothing is said of which of the two is right.

Reference: wang2022, section 4 (attributions and boundary normals of robust models).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from conjoin.attribution.boundary import boundary_integrated_gradients, boundary_saliency
from conjoin.core.baseline import Reference
from conjoin.core.boundary import Boundary
from conjoin.core.naming import Better
from conjoin.core.protocols import Attributor, Batch, Model, Sliceable
from conjoin.core.quantity import margin
from conjoin.errors import CapabilityError
from conjoin.metrics.stability import SMALL, length

NORMAL = boundary_saliency(quantity=margin)


@dataclass(frozen=True, slots=True)
class CosineTo:
    """Cosine of the explanation and of another method's: -1..1; 0 where one is all zero.

    Near an example without a boundary the maps by it are all zero, and so is the score.

    Attributes:
        other: The other method; by default the normal of the nearest boundary.
        title, meaning: What the score is called, and what it measures in a clause.
    """

    reference: ClassVar[str] = "wang2022"
    better: ClassVar[Better] = Better.HIGHER
    other: Attributor = NORMAL
    title: str = "cosine to another explanation"
    meaning: str = "whether the map points where another method's does"

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the cosine, per example.

        Raises:
            CapabilityError: If the two explain different things.
        """
        a, b = values.flatten(1).double(), _map_of(self.other, model, batch, values)
        lengths = length(a) * length(b)
        cosine = (a * b).sum(1) / lengths.clamp(min=torch.finfo(torch.float64).tiny)
        return cosine.clamp(-1, 1).to(values.dtype)


@dataclass(frozen=True, slots=True)
class RelativeDistanceTo:
    """``‖a - b‖ / ‖a‖`` in l2, b being another method's explanation: >= 0, **lower** is nearer.

    A zero map's length counts as 1e-6. Both must have the same units to be compared at all. Where b is
    all zero, as near an example without a boundary, it is 1.

    Attributes:
        other: The other method; by default integrated gradients from the nearest boundary.
        title, meaning: What the score is called, and what it measures in a clause.
    """

    reference: ClassVar[str] = "wang2022"
    better: ClassVar[Better] = Better.LOWER
    other: Attributor = boundary_integrated_gradients()  # noqa: RUF009 - frozen
    title: str = "relative distance to another explanation"
    meaning: str = "how far the map is from another method's, as a share of its length"

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the relative distance, per example.

        Raises:
            CapabilityError: If the two explain different things.
        """
        a, b = values.flatten(1).double(), _map_of(self.other, model, batch, values)
        return (length(a - b) / length(a).clamp(min=SMALL)).to(values.dtype)


def normal_alignment(search: Reference = Boundary()) -> CosineTo:  # noqa: B008 - frozen
    """Score the cosine of an explanation and of the normal of the nearest boundary that is found.

    Reference: wang2022, section 4.
    """
    title = "alignment with the boundary"
    meaning = "whether the map points along the normal of the nearest boundary"
    return CosineTo(boundary_saliency(search, quantity=margin), title, meaning)


def boundary_agreement(search: Reference = Boundary()) -> CosineTo:  # noqa: B008 - frozen
    """Score the cosine of an explanation and of integrated gradients from the nearest boundary (BIG).

    Reference: wang2022, section 4.
    """
    title = "agreement with BIG"
    meaning = "whether the map points where integrated gradients from the boundary do"
    return CosineTo(boundary_integrated_gradients(search), title, meaning)


def _map_of(other: Attributor, model: Model, batch: Batch, values: Tensor) -> Tensor:
    """Return another method's map of the same examples, ``(batch, elements)``."""
    found = other(cast(Sliceable, model), batch)  # the driver saw that it can; else it says so
    if found.shape != values.shape:
        raise CapabilityError(
            f"{other!r} explains an activation of shape {tuple(found.shape[1:])}, the explanation "
            f"that is scored one of {tuple(values.shape[1:])}; compare methods at the same cut"
        )
    return found.detach().flatten(1).double()


__all__ = ["CosineTo", "RelativeDistanceTo", "boundary_agreement", "normal_alignment"]
