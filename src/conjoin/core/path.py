"""Paths as distributions of interest: from a baseline to the example, or to its image at a cut.

    Path        z(t) = h(b + t (x - b)), t in [0, 1]: integrated gradients; conductance at a cut
    Straight    z(t) = a + t (h(x) - a), at the cut itself: layer integrated gradients

Credited with the displacement, values sum to the change of the quantity between the ends; without it,
they are the mean gradient on the way (internal influence). They coincide at the input.

Reference: sundararajan2017, equation 1; dhamdhere2019, equation 2; leino2018, equation 1.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from conjoin.core.baseline import Reference, zeros
from conjoin.core.counted import check_numbers
from conjoin.core.naming import name_of
from conjoin.core.probing import Sum, chunks, per_pass
from conjoin.core.protocols import Batch, Ends, Estimate, Probe, Probes, Secant, Sliceable
from conjoin.core.quadrature import (
    GaussLegendre,
    Midpoint,
    Panels,
    Quadrature,
    Trapezoid,
    Weighed,
    density,
    edges_and_nodes,
    joint,
    panels,
    placed,
    trapezoid,
    weighted,
)
from conjoin.core.returned import returned
from conjoin.core.rung import meets
from conjoin.core.slice import INPUT, Cut
from conjoin.errors import CapabilityError

_log = logging.getLogger(__name__)
PANELS = 4  # of a pass, at least: two passes evaluate the node they share twice
DOUBLINGS = 5

Start = Callable[[Sliceable, Batch, tuple[Cut, ...]], tuple[Tensor, ...]]


@dataclass(frozen=True, slots=True)
class Path:
    """The straight segment from a baseline input to the example.

    At an inner cut the path is the image of that segment, z(t) = h(b + t (x - b)), so that the
    attributions sum to Q(x) - Q(b) there as well (total conductance), if nothing by-passes the cut:
    what flows round it, e.g. through a skip connection, is missing from the sum.

    Attributes:
        baseline: Where it starts.
        quadrature: How the integral is taken.
        displaced: Credit gradients with the displacement; else average them over the path.

    Reference: sundararajan2017, equation 1; dhamdhere2019, equation 2.
    """

    baseline: Reference = zeros
    quadrature: Quadrature = Panels()  # noqa: RUF009 - frozen
    displaced: bool = True

    def __repr__(self) -> str:
        """Show what it is made of, the same in every process."""
        mean = "" if self.displaced else ", displaced=False"
        return f"Path({name_of(self.baseline)}, {self.quadrature!r}{mean})"

    @property
    def points(self) -> int:
        """The points that share a pass at best."""
        return joint(self.quadrature)

    def __call__(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Probes:
        """Yield the probes in order from the baseline to the example."""
        if not batch.x.is_floating_point():
            raise CapabilityError(
                f"{self!r} leads through inputs between the baseline and the example; of "
                f"{batch.x.dtype} (tokens) there are none. Take the straight way at the embedding: "
                "layer_integrated_gradients('embedding')"
            )
        came: object = self.baseline(model, batch)
        start = returned(self.baseline, came, batch.x.shape, batch.x, dtype=batch.x.dtype)
        way = _Way(model, batch, cuts, {INPUT: start}, {INPUT: batch.x})
        found = yield from way.integral(self, self.quadrature, displaced=self.displaced)
        return replace(found, ends=way.ends if self.displaced else None)

    def ends(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Ends | None:
        """Promise that attributions sum to Q(x) - Q(baseline)."""
        if not self.displaced:
            return None
        return {INPUT: self.baseline(model, batch)}, {INPUT: batch.x}


@dataclass(frozen=True, slots=True)
class Image:
    """Start a straight path at the image of a baseline input: at the cuts, the activations there."""

    baseline: Reference = zeros

    def __repr__(self) -> str:
        """Show the baseline, the same in every process."""
        return f"Image({name_of(self.baseline)})"

    def __call__(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...]) -> tuple[Tensor, ...]:
        """Return the activations at the cuts."""
        with torch.no_grad():
            return model.run(batch.at(self.baseline(model, batch)), take=cuts)


@dataclass(frozen=True, slots=True)
class Filled:
    """Start a straight path at one value in every element of the cuts."""

    value: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(self)

    def __call__(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...]) -> tuple[Tensor, ...]:
        """Return the value, shaped like the activations at the cuts."""
        with torch.no_grad():
            return tuple(torch.full_like(z, self.value) for z in model.run(batch, take=cuts))


@dataclass(frozen=True, slots=True)
class Straight:
    """The straight segment at the cut itself, from its start to the activation of the example.

    Several cuts are moved together, so they must lie side by side, e.g. two inputs of a model; of cuts
    one behind the other the earlier would be written over. Values sum to the change of the quantity
    between the two ends, whatever by-passes the cuts standing still.

    Attributes:
        start: Where it starts, at each cut.
        quadrature: How the integral is taken.

    Reference: sundararajan2017, equation 1, with the activation for the input.
    """

    start: Start = Image()
    quadrature: Quadrature = Panels()  # noqa: RUF009 - frozen

    @property
    def points(self) -> int:
        """The points that share a pass at best."""
        return joint(self.quadrature)

    def __call__(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Probes:
        """Yield the probes in order from the start to the activation."""
        way = _Way(model, batch, cuts, *self.ends(model, batch, cuts))
        found = yield from way.integral(self, self.quadrature, displaced=True)
        return replace(found, ends=way.ends)

    def ends(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Ends:
        """Promise that attributions sum to the change of the quantity from the start."""
        with torch.no_grad():
            stop = model.run(batch, take=cuts)
        start = self.start(model, batch, cuts)
        return dict(zip(cuts, start, strict=True)), dict(zip(cuts, stop, strict=True))


@dataclass(frozen=True, slots=True)
class _Way:
    """A straight way between two points, and the integral of the gradients along it."""

    model: Sliceable
    batch: Batch
    cuts: tuple[Cut, ...]
    start: Mapping[Cut, Tensor]
    stop: Mapping[Cut, Tensor]

    def at(self, t: Tensor | float) -> Mapping[Cut, Tensor]:
        """Return the point at t; exact at both ends, so that they meet the driver's own evaluation."""
        return {cut: self._between(start, self.stop[cut], t) for cut, start in self.start.items()}

    def _between(self, start: Tensor, stop: Tensor, t: Tensor | float) -> Tensor:
        if isinstance(t, Tensor):
            t = t.to(start.dtype).reshape(-1, *[1] * (start.ndim - 1))
        return torch.lerp(start, stop, t)

    @property
    def ends(self) -> Ends:
        """Both ends."""
        return self.start, self.stop

    @property
    def size(self) -> int:
        """The probes of one pass."""
        return per_pass(*self.stop.values())

    def integral(self, asked: object, rule: Quadrature, *, displaced: bool) -> Probes:
        """Take it by a rule; ``asked`` is named in a warning."""
        if not isinstance(rule, Panels):
            return Estimate((yield from self._weighed(rule, displaced=displaced)))
        spread: Tensor | None = None
        if not meets(self.model, Secant):
            _log.warning("%r takes midpoints: the model takes no secants", asked)
            other: type[Midpoint | GaussLegendre] = Midpoint
        else:
            straight = not displaced or all(cut in self.start for cut in self.cuts)
            spread, other = self._spread(self.model, rule, straight=straight), GaussLegendre

        def taken(panels_: int) -> Weighed:
            if spread is None:
                return self._weighed(other(panels_ + 1), displaced=displaced)
            return panels(self.at, placed(spread, panels_ + 1), self.panels, displaced=displaced)

        if rule.tolerance is None:
            return Estimate((yield from taken(rule.nodes - 1)))
        return (yield from self._until(rule.tolerance, rule.nodes - 1, taken, asked))

    def _until(
        self, tolerance: float, least: int, taken: Callable[[int], Weighed], asked: object
    ) -> Probes:
        """Halve panels until half of them say the same of every example."""
        values = before = yield from taken(max(1, least // 2))
        error = torch.full_like(before[0].flatten(1)[:, 0], torch.inf)
        for doubling in range(int(least == 1), DOUBLINGS + 1):  # of one panel there is no half
            now = yield from taken(least * 2**doubling)
            unmet = (error > tolerance) | error.isinf()
            values, error = (
                _where(unmet, now, values),
                torch.where(unmet, _apart(now, before), error),
            )
            before = now
            if bool((error <= tolerance).all()):
                break
        else:
            _log.warning("%r: some examples do not meet the tolerance; see their errors", asked)
        return Estimate(values, error)

    @property
    def panels(self) -> int:
        """The panels of one pass."""
        return max(PANELS, self.size - 1)

    def _spread(self, model: Secant, rule: Panels, *, straight: bool) -> Tensor | None:
        """Return how to spread the nodes; ``None`` for a straight way through a smooth network."""
        if rule.placed and rule.nodes > 2:
            found = density(model, self.batch, self.at, rule.nodes, self.size)
            if found is not None or straight:  # cells of an image converge no faster than panels
                return found
        even = torch.tensor([0.0, 1.0], dtype=torch.float64, device=self.batch.x.device)
        return even[:, None].expand(2, len(self.batch))

    def _weighed(self, rule: Trapezoid | Midpoint | GaussLegendre, *, displaced: bool) -> Weighed:
        """Take it by a rule of gradients."""
        if not displaced:
            return (yield from weighted(self.at, rule, self.size))
        if all(cut in self.start for cut in self.cuts):  # a straight way: the displacement is one
            total = yield from weighted(self.at, rule, self.size)
            pairs = zip(self.cuts, total, strict=True)
            return tuple(g * (self.stop[c] - self.start[c]) for c, g in pairs)
        if isinstance(rule, Trapezoid):
            return (yield from trapezoid(self.at, rule.nodes, self.size))
        return (yield from self._by_cells(rule))

    def _by_cells(self, rule: Midpoint | GaussLegendre) -> Weighed:
        """Credit each cell's displacement, read at the cuts, with the gradient at its node."""
        edges, nodes = edges_and_nodes(rule)
        total = Sum()
        for chunk in chunks(range(len(nodes)), self.size):
            ends = [self.at(edges[k]) for k in (*chunk, chunk[-1] + 1)]
            put = {cut: torch.cat([end[cut] for end in ends]) for cut in ends[0]}
            with torch.no_grad():
                read = self.model.run(self.batch.repeated(len(ends)), put=put, take=self.cuts)
            seen = yield [Probe(self.at(nodes[k])) for k in chunk]
            parts = list(zip(*(z.chunk(len(ends)) for z in read), strict=True))
            for k, one in enumerate(seen):
                total.credit(one.gradients, parts[k], parts[k + 1])
        return total.estimate().values


def _apart(now: tuple[Tensor, ...], before: tuple[Tensor, ...]) -> Tensor:
    """Return the relative distance of two attributions per example, the largest over the cuts."""
    found = []
    for a, b in zip(now, before, strict=True):
        size, gap = a.flatten(1).norm(dim=1), (a - b).flatten(1).norm(dim=1)
        found.append(torch.where(gap > 0, gap / size, 0))
    return torch.stack(found).amax(0)


def _where(rows: Tensor, one: tuple[Tensor, ...], two: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    pairs = zip(one, two, strict=True)
    return tuple(torch.where(rows.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs)


__all__ = ["Filled", "Image", "Path", "Start", "Straight"]
