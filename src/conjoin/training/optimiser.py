"""Optimisers as values: they print, compare, and can be said in a recipe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import nn


@runtime_checkable
class Optimiser(Protocol):
    """Makes an optimiser of PyTorch."""

    def build(self, parameters: Iterable[nn.Parameter], rate: float, /) -> torch.optim.Optimizer:
        """Return it for these parameters."""
        ...


@dataclass(frozen=True, slots=True)
class Adam:
    """Adam; with ``nesterov`` NAdam, with ``decay`` AdamW.

    Reference: kingma2015, algorithm 1.
    """

    reference: ClassVar[str] = "kingma2015"
    nesterov: bool = False
    decay: float = 0.0

    def build(self, parameters: Iterable[nn.Parameter], rate: float, /) -> torch.optim.Optimizer:
        """Return it."""
        if self.nesterov:
            return torch.optim.NAdam(
                parameters, lr=rate, weight_decay=self.decay, decoupled_weight_decay=True
            )
        if self.decay:
            return torch.optim.AdamW(parameters, lr=rate, weight_decay=self.decay)
        return torch.optim.Adam(parameters, lr=rate)


@dataclass(frozen=True, slots=True)
class Descent:
    """Stochastic gradient descent with momentum."""

    momentum: float = 0.9
    decay: float = 0.0

    def build(self, parameters: Iterable[nn.Parameter], rate: float, /) -> torch.optim.Optimizer:
        """Return it."""
        return torch.optim.SGD(parameters, lr=rate, momentum=self.momentum, weight_decay=self.decay)


__all__ = ["Adam", "Descent", "Optimiser"]
