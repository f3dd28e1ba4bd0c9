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
from conjoin.certification.head import Asked, Folded, coupled, features, fold, tail
from conjoin.certification.known import (
    Prepared,
    check_inside,
    enclosed,
    linear_rows,
    prepare,
    still,
)
from conjoin.certification.rounding import TINY, UNIT, Rounding, gamma, rounded_down
from conjoin.core.evidence import Bounds, Claim
from conjoin.core.linear import flat
from conjoin.core.operator import Affine, Reshape, Step
from conjoin.core.protocols import Batch, Certifier, Model, carried
from conjoin.core.quantity import PiecewiseLinear, Quantity
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
        known = prepare(model, example, self)
        with torch.no_grad():
            chain = coupled(known.steps, tail(known.steps))
            return PreparedInterval(known, self, chain, fold(known.steps, chain))

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Bounds:
        """Return bounds over S(x); prepares first."""
        return self.prepare(model, batch)(model, batch, threat, quantity)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedInterval:
    """Interval bounds of one model, whose operators are known.

    Attributes:
        model: The model's operators, and whose they are.
        method: What it prepares.
        chain: The places of the last affine maps.
        head: These, folded.
    """

    reference: ClassVar[str] = "gowal2018"
    model: Prepared
    method: Interval
    chain: tuple[int, ...]
    head: Folded

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
        steps, chain, last = self.model.steps, self.chain, len(self.model.steps) - 1
        places = {last, features(steps, chain), *(steps[place].sources[0] for place in chain)}
        boxes = carried(domain, steps, places)
        check_inside(boxes[last], outputs, domain.rounding)
        head = Head(domain, steps, chain, self.head)
        classes, parts = outputs.shape[1], []
        for some in torch.arange(len(aim), device=aim.device).split(_at_once(classes)):
            asked = Asked.of(ask.rows(aim[some], classes))
            parts.append(head.bounds(boxes, asked, some).amin(1))
        lost = boxes[last].lost
        if lost is not None:
            parts = [torch.cat(parts).masked_fill(lost, -math.inf)]
        return rounded_down(torch.cat(parts), outputs.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """The last affine maps of a network, to be bounded as one over the box of the features.

    Attributes:
        domain: That the boxes are of.
        steps: The network.
        chain: The places of the maps.
        folded: These, folded.
    """

    domain: Boxes
    steps: Sequence[Step]
    chain: Sequence[int]
    folded: Folded

    def bounds(
        self, boxes: Mapping[int, Box], asked: Asked, some: Tensor | slice = slice(None)
    ) -> Tensor:
        """Bound rows of the outputs from below, ``(batch, k)``; -inf where nothing is known."""
        error = _deployed_error(self.domain, self.steps, self.chain, boxes)[some]
        box = _some(boxes[features(self.steps, self.chain)], some)
        return _row_bounds(box, self.folded, asked, error).nan_to_num(
            nan=-math.inf, neginf=-math.inf
        )


def _deployed_error(
    domain: Boxes, steps: Sequence[Step], chain: Sequence[int], boxes: Mapping[int, Box]
) -> Tensor:
    """Bound how far the deployed logits are from those that the chain gives in real arithmetic.

    The rounding of the quantity itself, a sum of at most all logits, is added.
    """
    whole = boxes[len(steps) - 1].magnitude
    if domain.rounding is None:
        return torch.zeros_like(whole)
    error = torch.zeros_like(boxes[features(steps, chain)].low)
    for place in chain:
        op = steps[place].op
        if isinstance(op, Affine):
            own = domain.error(op, boxes[steps[place].sources[0]].magnitude)
            error = op.map.absolute()(error) * (1 + gamma(op.map.terms + 8)) + own
        elif isinstance(op, Reshape):
            error = op(error)
    return error + domain.rounding.gamma(4) * (whole + error) + domain.rounding.tiny


def _at_once(classes: int) -> int:
    """How many examples' rows fit in 128 MiB."""
    return max(1, 2**24 // classes**2)


def _some(box: Box, rows: Tensor | slice) -> Box:
    ball = box.ball
    if ball is not None:
        ball = Ball(ball.centre[rows], ball.radius[rows], ball.order)
    return Box(box.low[rows], box.high[rows], ball)


def _row_bounds(box: Box, head: Folded, asked: Asked, error: Tensor) -> Tensor:
    """Bound rows of the outputs from below over the box, ``(batch, k)``.

    ρ·z over the box is at least ρ·(V c + b) - ``|ρV|`` r. What is computed of V, of the sums over the
    features and of those over the classes is off by shares of ``|ρ|`` (size (``|c|`` + r) +
    offset_size): of three at most, whatever cancels in ρV; four are subtracted. ``error`` is that of
    the outputs.
    """
    low, high = flat(box.low), flat(box.high)
    centre, radius = (low + high) / 2, (high - low) / 2 * (1 + 4 * UNIT)
    count, terms = head.rows.shape[1], asked.terms
    share = head.share + gamma(count + 16) + gamma(terms + 16)
    fixed = 4 * share * head.offset_size + (count + terms + 16) * TINY + error * (1 + 1e-9)

    def about(point: Tensor, reach: Tensor) -> Tensor:
        room = 4 * share * ((point.abs() + reach) @ head.size.mT) + fixed
        return asked.lower(point @ head.rows.mT + head.offset, room)

    lower = about(centre, radius)
    for some, rows in asked.across(head.rows):
        lower[:, some] -= torch.einsum("bkf,bf->bk", rows.abs_(), radius) * (1 + share)
    if box.ball is None:
        return lower
    reach = box.ball.radius[:, None]
    other = about(flat(box.ball.centre), reach)
    for some, rows in asked.across(head.rows):
        dual = torch.linalg.vector_norm(rows, ord=dual_order(box.ball.order), dim=2)
        other[:, some] -= reach * dual * (1 + share)
    return torch.maximum(lower, other)


__all__ = ["Head", "Interval", "PreparedInterval"]
