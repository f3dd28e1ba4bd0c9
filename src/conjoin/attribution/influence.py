"""The one estimator of gradient attributions.

    Σ_k w_k · ∇Q(g(z_k)) ⊙ v_k   over the probes of a distribution of interest.

It evaluates the quantity and its gradients at the cuts where the distribution asks, several probes
to a pass, and tells it what was seen. What differs between saliency, integrated gradients,
SmoothGrad, internal influence and conductance is the slice, the quantity and the distribution.
Memory does not depend on the number of probes.

Reference: leino2018, equation 1.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attribution.passes import Passes
from conjoin.core.gradient import need_floats
from conjoin.core.naming import name_of
from conjoin.core.probing import rows_per_pass
from conjoin.core.protocols import (
    Batch,
    Distribution,
    Ends,
    Estimate,
    Joint,
    Probe,
    Promise,
    Sliceable,
)
from conjoin.core.quantity import Question, logit
from conjoin.core.returned import unlike
from conjoin.core.rung import meets
from conjoin.core.slice import INPUT, Cut, Slice
from conjoin.models.cuts import TILE


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
        """Return the attributions at several cuts, from the same passes."""
        return self._found(model, batch, cuts, (self.quantity,))

    def each(
        self, model: Sliceable, batch: Batch, quantities: Sequence[Question], /
    ) -> tuple[Estimate, ...]:
        """Return the attributions of several quantities at :attr:`cuts`, from the same passes.

        The distribution is asked once for all of them, so its points, and a mesh that it places or
        refines, are the same for each; so is the error, the largest of all.
        """
        whole, size = self._found(model, batch, self.cuts, tuple(quantities)), len(self.cuts)
        if len(whole.values) != size * len(quantities):
            expected = f"{len(quantities)} values for each of {size} cuts"
            raise unlike(self.distribution, whole, expected, "its end")
        return tuple(
            replace(whole, values=whole.values[k * size : (k + 1) * size])
            for k in range(len(quantities))
        )

    def asking(self, quantity: Question, /) -> Influence:
        """Return the same of another quantity."""
        return replace(self, quantity=quantity)

    def _found(
        self,
        model: Sliceable,
        batch: Batch,
        cuts: tuple[Cut, ...],
        quantities: tuple[Question, ...],
    ) -> Estimate:
        """Return the attributions at the cuts, those of each quantity after those before.

        Raises:
            CapabilityError: If no gradient reaches a cut, or inputs that are tokens are one.
            PostconditionError: If the distribution is none, or the quantity gives something else.
        """
        if INPUT in cuts:
            need_floats(batch)
        size = self._at_once(batch)
        parts = range(0, len(batch), size)
        if len(parts) <= 1:
            return self._of(model, batch, cuts, quantities)
        some = (batch.rows(slice(k, k + size)) for k in parts)
        return _joined([self._of(model, part, cuts, quantities) for part in some])

    def _at_once(self, batch: Batch) -> int:
        """Return how many examples have all of their points in one pass, in whole tiles."""
        if not meets(self.distribution, Joint) or self.distribution.points == 1:
            return len(batch)
        size = rows_per_pass(batch.x) // self.distribution.points
        return max(TILE, size // TILE * TILE)

    def _of(
        self,
        model: Sliceable,
        batch: Batch,
        cuts: tuple[Cut, ...],
        quantities: tuple[Question, ...],
    ) -> Estimate:
        asking: object = self.distribution(model, batch, cuts * len(quantities))
        if not isinstance(asking, Generator):
            raise unlike(self.distribution, asking, "a generator, a function that yields probes")
        seen_at = Passes(self, model, batch, quantities=quantities, cuts=cuts, stop=self.where.stop)
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
