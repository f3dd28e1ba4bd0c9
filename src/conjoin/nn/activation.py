"""Activations with Lipschitz constant 1 that keep the length of gradients.

Sorting is a permutation of the channels, another one in each region of the input: unlike ReLU it loses
no gradient norm, which is what lets a network with a small Lipschitz constant keep its accuracy.

Reference: anil2019, section 4 (GroupSort; of group size two, MinMax).
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


class GroupSort(nn.Module):
    """Sort the channels (i, i + c/g, i + 2 c/g, ...) of each group of ``size`` g, the least first.

    With ``size`` two it is :class:`MinMax`; with all channels it sorts them.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 1:
            raise ModelError(f"a group has at least one channel; got {size}")
        self.size = size

    def extra_repr(self) -> str:
        """Show the size."""
        return f"size={self.size}"

    def forward(self, x: Tensor) -> Tensor:
        """Sort the groups of ``x``, shape ``(batch, channels, ...)``."""
        if x.shape[1] % self.size:
            raise ModelError(
                f"GroupSort({self.size}) needs a multiple of {self.size} channels; got {x.shape[1]}"
            )
        groups: Tensor = x.unflatten(1, (self.size, -1))
        return groups.sort(dim=1).values.flatten(1, 2)
