"""Layer-wise relevance propagation: an output shared out backwards, layer by layer, to the input.

    R = z ⊙ ∇Q(z) at the outputs z;   then R_j = Σ_k share_jk · R_k,  operator by operator

The pass goes over the operators of the network, not over its classes: functional and reused layers,
skip connections and batch normalisation (folded into its neighbour) are what they compute. What leaks:
biases take their share, under the rules that count them and in sums with constants, and every ε takes
a little. Without biases, and with ε → 0, the values sum to Q(x), as far as each rule says that it keeps
the sum. It is *not* a gradient, except that the epsilon rule on a network of ReLUs without biases is
gradient × input.

Reference: bach2015, section 2.4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attribution.composites import Composite, epsilon_plus
from conjoin.attribution.folding import folded
from conjoin.attribution.propagation import propagated
from conjoin.core.gradient import gradients, need_floats
from conjoin.core.naming import name_of
from conjoin.core.operator import evaluate
from conjoin.core.protocols import Batch, Layered, Sliceable
from conjoin.core.quantity import Question, logit
from conjoin.core.returned import returned
from conjoin.core.rung import meets
from conjoin.core.slice import Slice
from conjoin.errors import CapabilityError
from conjoin.models.cuts import TILE, pad


@dataclass(frozen=True, slots=True)
class LayerwiseRelevance:
    """Share an output out to the input, layer by layer; see :func:`lrp`.

    Attributes:
        composite: The rules.
        quantity: What is shared out: an output, a sum of multiples of outputs, or one of several such.
        where: The whole network; relevance is handed from its output to its input.
    """

    needs: ClassVar[type] = Layered
    reference: ClassVar[str] = "bach2015"
    title: ClassVar[str] = "LRP"
    meaning: ClassVar[str] = "the output shared out backwards, layer by layer"
    composite: Composite = field(default_factory=epsilon_plus)
    quantity: Question = logit
    where: ClassVar[Slice] = Slice()

    def __repr__(self) -> str:
        """Show composite and quantity, the same in every process."""
        return f"LayerwiseRelevance({self.composite!r}, {name_of(self.quantity)})"

    def __call__(self, model: Sliceable, batch: Batch, /) -> Tensor:
        """Return the relevance of the input, computed in double precision.

        Raises:
            CapabilityError: If the operators of the network are not known, or one has no rule, naming
                it; if the quantity is no sum of outputs.
            DataError: If inputs lie outside the box of a z-box rule.
        """
        need_floats(batch)
        if not meets(model, Layered):
            raise CapabilityError(
                f"{self!r} needs the operators of the network; wrap a torch.nn.Module with "
                "conjoin.wrap"
            )
        steps = folded(model.steps(batch))
        count, keep = len(batch), batch.x.requires_grad
        with torch.set_grad_enabled(keep):
            # Padded as models pad, so that a value does not depend on its company.
            values = evaluate(steps, pad(batch.x.double(), -count % TILE))
            relevance = self._started(values[-1], pad(batch.aim, -count % TILE))
            found = propagated(steps, values, relevance, self.composite)[:count]
        return (found if keep else found.detach()).to(batch.x.dtype)

    def _started(self, outputs: Tensor, aim: Tensor) -> Tensor:
        """Return the relevance of the outputs, which sums to the quantity."""
        keep = outputs.requires_grad
        with torch.enable_grad():
            z = outputs if keep else outputs.detach().requires_grad_()
            told: object = self.quantity(z, aim)
            value = returned(self.quantity, told, (len(z),), z)
            (slope,) = gradients(value, (z,), keep=keep)
        relevance = outputs * slope
        gap, size = relevance.detach().sum(1) - value.detach(), relevance.detach().abs().sum(1)
        if bool((gap.abs() > 1e-5 * (size + value.detach().abs())).any()):
            raise CapabilityError(
                f"{self!r}: the quantity is no sum of outputs (outputs times slopes do not add up to "
                "it), so that there is no relevance to begin with; take logit, margin or Contrast(b)"
            )
        return relevance

    def ends(self, model: Sliceable, batch: Batch, /) -> None:
        """Promise no completeness: biases and stabilisers take a share."""


def lrp(
    composite: Composite = epsilon_plus(),  # noqa: B008 - frozen
    *,
    quantity: Question = logit,
) -> LayerwiseRelevance:
    """Share an output out to the input, layer by layer; units of the quantity.

    The rules stand in :mod:`conjoin.attribution.relevance`, presets of them in
    :mod:`conjoin.attribution.composites`. The operators of the network must be known: a network, or an
    operator, without a rule is refused by name. It explains the input alone; inner cuts have
    ``deeplift(where=...)`` and ``integrated_gradients(where=...)``.

    Reference: bach2015, section 2.4.
    """
    return LayerwiseRelevance(composite, quantity)


__all__ = ["LayerwiseRelevance", "lrp"]
