"""The one estimator of gradient attributions.

    Σ_k w_k · ∇Q(g(z_k)) ⊙ v_k   over the probes (w, z, v) of a distribution at a cut,

with the panel correction of :class:`~conjoin.core.distribution.Trapezoid`. What differs between
saliency, integrated gradients, SmoothGrad, internal influence and conductance is the slice, the
quantity and the distribution. It streams: memory does not depend on the number of probes.

Reference: leino2018, equation 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from conjoin.core.naming import name_of
from conjoin.core.protocols import Batch, Distribution, Probe, Sliceable
from conjoin.core.quantity import Quantity, logit, value_and_gradient
from conjoin.core.slice import Slice

ROWS = 64  # a pass costs about the same up to here, so small batches carry several probes


@dataclass(frozen=True, slots=True)
class Influence:
    """Average the gradient of a quantity over a distribution of interest.

    Attributes:
        distribution: The probes.
        quantity: What is explained, of the value at ``where.stop``.
        where: The slice; attributions are for the activation at ``where.start``.
        reference: Bibliography key of the paper that the preset implements.
    """

    distribution: Distribution
    quantity: Quantity = logit
    where: Slice = field(default_factory=Slice)
    reference: str = "leino2018"

    def __repr__(self) -> str:
        """Show distribution, quantity and slice, the same in every process."""
        where = "" if self.where == Slice() else f", {self.where.start} to {self.where.stop}"
        return f"Influence({self.distribution!r}, {name_of(self.quantity)}{where})"

    def __call__(self, model: Sliceable, batch: Batch, /) -> Tensor:
        """Return the attribution, shaped like the activation at ``where.start``."""
        total: Tensor | None = None
        before: tuple[Tensor, Tensor] | None = None
        for probe, value, gradient in self._evaluated(model, batch):
            if total is None:
                total = torch.zeros_like(gradient)
            if probe.weight:
                share = gradient if probe.along is None else gradient * probe.along
                total += probe.weight * share
            if probe.panel is not None and before is not None:
                mean = (before[1] + gradient) / 2
                total += _corrected(mean * probe.panel, value - before[0], probe.panel)
            before = value, gradient
        assert total is not None, "a distribution yields at least one probe"  # noqa: S101
        return total

    def ends(self, model: Sliceable, batch: Batch, /) -> tuple[Tensor, Tensor] | None:
        """Return Q at both ends of the path if the attribution must sum to their difference."""
        reached = self.distribution.ends(model, batch, self.where.start)
        if reached is None:
            return None
        start, stop = (
            self.quantity(model.resume(z.detach(), batch.x, self.where), batch.y).detach()
            for z in reached
        )
        return start, stop

    def _evaluated(self, model: Sliceable, batch: Batch) -> Iterator[tuple[Probe, Tensor, Tensor]]:
        """Evaluate value and gradient at each probe, several probes to a pass."""
        size = max(1, ROWS // len(batch.y))
        waiting: list[Probe] = []
        for probe in self.distribution(model, batch, self.where.start):
            waiting.append(probe)
            if len(waiting) == size:
                yield from self._pass(model, batch, waiting)
                waiting = []
        if waiting:
            yield from self._pass(model, batch, waiting)

    def _pass(
        self, model: Sliceable, batch: Batch, probes: list[Probe]
    ) -> Iterator[tuple[Probe, Tensor, Tensor]]:
        count = len(probes)
        x = batch.x if count == 1 else batch.x.repeat(count, *[1] * (batch.x.ndim - 1))
        z = torch.cat([probe.at for probe in probes])
        value, gradient = value_and_gradient(
            lambda leaf: model.resume(leaf, x, self.where), self.quantity, z, batch.y.repeat(count)
        )
        yield from zip(probes, value.chunk(count), gradient.chunk(count), strict=True)


def _corrected(share: Tensor, change: Tensor, panel: Tensor) -> Tensor:
    """Shift a panel's share so that it sums to the true change, in proportion to its magnitude.

    Where the share is zero throughout (both gradients vanish), the displacement takes its place.
    """
    missing = change - share.flatten(1).sum(1)
    magnitude = share.abs()
    silent = magnitude.flatten(1).sum(1) == 0
    magnitude = torch.where(_column(silent, panel), panel.abs(), magnitude)
    total = magnitude.flatten(1).sum(1)
    factor = torch.where(total > 0, missing / total.clamp(min=torch.finfo(total.dtype).tiny), 0)
    return share + _column(factor, panel) * magnitude


def _column(value: Tensor, like: Tensor) -> Tensor:
    return value.reshape(-1, *[1] * (like.ndim - 1))
