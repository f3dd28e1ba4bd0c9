"""Running Lipschitz constants of a network in training: norms, composed as the certifier does.

    ‖A‖ from power iteration on AᵀA,   K of the features: sums at joins, products on paths,
    K_ij = ‖V_i - V_j‖ K

with V the rows of the last affine maps. One iterate for each map and call is kept as a buffer; a few
steps a batch follow the weights, and ‖A v‖ is differentiable in them. Power iteration approaches the
norm **from below**: it steers training and is *never* a certificate
(:class:`~conjoin.certification.Lipschitz`).

Reference: leino2021, section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from conjoin.certification.head import features, tail
from conjoin.certification.norms import operator_norm
from conjoin.core.linear import Dense, flat
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
from conjoin.core.random import Streams
from conjoin.errors import CapabilityError, PlanError
from conjoin.training.graph import TrainingGraph, read_graph, weight_of, with_weight

TINY = 1e-30  # under a root: a root has no gradient at 0
BESIDE = 2**22  # numbers of differences of rows that are held at once


@runtime_checkable
class Norms(Protocol):
    """How the norms of live maps are found during training."""

    def prepare(self, graph: TrainingGraph, places: tuple[int, ...], /) -> nn.Module:
        """Return a module that gives the norm of each place, differentiable, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Power:
    """Power iteration, from below.

    Attributes:
        steps: Of each batch.
    """

    reference: ClassVar[str] = "leino2021"
    steps: int = 2

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise PlanError(f"power iteration takes at least one step a batch; got {self.steps}")

    def prepare(self, graph: TrainingGraph, places: tuple[int, ...], /) -> nn.Module:
        """Start the iterates."""
        return Iterates(graph, places, self.steps)


class Iterates(nn.Module):
    """One iterate for each live map, as a buffer."""

    def __init__(self, graph: TrainingGraph, places: tuple[int, ...], steps: int) -> None:
        super().__init__()
        self.graph, self.places, self.steps = graph, places, steps
        for place in places:
            live = graph.live[place]
            like = live.weight()
            rng = Streams.of(0, torch.tensor([place])).fold("iterate")
            self.register_buffer(f"v{place}", rng.normal(*live.op.map.source).to(like.detach()))

    def forward(self, steps: int | None = None) -> list[Tensor]:
        """Advance every iterate and return the estimates ‖A v‖."""
        norms = []
        for place in self.places:
            map = self.graph.live[place].map()
            still = with_weight(map, weight_of(map).detach())
            v = self.get_buffer(f"v{place}")
            for _ in range(self.steps if steps is None else steps):
                back = still.transposed(still(v)).detach()
                length = back.norm()
                v = torch.where(length > 0, back / length.clamp(min=TINY), v)
            self.get_buffer(f"v{place}").copy_(v)
            norms.append(map(v / v.norm().clamp(min=TINY)).norm())
        return norms


class RunningConstants(nn.Module):
    """The constants of each pair of classes, followed while the weights move."""

    def __init__(self, graph: TrainingGraph, norms: Norms) -> None:
        super().__init__()
        if not graph.live:
            raise CapabilityError("the network has no weights to train")
        self.graph = graph
        self.chain = tail(graph.steps)
        self.place = features(graph.steps, self.chain)
        self.inside = tuple(place for place in graph.live if place <= self.place)
        self.norms = norms.prepare(graph, self.inside)
        self.fixed = {
            place: operator_norm(step.op.map)
            for place, step in enumerate(graph.steps[: self.place + 1])
            if isinstance(step.op, Affine) and place not in graph.live
        }

    def forward(self) -> Tensor:
        """Return K_ij, ``(classes, classes)``, differentiable in the weights; 0 on the diagonal."""
        with torch.autocast(self._one.device.type, enabled=False):
            return _apart(self.rows()) * self.inner()

    @property
    def _one(self) -> Tensor:
        like = next(iter(self.graph.live.values())).weight()
        return like.new_ones(())

    def inner(self) -> Tensor:
        """Return the constant of the features."""
        norms: dict[int, float | Tensor] = dict(zip(self.inside, self.norms(), strict=True))
        norms |= self.fixed
        values: list[Tensor] = []
        for place, step in enumerate(self.graph.steps[: self.place + 1]):
            sources = [values[source] for source in step.sources]
            values.append(_constant(step, norms.get(place), sources, self._one))
        return values[self.place]

    def rows(self) -> Tensor:
        """Return the rows V of the last affine maps, ``(classes, features)``."""
        steps, live = self.graph.steps, self.graph.live
        maps = [place for place in self.chain if isinstance(steps[place].op, Affine)]
        if len(maps) == 1 and maps[0] == self.chain[-1] and maps[0] in live:
            map = live[maps[0]].map()
            if isinstance(map, Dense) and len(map.source) == 1:
                return map.weight
        classes, like = steps[-1].shape[0], next(iter(live.values())).weight()
        h = like.new_zeros(classes, *steps[self.place].shape).requires_grad_()
        out = h
        for place in self.chain:
            op = steps[place].op
            if isinstance(op, Affine):
                out = live[place].map()(out) if place in live else op.map(out)
            else:
                assert isinstance(op, Reshape)  # noqa: S101 - a tail has no other
                out = op(out)
        eye = torch.eye(classes, dtype=out.dtype, device=out.device)
        with torch.enable_grad():
            (rows,) = torch.autograd.grad(out, h, eye, create_graph=True)
        return flat(rows)

    @torch.no_grad()
    def settle(self, rounds: int = 200) -> None:
        """Let the iterates converge, as far as these steps lead."""
        for _ in range(rounds):
            self.norms()


def running_constants(
    network: nn.Module,
    example: Tensor,
    norms: Norms = Power(),
) -> RunningConstants:
    """Read a network's graph, and follow its constants from here on."""
    return RunningConstants(read_graph(network, example), norms)


def _constant(
    step: Step, norm: float | Tensor | None, sources: list[Tensor], one: Tensor
) -> Tensor:
    """Return the constant of a step from those of its sources, as the certifier's domain does."""
    op = step.op
    if isinstance(op, Given | Fixed):
        return one if isinstance(op, Given) else 0 * one
    if isinstance(op, Add | Concat):
        whole = torch.stack(sources)  # x + x counts twice
        return whole.sum() if isinstance(op, Add) else whole.square().sum().clamp(min=TINY).sqrt()
    return sources[0] * (_slope(step) if norm is None else norm)


def _slope(step: Step) -> float:
    """Return the constant of an operator of one source without weights.

    Raises:
        CapabilityError: If it has none.
    """
    op = step.op
    if isinstance(op, Elementwise):
        slope = max(abs(s) for s in op.slopes)
        if math.isfinite(slope):
            return slope
        raise CapabilityError(
            f"no Lipschitz constant is known for {step.name}: the slope of {op.name} has no bound"
        )
    if isinstance(op, MaxWindows):
        return math.sqrt(op.overlap)
    if isinstance(op, SortPairs | Sort | Reshape):
        return 1.0
    if isinstance(op, RootMeanSquare) and op.eps > 0:
        return 1 / math.sqrt(op.eps)
    raise CapabilityError(
        f"no Lipschitz constant is known for {step.name} ({op}); it is never assumed"
    )


def _apart(rows: Tensor) -> Tensor:
    """Return how far each row is from each other one; its gradient is 0 between equal rows."""
    classes = len(rows)
    if rows.numel() * classes <= BESIDE:
        square = (rows[:, None] - rows).square().sum(2)
    else:
        product = rows @ rows.mT
        own = product.diagonal()
        square = (own[:, None] + own - 2 * product).clamp(min=0)
    apart = square.clamp(min=TINY).sqrt()
    return apart * (1 - torch.eye(classes, dtype=apart.dtype, device=apart.device))


__all__ = ["Iterates", "Norms", "Power", "RunningConstants", "running_constants"]
