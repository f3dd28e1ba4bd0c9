"""Infidelity: do the values predict what a perturbation does?

    E_I (Iᵀ a - (Q(x) - Q(x - I)))²

over random perturbations I, in squared units of the quantity. As the paper has it, a is a slope: the
values are multiplied by I itself. Values that are *shares* of a change from a baseline (integrated
gradients, DeepLIFT, Shapley values) are divided by the displacement first, I / (x - b); it is *not*
seen from the values which kind they are, so it must be said. A linear model's own weights score 0.

Reference: yeh2019 (explanation infidelity).
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
from conjoin.core.random import Streams
from conjoin.errors import CapabilityError, PlanError
from conjoin.metrics.ordering import features_of, mean_of, over_input


@dataclass(frozen=True, slots=True)
class Noise:
    """I is Gaussian noise.

    Attributes:
        scale: Its standard deviation as a share of each example's range.
    """

    scale: float = 0.2

    def __post_init__(self) -> None:
        check_numbers(self)
        if not 0 < self.scale < torch.inf:
            raise PlanError(f"the scale of noise must be > 0; got {self.scale!r}")

    def __call__(self, x: Tensor, blank: Tensor, rng: Streams, draws: range) -> Tensor:
        """Return perturbations, ``(draws, batch, *input)``."""
        flat = x.flatten(1)
        spread = (self.scale * (flat.amax(1) - flat.amin(1))).reshape(-1, *[1] * (x.ndim - 1))
        drawn = rng.each(draws).normal(*x.shape[1:], dtype=x.dtype)
        return spread * drawn.reshape(len(draws), *x.shape)


@dataclass(frozen=True, slots=True)
class Removal:
    """I takes random features to the baseline, the channels of a pixel together.

    Attributes:
        share: The probability that a feature is taken.
    """

    share: float = 0.2

    def __post_init__(self) -> None:
        check_numbers(self)
        if not 0 < self.share < 1:
            raise PlanError(f"share is a probability between 0 and 1; got {self.share}")

    def __call__(self, x: Tensor, blank: Tensor, rng: Streams, draws: range) -> Tensor:
        """Return perturbations, ``(draws, batch, *input)``."""
        count = x[0, 0].numel() if x.ndim == 4 else x[0].numel()
        taken = rng.each(draws).uniform(count) < self.share
        return over_input(taken.reshape(len(draws), len(x), count), x) * (x - blank)


@dataclass(frozen=True, slots=True)
class Infidelity:
    """Mean squared error of what the values predict: >= 0, **lower** is more faithful.

    Attributes:
        perturbation: What is drawn.
        draws: How often, of each example.
        shares: Whether the values are shares of a change from the baseline, and not slopes.
        scaled: Whether the values are multiplied by the factor that fits each example best, so that
            only their proportions are judged.
        baseline: That of the shares, and where a removal goes.
        quantity: What is predicted.
    """

    reference: ClassVar[str] = "yeh2019"
    title: ClassVar[str] = "infidelity"
    meaning: ClassVar[str] = "squared error of the values as predictions of random changes"
    better: ClassVar[Better] = Better.LOWER
    perturbation: Noise | Removal = Noise()
    draws: int = 64
    shares: bool = False
    scaled: bool = False
    baseline: Reference = zeros
    quantity: Question = logit

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.draws < 1:
            raise PlanError(f"infidelity needs one draw at least; got {self.draws}")

    def __repr__(self) -> str:
        """Show the parameters, the same in every process."""
        kind = f"{self.perturbation!r}, draws={self.draws}, shares={self.shares}"
        return (
            f"Infidelity({kind}, scaled={self.scaled}, {name_of(self.baseline)}, "
            f"{name_of(self.quantity)})"
        )

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the mean squared error over the draws, per example.

        Raises:
            CapabilityError: If the explanation is not of the input, or that holds tokens.
        """
        x = batch.x
        features_of(values, x)
        if not x.is_floating_point():
            raise CapabilityError(f"no perturbation can be taken off tokens ({x.dtype})")
        blank = blank_of(self.baseline, model, batch)
        slopes = _per_unit(values, x - blank) if self.shares else values
        clean = asked(model, batch, self.quantity, x[None])[0]
        predicted, seen = [], []
        for chunk in chunks(self.draws, per_pass(x)):
            change = self.perturbation(x, blank, batch.rng.fold("infidelity"), chunk)
            predicted.append((slopes * change).flatten(2).sum(2))
            seen.append(clean - asked(model, batch, self.quantity, x - change))
        u, v = torch.cat(predicted).double(), torch.cat(seen).double()
        if self.scaled:
            size = mean_of(u * u)
            u = u * torch.where(size > 0, mean_of(u * v) / size.clamp(min=1e-300), 0.0)
        return mean_of((u - v).square()).to(values.dtype)


def _per_unit(values: Tensor, displacement: Tensor) -> Tensor:
    """Divide shares by what they were multiplied by; 0 where that is nothing."""
    still = displacement == 0
    return torch.where(still, 0.0, values / torch.where(still, 1.0, displacement))


__all__ = ["Infidelity", "Noise", "Removal"]
