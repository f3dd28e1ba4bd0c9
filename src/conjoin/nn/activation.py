"""Activations with Lipschitz constant 1 that keep the length of gradients.

MinMax sorts channels in pairs: its Jacobian is a permutation, so unlike ReLU it loses no gradient
norm, which is what lets a network with a small Lipschitz constant keep its accuracy.

Reference: anil2019, section 4 (GroupSort of group size two).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from conjoin.errors import ModelError


class MinMax(nn.Module):
    """Replace the channel pairs (i, i + half) by (their minimum, their maximum)."""

    def forward(self, x: Tensor) -> Tensor:
        """Sort the pairs of ``x``, shape ``(batch, channels, ...)`` with an even channel count."""
        if x.shape[1] % 2:
            raise ModelError(f"MinMax pairs channels and needs an even number; got {x.shape[1]}")
        a, b = x.chunk(2, dim=1)
        return torch.cat([torch.minimum(a, b), torch.maximum(a, b)], dim=1)
