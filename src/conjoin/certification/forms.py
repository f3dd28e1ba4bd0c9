"""Affine forms: each activation as a linear function of the inputs and of the relaxations before it.

    h  =  c + Σ_k e_k g_k  ± r,      -1 <= e_k <= 1

where e_k are the free inputs of a box, scaled, and one more for each unstable function before h: over
the interval of its argument f(x) = s x + m ± d, so that it hands on s times what it got, and d is
the share of a new e_k. What is shared cancels where it meets again. r is what is not followed:
rounding, and functions that are taken by their bounds. Much cheaper than rows that are carried back
when inputs are few, and less tight. It is *not* a certifier: its boxes are where backward bounds
start.

Reference: singh2018 (zonotopes for networks).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from conjoin.certification.backward import Relaxed, each
from conjoin.certification.box import Box, Boxes
from conjoin.certification.concretise import Region
from conjoin.certification.lines import offsets, slopes_at
from conjoin.certification.relaxing import MOST, Relaxing, unstable
from conjoin.certification.rounding import TINY, UNIT, gamma
from conjoin.core.linear import flat
from conjoin.core.operator import Add, Affine, Concat, Elementwise, Fixed, Given, Reshape, Step


@dataclass(frozen=True, eq=False)
class Form:
    """c, ``(batch, *shape)``; the g_k, ``(batch, k, *shape)``; and r, like c."""

    centre: Tensor
    shares: Tensor
    rest: Tensor

    @cached_property
    def spread(self) -> Tensor:
        """How far it is from c at most, up to rounding."""
        reach: Tensor = torch.linalg.vector_norm(self.shares, ord=1, dim=1)
        return reach + self.rest

    def box(self) -> tuple[Tensor, Tensor]:
        """Bound it, rounded outwards."""
        far = self.spread * (1 + gamma(self.shares.shape[1] + 8))
        room = 4 * UNIT * (self.centre.abs() + far) + TINY
        return self.centre - far - room, self.centre + far + room


@dataclass(slots=True, eq=False)
class Forms:
    """Relaxes a network over many boxes by affine forms.

    Attributes:
        steps: The network.
        domain: Of boxes: its set, and whose rounding is bounded.
        count: How many e_k there are.
        free: The sides of the box that have one, in their order.
    """

    steps: Sequence[Step]
    domain: Boxes
    count: int = 0
    known: dict[int, Form] = field(default_factory=dict)
    free: Tensor = field(init=False)

    def __call__(self) -> Relaxed:
        """Return the relaxation."""
        relaxing = Relaxing(self.steps, self.domain, tighten=False)
        found = Relaxed(self.steps, Region.of(self.domain.given))
        for place, step in enumerate(self.steps):
            box = self.domain.apply(step, *(found.boxes[source] for source in step.sources))
            found.boxes[place] = box
            form = self.form(place, step, found.boxes)
            if form is not None:
                found.boxes[place] = cut(box, *form.box())
                self.known[place] = form
            relaxing.enter(found, place)
        return found

    def form(self, place: int, step: Step, boxes: dict[int, Box]) -> Form | None:
        """Return the form of a step; ``None`` if it has none but its box."""
        op, out = step.op, boxes[place]
        sources = [boxes[source] for source in step.sources]
        if isinstance(op, Given):
            return self.start(out)
        if isinstance(op, Fixed) or not bool(out.magnitude.isfinite().all()):
            return None
        forms = [self.of(source, boxes) for source in step.sources]
        if isinstance(op, Affine):
            made = _affine(op, forms[0])
        elif isinstance(op, Reshape):
            one = forms[0]
            made = Form(op(one.centre), each(op, one.shares), op(one.rest))
        elif isinstance(op, Add):
            made = self.added(op, forms)
        elif isinstance(op, Concat):
            wide = [self.padded(one) for one in forms]
            made = Form(
                op(*(w.centre for w in wide)),
                torch.cat([w.shares for w in wide], op.axis + 1),
                op(*(w.rest for w in wide)),
            )
        elif isinstance(op, Elementwise):
            made = self.function(op, forms[0], sources[0])
        else:
            return None
        astray = self.domain.astray(step, out, *sources)
        return replace(made, rest=made.rest * (1 + 4 * UNIT) + astray)

    def of(self, place: int, boxes: dict[int, Box]) -> Form:
        """Return the form of a source; of one that has none, of its box."""
        known = self.known.get(place)
        if known is None:
            box = boxes[place]
            centre, half = halved(box.low, box.high)
            known = Form(centre, centre.new_zeros(len(centre), 0, *centre.shape[1:]), half)
        return known

    def start(self, box: Box) -> Form:
        """Let each free input have its own e_k."""
        centre, half = halved(box.low, box.high)
        sides = flat(half)
        free = (flat(box.high) > flat(box.low)).any(0).nonzero()[:, 0][:MOST]
        shares = sides.new_zeros(len(sides), len(free), sides.shape[1])
        shares[:, torch.arange(len(free), device=free.device), free] = sides[:, free]
        rest = sides.index_fill(1, free, 0.0)
        self.count, self.free = len(free), free
        shares = shares.reshape(*shares.shape[:2], *centre.shape[1:])
        return Form(centre, shares, rest.reshape_as(centre))

    def padded(self, form: Form) -> Form:
        """Give a form all e_k that there are."""
        shares = form.shares
        missing = self.count - shares.shape[1]
        more = shares.new_zeros(len(shares), missing, *shares.shape[2:])
        return replace(form, shares=torch.cat([shares, more], 1))

    def added(self, op: Add, forms: Sequence[Form]) -> Form:
        """Add forms; their shares of one e_k meet."""
        wide = [self.padded(one) for one in forms]
        whole = torch.stack([one.centre.abs() + one.spread for one in wide]).sum(0)
        room = gamma(len(forms) + 8) * (self.count + 2) * whole
        return Form(
            op(*(one.centre for one in wide)),
            op(*(one.shares for one in wide)),
            torch.stack([one.rest for one in wide]).sum(0) * (1 + 1e-12) + room,
        )

    def function(self, op: Elementwise, form: Form, box: Box) -> Form:
        """Go through a function by the chord, with a new e_k for how far it is from it."""
        slope = slopes_at(op, box.low, box.high)[0].nan_to_num(nan=0.0)
        least, most = offsets(op, slope, box.low, box.high)
        middle, half = halved(least, most)
        room = 8 * UNIT * (slope.abs() * (form.centre.abs() + form.spread) + middle.abs())
        rest = form.rest * slope.abs() + room * (form.shares.shape[1] + 2) + TINY
        loose = flat(unstable(op, box))
        new, held = int(loose.sum(1).max()) if len(loose) else 0, form.shares.shape[1]
        if self.count + new > MOST:
            return Form(slope * form.centre + middle, form.shares * slope[:, None], rest + half)
        # Each example numbers its own unstable elements.
        at = loose.byte().argsort(dim=1, descending=True, stable=True)[:, :new]
        shares = rest.new_zeros(len(rest), self.count + new, *rest.shape[1:])
        torch.mul(form.shares, slope[:, None], out=shares[:, :held])
        sides = flat(half).masked_fill(~loose, 0.0)
        flat(shares, 2)[:, self.count :].scatter_(2, at[..., None], sides.gather(1, at)[..., None])
        self.count += new
        rest = rest + flat(half).masked_fill(loose, 0.0).reshape_as(rest)
        return Form(slope * form.centre + middle, shares, rest)


def _affine(op: Affine, form: Form) -> Form:
    unit = gamma(op.map.terms + 16)
    centre = op(form.centre)
    size = op.map.absolute()(form.centre.abs() + form.spread)
    bias = op.bias if op.size is None else op.size
    size = size if bias is None else size + bias.abs()
    rest = op.map.absolute()(form.rest) * (1 + unit)
    room = 2 * unit * (form.shares.shape[1] + 2) * size + (op.map.terms + 16) * TINY
    return Form(centre, each(op.map, form.shares), rest + room)


def halved(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return centre and half width of intervals, the latter rounded up."""
    centre = low + (high - low) / 2
    half = torch.maximum(high - centre, centre - low)
    return centre, half * (1 + 8 * UNIT) + TINY


def cut(box: Box, low: Tensor, high: Tensor) -> Box:
    """Intersect a box with bounds that hold as well."""
    low, high = low.nan_to_num(nan=-torch.inf), high.nan_to_num(nan=torch.inf)
    return replace(box, low=torch.maximum(box.low, low), high=torch.minimum(box.high, high))


__all__ = ["Form", "Forms", "cut", "halved"]
