"""Distributions of interest: over which points a gradient is averaged, and what it is credited to.

A distribution streams :class:`Probe` values at a cut. With the one estimator of
``attribution.influence`` this gives saliency (:class:`Point`), SmoothGrad (:class:`Gaussian`) and
integrated gradients (:class:`Path`), at the input or at any inner cut.

Reference: leino2018, equation 1 (distributional influence).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from conjoin.core.naming import name_of
from conjoin.core.protocols import Batch, Probe, Sliceable
from conjoin.core.slice import INPUT, Cut
from conjoin.errors import PlanError

Reference = Callable[[Sliceable, Batch], Tensor]


def zeros(model: Sliceable, batch: Batch) -> Tensor:
    """Take the all-zero input as baseline."""
    return torch.zeros_like(batch.x)


@dataclass(frozen=True, slots=True)
class Constant:
    """Take an input of one value as baseline, e.g. the mean grey."""

    value: float

    def __call__(self, model: Sliceable, batch: Batch) -> Tensor:
        """Return inputs filled with the value."""
        return torch.full_like(batch.x, self.value)


@dataclass(frozen=True, slots=True)
class Trapezoid:
    """Equally spaced nodes with both ends, corrected panel by panel.

    ``nodes`` gradients an example. With ``corrected`` (default) each panel's share is shifted, in
    proportion to its magnitude, so that it sums to the true change of the quantity over the panel,
    which is known at the nodes for free: the completeness gap is rounding at every budget. That
    gap therefore says nothing of accuracy; compare budgets, or look at the uncorrected rule's gap.
    """

    nodes: int = 50
    corrected: bool = True

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


Quadrature = Trapezoid | Midpoint | GaussLegendre


def _at_least(nodes: int, least: int) -> None:
    if nodes < least:
        raise PlanError(f"this quadrature needs at least {least} nodes; got {nodes}")


@dataclass(frozen=True, slots=True)
class Point:
    """The example itself; the gradient is credited as it is, or times the activation."""

    times_input: bool = False

    def __call__(self, model: Sliceable, batch: Batch, cut: Cut, /) -> Iterator[Probe]:
        """Yield one probe."""
        z = model.read(batch.x, cut)
        yield Probe(at=z, along=z if self.times_input else None)

    def ends(self, model: Sliceable, batch: Batch, cut: Cut, /) -> None:
        """Promise no completeness."""


@dataclass(frozen=True, slots=True)
class Gaussian:
    """The activation plus Gaussian noise.

    Attributes:
        scale: Standard deviation as a share of each example's range (largest - smallest value).
        draws: Number of samples.
    """

    scale: float = 0.15
    draws: int = 32

    def __call__(self, model: Sliceable, batch: Batch, cut: Cut, /) -> Iterator[Probe]:
        """Yield ``draws`` probes; draw k of an example is the same in every batch."""
        z = model.read(batch.x, cut)
        flat = z.flatten(1)
        spread = (flat.amax(1) - flat.amin(1)) * self.scale
        spread = spread.reshape(-1, *[1] * (z.ndim - 1))
        for draw in range(self.draws):
            noise = batch.rng.fold(draw).normal(*z.shape[1:], dtype=z.dtype)
            yield Probe(at=z + spread * noise, weight=1 / self.draws)

    def ends(self, model: Sliceable, batch: Batch, cut: Cut, /) -> None:
        """Promise no completeness."""


@dataclass(frozen=True, slots=True)
class Path:
    """The straight segment from a baseline input to the example.

    At an inner cut the path is the image of that segment, z(t) = h(b + t (x - b)), so that the
    attributions sum to Q(x) - Q(b) there as well (total conductance).

    Reference: sundararajan2017, equation 1; dhamdhere2019, equation 2.
    """

    baseline: Reference = zeros
    quadrature: Quadrature = Trapezoid()

    def __repr__(self) -> str:
        """Show baseline and quadrature, the same in every process."""
        return f"Path({name_of(self.baseline)}, {self.quadrature!r})"

    def __call__(self, model: Sliceable, batch: Batch, cut: Cut, /) -> Iterator[Probe]:
        """Yield the probes in order from the baseline to the example."""
        start = self.baseline(model, batch)

        def at(t: float) -> Tensor:
            # Exact at both ends, so that the ends meet the driver's own evaluation.
            z = batch.x if t == 1 else start + t * (batch.x - start)
            return model.read(z, cut)

        if isinstance(self.quadrature, Trapezoid):
            yield from self._panels(at, self.quadrature)
        else:
            yield from self._weighted(at, self.quadrature, linear=cut == INPUT)

    def _panels(self, at: Callable[[float], Tensor], rule: Trapezoid) -> Iterator[Probe]:
        last = rule.nodes - 1
        if rule.corrected:
            before = at(0.0)
            yield Probe(at=before, weight=0.0)
            for k in range(1, rule.nodes):
                z = at(k / last)
                yield Probe(at=z, weight=0.0, panel=z - before)
                before = z
            return
        # Σ_panels ½ (g_a + g_b) ⊙ (b - a), regrouped by node: g_k ⊙ ½ (z_{k+1} - z_{k-1}).
        before = here = at(0.0)
        for k in range(rule.nodes):
            after = at((k + 1) / last) if k < last else here
            yield Probe(at=here, weight=0.5, along=after - before)
            before, here = here, after

    def _weighted(
        self, at: Callable[[float], Tensor], rule: Midpoint | GaussLegendre, *, linear: bool
    ) -> Iterator[Probe]:
        edges, nodes = _cells(rule)
        whole = at(1.0) - at(0.0) if linear else None
        for (left, right), node in zip(pairwise(edges), nodes, strict=True):
            # Along a straight path a cell's displacement is a share of the whole; elsewhere read.
            if whole is not None:
                yield Probe(at=at(node), weight=right - left, along=whole)
            else:
                yield Probe(at=at(node), along=at(right) - at(left))

    def ends(self, model: Sliceable, batch: Batch, cut: Cut, /) -> tuple[Tensor, Tensor]:
        """Promise that attributions sum to Q(x) - Q(baseline)."""
        return model.read(self.baseline(model, batch), cut), model.read(batch.x, cut)


def _cells(rule: Midpoint | GaussLegendre) -> tuple[list[float], list[float]]:
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
    "Path",
    "Point",
    "Quadrature",
    "Reference",
    "Trapezoid",
    "zeros",
]
