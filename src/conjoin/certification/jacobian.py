"""Local Lipschitz bounds: how much the quantity can fall over a set, by bounds of its gradient there.

    Q(z)  >=  Q(x) + min over z in S, J in [L, U] of J·(z - x)

L and U bound every element of the gradient of a row of the quantity over the whole set: intervals
of slopes, carried back through the network (of ReLU: 0, 1, or [0, 1] where its argument can have
both signs; of a maximum 1 to its only possible winner, 0 to what cannot win, [0, 1] to the others; an
element that is sorted gets a mean of the gradients at the ranks that it can have). What ties z to x is
used as it is: each element moves up with slope L or down with slope U, within ball and box. It is *not*
the gradient at x, which bounds nothing.

Reference: weng2018, section 3.3 (FastLip); zhang2019recurjac.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.certification.backward import Relaxed, each
from conjoin.certification.bounded import Bounded, Relaxation, void
from conjoin.certification.box import Box, Boxes
from conjoin.certification.concretise import Region
from conjoin.certification.head import Asked
from conjoin.certification.known import at_point
from conjoin.certification.lines import slope_range
from conjoin.certification.relaxing import apart
from conjoin.certification.rounding import TINY, UNIT, gamma
from conjoin.core.evidence import Claim
from conjoin.core.linear import Linear, Shape, flat
from conjoin.core.operator import (
    Add,
    Affine,
    Concat,
    Elementwise,
    Fixed,
    Given,
    MaxWindows,
    Reshape,
    Sort,
    SortPairs,
    Step,
)
from conjoin.core.protocols import Batch, carried
from conjoin.core.quantity import PiecewiseLinear
from conjoin.errors import CapabilityError
from conjoin.models.entries import windows


@dataclass(frozen=True, slots=True)
class LocalLipschitz(Relaxation):
    """Bound how far the quantity can fall by the gradients that it can have over the set.

    Attributes:
        tighten: Whether activations are bounded backwards, too (CROWN), and not by boxes alone.
        claim: What the bounds must be true of; ``None`` for the deployed network where that gives
            bounds, else real arithmetic.
    """

    reference: ClassVar[str] = "weng2018"
    title: ClassVar[str] = "local Lipschitz bound"
    meaning: ClassVar[str] = "the margin held against the gradients it can have nearby"
    tighten: bool = False
    claim: Claim | None = None

    def rows(
        self, network: Bounded, domain: Boxes, some: Batch, outputs: Tensor, ask: PiecewiseLinear
    ) -> Tensor:
        """Bound each row: its value at x in real arithmetic, less what the gradients allow."""
        steps, last = network.steps, len(network.steps) - 1
        asked = Asked.of(ask.rows(some.aim, outputs.shape[1]))
        known = network.relaxed(domain, outputs, tighten=self.tighten)
        base, inside = _base(known.region, some.x)
        point = carried(Boxes(at_point(base), None), steps, (last,))[last]
        middle, half = (point.low + point.high) / 2, (point.high - point.low) / 2
        room = half * (1 + 8 * UNIT) + gamma(asked.terms + 16) * point.magnitude + TINY
        value = asked.lower(middle, room)
        falls = Gradients(known, inside)(last, asked.rows, base)
        lost = network.start(known, domain, asked)[1]
        found = value + falls - lost
        found = found - 8 * UNIT * (value.abs() + falls.abs())
        return void(known, found.nan_to_num(nan=-math.inf, neginf=-math.inf))


def _base(region: Region, x: Tensor) -> tuple[Tensor, bool]:
    """Return the points that are moved from, and whether they are the centres of the balls."""
    base = region.centre.clamp(min=region.low).minimum(region.high)
    return base.reshape(x.shape), bool((base == region.centre).all())


Range = tuple[Tensor, Tensor]


@dataclass(slots=True, eq=False)
class Gradients:
    """Bounds of gradients over a set, carried back as intervals ``(low, high)``.

    Attributes:
        known: Of the activations.
        centred: Whether points are moved from the centres of the balls; else boxes alone hold them.
    """

    known: Relaxed
    centred: bool = True
    lost: Tensor | float = 0.0

    def __call__(self, place: int, rows: Tensor, x: Tensor) -> Tensor:
        """Bound min J·(z - x) over the set and all gradients of the rows, ``(batch, k)``."""
        steps, self.lost = self.known.steps, 0.0
        pending: dict[int, Range] = {place: (rows, rows)}
        found = rows.new_zeros(rows.shape[:2])
        for at in range(place, -1, -1):
            value = pending.pop(at, None)
            if value is None:
                continue
            step = steps[at]
            self.pay(at, value)
            if isinstance(step.op, Given):
                found = self.fall(value, x)
                continue
            for source, part in self.through(at, step, value):
                pending[source] = _sum(pending.get(source), part)
        return found - self.lost * (1 + 1e-9)

    def pay(self, at: int, value: Range) -> None:
        """Add what the rounding of the deployed step can do: ``Σ max |Λ| room``."""
        room = self.known.rooms.get(at)
        if room is not None:
            most = flat(torch.maximum(value[0].abs(), value[1].abs()), 2)
            each = torch.where(most == 0, 0.0, most * flat(room)[:, None])
            self.lost = self.lost + each.sum(2)

    def fall(self, value: Range, x: Tensor) -> Tensor:
        """Move each element up with its least slope, or down with its largest."""
        region, at = self.known.region, flat(x)[:, None]
        up = (region.high - at).clamp(min=0) * (1 + 4 * UNIT) + TINY
        down = (region.low - at).clamp(max=0) * (1 + 4 * UNIT) - TINY
        low, high = (flat(v, 2) for v in value)
        fall, rise = (-low).clamp(min=0), high.clamp(min=0)  # lost by moving up, and down
        # An element moves one way: what it loses at most, and how far it goes at most where it loses.
        worst = torch.maximum(fall * up, rise * -down)
        room = 1 + gamma(worst.shape[2] + 16)
        found = -worst.sum(2) * room - (worst.shape[2] + 16) * TINY
        if region.radius is None or not self.centred:
            return found
        reach = torch.maximum(torch.where(fall > 0, up, 0.0), torch.where(rise > 0, -down, 0.0))
        zero = torch.zeros_like(up)
        ball = Region(-reach, zero, zero, region.radius, region.order)
        return torch.maximum(found, ball.least(torch.maximum(fall, rise)))

    def through(self, at: int, step: Step, value: Range) -> list[tuple[int, Range]]:
        """Return what each source gets.

        Raises:
            CapabilityError: If the gradients of an operator are not known.
        """
        op, sources = step.op, step.sources
        low, high = value
        if isinstance(op, Fixed):
            return []
        if isinstance(op, Add):
            signed = (value if sign > 0 else (-high, -low) for sign in op.signs)
            return list(zip(sources, signed, strict=True))
        if isinstance(op, Concat):
            sizes = [self.known.steps[s].shape[op.axis - 1] for s in sources]
            parts = (v.split(sizes, op.axis + 1) for v in value)
            return list(zip(sources, zip(*parts, strict=True), strict=True))
        return [(sources[0], self.back(step, value))]

    def back(self, step: Step, value: Range) -> Range:
        """Return what the one source of a step gets.

        Raises:
            CapabilityError: If the gradients of an operator are not known.
        """
        op, box = step.op, self.known.boxes[step.sources[0]]
        if isinstance(op, Affine):
            return _linear(op.map, *value)
        if isinstance(op, Reshape):
            return each(op.transposed, value[0]), each(op.transposed, value[1])
        if isinstance(op, Elementwise):
            return _times(value, slope_range(op, box.low, box.high))
        if isinstance(op, SortPairs):
            return _paired(op, box, value)
        if isinstance(op, Sort):
            return _sorted(op, box, value)
        if isinstance(op, MaxWindows):
            return _largest(op, box, step.shape, value)
        raise CapabilityError(
            f"no bound of its gradients over a set is known for {step.name} ({op}); Interval and Crown "
            "apply to it"
        )


def _wider(low: Tensor, high: Tensor, share: float) -> Range:
    room = share * torch.maximum(low.abs(), high.abs()) + TINY
    return low - room, high + room


def _sum(known: Range | None, value: Range) -> Range:
    if known is None:
        return value
    return _wider(known[0] + value[0], known[1] + value[1], 4 * UNIT)


def _linear(map: Linear, low: Tensor, high: Tensor) -> Range:
    """Aᵀ of an interval: Aᵀ centre ± ``|A|ᵀ`` radius."""
    middle, half = (low + high) / 2, (high - low) / 2
    unit = gamma(low[0, 0].numel() + map.terms + 32)
    room = half * (1 + 4 * UNIT) + 4 * unit * (half + middle.abs())
    centre = each(map.transposed, middle)
    spread = each(map.absolute().transposed, room) * (1 + unit) + (low[0, 0].numel() + 16) * TINY
    return centre - spread, centre + spread


def _times(value: Range, slopes: Range) -> Range:
    """Multiply intervals, element by element."""
    least, most = (s[:, None] for s in slopes)
    ends = [v * s for v in value for s in (least, most)]
    # 0 · inf is 0: nobody asks for a slope without bound.
    ends = [torch.where(e.isnan(), 0.0, e) for e in ends]
    low = torch.minimum(torch.minimum(ends[0], ends[1]), torch.minimum(ends[2], ends[3]))
    high = torch.maximum(torch.maximum(ends[0], ends[1]), torch.maximum(ends[2], ends[3]))
    return _wider(low, high, 4 * UNIT)


def _paired(op: SortPairs, box: Box, value: Range) -> Range:
    """Λ_min to a and Λ_max to b where a is the smaller; else the reverse, or a mean of the two."""
    low, high, _ = apart(op, box)
    kept, turned = (high <= 0)[:, None], (low >= 0)[:, None]
    ends = []
    for end, wider in zip(value, (torch.minimum, torch.maximum), strict=True):
        least, most = end.chunk(2, dim=op.axis + 1)
        mean = wider(least, most)
        a = torch.where(kept, least, torch.where(turned, most, mean))
        b = torch.where(kept, most, torch.where(turned, least, mean))
        ends.append(torch.cat([a, b], dim=op.axis + 1))
    return ends[0], ends[1]


def _sorted(op: Sort, box: Box, value: Range) -> Range:
    """Give each element a mean of the gradients at the ranks that it can have."""
    low, high = (end.movedim(op.axis, -1) for end in (box.low, box.high))
    rows = [end.movedim(op.axis + 1, -1) for end in value]
    rank = torch.arange(low.shape[-1], device=low.device)
    ends: tuple[list[Tensor], list[Tensor]] = ([], [])
    for k in range(low.shape[-1]):
        first = (high < low[..., k : k + 1]).sum(-1, keepdim=True)
        last = len(rank) - 1 - (low > high[..., k : k + 1]).sum(-1, keepdim=True)
        can = ((rank >= first) & (rank <= last))[:, None]
        ends[0].append(torch.where(can, rows[0], math.inf).amin(-1))
        ends[1].append(torch.where(can, rows[1], -math.inf).amax(-1))
    found = [torch.stack(end, -1).movedim(-1, op.axis + 1) for end in ends]
    return found[0], found[1]


def _largest(op: MaxWindows, box: Box, shape: Shape, value: Range) -> Range:
    """Give the only possible winner of a window all of its gradient; of several, each a share."""
    source = tuple(box.low.shape[1:])
    places = torch.from_numpy(windows(op, source, math.prod(shape))).to(box.low.device)
    low, high = (torch.nn.functional.pad(flat(end), (0, 1), value=-math.inf)[:, places]
                 for end in (box.low, box.high))  # fmt: skip
    can = (high >= low.amax(-1, keepdim=True)) & (places >= 0)
    alone = (can.sum(-1) == 1)[:, None]
    least, most = (flat(end, 2) for end in value)
    least = torch.where(alone, least, least.clamp(max=0))
    most = torch.where(alone, most, most.clamp(min=0))
    parts = least, most, torch.maximum(least.abs(), most.abs())
    wholes = [least.new_zeros(*least.shape[:2], math.prod(source) + 1) for _ in parts]
    for k, index in enumerate(places.unbind(1)):  # the place -1 is one beyond the last
        for whole, part in zip(wholes, parts, strict=True):
            whole.index_add_(2, index % whole.shape[2], torch.where(can[:, None, :, k], part, 0))
    least, most, size = (w[..., :-1].reshape(*w.shape[:2], *source) for w in wholes)
    if op.overlap == 1:
        return least, most
    room = gamma(2 * op.overlap + 8) * size + TINY
    return least - room, most + room


__all__ = ["Gradients", "LocalLipschitz"]
