"""Similarities of an explanation now to one that stands still: what attacks on explanations lower.

A similarity is a function ``(now, before) -> per example`` of two maps, ``(batch, *map)``. It is large
when the defender is happy, differentiable in ``now``, and at most 2. They ask different things: the
direction of the map (:class:`Cosine`), its mass on what was on top (:class:`TopMass`), where its centre
lies (:class:`CentreNearness`), whether it shows what an attacker wants shown (:class:`AwayFrom`). Ranks
and intersections are *not* among them: they have no gradient, and are for judging
(``conjoin.metrics``).

Reference: ghorbani2019, section 3 (top-k and mass-centre attacks); dombrowski2019, section 2
(target maps).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.core.counted import check_numbers
from conjoin.errors import DataError, PlanError

Similarity = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Cosine:
    """Take the cosine of the two maps: -1..1; 0 where one is all zero."""

    def __call__(self, now: Tensor, before: Tensor, /) -> Tensor:
        """Return the cosine, per example."""
        a, b = now.flatten(1), before.flatten(1)
        least = torch.finfo(a.dtype).tiny
        lengths = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
        cosine: Tensor = (a * b).sum(1) / lengths.clamp(min=least)
        return cosine


@dataclass(frozen=True, slots=True)
class TopMass:
    """Take the share of the mass that lies on what was on top before: 0..1.

    Mass is magnitude, the channels of a pixel together. The top stands still while the map moves.

    Attributes:
        share: Which share of the features was on top.

    Reference: ghorbani2019, section 3 (top-k attack; there the sum, of maps that sum to a constant).
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        check_numbers(self)
        if not 0 < self.share <= 1:
            raise PlanError(f"share must lie in (0, 1]; got {self.share}")

    def __call__(self, now: Tensor, before: Tensor, /) -> Tensor:
        """Return the share, per example."""
        old = mass(before)
        count = max(1, round(self.share * old.shape[1]))
        return shares(now).gather(1, old.topk(count).indices).sum(1)


@dataclass(frozen=True, slots=True)
class CentreNearness:
    """Take 1 - ‖C(now) - C(before)‖² over its largest value, C the centre of mass of a map: 0..1.

    The axes of the map, each from 0 to 1; channels together.

    Reference: ghorbani2019, section 3 (mass-centre attack).
    """

    def __call__(self, now: Tensor, before: Tensor, /) -> Tensor:
        """Return the nearness, per example."""
        apart = centre(now) - centre(before)
        return 1 - apart.square().sum(1) / apart.shape[1]


@dataclass(frozen=True, slots=True, eq=False)
class AwayFrom:
    """Take 1 - cos(now, target): 0 where the map shows what the attacker wants shown, at most 2.

    Attributes:
        target: The map that is wanted, ``(1, *map)``.

    Reference: dombrowski2019, section 2 (there by the mean squared difference).
    """

    target: Tensor

    def __repr__(self) -> str:
        """Show the shape of the target, not its elements."""
        return f"AwayFrom(a map of shape {tuple(self.target.shape[1:])})"

    def __call__(self, now: Tensor, before: Tensor, /) -> Tensor:
        """Return one less the cosine, per example.

        Raises:
            DataError: If the target is not one map like those of the examples.
        """
        if self.target.shape != (1, *now.shape[1:]):
            raise DataError(
                f"a target map of shape {tuple(self.target.shape)} does not fit explanations of "
                f"shape {tuple(now.shape)}; expected {(1, *now.shape[1:])}"
            )
        return 1 - Cosine()(now, self.target.to(now).expand_as(now))


def mass(values: Tensor) -> Tensor:
    """Return the magnitude of each feature, ``(batch, features)``; a pixel's channels are summed."""
    size = values * values.detach().sign()  # as abs, which smoothed twins would round off
    return (size.sum(1) if values.ndim == 4 else size).flatten(1)


def shares(values: Tensor) -> Tensor:
    """Return the share of the mass on each feature, ``(batch, features)``; 0 for an all-zero map."""
    whole = mass(values)
    return whole / whole.sum(1, keepdim=True).clamp(min=torch.finfo(whole.dtype).tiny)


def centre(values: Tensor) -> Tensor:
    """Return the centre of mass of each map, ``(batch, axes)``, its axes running from 0 to 1.

    Of an all-zero map it is the origin.
    """
    places = values.shape[2:] if values.ndim == 4 else values.shape[1:]
    whole = shares(values).reshape(len(values), *places)
    found = []
    for axis, size in enumerate(places):
        others = [k + 1 for k in range(len(places)) if k != axis]
        line = whole.sum(others) if others else whole
        found.append(line @ torch.linspace(0, 1, size, dtype=line.dtype, device=line.device))
    return torch.stack(found, 1)


__all__ = [
    "AwayFrom",
    "CentreNearness",
    "Cosine",
    "Similarity",
    "TopMass",
    "centre",
    "mass",
    "shares",
]
