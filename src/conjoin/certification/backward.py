"""Linear functions of an activation, carried back to the input: the heart of CROWN.

Λ·h over the set is bounded by Λ'·h' + const, h' being what the step has as its source: through an
affine map with AᵀΛ, exactly; through a function by one of its two lines, by the sign of Λ; a sum
hands Λ to each of its parts. At the input the least value over ball and box ends it.

What is computed is rigorous: coefficients may be *any* numbers as long as the distance of the computed
from the exact ones is paid for. ``|fl(AᵀΛ) - AᵀΛ| <= γ |A|ᵀ|Λ|`` elementwise, so it changes Λ·h by at
most ``γ |Λ| (|A| |h|)``: a *room* for each element of each step, computed once for each example from
the boxes of all activations. The rounding of the deployed network lies in the same rooms.

Reference: zhang2018crown, section 3; rump2010 for the error terms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from conjoin.certification.box import Box
from conjoin.certification.concretise import Region
from conjoin.certification.lines import Lines
from conjoin.certification.rounding import TINY, UNIT, gamma
from conjoin.core.linear import flat
from conjoin.core.operator import (
    Add,
    Affine,
    Concat,
    Elementwise,
    Fixed,
    Given,
    MaxWindows,
    Reshape,
    SortPairs,
    Step,
)

NOTHING: Mapping[int, Tensor] = {}
NO_LINES: Mapping[int, Lines] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Relaxed:
    """What is known of every activation over the set of each example.

    Attributes:
        steps: The network.
        region: The set.
        boxes: Bounds of every activation.
        rooms: What a row of an activation loses to rounding, per unit of each coefficient.
        lines: Of every step that is a function, or the larger of two numbers.
    """

    steps: Sequence[Step]
    region: Region
    boxes: dict[int, Box] = field(default_factory=dict)
    rooms: dict[int, Tensor] = field(default_factory=dict)
    lines: dict[int, Lines] = field(default_factory=dict)

    def part(self, some: slice | Tensor) -> Relaxed:
        """Select examples."""
        boxes = {place: Box(b.low[some], b.high[some]) for place, b in self.boxes.items()}
        rooms = {place: room[some] for place, room in self.rooms.items()}
        lines = {place: pair.part(some) for place, pair in self.lines.items()}
        return Relaxed(self.steps, self.region.part(some), boxes, rooms, lines)


@dataclass(frozen=True, slots=True, eq=False)
class Descent:
    """What came of rows that were carried back.

    Attributes:
        bound: At most the rows' least values over the set, ``(batch, k)``; may be NaN.
        rows: The linear functions of the input, ``(batch, k, elements)``.
        met: Coefficients where they met the steps that were asked for.
    """

    bound: Tensor
    rows: Tensor
    met: dict[int, Tensor]


@dataclass(slots=True, eq=False)
class Backward:
    """One pass backwards.

    Attributes:
        known: Of the activations.
        lines: Lines to take in place of the known ones: ``(batch, k or 1, *shape)``.
        prices: Multipliers that are subtracted from the coefficients of an activation.
        keep: Steps at which coefficients are kept.
        rigorous: Whether rounding is paid for; a search need not.
    """

    known: Relaxed
    lines: Mapping[int, Lines] = field(default_factory=lambda: NO_LINES)
    prices: Mapping[int, Tensor] = field(default_factory=lambda: NOTHING)
    keep: frozenset[int] = frozenset()
    rigorous: bool = True
    pending: dict[int, Tensor] = field(default_factory=dict)
    total: Tensor | float = 0.0
    lost: Tensor | float = 0.0

    def __call__(self, place: int, rows: Tensor) -> Descent:
        """Carry rows of an activation, ``(batch, k, *shape)``, back to the input."""
        steps, met = self.known.steps, {}
        self.pending, self.total, self.lost = {place: rows}, 0.0, 0.0
        inputs: list[Tensor] = []
        for at in range(place, -1, -1):
            value = self.pending.pop(at, None)
            if value is None:
                continue
            if at in self.prices:
                value = value - self.prices[at]
                self.pay(value, self.size(at) * (4 * UNIT))
            if at in self.keep:
                met[at] = value
            step = steps[at]
            if at in self.known.rooms:
                self.pay(value, self.known.rooms[at])
            if isinstance(step.op, Given):
                inputs.append(flat(value, 2))
            else:
                self.through(at, step, value)
        w = inputs[0] if inputs else rows.new_zeros(*rows.shape[:2], self.known.region.low.shape[2])
        bound = self.known.region.least(w) + self.total - self.lost * (1 + 1e-9)
        return Descent(bound - 16 * UNIT * bound.abs().detach(), w, met)

    def through(self, at: int, step: Step, value: Tensor) -> None:
        """Hand the coefficients of a step to its sources."""
        op, sources = step.op, step.sources
        if isinstance(op, Affine):
            if op.bias is not None:
                self.total = self.total + flat(value * op.bias, 2).sum(2)
            self.give(sources[0], each(op.map.transposed, value))
        elif isinstance(op, Reshape):
            self.give(sources[0], each(op.transposed, value))
        elif isinstance(op, Add):
            for sign, source in zip(op.signs, sources, strict=True):
                self.give(source, value if sign > 0 else -value)
        elif isinstance(op, Concat):
            sizes = [self.known.steps[s].shape[op.axis - 1] for s in sources]
            for source, piece in zip(sources, value.split(sizes, op.axis + 1), strict=True):
                self.give(source, piece)
        elif isinstance(op, Elementwise):
            self.give(sources[0], self.relaxed(at, value))
        elif isinstance(op, SortPairs):
            self.sorted(at, op, sources[0], value)
        elif isinstance(op, MaxWindows):
            self.largest(at, op, sources[0], value)
        elif isinstance(op, Fixed):
            self.total = self.total + flat(value * op.value, 2).sum(2)
        else:
            self.constant(at, value)

    def give(self, source: int, value: Tensor) -> None:
        """Add coefficients to those of a source."""
        known = self.pending.get(source)
        if known is None:
            self.pending[source] = value
            return
        self.pending[source] = whole = known + value
        self.pay(whole, self.size(source) * (4 * UNIT))

    def size(self, place: int) -> Tensor:
        """The magnitudes of an activation."""
        return self.known.boxes[place].magnitude

    def pay(self, value: Tensor, room: Tensor) -> None:
        """Add what a row loses: ``Σ |Λ| room``."""
        if not self.rigorous:
            return
        whole = flat(value.detach().abs(), 2)
        each = flat(room)[:, None].transpose(1, 2)
        loss = torch.matmul(whole, each)[..., 0]
        if not bool(each.isfinite().all()):  # nothing is lost where nothing is asked
            free = torch.where(whole == 0, 0.0, whole * each.transpose(1, 2))
            loss = free.sum(2)
        self.lost = self.lost + loss

    def relaxed(self, at: int, value: Tensor) -> Tensor:
        """Go through a function by its lines; return the coefficients of its argument."""
        pair = self.lines.get(at)
        if pair is None:
            known = self.known.lines[at]
            pair = Lines(*(t[:, None] for t in (known.below, known.under, known.above, known.over)))
        up, down = value.clamp(min=0), value.clamp(max=0)
        self.total = self.total + flat(up * pair.under + down * pair.over, 2).sum(2)
        return up * pair.below + down * pair.above

    def sorted(self, at: int, op: SortPairs, source: int, value: Tensor) -> None:
        """Go through min(a, b) = a - relu(a - b) and max(a, b) = b + relu(a - b)."""
        least, most = value.chunk(2, dim=op.axis + 1)
        apart = self.relaxed(at, most - least)
        a, b = least + apart, most - apart
        both = self.size(source).chunk(2, dim=op.axis)
        room = (both[0] + both[1]) * (8 * UNIT)
        for part in (least, most, apart):
            self.pay(part, room)
        self.give(source, torch.cat([a, b], dim=op.axis + 1))

    def largest(self, at: int, op: MaxWindows, source: int, value: Tensor) -> None:
        """Go through a maximum: at least the element of the largest lower bound; at most a number.

        At most that element, too, where no other of its window can be larger.
        """
        box = self.known.boxes[source]
        won = self.known.boxes[at].low >= self.known.boxes[at].high  # a constant is as good
        if op.overlap == 1:
            won = won | _dominated(op, box)
        up = torch.where(won[:, None], value, value.clamp(min=0))
        falls, over = value - up, self.known.boxes[at].high[:, None]
        most = torch.where(falls == 0, 0.0, falls * over)
        self.total = self.total + flat(most, 2).sum(2)
        self.give(source, _selected(op, box.low, up))

    def constant(self, at: int, value: Tensor) -> None:
        """Take a step by its bounds alone."""
        box = self.known.boxes[at]
        up, down = value.clamp(min=0), value.clamp(max=0)
        self.total = self.total + flat(up * box.low[:, None] + down * box.high[:, None], 2).sum(2)


def each(function: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    """Apply a function of batches to ``(batch, k, *shape)``."""
    return _apart(function(value.flatten(0, 1)), value)


def _apart(flat: Tensor, like: Tensor) -> Tensor:
    """Give back the two first axes."""
    return flat.reshape(*like.shape[:2], *flat.shape[1:])


def _selected(op: MaxWindows, at: Tensor, value: Tensor) -> Tensor:
    """Hand what each window has to the element that is largest at a point; shared at ties."""
    count = value.shape[1]
    with torch.enable_grad():
        leaf = at[:, None].expand(-1, count, *at.shape[1:]).flatten(0, 1).detach().requires_grad_()
        out = op(leaf)
        (back,) = torch.autograd.grad(
            out, leaf, value.flatten(0, 1), create_graph=value.requires_grad
        )
    return _apart(back, value)


def _dominated(op: MaxWindows, box: Box) -> Tensor:
    """Tell in which windows the element of the largest lower bound exceeds all others' upper bounds.

    Of windows that share no element.
    """
    with torch.enable_grad():
        leaf = box.low.detach().clone().requires_grad_()
        out = op(leaf)
        (share,) = torch.autograd.grad(out.sum(), leaf)
    rest: Tensor = op(torch.where(share == 1, box.low, box.high))
    return rest <= out.detach()


def rooms(
    steps: Sequence[Step], place: int, boxes: Mapping[int, Box], pair: Lines | None, local: Tensor
) -> Tensor:
    """Return what a row of a step loses per unit of each of its coefficients.

    Args:
        steps: The network.
        place: Of the step.
        boxes: Of it and its sources.
        pair: Its lines, if it has some.
        local: How far the deployed network's value is from what the operator gives.
    """
    step, out = steps[place], boxes[place]
    sums = out.low[0].numel() + 2 * len(steps) + 32
    op = step.op
    if isinstance(op, Affine):
        source = boxes[step.sources[0]].magnitude
        size = op.map.absolute()(source)
        bias = op.bias if op.size is None else op.size
        size = size if bias is None else size + bias.abs()
        share = gamma(sums + op.map.terms)
    elif isinstance(op, Elementwise) and pair is not None:
        source, steep, far = boxes[step.sources[0]].magnitude, pair.steepest, pair.farthest
        if op.kinks is not None:  # other lines may take its place: of any slope that it has
            steep = torch.full_like(steep, max(abs(slope) for slope in op.slopes))
            far = far + sum(abs(kink) * steep + op(kink + 0 * steep).abs() for kink in op.kinks)
        size = torch.where(steep == 0, 0.0, steep * source) + far
        share = gamma(sums)
    elif isinstance(op, MaxWindows):
        size, share = op(boxes[step.sources[0]].magnitude), gamma(sums)
    elif isinstance(op, SortPairs):
        both = boxes[step.sources[0]].magnitude.chunk(2, dim=op.axis)
        size = both[0] + both[1] if pair is None else both[0] + both[1] + pair.farthest
        size, share = torch.cat([size, size], dim=op.axis), gamma(sums)
    else:
        size, share = out.magnitude, gamma(sums)
    return (share * size + local) * (1 + 1e-9) + 1e4 * TINY


__all__ = ["Backward", "Descent", "Relaxed", "each", "rooms"]
