"""CROWN: linear bounds of the quantity itself, carried back through the network.

    min_S Q  >=  min_k min_{z in S}  a_k · z + c_k

with a_k, c_k from :mod:`conjoin.certification.backward`: the rows of the quantity go in at the
output, so that what classes share cancels everywhere, and the set is used as it is, ball and box
together. The bounds of :class:`~conjoin.certification.interval.Interval` over the boxes that were
made smaller are taken where they are larger: on networks trained with intervals they are.

Reference: zhang2018crown; singh2019 (DeepPoly, the same lines for ReLU).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.certification.backward import Backward
from conjoin.certification.bounded import Bounded, Relaxation, void
from conjoin.certification.box import Boxes
from conjoin.certification.head import Asked
from conjoin.certification.relaxing import NUMBERS
from conjoin.core.evidence import Claim
from conjoin.core.protocols import Batch
from conjoin.core.quantity import PiecewiseLinear


@dataclass(frozen=True, slots=True)
class Crown(Relaxation):
    """Bound the quantity by backward linear relaxation.

    Attributes:
        claim: What the bounds must be true of; ``None`` for the deployed network where that gives
            bounds, else real arithmetic.
    """

    reference: ClassVar[str] = "zhang2018crown"
    title: ClassVar[str] = "linear bounds (CROWN)"
    meaning: ClassVar[str] = "linear bounds of the margin carried back through the network"
    claim: Claim | None = None

    def __repr__(self) -> str:
        """Show the method, and the claim where one is demanded."""
        return f"Crown({self.claim or ''})"

    def rows(
        self, network: Bounded, domain: Boxes, some: Batch, outputs: Tensor, ask: PiecewiseLinear
    ) -> Tensor:
        """Bound each row of the quantity over the set of a domain, ``(batch, k)``."""
        return crown_bounds(network, domain, outputs, ask, some.aim)


def crown_bounds(
    network: Bounded, domain: Boxes, outputs: Tensor, ask: PiecewiseLinear, aim: Tensor
) -> Tensor:
    """Bound each row of a quantity over the set of a domain, ``(batch, k)``; -inf for nothing."""
    asked = Asked.of(ask.rows(aim, outputs.shape[1]))
    known = network.relaxed(domain, outputs)
    direct, lost = network.start(known, domain, asked)
    last = len(network.steps) - 1
    parts = []
    width = max(math.prod(step.shape) for step in network.steps) * len(aim)
    for rows in asked.rows.split(max(1, NUMBERS // width), dim=1):
        parts.append(Backward(known)(last, rows).bound)
    found = (torch.cat(parts, 1) - lost).nan_to_num(nan=-math.inf, neginf=-math.inf)
    return void(known, torch.maximum(found, direct))


__all__ = ["Crown", "crown_bounds"]
