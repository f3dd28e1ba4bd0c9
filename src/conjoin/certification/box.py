"""Boxes as a domain: bounds of every element of every activation, pushed through the operators.

An affine map takes centre c and radius r to A c + b and ``|A| r``; where the input itself lies in an l2
or l1 ball, the first affine map uses the dual norm of each row instead, where that is smaller.
Computed in double precision with every rounding error bounded and added. With a
:class:`~conjoin.certification.rounding.Rounding` the box also holds every value that the deployed
network computes in its own precision, else the values in real arithmetic only.

Reference: gowal2018, section 3; rump2010 for the error terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from conjoin.certification.norms import row_norms
from conjoin.certification.rounding import TINY, UNIT, Rounding, gamma
from conjoin.core.linear import Diagonal, flat
from conjoin.core.operator import (
    Add,
    Affine,
    Concat,
    Elementwise,
    Fixed,
    Given,
    MaxWindows,
    Reshape,
    RootMeanSquare,
    Sort,
    SortPairs,
    Step,
)
from conjoin.core.threat import Enclosure
from conjoin.errors import CapabilityError


@dataclass(frozen=True, slots=True)
class Ball:
    """The norm ball that an activation lies in while it is the input still, up to its place."""

    centre: Tensor
    radius: Tensor
    order: float


@dataclass(frozen=True, slots=True)
class Box:
    """Lower and upper bounds of an activation, in double precision.

    ``lost`` says of which examples a deployed value may overflow: then nothing is known of them.
    """

    low: Tensor
    high: Tensor
    ball: Ball | None = None
    lost: Tensor | None = None

    @property
    def magnitude(self) -> Tensor:
        """The largest magnitude of each element."""
        return torch.maximum(self.low.abs(), self.high.abs())


class NoRoundingError(CapabilityError):
    """The rounding of an operator, as it is deployed, is not known; its real values are."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """The domain of boxes, from an enclosure of the inputs.

    Attributes:
        given: The inputs.
        rounding: The arithmetic of the deployed network; ``None`` for real arithmetic.
    """

    given: Enclosure
    rounding: Rounding | None

    def apply(self, step: Step, /, *sources: Box) -> Box:
        """Return the box of a step.

        Raises:
            CapabilityError: If the operator has no interval rule.
            NoRoundingError: If it has one in real arithmetic only.
        """
        rule = _RULES.get(type(step.op))
        if rule is None:
            raise CapabilityError(f"no interval bound is known for {step.name} ({step.op})")
        out: Box = rule(self, step, *sources)
        if self.rounding is None:
            return out
        lost = ~(out.magnitude < self.rounding.largest)
        lost = lost.reshape(len(lost), -1).any(1)
        for source in sources:
            lost = lost if source.lost is None else lost | source.lost
        return replace(out, lost=lost)

    def error(self, op: Affine, magnitude: Tensor) -> Tensor | float:
        """Bound how far the deployed A x + b is from the real one, for inputs of a magnitude."""
        if self.rounding is None or op.exact:
            return 0.0
        size = op.bias.abs() if op.size is None and op.bias is not None else op.size
        whole = op.map.absolute()(magnitude) * (1 + gamma(op.map.terms + 8))
        whole = whole if size is None else whole + size
        terms = op.map.terms
        share = self.rounding.gamma(terms + 2 + op.uncertainty)
        error = share * whole + (terms + 2) * self.rounding.tiny
        return torch.where(whole < self.rounding.largest, error, math.inf)  # partial sums overflow

    def astray(self, step: Step, out: Box, *sources: Box) -> Tensor | float:
        """Bound how far the value of a step is from what its operator gives for the same arguments.

        As it is deployed; in real arithmetic only functions are off, by their jumps.
        """
        op = step.op
        if isinstance(op, Affine):
            return self.error(op, sources[0].magnitude)
        if isinstance(op, Elementwise):
            if self.rounding is None or not op.rounding:
                return op.jump
            whole = torch.maximum(out.magnitude, sources[0].magnitude)
            return op.jump + 2 * op.rounding * self.rounding.unit * whole + self.rounding.tiny
        if isinstance(op, Add) and self.rounding is not None:
            whole = torch.stack([source.magnitude for source in sources]).sum(0)
            error = self.rounding.gamma(len(sources)) * whole
            return torch.where(whole < self.rounding.largest, error, math.inf)
        return 0.0


def _given(domain: Boxes, step: Step) -> Box:
    given = domain.given
    finite = bool(given.radius.isfinite().all()) and not math.isinf(given.order)
    ball = Ball(given.centre, given.radius, given.order) if finite else None
    return Box(given.low, given.high, ball)


def _fixed(domain: Boxes, step: Step) -> Box:
    assert isinstance(step.op, Fixed)  # noqa: S101 - by the table
    value = step.op.value.to(domain.given.low.device).double()
    value = value.expand(len(domain.given.low), *step.shape)
    return Box(value, value)


def _affine(domain: Boxes, step: Step, box: Box) -> Box:
    op = step.op
    assert isinstance(op, Affine)  # noqa: S101 - by the table
    unit = gamma(op.map.terms + 16)
    bias = box.low.new_zeros(()) if op.bias is None else op.bias
    size = bias.abs() if op.size is None else op.size
    centre = (box.low + box.high) / 2
    radius = (box.high - box.low) / 2 * (1 + 4 * UNIT)
    spread = op.map.absolute()(radius + 4 * unit * (radius + centre.abs())) * (1 + unit)
    spread = spread + 4 * unit * size + (op.map.terms + 16) * TINY
    middle = op.map(centre) + bias
    error = domain.error(op, box.magnitude)
    low, high = middle - spread, middle + spread
    ball = None
    if box.ball is not None:
        direct, reach = _through_ball(op, box.ball, bias, size)
        low, high = torch.maximum(low, direct - reach), torch.minimum(high, direct + reach)
        ball = _scaled_ball(op, box.ball, bias, error)
    return _valid(low - error, high + error, ball)


def _valid(low: Tensor, high: Tensor, ball: Ball | None = None) -> Box:
    """Turn the undefined (infinity - infinity) into no bound at all."""
    return Box(
        low.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf),
        high.nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf),
        ball,
    )


def _through_ball(op: Affine, ball: Ball, bias: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Return A c + b and how far the ball takes each element from it: ε ‖row‖ in the dual norm."""
    unit = gamma(op.map.terms + 16)
    dual = row_norms(op.map, dual_order(ball.order))
    radius = ball.radius.reshape(-1, *[1] * (ball.centre.ndim - 1))
    error = op.map.absolute()(ball.centre.abs() + radius) * 4 * unit + 4 * unit * size
    middle = op.map(ball.centre) + bias
    reach = ball.radius.reshape(-1, *[1] * (middle.ndim - 1)) * dual * (1 + unit)
    return middle, reach + error + (op.map.terms + 16) * TINY


def _scaled_ball(op: Affine, ball: Ball, bias: Tensor, error: Tensor | float) -> Ball | None:
    """A ball stays a ball if every element is scaled alike; rounding widens it."""
    if not isinstance(op.map, Diagonal) or bool((op.map.scale != op.map.scale.flatten()[0]).any()):
        return None
    factor = op.map.scale.flatten()[0].abs()
    centre = op.map(ball.centre) + bias
    slack = 16 * UNIT * (op.map(ball.centre).abs() + bias.abs()) + error
    wide: Tensor = torch.linalg.vector_norm(flat(slack), ord=ball.order, dim=1)
    radius = ball.radius * factor * (1 + 16 * UNIT) + wide * (1 + 1e-12)
    return Ball(centre, radius, ball.order)


def dual_order(order: float) -> float:
    """Return the q of the dual norm: 1/p + 1/q = 1."""
    return 1.0 if math.isinf(order) else math.inf if order == 1 else order / (order - 1)


def _elementwise(domain: Boxes, step: Step, box: Box) -> Box:
    op = step.op
    assert isinstance(op, Elementwise)  # noqa: S101 - by the table
    ends = [op(box.low), op(box.high)]
    low = torch.minimum(
        *(e.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf) for e in ends)
    )
    high = torch.maximum(
        *(e.nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf) for e in ends)
    )
    for first, last in op.turns:
        inside = (box.high >= first) & (box.low <= last)
        at = op(low.new_tensor([first, last]))
        # The turn lies between the two: its value differs from theirs by a slope times their distance.
        slack = max(abs(s) for s in op.slopes) * (last - first) if last > first else 0.0
        low = torch.where(inside, low.clamp(max=float(at.min()) - slack), low)
        high = torch.where(inside, high.clamp(min=float(at.max()) + slack), high)
    unit = UNIT + (0.0 if domain.rounding is None else domain.rounding.unit)
    tiny = TINY if domain.rounding is None else domain.rounding.tiny
    whole = torch.maximum(torch.maximum(low.abs(), high.abs()), box.magnitude)
    error = op.jump + (2 * op.rounding * unit * whole + tiny if op.rounding else 0.0)
    return _valid(low - error, high + error)


def _monotone(domain: Boxes, step: Step, box: Box) -> Box:
    op: Any = step.op
    return Box(op(box.low), op(box.high))


def _moved(domain: Boxes, step: Step, box: Box) -> Box:
    op: Any = step.op
    ball = None if box.ball is None else replace(box.ball, centre=op(box.ball.centre))
    return Box(op(box.low), op(box.high), ball)


def _added(domain: Boxes, step: Step, *boxes: Box) -> Box:
    op = step.op
    assert isinstance(op, Add)  # noqa: S101 - by the table
    signed = [
        (b.low, b.high) if sign > 0 else (-b.high, -b.low)
        for sign, b in zip(op.signs, boxes, strict=True)
    ]
    low = torch.stack([s[0] for s in signed]).sum(0)
    high = torch.stack([s[1] for s in signed]).sum(0)
    whole = torch.stack([b.magnitude for b in boxes]).sum(0)
    share = gamma(len(boxes) + 4)
    error = share * whole + TINY
    if domain.rounding is not None:
        error = error + domain.rounding.gamma(len(boxes)) * whole
        error = torch.where(whole < domain.rounding.largest, error, math.inf)
    return _valid(low - error, high + error)


def _joined(domain: Boxes, step: Step, *boxes: Box) -> Box:
    op = step.op
    assert isinstance(op, Concat)  # noqa: S101 - by the table
    return Box(op(*(b.low for b in boxes)), op(*(b.high for b in boxes)))


def _root_mean_square(domain: Boxes, step: Step, box: Box) -> Box:
    """x_i / √((x_i² + s) / n + ε) rises with x_i, and falls in size with s, the others' squares."""
    op = step.op
    assert isinstance(op, RootMeanSquare)  # noqa: S101 - by the table
    if domain.rounding is not None:
        raise NoRoundingError(f"the rounding of {step.name} (layer norm) is not known")
    over = tuple(range(-op.axes, 0))
    count = math.prod(step.shape[-op.axes :])
    most = box.magnitude.square()
    least = torch.where(
        (box.low <= 0) & (box.high >= 0), 0.0, torch.minimum(box.low.abs(), box.high.abs())
    )
    least = least.square()
    others = [v.sum(over, keepdim=True) - v for v in (least, most)]
    slack = gamma(count + 8) * most.sum(over, keepdim=True)
    small, large = (others[0] - slack).clamp(min=0), others[1] + slack

    def value(x: Tensor, rest: Tensor) -> Tensor:
        return x / ((x.square() + rest) / count + op.eps).sqrt()

    low = torch.where(box.low >= 0, value(box.low, large), value(box.low, small))
    high = torch.where(box.high >= 0, value(box.high, small), value(box.high, large))
    error = gamma(count + 32) * math.sqrt(count) + TINY  # no element exceeds √n
    limit = math.sqrt(count) * (1 + 1e-9)
    low, high = low.nan_to_num(nan=-limit), high.nan_to_num(nan=limit)
    return Box((low - error).clamp(min=-limit), (high + error).clamp(max=limit))


_RULES: dict[type, Callable[..., Box]] = {
    Given: _given,
    Fixed: _fixed,
    Affine: _affine,
    Elementwise: _elementwise,
    MaxWindows: _monotone,
    SortPairs: _monotone,
    Sort: _monotone,
    RootMeanSquare: _root_mean_square,
    Add: _added,
    Concat: _joined,
    Reshape: _moved,
}

__all__ = ["Ball", "Box", "Boxes", "NoRoundingError", "dual_order"]
