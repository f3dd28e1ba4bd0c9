"""Input normalisation as a layer, so that ``eps`` keeps its meaning in input units."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from conjoin.errors import ModelError


class Normalise(nn.Module):
    """Map x to (x - mean) / std per channel; its Lipschitz constant is 1 / min std."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or any(not s > 0 for s in std):
            raise ModelError(
                f"expected one mean and one std > 0 per channel; got {list(mean)}, {list(std)}"
            )
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float32))
        self.register_buffer("std", torch.tensor(list(std), dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x``, shape ``(batch, channels, ...)``."""
        shape = (1, -1, *[1] * (x.ndim - 2))
        return (x - self.mean.reshape(shape)) / self.std.reshape(shape)
