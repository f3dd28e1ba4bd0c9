"""Sensitivity-n: does the sum of the values of n features follow what their removal does?

    corr_S ( Σ_{i in S} a_i ,  Q(x) - Q(x with S at the baseline) )   over random S of n features

Pearson's correlation over the draws, so the values' scale and sign convention do not matter, but their
proportions do. For shares of a change (integrated gradients, Shapley values); a plain gradient is *not*
one, since it is not multiplied by what is removed.

Reference: ancona2018 (sensitivity-n).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attribution.perturbed import asked, blank_of, chunks
from conjoin.core.counted import check_numbers
from conjoin.core.distribution import Reference, per_pass, zeros
from conjoin.core.naming import Better, name_of
from conjoin.core.protocols import Attributor, Batch, Model
from conjoin.core.quantity import Question, logit
from conjoin.errors import PlanError
from conjoin.metrics.ordering import features_of, mean_of, over_input

ROUNDING = 1e-7  # relative, of sums and of passes


@dataclass(frozen=True, slots=True)
class SensitivityN:
    """Correlation of summed values with the fall: -1..1, **higher** is more faithful.

    0 where all sums, or all falls, are equal.

    Attributes:
        share: n, as a share of the features; sweep it, since methods differ at different n.
        draws: Subsets of each example.
        baseline: What stands in place of removed features.
        quantity: What falls.
    """

    reference: ClassVar[str] = "ancona2018"
    title: ClassVar[str] = "sensitivity-n"
    meaning: ClassVar[str] = "correlation of summed values with the fall when these are removed"
    better: ClassVar[Better] = Better.HIGHER
    between: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    share: float = 0.2
    draws: int = 100
    baseline: Reference = zeros
    quantity: Question = logit

    def __post_init__(self) -> None:
        check_numbers(self)
        if not 0 < self.share < 1 or self.draws < 2:
            raise PlanError(
                f"expected a share between 0 and 1 and two draws at least; got {self!r}"
            )

    def __repr__(self) -> str:
        """Show the parameters, the same in every process."""
        what = f"share={self.share}, draws={self.draws}, {name_of(self.baseline)}"
        return f"SensitivityN({what}, {name_of(self.quantity)})"

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the correlation over the draws, per example."""
        x, features = batch.x, features_of(values, batch.x)
        count = features.shape[1]
        n = min(max(1, round(self.share * count)), max(1, count - 1))
        blank = blank_of(self.baseline, model, batch)
        clean = asked(model, batch, self.quantity, x[None])[0]
        sums, falls = [], []
        for chunk in chunks(self.draws, per_pass(x)):
            drawn = batch.rng.fold("subset").each(chunk).uniform(count, dtype=torch.float64)
            first = drawn.argsort(dim=1)[:, :n]
            taken = torch.zeros_like(drawn, dtype=torch.bool).scatter(1, first, True)
            taken = taken.reshape(len(chunk), len(x), count)
            sums.append(torch.where(taken, features, 0.0).double().sum(2))
            inputs = torch.where(over_input(taken, x), blank, x)
            falls.append(clean - asked(model, batch, self.quantity, inputs))
        return correlation(torch.cat(sums), torch.cat(falls).double()).to(values.dtype)


def correlation(u: Tensor, v: Tensor) -> Tensor:
    """Correlate over the draws, ``(draws, batch)``; 0 where one side varies by rounding alone."""
    left, right = _centred(u), _centred(v)
    length = (mean_of(left * left) * mean_of(right * right)).sqrt()
    return torch.where(length > 0, mean_of(left * right) / length.clamp(min=1e-300), 0.0)


def _centred(u: Tensor) -> Tensor:
    away = u - mean_of(u)
    varies = mean_of(away * away) > ROUNDING**2 * mean_of(u * u)
    return torch.where(varies, away, 0.0)


__all__ = ["SensitivityN", "correlation"]
