"""Interval bounds: boxes pushed through the operators, the last affine maps folded into the quantity.

Cheap, for every norm and every operator that is known, and void on networks that were not trained
for it. By default the bounds also cover the rounding of the network as it is deployed; where that is
not known or makes them void, they are those of real arithmetic, and say so.

Reference: gowal2018, section 3; rump2010 for the error terms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.certification.box import Ball, Box, Boxes, NoRoundingError, dual_order
from conjoin.certification.head import Folded, features, fold, tail
from conjoin.certification.known import (
    Prepared,
    check_inside,
    enclosed,
    linear_rows,
    prepare,
    still,
)
from conjoin.certification.rounding import TINY, UNIT, Rounding, gamma, rounded_down
from conjoin.core.operator import Affine, Reshape, Step
from conjoin.core.protocols import Batch, Certifier, Model, carried
from conjoin.core.quantity import PiecewiseLinear, Quantity
from conjoin.core.result import Bounds, Claim
from conjoin.core.threat import Threat


@dataclass(frozen=True, slots=True)
class Interval:
    """Bound the quantity by interval arithmetic.

    Attributes:
        claim: What the bounds must be true of; ``None`` for the deployed network where that gives
            bounds, else real arithmetic.
    """

    reference: ClassVar[str] = "gowal2018"
    title: ClassVar[str] = "interval bounds"
    meaning: ClassVar[str] = "intervals of the input carried through the network, layer by layer"
    claim: Claim | None = None

    def __repr__(self) -> str:
        """Show the method, and the claim where one is demanded."""
        return f"Interval({self.claim or ''})"

    def prepare(self, model: Model, example: Batch, /) -> Certifier:
        """Read the operators off the model, once.

        Raises:
            CapabilityError: If a layer is not known.
        """
        return PreparedInterval(prepare(model, example, self), self)

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Bounds:
        """Return bounds over S(x); prepares first."""
        return self.prepare(model, batch)(model, batch, threat, quantity)


@dataclass(frozen=True, slots=True)
class PreparedInterval:
    """Interval bounds of one model, whose operators are known."""

    reference: ClassVar[str] = "gowal2018"
    model: Prepared
    method: Interval

    def __repr__(self) -> str:
        """Show it as the method it prepares."""
        return repr(self.method)

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Bounds:
        """Return lower bounds of the quantity over S(x), in its units.

        Raises:
            CapabilityError: If the quantity, the threat or an operator is not known to it.
            ModelError: If it was prepared for another model.
        """
        ask, given = linear_rows(quantity, self), enclosed(threat, batch.x, self)
        with torch.no_grad(), still(model):
            self.model.check(model, batch)
            outputs = model(batch)
            wanted = self.method.claim
            if wanted is not Claim.SOUND_REAL:
                try:
                    domain = Boxes(given, Rounding.of(outputs.dtype))
                    found = self._lower(domain, batch.aim, ask, outputs)
                    if wanted is not None or bool(found.isfinite().all()):
                        return Bounds(found, Claim.SOUND_DEPLOYED)
                except NoRoundingError:
                    if wanted is not None:
                        raise
            found = self._lower(Boxes(given, None), batch.aim, ask, outputs)
        return Bounds(found, Claim.SOUND_REAL)

    def _lower(self, domain: Boxes, aim: Tensor, ask: PiecewiseLinear, outputs: Tensor) -> Tensor:
        """Bound the quantity, rounded down to the outputs' precision; -inf where nothing is known."""
        steps = self.model.steps
        chain, last = tail(steps), len(steps) - 1
        places = {last, features(steps, chain), *(steps[place].sources[0] for place in chain)}
        boxes = carried(domain, steps, places)
        check_inside(boxes[last], outputs, domain.rounding)
        box, error = boxes[features(steps, chain)], _deployed_error(domain, steps, chain, boxes)
        classes, parts = outputs.shape[1], []
        for some in torch.arange(len(aim), device=aim.device).split(_at_once(box, classes)):
            rows = ask.rows(aim[some], classes)
            bound = _row_bounds(_some(box, some), fold(steps, chain, rows))
            if error is not None:
                bound = bound - torch.einsum("bkc,bc->bk", rows.abs(), error[some]) * (1 + 1e-9)
            parts.append(bound.nan_to_num(nan=-math.inf, neginf=-math.inf).amin(1))
        lost = boxes[last].lost
        if lost is not None:
            parts = [torch.cat(parts).masked_fill(lost, -math.inf)]
        return rounded_down(torch.cat(parts), outputs.dtype)


def _deployed_error(
    domain: Boxes, steps: Sequence[Step], chain: Sequence[int], boxes: Mapping[int, Box]
) -> Tensor | None:
    """Bound how far the deployed logits are from those that the chain gives in real arithmetic.

    The rounding of the quantity itself, a sum of at most all logits, is added.
    """
    if domain.rounding is None:
        return None
    error = torch.zeros_like(boxes[features(steps, chain)].low)
    for place in chain:
        op = steps[place].op
        if isinstance(op, Affine):
            own = domain.error(op, boxes[steps[place].sources[0]].magnitude)
            error = op.map.absolute()(error) * (1 + gamma(op.map.terms + 8)) + own
        elif isinstance(op, Reshape):
            error = op(error)
    whole = boxes[len(steps) - 1].magnitude
    return error + domain.rounding.gamma(4) * (whole + error) + domain.rounding.tiny


def _at_once(box: Box, classes: int) -> int:
    """How many examples' rows fit in 128 MiB."""
    return max(1, 2**24 // (classes * max(classes, box.low[0].numel())))


def _some(box: Box, rows: Tensor) -> Box:
    ball = box.ball
    if ball is not None:
        ball = Ball(ball.centre[rows], ball.radius[rows], ball.order)
    return Box(box.low[rows], box.high[rows], ball)


def _row_bounds(box: Box, folded: Folded) -> Tensor:
    """Bound the folded rows from below over the box, ``(batch, k)``."""
    low, high = box.low.flatten(1), box.high.flatten(1)
    centre, radius = (low + high) / 2, (high - low) / 2 * (1 + 4 * UNIT)
    share = folded.share + gamma(folded.rows.shape[2] + 16)
    fixed = 4 * share * folded.offset_size + (folded.rows.shape[2] + 16) * TINY
    value = torch.einsum("bkf,bf->bk", folded.rows, centre) + folded.offset
    spread = torch.einsum("bkf,bf->bk", folded.rows.abs(), radius) * (1 + share)
    slack = 4 * share * torch.einsum("bkf,bf->bk", folded.size, centre.abs() + radius)
    lower = value - spread - slack - fixed
    if box.ball is None:
        return lower
    middle, reach = box.ball.centre.flatten(1), box.ball.radius[:, None]
    dual = torch.linalg.vector_norm(folded.rows, ord=dual_order(box.ball.order), dim=2)
    value = torch.einsum("bkf,bf->bk", folded.rows, middle) + folded.offset
    slack = 4 * share * torch.einsum("bkf,bf->bk", folded.size, middle.abs() + reach)
    return torch.maximum(lower, value - reach * dual * (1 + share) - slack - fixed)


__all__ = ["Interval", "PreparedInterval"]
