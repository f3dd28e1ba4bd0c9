"""DeepLIFT by the rescale rule: one secant pass between a baseline and the example.

    φ = m ⊙ (z - z'),   m the backward pass in which every slope is (f(b) - f(a)) / (b - a)

taken between the activations a at the baseline and b at the example. The values sum to Q(x) - Q(x'),
which is looked at in the same pass: a sum that is broken is refused, and so is an operation that has no
secant, by name. It works on what a module computes, so functional and reused activations are right. It
is *not* the reveal-cancel rule, and not integrated gradients: it does not look between the two points.

Reference: shrikumar2017, sections 3.1 to 3.5.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.core.baseline import Reference, zeros
from conjoin.core.gradient import gradients, need_floats
from conjoin.core.naming import name_of
from conjoin.core.protocols import Batch, Promise, Secant, Sliceable
from conjoin.core.quantity import Question, logit
from conjoin.core.returned import returned
from conjoin.core.rung import meets
from conjoin.core.slice import INPUT, Slice
from conjoin.errors import CapabilityError


@dataclass(frozen=True, slots=True)
class DeepLift:
    """Credit the difference from a baseline by secants; see :func:`deeplift`."""

    needs: ClassVar[type] = Secant
    reference: ClassVar[str] = "shrikumar2017"
    title: ClassVar[str] = "DeepLIFT (rescale)"
    meaning: ClassVar[str] = "the difference from a baseline, carried back by secants"
    baseline: Reference = zeros
    quantity: Question = logit
    where: Slice = field(default_factory=Slice)

    def __repr__(self) -> str:
        """Show baseline, quantity and slice, the same in every process."""
        where = "" if self.where == Slice() else f", {self.where.start} to {self.where.stop}"
        return f"DeepLift({name_of(self.baseline)}, {name_of(self.quantity)}{where})"

    def __call__(self, model: Sliceable, batch: Batch, /) -> Tensor:
        """Return the values, shaped like the activation at ``where.start``.

        Raises:
            CapabilityError: If an operation has no secant, naming it, or the sum is not the change of
                the quantity; if inputs that are tokens are explained.
        """
        if not meets(model, Secant):
            raise CapabilityError(
                f"{self!r} needs a model that takes secants; wrap a torch.nn.Module with conjoin.wrap, "
                "or take integrated_gradients(quadrature=Midpoint())"
            )
        if self.where.start == INPUT:
            need_floats(batch)
        if batch.x.requires_grad:
            raise CapabilityError(
                f"{self!r} cannot be differentiated: the graph of a secant pass is one of secants. "
                "Attack integrated_gradients(), and score this one at what is found"
            )
        count = len(batch)
        try:
            with torch.enable_grad():
                slopes, at, value = self._passed(model, batch)
        except CapabilityError as error:
            raise CapabilityError(f"{self!r}: {error}") from error
        found = [g[:count] * (z[count:] - z[:count]) for g, z in zip(slopes, at, strict=True)]
        self._check(found[0], value[:count], value[count:])
        return found[-1].detach()

    def _passed(
        self, model: Secant, batch: Batch
    ) -> tuple[tuple[Tensor, ...], list[Tensor], Tensor]:
        """Return slopes and activations, at the input if it has any and at the cut, and the quantity.

        Each is of the baselines first, then of the examples; slopes of the baselines are secants.
        """
        count, x = len(batch), batch.x
        came: object = self.baseline(model, batch)
        both = torch.cat([returned(self.baseline, came, x.shape, x, dtype=x.dtype), x])
        both = both.detach().requires_grad_(x.is_floating_point())
        rows = batch.repeated(2)
        end = torch.arange(count, 2 * count, device=x.device)
        cuts = (INPUT, self.where.start) if x.is_floating_point() else (self.where.start,)
        with model.secants(end.repeat(2)):
            *at, out = model.run(rows, put={INPUT: both}, take=(*cuts, self.where.stop))
            told: object = self.quantity(out, rows.aim)
            value = returned(self.quantity, told, (2 * count,), out)
            return gradients(value, tuple(at)), at, value

    def _check(self, values: Tensor, before: Tensor, after: Tensor) -> None:
        """Refuse values at the input whose sum is another number than the change of the quantity."""
        flat, change = values.detach().flatten(1), (after - before).detach()
        size = flat.abs().sum(1) + before.detach().abs() + after.detach().abs()
        broken = ~((flat.sum(1) - change).abs() <= torch.finfo(flat.dtype).eps ** 0.5 * size)
        if bool(broken.any()):
            place = int(broken.nonzero()[0, 0])
            raise CapabilityError(
                f"{self!r}: the values of {int(broken.sum())} of {len(flat)} examples do not add up, "
                f"the first to {float(flat[place].sum()):g} where the quantity changes by "
                f"{float(change[place]):g}. The network computes something that a secant does not see "
                "(a custom autograd function, a mask of detached values, scripted code); "
                "integrated_gradients(quadrature=Midpoint()) applies to it"
            )

    def ends(self, model: Sliceable, batch: Batch, /) -> Promise:
        """Promise that the values sum to Q(x) - Q(baseline), if nothing by-passes the cut."""
        return Promise(self.quantity, {INPUT: self.baseline(model, batch)}, {INPUT: batch.x})


def deeplift(
    baseline: Reference = zeros,
    *,
    quantity: Question = logit,
    where: Slice = Slice(),  # noqa: B008 - frozen
) -> DeepLift:
    """Credit the difference from a baseline by the rescale rule; units of the quantity.

    The values sum to Q(x) - Q(baseline), to rounding; a sum that is broken is refused. At an inner cut
    what by-passes it is missing from the sum, and the driver returns the gap.

    Reference: shrikumar2017, section 3.5.1.
    """
    return DeepLift(baseline, quantity, where)
