"""The one estimator of gradient attributions.

    Σ_k w_k · ∇Q(g(z_k)) ⊙ v_k   over the probes of a distribution of interest.

It evaluates the quantity and its gradients at the cuts where the distribution asks, several probes
to a pass, and tells it what was seen. What differs between saliency, integrated gradients,
SmoothGrad, internal influence and conductance is the slice, the quantity and the distribution.
Memory does not depend on the number of probes.

Reference: leino2018, equation 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.core.gradient import gradients, need_floats, seen_at
from conjoin.core.naming import name_of
from conjoin.core.protocols import (
    Batch,
    Distribution,
    Estimate,
    Probe,
    Secant,
    Seen,
    Sliceable,
)
from conjoin.core.quantity import Question, logit
from conjoin.core.rung import meets
from conjoin.core.slice import INPUT, Cut, Slice
from conjoin.errors import CapabilityError

Point = Mapping[Cut, Tensor]


@dataclass(frozen=True, slots=True)
class Influence:
    """Average the gradient of a quantity over a distribution of interest.

    Attributes:
        distribution: The probes.
        quantity: What is explained, of the value at ``where.stop``.
        where: The slice; attributions are for the activation at ``where.start``.
        reference: Bibliography key of the paper that the preset implements.
    """

    needs: ClassVar[type] = Sliceable
    distribution: Distribution
    quantity: Question = logit
    where: Slice = field(default_factory=Slice)
    reference: str = "leino2018"

    def __repr__(self) -> str:
        """Show distribution, quantity and slice, the same in every process."""
        where = "" if self.where == Slice() else f", {self.where.start} to {self.where.stop}"
        return f"Influence({self.distribution!r}, {name_of(self.quantity)}{where})"

    def __call__(self, model: Sliceable, batch: Batch, /) -> Tensor:
        """Return the attribution, shaped like the activation at ``where.start``."""
        return self.at(model, batch, (self.where.start,)).values[0]

    def at(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Estimate:
        """Return the attributions at several cuts, from the same passes.

        Raises:
            CapabilityError: If no gradient reaches a cut, or inputs that are tokens are one.
        """
        if INPUT in cuts:
            need_floats(batch)
        asking = self.distribution(model, batch, cuts)
        secants = True
        try:
            probes = next(asking)
            while True:
                seen: list[Seen] | None = None
                if secants and any(probe.to is not None for probe in probes):
                    if meets(model, Secant):
                        seen = self._by_secants(model, batch, cuts, probes)
                    secants = seen is not None
                probes = asking.send(seen or self._by_gradients(model, batch, cuts, probes))
        except StopIteration as concluded:
            estimate: Estimate = concluded.value
            return estimate

    def ends(self, model: Sliceable, batch: Batch, /) -> tuple[Tensor, Tensor] | None:
        """Return Q at both ends of the path if the attribution must sum to their difference."""
        reached = self.distribution.ends(model, batch, (self.where.start,))
        if reached is None:
            return None
        start, end = (seen_at(model, self.quantity, batch, self.where, point) for point in reached)
        return start, end

    def _by_secants(
        self, model: Secant, batch: Batch, cuts: tuple[Cut, ...], probes: Sequence[Probe]
    ) -> list[Seen] | None:
        """Evaluate probes and panels; ``None`` if an operation of the model has no secant."""
        points, starts, ends = _layout(probes)
        partner = torch.arange(len(points), device=batch.x.device)
        for start, end in zip(starts, ends, strict=True):
            partner[start] = end
        count = len(batch)
        rows = partner[:, None] * count + torch.arange(count, device=partner.device)
        try:
            with model.secants(rows.flatten()):
                passed = self._pass(model, batch, cuts, points)
        except CapabilityError:
            return None
        return [
            Seen(
                passed[start].value,
                passed[start].at,
                passed[start].gradients,
                None if probe.to is None else (passed[end].value, passed[end].at),
            )
            for probe, start, end in zip(probes, starts, ends, strict=True)
        ]

    def _by_gradients(
        self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], probes: Sequence[Probe]
    ) -> list[Seen]:
        """Evaluate probes; a panel has the gradient at its middle in place of the secant."""
        points, starts, ends = _layout(probes)
        panels = [probe for probe in probes if probe.to is not None]
        passed = self._pass(model, batch, cuts, [*points, *map(_middle, panels)])
        middles = iter(passed[len(points) :])
        found = []
        for probe, start, end in zip(probes, starts, ends, strict=True):
            if probe.to is None:
                found.append(passed[start])
            else:
                reached = passed[end].value, passed[end].at
                here = passed[start]
                found.append(Seen(here.value, here.at, next(middles).gradients, reached))
        return found

    def _pass(
        self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], points: Sequence[Point]
    ) -> list[Seen]:
        """Evaluate points in one pass each way; in the graph of ``batch.x`` if that has one."""
        count, keep = len(points), batch.x.requires_grad
        rows = batch.repeated(count)
        with torch.enable_grad():
            put = dict(points[0])
            if count > 1:
                put = {cut: torch.cat([point[cut] for point in points]) for cut in put}
            if not keep:
                put = {
                    cut: value.detach().requires_grad_(value.is_floating_point())
                    for cut, value in put.items()
                }
            *at, out = model.run(rows, put=put, take=(*cuts, self.where.stop))
            value = self.quantity(out, rows.aim)
            found = gradients(value, tuple(at), keep=keep)
        if not keep:
            value, at = value.detach(), [a.detach() for a in at]
        return [
            Seen(v, a, g)
            for v, a, g in zip(
                value.chunk(count),
                zip(*(a.chunk(count) for a in at), strict=True),
                zip(*(g.chunk(count) for g in found), strict=True),
                strict=True,
            )
        ]


def _layout(probes: Sequence[Probe]) -> tuple[list[Point], list[int], list[int]]:
    """Place points, each once unless two panels start there; return where probes start and end."""
    points: list[Point] = []
    place: dict[int, int] = {}
    leaving: set[int] = set()
    starts, ends = [], []

    def placed(point: Point) -> int:
        if id(point) not in place:
            place[id(point)] = len(points)
            points.append(point)
        return place[id(point)]

    for probe in probes:
        start = placed(probe.put)
        if start in leaving:
            start = len(points)
            points.append(probe.put)
        leaving.add(start)
        starts.append(start)
        ends.append(start if probe.to is None else placed(probe.to))
    return points, starts, ends


def _middle(panel: Probe) -> Point:
    assert panel.to is not None  # noqa: S101 - panels only
    return {cut: (value + panel.to[cut]) / 2 for cut, value in panel.put.items()}
