"""Rules by which a path integral of gradients is taken: as values, and the nodes that they set.

``Panels`` is the default. A panel between two nodes is credited by its secant gradient, so what is left
to err is how the slopes of different layers vary together within a panel; the nodes are therefore put
where the network's pieces change. Count, with forward passes alone, in what share of the pieces of each
layer (the sides of its kinks, the winners of its maxima) neighbouring points of an equal grid differ;
with d_j the root of the sum over layers in cell j, ::

    density ∝ 0.7 d_j / Σ d + 0.3 / cells,    nodes at equal shares of its integral.

The nodes do not look at the quantity, so that attributions stay linear in it. Where nothing changes
they are equally spaced.

Reference: shrikumar2017, section 3.5 (rescale rule), taken between neighbouring nodes of a path.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from conjoin.core.counted import check_numbers
from conjoin.core.probing import Sum, chunks
from conjoin.core.protocols import Batch, Probe, Secant, Seen
from conjoin.core.slice import Cut
from conjoin.errors import PlanError

UNIFORM = 0.3  # share of the nodes that is spread evenly


@dataclass(frozen=True, slots=True)
class Panels:
    """Panels between ``nodes`` nodes, each credited by its secant gradient.

    The backward pass of a panel replaces every elementwise derivative by its secant between the two
    ends; so the panel's share sums to the change of the quantity over it, to rounding, and is linear
    in the quantity. Costs a forward and a backward pass a node, and a forward pass a node to place it.
    One panel alone is DeepLIFT-rescale. That the shares add up says nothing of their accuracy: ask for
    an estimate. Where an operation of the model has no secant, midpoints take their
    place, and a warning is logged. Where no operation has pieces, the network being smooth,
    Gauss-Legendre nodes take their place on straight ways, where they converge faster: then values add
    up as far as they are accurate.

    Attributes:
        nodes: On the path, with both ends.
        placed: Look at the network first, and put the nodes where its pieces change; else they are
            equally spaced panels of any network.
        tolerance: Relative error, as estimated by half the panels, that every example must meet: until
            then the panels are halved, up to ``DOUBLINGS`` times. Any number, also infinity, asks for
            the estimate, which costs half as much again.

    Reference: shrikumar2017, section 3.5 (rescale rule), taken between neighbouring nodes of a path.
    """

    nodes: int = 50
    placed: bool = True
    tolerance: float | None = None

    def __post_init__(self) -> None:
        check_numbers(self)
        _at_least(self.nodes, 2)
        if self.tolerance is not None and not self.tolerance > 0:
            raise PlanError(f"a tolerance must be > 0; got {self.tolerance!r}")

    def __repr__(self) -> str:
        """Show the nodes, and what is not the default."""
        even = "" if self.placed else ", placed=False"
        until = "" if self.tolerance is None else f", tolerance={self.tolerance:g}"
        return f"Panels(nodes={self.nodes}{even}{until})"


@dataclass(frozen=True, slots=True)
class Trapezoid:
    """Equally spaced nodes with both ends, half weight at the ends; ``nodes`` gradients."""

    nodes: int = 50

    def __post_init__(self) -> None:
        check_numbers(self)
        _at_least(self.nodes, 2)


@dataclass(frozen=True, slots=True)
class Midpoint:
    """Equally spaced nodes in the middle of equal panels."""

    nodes: int = 50

    def __post_init__(self) -> None:
        check_numbers(self)
        _at_least(self.nodes, 1)


@dataclass(frozen=True, slots=True)
class GaussLegendre:
    """Gauss-Legendre nodes: for smooth networks; no better than equal weights for ReLU ones."""

    nodes: int = 50

    def __post_init__(self) -> None:
        check_numbers(self)
        _at_least(self.nodes, 1)


Quadrature = Panels | Trapezoid | Midpoint | GaussLegendre


def of_nodes(quadrature: Quadrature, nodes: int | None) -> Quadrature:
    """Return the rule with another number of nodes, if one is given."""
    return quadrature if nodes is None else replace(quadrature, nodes=nodes)


def joint(quadrature: Quadrature) -> int:
    """Return the points that share a pass at best: neighbouring panels share a node."""
    return quadrature.nodes + 1 if isinstance(quadrature, Panels) else 1


def _at_least(nodes: int, least: int) -> None:
    if nodes < least:
        raise PlanError(f"this quadrature needs at least {least} nodes; got {nodes}")


Points = Callable[[Tensor | float], Mapping[Cut, Tensor]]  # t, one for all or one each -> a point
Weighed = Generator[Sequence[Probe], Sequence[Seen], tuple[Tensor, ...]]


def edges_and_nodes(rule: Midpoint | GaussLegendre) -> tuple[list[float], list[float]]:
    """Return the edges of the cells (their lengths are the weights) and the nodes in [0, 1]."""
    if isinstance(rule, Midpoint):
        n = rule.nodes
        return [k / n for k in range(n + 1)], [(k + 0.5) / n for k in range(n)]
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(rule.nodes)
    return [0.0, *(weights.cumsum() / 2).tolist()], ((nodes + 1) / 2).tolist()


def weighted(at: Points, rule: Trapezoid | Midpoint | GaussLegendre, size: int) -> Weighed:
    """Σ_k w_k g_k, the weights adding up to 1."""
    if isinstance(rule, Trapezoid):
        last = rule.nodes - 1
        nodes = [k / last for k in range(rule.nodes)]
        weights = [(0.5 if k in {0, last} else 1.0) / last for k in range(rule.nodes)]
    else:
        edges, nodes = edges_and_nodes(rule)
        weights = [right - left for left, right in pairwise(edges)]
    total = Sum()
    for chunk in chunks(range(len(nodes)), size):
        for k, seen in zip(chunk, (yield [Probe(at(nodes[k])) for k in chunk]), strict=True):
            total.add(seen.gradients, weights[k])
    return total.estimate().values


def trapezoid(at: Points, nodes: int, size: int) -> Weighed:
    """Σ_panels ½ (g_a + g_b) ⊙ (b - a)."""
    total, before = Sum(), None
    for chunk in chunks(range(nodes), size):
        for seen in (yield [Probe(at(k / (nodes - 1))) for k in chunk]):
            if before is not None:
                ends = zip(before.gradients, seen.gradients, strict=True)
                total.credit([a + b for a, b in ends], before.at, seen.at, 0.5)
            before = seen
    return total.estimate().values


def panels(at: Points, mesh: Tensor, size: int, *, displaced: bool) -> Weighed:
    """Credit each panel of a mesh ``(nodes, batch)`` with its secant gradient.

    ``displaced``: times its displacement, else times its share of the path. Neighbours share a node.
    """
    total, left = Sum(), at(mesh[0])
    for chunk in chunks(range(1, len(mesh)), size):
        points = [left, *(at(mesh[k]) for k in chunk)]
        told = yield [Probe(a, b) for a, b in pairwise(points)]
        for k, seen in zip(chunk, told, strict=True):
            assert seen.end is not None  # noqa: S101 - panels were asked for
            if displaced:
                total.credit(seen.gradients, seen.at, seen.end[1])
            else:
                total.add(seen.gradients, mesh[k] - mesh[k - 1])
        left = points[-1]
    return total.estimate().values


def density(model: Secant, batch: Batch, at: Points, cells: int, size: int) -> Tensor | None:
    """Return how the nodes are to be spread: the integral of their density, ``(cells + 1, batch)``.

    ``None`` if the network is smooth: no operation has pieces.
    """
    blocks: list[Tensor] = []
    for chunk in chunks(range(cells), max(1, size - 1)):
        points = [at(k / cells) for k in (*chunk, chunk[-1] + 1)]
        put = {cut: torch.cat([point[cut] for point in points]) for cut in points[0]}
        blocks.append(model.switched(batch.repeated(len(points)), len(points), put=put))
        if bool(blocks[0].isnan().any()):
            return None
    spread = torch.cat(blocks).sqrt_()
    whole = spread.sum(0)
    even = torch.full_like(spread, 1 / cells)
    share = torch.where(whole > 0, (1 - UNIFORM) * spread / whole + UNIFORM * even, even)
    return torch.cat([torch.zeros_like(share[:1]), share.cumsum(0)])


def placed(integral: Tensor, nodes: int) -> Tensor:
    """Return nodes ``(nodes, batch)`` at equal shares of the integral of a density, from 0 to 1."""
    cells = len(integral) - 1
    upto = (integral / integral[-1]).T.contiguous()
    wanted = torch.linspace(0, 1, nodes, dtype=upto.dtype, device=upto.device)
    wanted = wanted.expand(len(upto), nodes).contiguous()
    cell = (torch.searchsorted(upto, wanted, right=True) - 1).clamp(0, cells - 1)
    low, high = upto.gather(1, cell), upto.gather(1, cell + 1)
    found = ((cell + (wanted - low) / (high - low)) / cells).clamp(0, 1)
    found[:, 0], found[:, -1] = 0, 1
    return found.T.contiguous()


__all__ = [
    "GaussLegendre",
    "Midpoint",
    "Panels",
    "Points",
    "Quadrature",
    "Trapezoid",
    "Weighed",
    "density",
    "edges_and_nodes",
    "joint",
    "of_nodes",
    "panels",
    "placed",
    "trapezoid",
    "weighted",
]
