"""Sanity: does an explanation notice that the weights are gone, or that another class is asked for?

The map is compared with that of the same network with weights drawn anew, or of another class at the
same input. One that stays shows the input, as an edge detector does, and not the model. A score that
passes is *not* a proof: random maps pass, too. Needs no labels and no baseline.

Reference: adebayo2018 (randomised weights); hedstrom2024 (the rise of complexity); sixt2020
(another class).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
from torch import Tensor

from conjoin.core.counted import check_numbers
from conjoin.core.naming import Better
from conjoin.core.protocols import Attributor, Batch, Model, Sliceable
from conjoin.errors import CapabilityError, PlanError
from conjoin.metrics.complexity import entropy
from conjoin.metrics.ordering import by_feature
from conjoin.metrics.stability import spearman
from conjoin.models.redrawn import redrawn


@dataclass(frozen=True, slots=True)
class ModelRandomisation:
    """Rank correlation with the map of drawn weights (MPRT): -1..1, **lower** is more sensible.

    All layers at once, by default: one explanation, instead of one a layer. The cascade of the paper is
    ``layers`` = 1, 2, ..., from the top; its independent test has ``only`` besides.

    Attributes:
        layers: How many, from the top; ``None`` for all.
        only: Draw the lowest of these alone.
        magnitudes: Compare without sign.
        seed: Of the weights, which are one network's and not an example's.
    """

    reference: ClassVar[str] = "adebayo2018"
    title: ClassVar[str] = "model parameter randomisation"
    meaning: ClassVar[str] = "rank correlation with the map of a network of random weights"
    better: ClassVar[Better] = Better.LOWER
    between: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    layers: int | None = None
    only: bool = False
    magnitudes: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(self)

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the correlation, per example.

        Raises:
            CapabilityError: If the model is no ``torch.nn.Module``.
            PlanError: If it has fewer layers.
        """
        other = _explained_anew(model, batch, attributor, self.seed, self.layers, self.only)
        if self.magnitudes:
            return spearman(values.abs(), other.abs())
        return spearman(values, other)


@dataclass(frozen=True, slots=True)
class ComplexityRise:
    """Relative rise of the map's entropy as all weights are drawn (eMPRT): >= -1, **higher** is better.

    The entropy is that of a histogram of the values; 0 for a constant map. A map of a trained network
    is more ordered than one of a random network, if it shows what was learnt.

    Attributes:
        bins: Of the histogram, between the smallest and the largest value.
        seed: Of the weights.
    """

    reference: ClassVar[str] = "hedstrom2024"
    title: ClassVar[str] = "rise of complexity"
    meaning: ClassVar[str] = "relative rise of the map's entropy under random weights"
    better: ClassVar[Better] = Better.HIGHER
    bins: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.bins < 2:
            raise PlanError(f"a histogram needs two bins at least; got {self.bins}")

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the rise, per example.

        Raises:
            CapabilityError: If the model is no ``torch.nn.Module``.
        """
        other = _explained_anew(model, batch, attributor, self.seed, None, False)
        before, after = (histogram_entropy(v, self.bins) for v in (values, other))
        rise = (after - before) / before.clamp(min=1e-300)
        return torch.where(before > 0, rise, 0.0).to(values.dtype)


@dataclass(frozen=True, slots=True)
class RandomLogit:
    """Rank correlation with the map of another class, drawn: -1..1, **lower** is more sensible."""

    reference: ClassVar[str] = "sixt2020"
    title: ClassVar[str] = "random logit"
    meaning: ClassVar[str] = "rank correlation with the map of another, random class"
    better: ClassVar[Better] = Better.LOWER
    between: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the correlation, per example.

        Raises:
            CapabilityError: If what is explained is no single class of each example.
        """
        if batch.aim.ndim != 1:
            raise CapabilityError(
                f"another class is one class of each example; the aim has {tuple(batch.aim.shape)}. "
                "Explain by a target that is one class, e.g. predicted"
            )
        with torch.no_grad():
            classes = model(batch).shape[1]
        drawn = batch.rng.fold("logit").uniform(1, dtype=torch.float64)[:, 0]
        aim = (batch.aim + 1 + (drawn * (classes - 1)).long()) % classes
        other = attributor(cast(Sliceable, model), replace(batch, aim=aim))
        return spearman(values, other)


def _explained_anew(
    model: Model, batch: Batch, attributor: Attributor, seed: int, top: int | None, only: bool
) -> Tensor:
    """Explain what a network with drawn weights says of the same classes."""
    made, counted = redrawn(model, seed, top, only=only)
    with made.held():
        return attributor(cast(Sliceable, counted), batch)  # it can do what the model can


def histogram_entropy(values: Tensor, bins: int) -> Tensor:
    """Return the entropy of a histogram of each map's features, in nats."""
    flat = by_feature(values).double()
    low = flat.amin(1, keepdim=True)
    width = (flat.amax(1, keepdim=True) - low).clamp(min=1e-300)
    place = ((flat - low) / width * bins).long().clamp(max=bins - 1)
    counts = torch.nn.functional.one_hot(place, bins).sum(1).double()
    return entropy(counts / flat.shape[1])


__all__ = ["ComplexityRise", "ModelRandomisation", "RandomLogit", "histogram_entropy"]
