"""Axioms as scores: by how much does an explanation miss what its method promises?

Reference: sundararajan2017, section 3 (completeness).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from conjoin.core.naming import Better
from conjoin.core.postcondition import promised_change
from conjoin.core.protocols import Attributor, Batch, Model
from conjoin.errors import CapabilityError


@dataclass(frozen=True, slots=True)
class CompletenessGap:
    """``|Σ values - (Q(x) - Q(baseline))|`` over ``|Q(x) - Q(baseline)|``: >= 0, lower is better.

    With secant panels it is rounding at every budget, and so says nothing of accuracy; take the
    explanation of ``Trapezoid()`` to judge a number of nodes.
    """

    reference: ClassVar[str] = "sundararajan2017"
    title: ClassVar[str] = "completeness gap"
    meaning: ClassVar[str] = (
        "how far the values are from summing to the change of the output, as a share of it"
    )
    better: ClassVar[Better] = Better.LOWER

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the relative gap, per example.

        Raises:
            CapabilityError: If the method promises no completeness.
        """
        change = promised_change(model, batch, attributor)
        if change is None:
            raise CapabilityError(f"{attributor!r} promises no completeness; score another axiom")
        return (values.flatten(1).sum(1) - change).abs() / change.abs().clamp(min=1e-6)
