"""Guided backpropagation and deconvnet: gradients whose way back through ReLU is another.

With g the gradient that arrives at max(z, 0):

    backpropagation  g · [z > 0]      deconvnet  max(g, 0)      guided  max(g, 0) · [z > 0]

Functional, in-place and reused ReLUs are followed, and those cut off from above (ReLU6) likewise; every
other operation keeps its derivative. A network without ReLU is refused: the result would be the
gradient. Both draw what excites the units on the way; they are *not* gradients of the quantity, do not
add up to it, and often depend little on the class.

Reference: zeiler2014, section 2.1; springenberg2015, section 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attribution.influence import Influence
from conjoin.core.distribution import Point
from conjoin.core.naming import name_of
from conjoin.core.protocols import NO_VALUES, Batch, Sliceable
from conjoin.core.quantity import Question, logit
from conjoin.core.slice import OUTPUT, Cut, Slice
from conjoin.errors import CapabilityError
from conjoin.models.rectifiers import Backward, Rewired


def deconvolved(active: Tensor, gradient: Tensor) -> Tensor:
    """Rectify the gradient, whatever the activation was."""
    return gradient.clamp(min=0)


def guided(active: Tensor, gradient: Tensor) -> Tensor:
    """Rectify the gradient where the unit was active."""
    return gradient.clamp(min=0) * active


@dataclass(frozen=True, slots=True)
class Rectified:
    """Take the gradient at the example, with another way back through ReLU.

    Attributes:
        rule: What passes back, :func:`guided` or :func:`deconvolved`.
        quantity: What is explained, of the value at ``where.stop``.
        where: The slice; values are shaped like the activation at ``where.start``.
        reference: Bibliography key of the paper.
        title, meaning: What it is called, and what it does in a clause.
    """

    needs: ClassVar[type] = Sliceable
    rule: Backward = guided
    quantity: Question = logit
    where: Slice = field(default_factory=Slice)
    reference: str = "springenberg2015"
    title: str = "guided backpropagation"
    meaning: str = "the gradient with its negative parts cut off at every active ReLU"

    def __repr__(self) -> str:
        """Show rule, quantity and slice, the same in every process."""
        where = "" if self.where == Slice() else f", {self.where.start} to {self.where.stop}"
        return f"Rectified({name_of(self.rule)}, {name_of(self.quantity)}{where})"

    def __call__(self, model: Sliceable, batch: Batch, /) -> Tensor:
        """Return the values, shaped like the activation at ``where.start``.

        Raises:
            CapabilityError: If no ReLU was met; if no gradient reaches the cut.
        """
        mode = Rewired(self.rule)
        values = Influence(Point(), self.quantity, self.where)(_Model(model, mode), batch)
        mode.active = False  # who differentiates the values means the derivatives of the network
        if not mode.count:
            raise CapabilityError(
                f"{self!r}: no ReLU was met on the way (those of custom autograd functions, scripted "
                "modules and other frameworks are not seen), so that the values would be the plain "
                "gradient; take saliency() or integrated_gradients()"
            )
        return values

    def ends(self, model: Sliceable, batch: Batch, /) -> None:
        """Promise no completeness."""


@dataclass(frozen=True, slots=True)
class _Model:
    """A model whose passes are rewired; the quantity's own operations are not."""

    model: Sliceable
    mode: Rewired

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    def __call__(self, batch: Batch, /) -> Tensor:
        """Pass through the model."""
        with self.mode:
            return self.model(batch)

    def run(
        self,
        batch: Batch,
        /,
        *,
        put: Mapping[Cut, Tensor] = NO_VALUES,
        take: tuple[Cut, ...] = (OUTPUT,),
    ) -> tuple[Tensor, ...]:
        """Pass through a part of the model."""
        with self.mode:
            return self.model.run(batch, put=put, take=take)


def guided_backpropagation(quantity: Question = logit, where: Slice = Slice()) -> Rectified:  # noqa: B008
    """Take the gradient with its negative parts cut off at every active ReLU.

    Reference: springenberg2015, section 3.4.
    """
    return Rectified(guided, quantity, where)


def deconvnet(quantity: Question = logit, where: Slice = Slice()) -> Rectified:  # noqa: B008
    """Take the gradient with its negative parts cut off at every ReLU, active or not.

    Reference: zeiler2014, section 2.1.
    """
    meaning = "the gradient with its negative parts cut off at every ReLU, active or not"
    return Rectified(deconvolved, quantity, where, "zeiler2014", "deconvnet", meaning)
