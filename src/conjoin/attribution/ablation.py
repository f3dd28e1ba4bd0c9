"""Feature ablation: how far does a quantity fall when a group of elements is blanked?

    φ_G = Q(x) - Q(x with G at the baseline),   a_i = φ_G / |G|  for each i in G

Units of the quantity: the values of a group sum to its fall. The falls of all groups sum to
Q(x) - Q(baseline) only where groups do not act together, as in a linear model, so this is *not*
promised: what two groups do only together is in neither fall, or in both.

Reference: covert2021 (removing individual features).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attribution.perturbed import asked, blank_of, chunks, grouped, spelled
from conjoin.core.distribution import Reference, per_pass, zeros
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Question, logit
from conjoin.core.slice import Slice


@dataclass(frozen=True, slots=True, eq=False)
class FeatureAblation:
    """The fall of a quantity when a group is blanked; see :func:`feature_ablation`.

    Attributes:
        groups: The number of each element's group, ``(1, *input)``; ``None`` for every column of a
            table by itself, and else for the cells of a grid of 49, all channels together.
        baseline: What stands in place of a group.
        quantity: What falls.
    """

    needs: ClassVar[type] = Model
    where: ClassVar[Slice] = Slice()
    reference: ClassVar[str] = "covert2021"
    title: ClassVar[str] = "feature ablation"
    meaning: ClassVar[str] = "the fall of the output when a group of features is blanked"
    groups: Tensor | None = None
    baseline: Reference = zeros
    quantity: Question = logit

    def __repr__(self) -> str:
        """Show the parameters, the same in every process."""
        return spelled(self)

    def __call__(self, model: Model, batch: Batch, /) -> Tensor:
        """Return each group's fall, spread evenly over its elements.

        Raises:
            PlanError: If the groups do not fit the inputs.
        """
        x = batch.x
        ids, count = grouped(self.groups, x)
        blank = blank_of(self.baseline, model, batch)
        clean = asked(model, batch, self.quantity, x[None])[0]
        falls = []
        for chunk in chunks(count, per_pass(x)):
            numbers = torch.arange(chunk.start, chunk.stop, device=x.device)
            hidden = ids == numbers.reshape(-1, *[1] * ids.ndim)
            inputs = torch.where(hidden[:, None], blank, x)
            falls.append(clean - asked(model, batch, self.quantity, inputs))
        return spread(torch.cat(falls).T, ids)

    def ends(self, model: Model, batch: Batch, /) -> None:
        """Promise no completeness."""


def spread(shares: Tensor, ids: Tensor) -> Tensor:
    """Spread the shares of groups, ``(batch, groups)``, evenly over their elements."""
    size = ids.flatten().bincount(minlength=shares.shape[1])
    return (shares / size)[:, ids.flatten()].reshape(-1, *ids.shape)


def feature_ablation(
    groups: Tensor | None = None,
    *,
    baseline: Reference = zeros,
    quantity: Question = logit,
) -> FeatureAblation:
    """Blank one group of elements after another and record how far the quantity falls.

    By default a group is one column of a table, and else one cell of a grid of 49 (4 by 4 places of 28
    by 28), all channels together.

    Reference: covert2021.
    """
    return FeatureAblation(groups, baseline, quantity)


__all__ = ["FeatureAblation", "feature_ablation", "spread"]
