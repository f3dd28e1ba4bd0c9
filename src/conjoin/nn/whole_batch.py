"""Layers whose examples are not independent in training, because they look at the whole batch."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from conjoin.nn.residual import Centring


def looks_at_the_batch(network: nn.Module) -> str:
    """Return the name of the first such layer; empty if there is none."""
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm | Centring):
            return name or type(module).__name__
    return ""


__all__ = ["looks_at_the_batch"]
