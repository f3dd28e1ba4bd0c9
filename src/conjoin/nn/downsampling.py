"""Downsampling that loses nothing: space to depth."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from conjoin.errors import ModelError


class InvertibleDownsampling(nn.Module):
    """Turn each ``size`` x ``size`` square of a channel into size² channels: elements only move.

    Its Lipschitz constant is 1, and so is that of its inverse.
    """

    def __init__(self, size: int = 2) -> None:
        super().__init__()
        if size < 1:
            raise ModelError(f"a square has a side of at least 1; got {size}")
        self.size = size

    def extra_repr(self) -> str:
        """Show the size."""
        return f"size={self.size}"

    def forward(self, x: Tensor) -> Tensor:
        """Move the elements of ``x``, shape ``(batch, channels, height, width)``."""
        if x.ndim != 4 or x.shape[2] % self.size or x.shape[3] % self.size:
            raise ModelError(
                f"InvertibleDownsampling({self.size}) needs images whose sides are multiples of "
                f"{self.size}; got {tuple(x.shape)}"
            )
        return functional.pixel_unshuffle(x, self.size)
