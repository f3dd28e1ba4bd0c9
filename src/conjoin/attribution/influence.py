"""The one estimator of gradient attributions.

    Σ_k w_k · ∇Q(g(z_k)) ⊙ v_k   over the probes of a distribution of interest.

It evaluates the quantity and its gradients at the cuts where the distribution asks, several probes
to a pass, and tells it what was seen. What differs between saliency, integrated gradients,
SmoothGrad, internal influence and conductance is the slice, the quantity and the distribution.
Memory does not depend on the number of probes.

Reference: leino2018, equation 1.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.core.gradient import gradients, need_floats
from conjoin.core.naming import name_of
from conjoin.core.probing import rows_per_pass
from conjoin.core.protocols import (
    Batch,
    Distribution,
    Ends,
    Estimate,
    Joint,
    Parted,
    Probe,
    Promise,
    Secant,
    Seen,
    Sliceable,
)
from conjoin.core.quantity import Question, logit
from conjoin.core.returned import returned, unlike
from conjoin.core.rung import meets
from conjoin.core.slice import INPUT, Cut, Slice
from conjoin.errors import CapabilityError
from conjoin.models.cuts import TILE

Point = Mapping[Cut, Tensor]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Influence:
    """Average the gradient of a quantity over a distribution of interest.

    Attributes:
        distribution: The probes.
        quantity: What is explained, of the value at ``where.stop``.
        where: The slice; attributions are for the activation at ``where.start``.
        reference: Bibliography key of the paper that the preset implements.
        title, meaning: What the preset is called, and what it does in a clause.
        also: Further cuts that are explained from the same passes.
    """

    needs: ClassVar[type] = Sliceable
    distribution: Distribution
    quantity: Question = logit
    where: Slice = field(default_factory=Slice)
    reference: str = "leino2018"
    title: str = "influence"
    meaning: str = "the gradient, averaged over a distribution of points"
    also: tuple[Cut, ...] = ()

    def __repr__(self) -> str:
        """Show distribution, quantity and slice, the same in every process."""
        starts = ", ".join(map(str, self.cuts))
        plain = self.where == Slice() and not self.also
        where = "" if plain else f", {starts} to {self.where.stop}"
        return f"Influence({self.distribution!r}, {name_of(self.quantity)}{where})"

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """The cuts that are explained, that of :attr:`where` first."""
        return self.where.start, *self.also

    def __call__(self, model: Sliceable, batch: Batch, /) -> Tensor:
        """Return the attribution, shaped like the activation at ``where.start``."""
        return self.at(model, batch, (self.where.start,)).values[0]

    def estimate(self, model: Sliceable, batch: Batch, /) -> Estimate:
        """Return the attributions at :attr:`cuts`, from the same passes."""
        return self.at(model, batch, self.cuts)

    def at(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Estimate:
        """Return the attributions at several cuts, from the same passes.

        Raises:
            CapabilityError: If no gradient reaches a cut, or inputs that are tokens are one.
            PostconditionError: If the distribution is none, or the quantity gives something else.
        """
        if INPUT in cuts:
            need_floats(batch)
        size = self._at_once(batch)
        parts = range(0, len(batch), size)
        if len(parts) == 1:
            return self._of(model, batch, cuts)
        return _joined([self._of(model, batch.rows(slice(k, k + size)), cuts) for k in parts])

    def _at_once(self, batch: Batch) -> int:
        """Return how many examples have all of their points in one pass, in whole tiles."""
        if not meets(self.distribution, Joint) or self.distribution.points == 1:
            return len(batch)
        size = rows_per_pass(batch.x) // self.distribution.points
        return max(TILE, size // TILE * TILE)

    def _of(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...]) -> Estimate:
        asking: object = self.distribution(model, batch, cuts)
        if not isinstance(asking, Generator):
            raise unlike(self.distribution, asking, "a generator, a function that yields probes")
        seen_at = _Passes(self, model, batch, cuts)
        try:
            probes = next(asking)
            while True:
                probes = asking.send(seen_at(self._probes(probes)))
        except StopIteration as concluded:
            if not isinstance(concluded.value, Estimate):
                raise unlike(self.distribution, concluded.value, "an Estimate", "its end") from None
            return concluded.value

    def _probes(self, came: object) -> Sequence[Probe]:
        if (
            not isinstance(came, Sequence)
            or not came
            or any(not isinstance(p, Probe) for p in came)
        ):
            raise unlike(self.distribution, came, "probes, some at a time", "what it yields")
        return came

    def ends(self, model: Sliceable, batch: Batch, /) -> Promise | None:
        """Return the ends of the path if the attribution must sum to the change between them."""
        reached = self.distribution.ends(model, batch, (self.where.start,))
        return None if reached is None else self.promise(reached)

    def promise(self, ends: Ends, /) -> Promise:
        """Promise that the values sum to the change of the quantity between two ends."""
        return Promise(self.quantity, *ends)


class _Passes:
    """The passes of one attribution: what is seen at probes of a batch."""

    def __init__(
        self, asks: Influence, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...]
    ) -> None:
        self.asks, self.model, self.batch, self.cuts = asks, model, batch, cuts
        self.repeated = cache(batch.repeated)  # most passes are of one size
        self.secants = not batch.x.requires_grad  # derivatives of secants are no secants
        self.parted: bool | None = None

    def __call__(self, probes: Sequence[Probe]) -> list[Seen]:
        """Evaluate probes; those that put in values at the same cuts in one pass."""
        alike: dict[tuple[Cut, ...], list[int]] = {}
        for place, probe in enumerate(probes):
            alike.setdefault(tuple(probe.put), []).append(place)
        if len(alike) == 1:
            return self._alike(probes)
        found: dict[int, Seen] = {}
        for places in alike.values():
            found.update(zip(places, self._alike([probes[k] for k in places]), strict=True))
        return [found[place] for place in range(len(probes))]

    def _alike(self, probes: Sequence[Probe]) -> list[Seen]:
        """Evaluate probes; panels without secants from the first operation on that has none."""
        if self.secants and any(probe.to is not None for probe in probes):
            try:
                return self._by_secants(probes)
            except CapabilityError as error:
                self.secants = False
                _log.warning(
                    "%r takes gradients at the midpoints of its panels: %s", self.asks, error
                )
        return self._by_gradients(probes)

    def _by_secants(self, probes: Sequence[Probe]) -> list[Seen]:
        """Evaluate probes and panels.

        Raises:
            CapabilityError: If the model or one of its operations has no secant.
        """
        if not meets(self.model, Secant):
            raise CapabilityError("the model takes no secants")
        points, starts, ends = _layout(probes)
        count, device = len(self.batch), self.batch.x.device
        partner = torch.arange(len(points) * count, device=device).reshape(-1, count)
        partner[starts] = partner[ends]
        with self.model.secants(partner.flatten()):
            passed = self._pass(points, whole=not self._parted())
        return [
            Seen(
                passed[start].value,
                passed[start].at,
                passed[start].gradients,
                None if probe.to is None else (passed[end].value, passed[end].at),
            )
            for probe, start, end in zip(probes, starts, ends, strict=True)
        ]

    def _by_gradients(self, probes: Sequence[Probe]) -> list[Seen]:
        """Evaluate probes; a panel has the gradient at its middle in place of the secant."""
        points, starts, ends = _layout(probes)
        panels = [probe for probe in probes if probe.to is not None]
        passed = self._pass([*points, *map(_middle, panels)])
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

    def _pass(self, points: Sequence[Point], *, whole: bool = False) -> list[Seen]:
        """Evaluate points in one pass each way; in the graph of ``batch.x`` if that has one.

        ``whole``: what lies in front of the cuts is in the graph, too.
        """
        count, keep = len(points), self.batch.x.requires_grad
        rows = self.repeated(count)
        with torch.enable_grad():
            put = dict(points[0])
            if count > 1:
                put = {cut: torch.cat([point[cut] for point in points]) for cut in put}
            if not keep:
                put = {
                    cut: value.detach().requires_grad_(
                        value.is_floating_point() and (whole or cut in self.cuts)
                    )
                    for cut, value in put.items()
                }
            *at, out = self.model.run(rows, put=put, take=(*self.cuts, self.asks.where.stop))
            told: object = self.asks.quantity(out, rows.aim)
            value = returned(self.asks.quantity, told, (len(out),), out)
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

    def _parted(self) -> bool:
        """Tell whether nothing by-passes the cuts: secants ask what moves along the path there.

        Of a product with what by-passes a cut the derivative takes its value as it stands, the secant
        its mean between the two ends.
        """
        if self.parted is None:
            ends = self.cuts, self.asks.where.stop
            self.parted = INPUT in self.cuts or (
                meets(self.model, Parted) and self.model.parted(self.batch, *ends)
            )
        return self.parted


def _joined(parts: Sequence[Estimate]) -> Estimate:
    """Return what was estimated of some examples each as one."""
    values = tuple(map(torch.cat, zip(*(part.values for part in parts), strict=True)))
    errors = [part.error for part in parts if part.error is not None]
    reached = [part.ends for part in parts if part.ends is not None]
    if not reached:
        return Estimate(values, torch.cat(errors) if errors else None)
    start, stop = (
        {cut: torch.cat([end[cut] for end in ends]) for cut in ends[0]}
        for ends in zip(*reached, strict=True)
    )
    return Estimate(values, torch.cat(errors) if errors else None, (start, stop))


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
