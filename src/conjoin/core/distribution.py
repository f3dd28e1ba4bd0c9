"""Distributions of interest: over which points a gradient is averaged, and what it is credited to.

A distribution is a generator: it yields probes, is told what was seen there, and concludes with an
estimate at each cut. With the one estimator of ``attribution.influence`` this gives saliency
(:class:`Point`), SmoothGrad (:class:`Gaussian`) and integrated gradients (:class:`Path`), at the
input or at any inner cuts. Since it sees what came of its probes, it may place the next ones by it.

Reference: leino2018, equation 1 (distributional influence).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from conjoin.core.naming import name_of
from conjoin.core.protocols import (
    Batch,
    Ends,
    Estimate,
    Model,
    Probe,
    Probes,
    Secant,
    Seen,
    Sliceable,
)
from conjoin.core.rung import meets
from conjoin.core.slice import INPUT, Cut
from conjoin.errors import PlanError

_log = logging.getLogger(__name__)

Reference = Callable[[Sliceable, Batch], Tensor]
# A row of a pass costs the less, the more there are: up to a few hundred, if they are few numbers each.
# Of photographs a pass of 32 costs twice as much a row as one of 8, and four times the memory.
ROWS, NUMBERS = (8, 512), 1 << 19
PANELS = 4  # of a pass, at least
DRAWN = 1 << 20  # numbers drawn at a time


def per_pass(*values: Tensor) -> int:
    """Return how many probes that put in such values, one row for each example, go into one pass."""
    fewest, most = ROWS
    rows = min(most, max(fewest, NUMBERS // sum(z[0].numel() for z in values)))
    return max(1, rows // len(values[0]))


def zeros(model: Model, batch: Batch) -> Tensor:
    """Take the all-zero input as baseline."""
    return torch.zeros_like(batch.x)


@dataclass(frozen=True, slots=True)
class Constant:
    """Take an input of one value as baseline, e.g. the mean grey."""

    value: float

    def __call__(self, model: Model, batch: Batch) -> Tensor:
        """Return inputs filled with the value."""
        return torch.full_like(batch.x, self.value)


@dataclass(frozen=True, slots=True)
class Row:
    """Take one row of a table as baseline of every example, e.g. the average applicant."""

    values: tuple[float, ...]

    def __call__(self, model: Model, batch: Batch) -> Tensor:
        """Return the row for each example.

        Raises:
            PlanError: If it has other columns than the inputs.
        """
        if tuple(batch.x.shape[1:]) != (len(self.values),):
            raise PlanError(
                f"a baseline of {len(self.values)} columns does not fit inputs of shape "
                f"{tuple(batch.x.shape[1:])}"
            )
        return batch.x.new_tensor(self.values).expand_as(batch.x).contiguous()


@dataclass(frozen=True, slots=True)
class Panels:
    """Equal panels between ``nodes`` nodes, each credited by its secant gradient.

    The backward pass of a panel replaces every elementwise derivative by its secant between the two
    ends; so the panel's share sums to the change of the quantity over it, to rounding, and is linear
    in the quantity. Costs 1 to 1.25 forward and backward passes a node. One panel alone is
    DeepLIFT-rescale. That the shares add up says nothing of their accuracy: compare budgets.
    Where an operation of the model has no secant, midpoints take their place, and a warning is logged.

    Reference: shrikumar2017, section 3.5 (rescale rule), taken between neighbouring nodes of a path.
    """

    nodes: int = 50

    def __post_init__(self) -> None:
        _at_least(self.nodes, 2)


@dataclass(frozen=True, slots=True)
class Trapezoid:
    """Equally spaced nodes with both ends, half weight at the ends; ``nodes`` gradients."""

    nodes: int = 50

    def __post_init__(self) -> None:
        _at_least(self.nodes, 2)


@dataclass(frozen=True, slots=True)
class Midpoint:
    """Equally spaced nodes in the middle of equal panels."""

    nodes: int = 50

    def __post_init__(self) -> None:
        _at_least(self.nodes, 1)


@dataclass(frozen=True, slots=True)
class GaussLegendre:
    """Gauss-Legendre nodes: for smooth networks; no better than equal weights for ReLU ones."""

    nodes: int = 50

    def __post_init__(self) -> None:
        _at_least(self.nodes, 1)


Quadrature = Panels | Trapezoid | Midpoint | GaussLegendre


def _at_least(nodes: int, least: int) -> None:
    if nodes < least:
        raise PlanError(f"this quadrature needs at least {least} nodes; got {nodes}")


class _Sum:
    """A running sum of contributions at each cut."""

    def __init__(self) -> None:
        self.totals: tuple[Tensor, ...] | None = None

    def add(self, shares: Sequence[Tensor], weight: float = 1.0) -> None:
        """Add weighted contributions, in place: on small networks memory is what costs."""
        if self.totals is None:
            self.totals = tuple(weight * share for share in shares)
        else:
            for total, share in zip(self.totals, shares, strict=True):
                total.add_(share, alpha=weight)

    def credit(
        self,
        gradients: Sequence[Tensor],
        start: Sequence[Tensor],
        stop: Sequence[Tensor],
        weight: float = 1.0,
    ) -> None:
        """Add the gradients times the displacements, weighted."""
        if self.totals is None:
            self.totals = tuple(torch.zeros_like(gradient) for gradient in gradients)
        for total, gradient, a, b in zip(self.totals, gradients, start, stop, strict=True):
            total.addcmul_(gradient, b - a, value=weight)

    def estimate(self) -> Estimate:
        """Conclude."""
        assert self.totals is not None, "a distribution yields at least one probe"  # noqa: S101
        return Estimate(self.totals)


@dataclass(frozen=True, slots=True)
class Point:
    """The example itself; the gradient is credited as it is, or times the activation."""

    times_input: bool = False

    def __call__(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Probes:
        """Yield one probe."""
        (seen,) = yield (Probe({INPUT: batch.x}),)
        if not self.times_input:
            return Estimate(seen.gradients)
        return Estimate(tuple(g * z for g, z in zip(seen.gradients, seen.at, strict=True)))

    def ends(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> None:
        """Promise no completeness."""


@dataclass(frozen=True, slots=True)
class Gaussian:
    """The activation plus Gaussian noise.

    At several cuts at once each has noise of its own, and the cuts after the first noisy one see
    that noise as well.

    Attributes:
        scale: Standard deviation as a share of each example's range (largest - smallest value).
        draws: Number of samples.
    """

    scale: float = 0.15
    draws: int = 32

    def __call__(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Probes:
        """Yield ``draws`` probes; draw k of an example is the same in every batch."""
        with torch.no_grad():
            still = model.run(batch, take=cuts)
        total, size = _Sum(), per_pass(*still)
        at_once = max(size, DRAWN // sum(z.numel() for z in still) // size * size)
        for drawn in _chunks(range(self.draws), at_once):
            noisy = list(zip(*self._drawn(batch, still, drawn), strict=True))
            for chunk in _chunks(range(len(drawn)), size):
                probes = [Probe(dict(zip(cuts, noisy[k], strict=True))) for k in chunk]
                for seen in (yield probes):
                    total.add(seen.gradients, 1 / self.draws)
        return total.estimate()

    def _drawn(
        self, batch: Batch, still: tuple[Tensor, ...], draws: range
    ) -> list[tuple[Tensor, ...]]:
        """Return the points of several draws, for each cut."""
        points = []
        for place, z in enumerate(still):
            flat = z.flatten(1)
            spread = (flat.amax(1) - flat.amin(1)) * self.scale
            rng = batch.rng.fold("noise").fold(place).each(draws)
            noise = rng.normal(*z.shape[1:], dtype=z.dtype).reshape(len(draws), *z.shape)
            points.append(z.addcmul(spread.reshape(-1, *[1] * (z.ndim - 1)), noise).unbind())
        return points

    def ends(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> None:
        """Promise no completeness."""


@dataclass(frozen=True, slots=True)
class Path:
    """The straight segment from a baseline input to the example.

    At an inner cut the path is the image of that segment, z(t) = h(b + t (x - b)), so that the
    attributions sum to Q(x) - Q(b) there as well (total conductance), if nothing by-passes the cut:
    what flows round it, e.g. through a skip connection, is missing from the sum.

    Reference: sundararajan2017, equation 1; dhamdhere2019, equation 2.
    """

    baseline: Reference = zeros
    quadrature: Quadrature = Panels()

    def __repr__(self) -> str:
        """Show baseline and quadrature, the same in every process."""
        return f"Path({name_of(self.baseline)}, {self.quadrature!r})"

    def __call__(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Probes:
        """Yield the probes in order from the baseline to the example."""
        start = self.baseline(model, batch)

        def at(t: float) -> Mapping[Cut, Tensor]:
            # Exact at both ends, so that the ends meet the driver's own evaluation.
            return {INPUT: batch.x if t == 1 else torch.lerp(start, batch.x, t)}

        rule = self.quadrature
        if isinstance(rule, Panels) and not meets(model, Secant):
            _log.warning("%r takes midpoints: the model takes no secants", self)
            rule = Midpoint(rule.nodes)
        if isinstance(rule, Panels):
            # Two passes evaluate the node they share twice, so a pass takes a few panels at least.
            return (yield from _panels(at, rule.nodes, max(PANELS, per_pass(batch.x) - 1)))
        if all(cut == INPUT for cut in cuts):  # a straight path: the displacement is one
            total = yield from _weighted(at, rule, per_pass(batch.x))
            return Estimate(tuple(gradient * (batch.x - start) for gradient in total))
        if isinstance(rule, Trapezoid):
            return (yield from _trapezoid(at, rule.nodes, per_pass(batch.x)))
        return (yield from self._cells(at, model, batch, cuts, rule))

    def _cells(
        self,
        at: Callable[[float], Mapping[Cut, Tensor]],
        model: Sliceable,
        batch: Batch,
        cuts: tuple[Cut, ...],
        rule: Midpoint | GaussLegendre,
    ) -> Probes:
        """Credit each cell's displacement, read at the cuts, with the gradient at its node."""
        edges, nodes = _edges_and_nodes(rule)
        total = _Sum()
        for chunk in _chunks(range(len(nodes)), per_pass(batch.x)):
            probes = [Probe(at(nodes[k])) for k in chunk]
            for k, seen in zip(chunk, (yield probes), strict=True):
                ends = [at(edges[k]), at(edges[k + 1])]
                with torch.no_grad():
                    left, right = (model.run(batch, put=end, take=cuts) for end in ends)
                total.credit(seen.gradients, left, right)
        return total.estimate()

    def ends(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Ends:
        """Promise that attributions sum to Q(x) - Q(baseline)."""
        return {INPUT: self.baseline(model, batch)}, {INPUT: batch.x}


def _panels(at: Callable[[float], Mapping[Cut, Tensor]], nodes: int, size: int) -> Probes:
    """Credit each panel's displacement with its secant gradient; neighbours share their node."""
    total, left = _Sum(), at(0.0)
    for chunk in _chunks(range(1, nodes), size):
        points = [left, *(at(k / (nodes - 1)) for k in chunk)]
        for seen in (yield [Probe(a, b) for a, b in pairwise(points)]):
            assert seen.end is not None  # noqa: S101 - panels were asked for
            total.credit(seen.gradients, seen.at, seen.end[1])
        left = points[-1]
    return total.estimate()


def _weighted(
    at: Callable[[float], Mapping[Cut, Tensor]],
    rule: Trapezoid | Midpoint | GaussLegendre,
    size: int,
) -> Generator[Sequence[Probe], Sequence[Seen], tuple[Tensor, ...]]:
    """Σ_k w_k g_k, the weights adding up to 1."""
    if isinstance(rule, Trapezoid):
        last = rule.nodes - 1
        nodes = [k / last for k in range(rule.nodes)]
        weights = [(0.5 if k in {0, last} else 1.0) / last for k in range(rule.nodes)]
    else:
        edges, nodes = _edges_and_nodes(rule)
        weights = [right - left for left, right in pairwise(edges)]
    total = _Sum()
    for chunk in _chunks(range(len(nodes)), size):
        for k, seen in zip(chunk, (yield [Probe(at(nodes[k])) for k in chunk]), strict=True):
            total.add(seen.gradients, weights[k])
    return total.estimate().values


def _trapezoid(at: Callable[[float], Mapping[Cut, Tensor]], nodes: int, size: int) -> Probes:
    """Σ_panels ½ (g_a + g_b) ⊙ (b - a)."""
    total, before = _Sum(), None
    for chunk in _chunks(range(nodes), size):
        for seen in (yield [Probe(at(k / (nodes - 1))) for k in chunk]):
            if before is not None:
                ends = zip(before.gradients, seen.gradients, strict=True)
                total.credit([a + b for a, b in ends], before.at, seen.at, 0.5)
            before = seen
    return total.estimate()


def _chunks(places: range, size: int) -> Iterator[range]:
    for first in range(0, len(places), size):
        yield places[first : first + size]


def _edges_and_nodes(rule: Midpoint | GaussLegendre) -> tuple[list[float], list[float]]:
    """Return the edges of the cells (their lengths are the weights) and the nodes in [0, 1]."""
    if isinstance(rule, Midpoint):
        n = rule.nodes
        return [k / n for k in range(n + 1)], [(k + 0.5) / n for k in range(n)]
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(rule.nodes)
    return [0.0, *(weights.cumsum() / 2).tolist()], ((nodes + 1) / 2).tolist()


__all__ = [
    "Constant",
    "GaussLegendre",
    "Gaussian",
    "Midpoint",
    "Panels",
    "Path",
    "Point",
    "Quadrature",
    "Reference",
    "Row",
    "Trapezoid",
    "per_pass",
    "zeros",
]
