"""Bounds of pre-activations where a half-space cuts a ball: the smaller the cap, the fewer are open.

In {d : ‖d‖_p <= U, low <= d <= high, w·d + ρ <= 0} a linear function has, for every μ >= 0,

    a·d >= μ ρ - σ(a + μ w),    σ(v) = max over the ball and the box of -v·d

A search that knows a point at distance U, and a half-space at distance κ that holds what it looks for,
has only this cap to look at: in Euclid's norm one of radius √(U² - κ²). The linear bounds of the
neurons that were open in the whole ball are evaluated on it, and most close. Any μ is sound; the best
one has a closed form in Euclid's norm and is searched for otherwise.

Reference: jordan2019, section 5 (the neurons that a ball leaves open).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.certification.box import Boxes
from conjoin.certification.program import gained
from conjoin.certification.relaxed import Kinked, Region
from conjoin.certification.rounding import gamma
from conjoin.core.operator import evaluate
from conjoin.core.protocols import carried
from conjoin.core.threat import Enclosure

SEARCHES = 24  # of the multiplier, where it has no closed form
AT_ONCE = 256  # neurons whose bounds are carried back together


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """The boundary of one example.

    Attributes:
        network: Its operators.
        x: The example, ``(1, *shape)``, in double precision.
        low, high: The box of inputs, shaped like ``x``.
        order: The p of the norm.
        rows: Of the quantity, ``(k, classes)``.
        goal: At or below it the boundary is crossed.
    """

    network: Kinked
    x: Tensor
    low: Tensor
    high: Tensor
    order: float
    rows: Tensor
    goal: float

    @property
    def sides(self) -> tuple[Tensor, Tensor]:
        """The box of the displacement, rounded outwards."""
        down, up = self.x.new_tensor(-math.inf), self.x.new_tensor(math.inf)
        low, high = (self.low - self.x).nextafter(down), (self.high - self.x).nextafter(up)
        return low.clamp(max=0).flatten(), high.clamp(min=0).flatten()


@dataclass(frozen=True, slots=True, eq=False)
class Cap:
    """Where the search still looks.

    Attributes:
        w, rho: The half-space w·d + ρ <= 0.
        size: What ρ was summed up from, for its rounding.
        radius: U.
        problem: Its norm and its box.
    """

    w: Tensor
    rho: float
    size: float
    radius: float
    problem: Problem

    def least(self, a: Tensor, r: Tensor) -> Tensor:
        """Bound a·d + r from below over the cap, one per row."""
        low, high = self.problem.sides
        low, high = low.clamp(min=-self.radius), high.clamp(max=self.radius)
        unit = 8 * gamma(a.shape[1] + 64)
        lengths = torch.linalg.vector_norm(a, dim=1), float(self.w.norm())

        def at(mu: Tensor) -> Tensor:
            v = a + mu[:, None] * self.w
            reach = torch.where(v > 0, -low, high)
            if self.problem.order == 1:
                most = gained(v.abs(), reach, self.radius)
            else:
                most = (v.abs() * reach).sum(1)
            if self.problem.order == 2:
                most = torch.minimum(most, self.radius * torch.linalg.vector_norm(v, dim=1))
            scale = self.radius * math.sqrt(a.shape[1]) * (lengths[0] + mu * lengths[1])
            error: Tensor = unit * (r.abs() + mu * self.size + scale)
            return r + mu * self.rho - most - error

        none = at(torch.zeros_like(r))
        if lengths[1] == 0 or self.rho <= 0:
            return none
        best = self._euclid(a, *lengths) if self.problem.order == 2 else self._searched(at, a, r)
        return torch.maximum(none, at(best))

    def _euclid(self, a: Tensor, length: Tensor, own: float) -> Tensor:
        """Return the best multipliers without a box: where the rim of the cap is the minimiser."""
        along, reach = (a @ self.w) / own, self.rho / own
        across = (length.square() - along.square()).clamp(min=0).sqrt()
        rim = math.sqrt(max(self.radius**2 - reach**2, (1e-9 * self.radius) ** 2))
        return ((across * reach / rim - along) / own).clamp(min=0)

    def _searched(self, at: Callable[[Tensor], Tensor], a: Tensor, r: Tensor) -> Tensor:
        """Search for the best multiplier of a concave function by thirds."""
        low = torch.zeros_like(r)
        high = 4 * a.abs().amax(1) / self.w.abs().mean().clamp(min=1e-300)
        for _ in range(SEARCHES):
            third = (high - low) / 3
            rising = at(low + third) < at(high - third)
            low, high = (
                torch.where(rising, low + third, low),
                torch.where(rising, high, high - third),
            )
        return (low + high) / 2


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """Linear bounds of the neurons that are open in the ball, about the displacement d from x.

    Attributes:
        neurons: Their places in the layer.
        low, high: (w, r) each: w·d + r <= h, and w·d + r <= -h.
    """

    neurons: Tensor
    low: tuple[Tensor, Tensor]
    high: tuple[Tensor, Tensor]


def whole(problem: Problem, radius: float) -> tuple[Region, dict[int, Lines]]:
    """Bound every pre-activation within a radius of x and the box: by boxes, and by linear bounds."""
    x, network = problem.x, problem.network
    low = torch.maximum(problem.low, (x - radius).nextafter(x.new_tensor(-math.inf)))
    high = torch.minimum(problem.high, (x + radius).nextafter(x.new_tensor(math.inf)))
    ball = Enclosure(low, high, x, x.new_full((1,), radius), problem.order)
    sources = {place: network.steps[place].sources[0] for place in network.slopes}
    boxes = carried(Boxes(ball, None), network.steps, set(sources.values()))
    sizes = network.magnitudes(torch.maximum(low.abs(), high.abs()))
    region = Region(
        network,
        {place: boxes[source].low for place, source in sources.items()},
        {place: boxes[source].high for place, source in sources.items()},
        sizes,
    )
    values, lines = evaluate(network.steps, x), {}
    nowhere = Cap(x.new_zeros(x.numel()), 0.0, 0.0, radius, problem)
    for place in sources:
        lines[place] = drawn(region, place, values, problem)
        region = narrowed(region, {place: lines[place]}, nowhere)
    return region, lines


def drawn(region: Region, place: int, values: Sequence[Tensor], problem: Problem) -> Lines:
    """Bound the open neurons of a layer by linear functions."""
    low, high = region.low[place], region.high[place]
    source = region.network.steps[place].sources[0]
    open_ = ((low < 0) & (high > 0)).flatten().nonzero()[:, 0]
    x, found = problem.x.flatten(), []
    for sign in (1.0, -1.0):
        ws, rs = [low.new_zeros(0, x.numel())], [low.new_zeros(0)]
        for some in open_.split(AT_ONCE):
            unit = low.new_zeros(len(some), low.numel())
            unit[torch.arange(len(some)), some] = sign
            rows = region.bound(source, unit.reshape(-1, *low.shape[1:]), values)
            ws.append(rows.w)
            rs.append(rows.w @ x + rows.c - 2 * rows.slack)
        found.append((torch.cat(ws), torch.cat(rs)))
    return Lines(open_, found[0], found[1])


def narrowed(region: Region, lines: Mapping[int, Lines], cap: Cap) -> Region:
    """Return the region with its bounds narrowed to a cap."""
    lows, highs = dict(region.low), dict(region.high)
    for place, line in lines.items():
        if len(line.neurons):
            low, high = lows[place].clone(), highs[place].clone()
            flat = low.view(-1), high.view(-1)
            least, most = cap.least(*line.low), -cap.least(*line.high)
            flat[0][line.neurons] = torch.maximum(flat[0][line.neurons], least)
            flat[1][line.neurons] = torch.minimum(flat[1][line.neurons], most)
            lows[place], highs[place] = low, high
    return Region(region.network, lows, highs, region.sizes)


def decided(region: Region, neuron: tuple[int, int], side: int) -> Region:
    """Return the region with one neuron on one side of its kink."""
    place, index = neuron
    ends = dict(region.low if side > 0 else region.high)
    end = ends[place].clone()
    flat = end.view(-1)
    flat[index] = flat[index].clamp(min=0) if side > 0 else flat[index].clamp(max=0)
    ends[place] = end
    low, high = (ends, region.high) if side > 0 else (region.low, ends)
    return Region(region.network, low, high, region.sizes)


__all__ = ["Cap", "Lines", "Problem", "decided", "drawn", "narrowed", "whole"]
