"""Relaxed robustness, with radii: what stays is a *set* of classes, not the first of them.

Top-k (RTK): the classes that lead stay the k' that lead, for the k' <= k that holds longest,

    r(x) = max_{k' <= k} min_{i in T, j not in T} (z_i - z_j) / K_ij,   T the first k' classes at x

Affinity: likewise, over those k' whose T lies inside one of the given sets, so that mistakes that are
forgiven are those within a set (two breeds of dogs). The first class alone (k' = 1) is always allowed:
ordinary robustness is the strictest of both. What is proved is that the first k' classes stay the same
*set* everywhere within r; their order may change.

Reference: leino2021b (relaxed top-k robustness, affinity sets).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.errors import PlanError
from conjoin.nn.head import SLACK, GloRoHead
from conjoin.training.gloro import GloRoNetwork


@dataclass(frozen=True, slots=True, eq=False)
class Guarantee:
    """What is proved of each example.

    Attributes:
        radius: The l2 radius, ``(batch,)``; 0 where nothing is proved.
        size: k', the number of classes that stay the leading ones; 0 likewise.
        classes: Which they are, flags ``(batch, classes)``.
    """

    radius: Tensor
    size: Tensor
    classes: Tensor


@dataclass(frozen=True, slots=True)
class TopK:
    """The leading classes stay, at most ``k`` of them."""

    reference: ClassVar[str] = "leino2021b"
    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise PlanError(f"k is at least 1; got {self.k}")

    def __call__(self, network: GloRoNetwork, x: Tensor, /) -> Guarantee:
        """Return the largest radius that is proved, and for which set."""
        radii, order = leading(network, x)
        return _longest(radii[:, : self.k], order)


@dataclass(frozen=True, slots=True)
class Affinity:
    """The leading classes stay, as many as lie together inside one of the sets."""

    reference: ClassVar[str] = "leino2021b"
    sets: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.sets or not all(self.sets):
            raise PlanError(f"expected sets of classes, e.g. ((3, 5), (1, 9)); got {self.sets}")

    def __call__(self, network: GloRoNetwork, x: Tensor, /) -> Guarantee:
        """Return the largest radius that is proved, and for which set."""
        radii, order = leading(network, x)
        allowed = self._allowed(order)
        return _longest(radii.masked_fill(~allowed[:, : radii.shape[1]], 0.0), order)

    def _allowed(self, order: Tensor) -> Tensor:
        """Tell for each k' whether the first k' classes lie in one set, ``(batch, classes)``."""
        inside = member(self.sets, order.shape[1], order.device)[:, order]  # (sets, batch, classes)
        together = inside.long().cumprod(2).bool().any(0)
        together[:, 0] = True
        return together


def member(sets: Sequence[Sequence[int]], classes: int, device: torch.device) -> Tensor:
    """Return which classes are in which set, ``(sets, classes)``.

    Raises:
        PlanError: If a class is none of the network's.
    """
    flags = torch.zeros(len(sets), classes, dtype=torch.bool, device=device)
    for place, one in enumerate(sets):
        for label in one:
            if not 0 <= label < classes:
                raise PlanError(f"there is no class {label}; expected 0..{classes - 1}")
            flags[place, label] = True
    return flags


def leading(network: GloRoNetwork, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the radius within which the first k' classes stay, for k' = 1, ..., classes - 1.

    Shapes ``(batch, classes - 1)``, and the classes in order, ``(batch, classes)``.
    """
    head, logits, length = network.frozen_at(x)
    order = logits.argsort(1, descending=True)
    ranked = logits.gather(1, order)
    falling, room = _ordered(head, order, length)
    gaps = ranked[:, :, None] - ranked[:, None]
    gaps = gaps - room * (1 + SLACK)
    gaps = gaps - SLACK * (ranked[:, :, None].abs() + ranked[:, None].abs())
    every = torch.where(gaps > 0, gaps / falling * (1 - 1e-9), 0.0).nan_to_num(posinf=math.inf)
    radii = [every[:, :k, k:].flatten(1).amin(1) for k in range(1, order.shape[1])]
    finite = logits.isfinite().all(1)
    return torch.stack(radii, 1).masked_fill(~finite[:, None], 0.0), order


def _ordered(head: GloRoHead, order: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Return falling and room of each pair of ranks, ``(batch, classes, classes)``."""
    one, other = order[:, :, None], order[:, None]
    room = head.slope[one, other] * length[:, None, None] + head.base[one, other]
    return head.falling[one, other], room


def _longest(radii: Tensor, order: Tensor) -> Guarantee:
    best = radii.max(1)
    size = torch.where(best.values > 0, best.indices + 1, 0)
    first = torch.arange(order.shape[1], device=order.device) < size[:, None]
    flags = torch.zeros_like(first).scatter(1, order, first)
    return Guarantee(best.values, size, flags)


__all__ = ["Affinity", "Guarantee", "TopK", "leading"]
