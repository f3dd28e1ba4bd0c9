"""A model of which a layer keeps some units, the others put to a still value: an intervention.

    f_keep(x) = g(m ⊙ h(x) + (1 - m) ⊙ b),    m the units that are kept, b zero or their mean

It is a model, so that accuracy, attacks and explanations apply to it: compression of a class to its
most influential units, and the necessity and sufficiency of units, are such models.

Reference: leino2018, section 4 (compressing a model to the units of a class).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from conjoin.core.protocols import Batch, Sliceable
from conjoin.core.slice import Cut
from conjoin.errors import CutError, PlanError
from conjoin.models.around import Around


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Kept(Around):
    """The model; see :func:`kept`."""

    cut: Cut
    keep: Tensor
    fill: Tensor

    def __repr__(self) -> str:
        """Show the model, the cut and how many units are kept."""
        return f"kept({self.model!r}, {self.cut}, {int(self.keep.sum())} of {len(self.keep)} units)"

    def digest(self) -> str:
        """Return the SHA-256 of the model within, the units and what the others have."""
        within = Around.digest(self)
        parts = (t.detach().cpu().contiguous().numpy().tobytes() for t in (self.keep, self.fill))
        return hashlib.sha256(b"".join([within.encode(), *parts])).hexdigest() if within else ""

    def __call__(self, batch: Batch, /) -> Tensor:
        """Return the outputs with the other units still.

        Raises:
            CutError: If the layer has another number of units.
        """
        inner = cast(Sliceable, self.model)
        (value,) = inner.run(batch, take=(self.cut,))
        if value.ndim < 2 or value.shape[1] != len(self.keep):
            raise CutError(
                f"{self.cut} has shape {tuple(value.shape[1:])}; expected {len(self.keep)} units first"
            )
        wide = (1, -1, *[1] * (value.ndim - 2))
        keep = self.keep.to(value.device).reshape(wide)
        fill = self.fill.to(value).reshape(wide) if self.fill.ndim == 1 else self.fill.to(value)
        (out,) = inner.run(batch, put={self.cut: torch.where(keep, value, fill)})
        return out


def kept(model: Sliceable, cut: Cut, units: Tensor, fill: Tensor | float = 0.0) -> Kept:
    """Keep some units of a layer; the others have ``fill``.

    Args:
        model: Can be read and written at the cut.
        cut: Where; its units run along axis 1.
        units: Boolean, ``(units,)``: which are kept.
        fill: A number, one for each unit, ``(units,)``, or for each element, ``(1, units, *places)``.

    Raises:
        PlanError: If ``units`` are no flags, or ``fill`` has no such shape.
    """
    if units.dtype != torch.bool or units.ndim != 1:
        raise PlanError(
            f"expected a flag for each unit, torch.bool of shape (units,); got {units.dtype} of shape "
            f"{tuple(units.shape)}"
        )
    still = torch.as_tensor(fill)
    still = still.expand(len(units)).clone() if still.ndim == 0 else still
    each = still.ndim > 1 and still.shape[:2] == (1, len(units))
    if not each and still.shape != (len(units),):
        raise PlanError(
            f"a fill for {len(units)} units must be a number, ({len(units)},) or "
            f"(1, {len(units)}, *places); got shape {tuple(still.shape)}"
        )
    return Kept(model, cut, units, still)


__all__ = ["Kept", "kept"]
