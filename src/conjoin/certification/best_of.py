"""The best of several lower bounds, example by example: each is a bound, so is their maximum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.core.protocols import Batch, Certifier, Model
from conjoin.core.quantity import Quantity
from conjoin.core.run import prepared
from conjoin.core.threat import Ball


@dataclass(frozen=True, slots=True)
class BestOf:
    """Take the largest of the bounds of several certifiers; no method dominates."""

    reference: ClassVar[str] = ""
    certifiers: tuple[Certifier, ...]

    def prepare(self, model: Model, example: Tensor, /) -> BestOf:
        """Prepare each certifier."""
        return BestOf(tuple(prepared(c, model, example) for c in self.certifiers))

    def __call__(self, model: Model, batch: Batch, threat: Ball, quantity: Quantity, /) -> Tensor:
        """Return the element-wise largest lower bound."""
        bounds = [certifier(model, batch, threat, quantity) for certifier in self.certifiers]
        return torch.stack(bounds).amax(0)
