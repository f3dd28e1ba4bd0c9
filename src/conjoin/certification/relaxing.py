"""The relaxation of a network over a set: boxes forwards, made smaller backwards where it matters.

Boxes go through the operators. Before a function, those arguments over whose interval it is not linear
(the *unstable* ones) are bounded by CROWN as well; what is smaller of the two is kept, element by
element, since no method dominates. The others need no rows: their line is the function.

Reference: zhang2018crown, section 3.2; gowal2018 for the boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from conjoin.certification.backward import Backward, Relaxed, rooms
from conjoin.certification.box import Box, Boxes
from conjoin.certification.concretise import Region
from conjoin.certification.lines import lines
from conjoin.certification.rounding import TINY, UNIT
from conjoin.core.linear import flat
from conjoin.core.operator import Concat, Elementwise, Given, MaxWindows, Reshape, SortPairs, Step
from conjoin.models.activations import relu

NUMBERS = 2**21  # of the rows that are carried at once, in the widest activation
MOST = 2048  # shares of an affine form; what comes later is not followed
CURVED = (Elementwise, MaxWindows, SortPairs)


@dataclass(frozen=True, slots=True, eq=False)
class Relaxing:
    """Makes the relaxation of a network.

    Attributes:
        steps: The network.
        domain: Of boxes: its set, and whose rounding is bounded.
        tighten: Whether unstable arguments are bounded backwards, too.
        gaps: Bounds of the differences of pairs that are sorted, by place and axis of the pairs.
    """

    steps: Sequence[Step]
    domain: Boxes
    tighten: bool = True
    gaps: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __call__(self) -> Relaxed:
        """Return it."""
        region = Region.of(self.domain.given)
        known, tight, bent = Relaxed(self.steps, region), set[int](), set[int]()
        for place, step in enumerate(self.steps):
            if bent.intersection(step.sources) or isinstance(step.op, CURVED):
                bent.add(place)
            curved = isinstance(step.op, Elementwise | SortPairs)
            source = step.sources[0] if step.sources else 0
            worth = source in bent or region.radius is not None
            if self.tighten and curved and worth and source not in tight:
                tight.add(source)
                known.boxes[source] = self.tightened(known, step, source)
            self.enter(known, place)
        return known

    def narrowed(self, whole: Relaxed, signs: Mapping[int, Tensor]) -> Relaxed:
        """Relax parts of a set, on each of which arguments lie on the given sides of their kinks.

        Args:
            whole: The relaxation over the whole set, once for each part.
            signs: 1 above, -1 below, 0 on either side, by the step that it is the argument of.
        """
        known, sides = Relaxed(self.steps, whole.region), dict[int, list[tuple[float, Tensor]]]()
        for place, sign in signs.items():
            kink = kink_of(self.steps[place])
            sides.setdefault(self.steps[place].sources[0], []).append((kink, sign))
        for place, step in enumerate(self.steps):
            box = whole.boxes[place]
            if step.sources:
                made = self.domain.apply(step, *(known.boxes[s] for s in step.sources))
                low, high = torch.maximum(made.low, box.low), torch.minimum(made.high, box.high)
                box = Box(low, high)
            for kink, sign in sides.get(place, ()):
                low = torch.where(sign > 0, box.low.clamp(min=kink), box.low)
                box = Box(low, torch.where(sign < 0, box.high.clamp(max=kink), box.high))
            known.boxes[place] = box
            self.enter(known, place)
        return known

    def enter(self, known: Relaxed, place: int) -> None:
        """Bound one step by its sources, and relax it."""
        step = self.steps[place]
        sources = [known.boxes[source] for source in step.sources]
        if place not in known.boxes:
            known.boxes[place] = self.domain.apply(step, *sources)
        out, pair = known.boxes[place], None
        if isinstance(step.op, Elementwise):
            pair = lines(step.op, sources[0].low, sources[0].high, (out.low, out.high))
        elif isinstance(step.op, SortPairs):
            low, high = self.gaps.get(
                (step.sources[0], step.op.axis), apart(step.op, sources[0])[:2]
            )
            pair = lines(relu(), low, high, (low.clamp(min=0), high.clamp(min=0)))
        if pair is not None:
            known.lines[place] = pair
        if not isinstance(step.op, Given | Reshape | Concat):
            local = self.domain.astray(step, out, *sources)
            local = torch.as_tensor(local, dtype=torch.float64, device=out.low.device)
            known.rooms[place] = rooms(self.steps, place, known.boxes, pair, local)

    def tightened(self, known: Relaxed, step: Step, source: int) -> Box:
        """Bound the unstable arguments of a function backwards."""
        box = known.boxes[source]
        if isinstance(step.op, SortPairs):
            self.gaps[source, step.op.axis] = self.gap(known, step.op, source)
            return box
        assert isinstance(step.op, Elementwise)  # noqa: S101 - by the caller
        wanted = unstable(step.op, box)
        low, high = self.raised(known, source, (box.low, box.high), wanted, lambda unit: unit)
        return replace(box, low=low, high=high)

    def gap(self, known: Relaxed, op: SortPairs, source: int) -> tuple[Tensor, Tensor]:
        """Bound the differences a - b of pairs whose order is not known backwards."""
        low, high, _ = apart(op, known.boxes[source])

        def rows(unit: Tensor) -> Tensor:
            return torch.cat([unit, -unit], op.axis + 1)

        return self.raised(known, source, (low, high), (low < 0) & (high > 0), rows)

    def raised(
        self,
        known: Relaxed,
        source: int,
        ends: tuple[Tensor, Tensor],
        wanted: Tensor,
        made: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Take CROWN's bounds of the wanted numbers where they are closer.

        Args:
            known: Of the activations.
            source: The step whose value the numbers are linear functions of.
            ends: What is known of them, ``(batch, *shape)``.
            wanted: Which are to be bounded.
            made: Makes rows of the source's value from unit vectors of the numbers.
        """
        shape, wanted = ends[0].shape, flat(wanted)
        low, high = (flat(end).clone() for end in ends)
        count = int(wanted.sum(1).max()) if wanted.numel() else 0
        order = wanted.byte().argsort(dim=1, descending=True, stable=True)[:, :count]
        for some, at in chunks(known, source, order):
            part, picked = known.part(some), order[some][:, at]
            unit = low.new_zeros(*picked.shape, low.shape[1]).scatter_(2, picked[..., None], 1.0)
            rows = made(unit.reshape(*picked.shape, *shape[1:]))
            found = Backward(part)(source, torch.cat([rows, -rows], 1)).bound
            below, above = found.nan_to_num(nan=-torch.inf).chunk(2, 1)
            used = wanted[some].gather(1, picked)
            below, above = (v.masked_fill(~used, -torch.inf) for v in (below, above))
            low[some] = low[some].scatter_reduce(1, picked, below, "amax")
            high[some] = high[some].scatter_reduce(1, picked, -above, "amin")
        return low.reshape(shape), high.reshape(shape)


def kink_of(step: Step) -> float:
    """Return the one kink of a function; of the larger of two numbers, that of their difference."""
    op = step.op
    assert isinstance(op, Elementwise) and op.kinks  # noqa: S101, PT018 - by the caller
    return op.kinks[0]


def unstable(op: Elementwise, box: Box) -> Tensor:
    """Tell over which intervals a function is not known to be linear."""
    if op.kinks is None:
        return box.high > box.low
    inside = torch.zeros_like(box.low, dtype=torch.bool)
    for kink in op.kinks:
        inside = inside | ((box.low < kink) & (box.high > kink))
    return inside


def apart(op: SortPairs, box: Box) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Bound a - b for the pairs, and the larger of it and 0."""
    a, b = (t.chunk(2, dim=op.axis) for t in (box.low, box.high))
    low, high = a[0] - b[1], b[0] - a[1]
    room = 4 * UNIT * torch.maximum(low.abs(), high.abs()) + TINY
    low, high = low - room, high + room
    return low, high, (low.clamp(min=0), high.clamp(min=0))


def chunks(known: Relaxed, place: int, order: Tensor) -> list[tuple[slice, slice]]:
    """Divide rows into parts that memory holds: of some examples, some rows at a time."""
    examples, count = order.shape
    widest = max(known.boxes[p].low[0].numel() for p in range(place + 1))
    each = max(1, NUMBERS // (2 * widest))
    rows = min(max(1, count), each)
    some = max(1, each // rows)
    return [
        (slice(first, first + some), slice(at, at + rows))
        for first in range(0, examples, some)
        for at in range(0, count, rows)
    ]


__all__ = ["Relaxing", "apart", "chunks", "kink_of", "unstable"]
