"""The passes of one attribution: what is seen at the probes of a batch.

Probes that put in values at the same cuts go through the model together. Panels are evaluated by
secants where the model takes them, else by the gradient at their middle, and a warning is logged.
Several quantities are asked of the same outputs, so that each costs a backward pass and no forward
pass.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache

import torch
from torch import Tensor

from conjoin.core.gradient import gradients
from conjoin.core.protocols import Batch, Parted, Probe, Secant, Seen, Sliceable
from conjoin.core.quantity import Question
from conjoin.core.returned import returned
from conjoin.core.rung import meets
from conjoin.core.slice import INPUT, Cut
from conjoin.errors import CapabilityError

Point = Mapping[Cut, Tensor]
_log = logging.getLogger(__name__)


class Passes:
    """The passes of one attribution.

    Args:
        who: What asks, for errors and warnings.
        quantities: What is explained, of the value at ``stop``.
        cuts: Where; of several quantities the gradients at all cuts follow one another.
    """

    def __init__(
        self,
        who: object,
        model: Sliceable,
        batch: Batch,
        *,
        quantities: Sequence[Question],
        cuts: tuple[Cut, ...],
        stop: Cut,
    ) -> None:
        self.who, self.model, self.batch = who, model, batch
        self.quantities, self.cuts, self.stop = quantities, cuts, stop
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
                    "%r takes gradients at the midpoints of its panels: %s", self.who, error
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
            *at, out = self.model.run(rows, put=put, take=(*self.cuts, self.stop))
            value, found = self._asked(out, rows.aim, tuple(at), keep=keep)
        if not keep:
            value, at = value.detach(), [a.detach() for a in at]
        at = at * len(self.quantities)
        return [
            Seen(v, a, g)
            for v, a, g in zip(
                value.chunk(count),
                zip(*(a.chunk(count) for a in at), strict=True),
                zip(*(g.chunk(count) for g in found), strict=True),
                strict=True,
            )
        ]

    def _asked(
        self, out: Tensor, aim: Tensor, at: tuple[Tensor, ...], *, keep: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Ask each quantity of the same outputs: values, a column each if several, and gradients."""
        values: list[Tensor] = []
        found: list[Tensor] = []
        for left, quantity in zip(range(len(self.quantities))[::-1], self.quantities, strict=True):
            told: object = quantity(out, aim)
            values.append(returned(quantity, told, (len(out),), out))
            found += gradients(values[-1], at, keep=keep, again=left > 0)
        return values[0] if len(values) == 1 else torch.stack(values, 1), tuple(found)

    def _parted(self) -> bool:
        """Tell whether nothing by-passes the cuts: secants ask what moves along the path there.

        Of a product with what by-passes a cut the derivative takes its value as it stands, the secant
        its mean between the two ends.
        """
        if self.parted is None:
            self.parted = INPUT in self.cuts or (
                meets(self.model, Parted) and self.model.parted(self.batch, self.cuts, self.stop)
            )
        return self.parted


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


__all__ = ["Passes"]
