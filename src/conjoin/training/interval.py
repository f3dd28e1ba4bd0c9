"""Training on interval bounds (IBP): the cross-entropy of the worst logits that a box allows.

    (1 - κ) CE(z(x), y) + κ CE(ẑ, y),   ẑ_k = max over the box of z_k - z_y

The box goes through the same operators that certificates go through, with today's weights:
A (l, u) is A c ± ``|A|`` r with c, r its centre and half width. The last dense layer is folded into the
difference of the logits. Rounding is not covered: the certificate is
:class:`~conjoin.certification.Interval`, from the finished weights.

Reference: gowal2018, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from conjoin.core.ball import Linf
from conjoin.core.linear import Dense, Linear
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
from conjoin.core.protocols import Batch
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, PlanError
from conjoin.training.graph import Live, TrainingGraph, read_graph
from conjoin.training.objective import scaled
from conjoin.training.schedule import Curve
from conjoin.training.schedule import Linear as Line

Pair = tuple[Tensor, Tensor]
LATER = Line(0.0, 1.0, until=0.6)


@dataclass(frozen=True, slots=True)
class IBP:
    """Cross-entropy at x and at the worst logits of interval bounds.

    Attributes:
        threat: S(x), of the infinity norm.
        weight: κ in 0..1, over the training.
        ratio: What eps is multiplied with.
    """

    reference: ClassVar[str] = "gowal2018"
    threat: Threat
    weight: Curve = Line(0.0, 0.5, until=0.6)  # noqa: RUF009 - frozen
    ratio: Curve = LATER

    def __post_init__(self) -> None:
        if not isinstance(self.threat, Linf):
            raise PlanError(f"interval bounds are trained in the infinity norm; got {self.threat}")

    def prepare(self, network: nn.Module, example: Tensor, /) -> PreparedIBP:
        """Read the network's graph.

        Raises:
            CapabilityError: If a layer has no interval bound here.
        """
        graph = read_graph(network, example)
        for place, shift in graph.shifts.items():
            if shift is None:
                raise CapabilityError(
                    f"{graph.steps[place].name}: where its bias comes from is not known; give the "
                    "layer an attribute `bias`"
                )
        return PreparedIBP(self, graph)

    def __call__(self, network: nn.Module, batch: Batch, progress: float, /) -> Tensor:
        """Return the mean loss in nats; prepares first."""
        return self.prepare(network, batch.x[:1])(network, batch, progress)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedIBP:
    """Interval training of one network."""

    objective: IBP
    graph: TrainingGraph

    def __call__(self, network: nn.Module, batch: Batch, progress: float, /) -> Tensor:
        """Return the mean loss in nats."""
        objective, x = self.objective, batch.x
        given = scaled(objective.threat, objective.ratio(progress)).enclosure(x)
        clean = functional.cross_entropy(network(x, **batch.context), batch.aim)
        box = given.low.to(x.dtype), given.high.to(x.dtype)
        worst = functional.cross_entropy(worst_logits(self.graph, box, batch.aim), batch.aim)
        weight = objective.weight(progress)
        return (1 - weight) * clean + weight * worst


def worst_logits(graph: TrainingGraph, box: Pair, labels: Tensor) -> Tensor:
    """Return upper bounds of z_k - z_y over a box, ``(batch, classes)``; 0 at the label."""
    steps, last = graph.steps, len(graph.steps) - 1
    folded = graph.live.get(last)
    fold = folded is not None and isinstance(folded.op.map, Dense) and len(steps[last].shape) == 1
    values: list[Pair] = []
    for place, step in enumerate(steps[:last] if fold else steps):
        sources = [values[source] for source in step.sources]
        values.append(box if isinstance(step.op, Given) else _through(graph, place, step, sources))
    if not fold or folded is None:
        low, high = values[-1]
        own = functional.one_hot(labels, high.shape[1]).bool()
        return (high - low.gather(1, labels[:, None])).masked_fill(own, 0.0)
    weight = weight_now(folded)
    low, high = values[steps[last].sources[0]]
    middle, radius = (low + high) / 2, (high - low) / 2
    rows = weight - weight[labels][:, None]
    worst = torch.einsum("bkf,bf->bk", rows, middle) + torch.einsum(
        "bkf,bf->bk", rows.abs(), radius
    )
    bias = bias_now(graph, last)
    if bias is None:
        return worst
    return worst + bias - bias[labels][:, None]


def weight_now(live: Live) -> Tensor:
    """Return today's matrix of a dense map."""
    map = live.map()
    assert isinstance(map, Dense)  # noqa: S101 - it is folded only if it is one
    return map.weight


def bias_now(graph: TrainingGraph, place: int) -> Tensor | None:
    """Return today's bias of an affine map, in the precision of the weights."""
    shift, op = graph.shifts.get(place), graph.steps[place].op
    if shift is not None:
        return shift()
    assert isinstance(op, Affine)  # noqa: S101 - asked of no other
    like = next(iter(graph.live.values())).weight()
    return None if op.bias is None else op.bias.to(like.dtype)


def _through(graph: TrainingGraph, place: int, step: Step, sources: list[Pair]) -> Pair:
    """Carry a box through one operator.

    Raises:
        CapabilityError: If it has no rule here.
    """
    op = step.op
    if isinstance(op, Affine):
        live = graph.live.get(place)
        return _affine(op.map if live is None else live.map(), bias_now(graph, place), *sources[0])
    if isinstance(op, MaxWindows | SortPairs | Sort | Reshape):
        low, high = sources[0]
        return op(low), op(high)
    if isinstance(op, Elementwise) and not op.turns and not op.jump:
        low, high = sources[0]
        return op(low), op(high)
    if isinstance(op, Add):
        both = [
            (s, p) if sign > 0 else (-p, -s) for sign, (s, p) in zip(op.signs, sources, strict=True)
        ]
        return torch.stack([b[0] for b in both]).sum(0), torch.stack([b[1] for b in both]).sum(0)
    if isinstance(op, Concat):
        return op(*(s[0] for s in sources)), op(*(s[1] for s in sources))
    if isinstance(op, Fixed):
        like = next(iter(graph.live.values())).weight()
        return op.value.to(like.dtype), op.value.to(like.dtype)
    raise CapabilityError(f"no interval bound for training is known for {step.name} ({op})")


def _affine(map: Linear, bias: Tensor | None, low: Tensor, high: Tensor) -> Pair:
    middle, radius = (low + high) / 2, (high - low) / 2
    centre, away = map(middle), map.absolute()(radius)
    centre = centre if bias is None else centre + bias
    return centre - away, centre + away


__all__ = ["IBP", "PreparedIBP", "worst_logits"]
