"""Linear residual layers: the identity and a small change of it, merged into one linear map.

    y = x + γ ⊙ (W * x) / √depth + b  =  (I + γ W / √depth) * x + b

The bound of a residual branch is 1 + ‖branch‖ where a nonlinear function lies between; here the sum is
one convolution, whose norm is that of the merged kernel. The activation follows *after* the sum. Layers
that take the mean of the batch away in training (:class:`Centring`) use the running mean afterwards,
which is a bias.

Reference: hu2023, section 3 (LiResNet).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from conjoin.errors import ModelError


class ResidualConvolution(nn.Module):
    """A convolution whose kernel is the identity and γ W / √depth, for odd kernels, size kept.

    Args:
        channels: In and out.
        kernel: Side, odd.
        depth: Of how many such layers in a row it is one.
    """

    identity: Tensor

    def __init__(self, channels: int, kernel: int = 3, depth: int = 1) -> None:
        super().__init__()
        if kernel % 2 != 1 or channels < 1 or depth < 1:
            raise ModelError(
                f"expected channels, an odd kernel and a depth, each at least 1; got {channels}, "
                f"{kernel}, {depth}"
            )
        self.depth, self.kernel = depth, kernel
        self.raw = nn.Parameter(torch.zeros(channels, channels, kernel, kernel))
        self.gamma = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        identity = torch.zeros(channels, channels, kernel, kernel)
        identity[:, :, kernel // 2, kernel // 2] = torch.eye(channels)
        self.register_buffer("identity", identity, persistent=False)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"channels={len(self.bias)}, kernel={self.kernel}, depth={self.depth}"

    @property
    def weight(self) -> Tensor:
        """The merged kernel."""
        change: Tensor = self.gamma[:, None, None, None] * self.raw / self.depth**0.5
        return self.identity + change

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x``, shape ``(batch, channels, height, width)``."""
        return functional.conv2d(x, self.weight, self.bias, padding=self.kernel // 2)


class ResidualDense(nn.Module):
    """A dense layer whose matrix is the identity and γ W / √depth.

    Args:
        features: In and out.
        depth: Of how many such layers in a row it is one.
    """

    identity: Tensor

    def __init__(self, features: int, depth: int = 1) -> None:
        super().__init__()
        if features < 1 or depth < 1:
            raise ModelError(f"features and depth are at least 1; got {features}, {depth}")
        self.depth = depth
        self.raw = nn.Parameter(torch.zeros(features, features))
        self.gamma = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("identity", torch.eye(features), persistent=False)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"features={len(self.bias)}, depth={self.depth}"

    @property
    def weight(self) -> Tensor:
        """The merged matrix."""
        change: Tensor = self.gamma[:, None] * self.raw / self.depth**0.5
        return self.identity + change

    def forward(self, x: Tensor) -> Tensor:
        """Multiply ``x``, shape ``(batch, ..., features)``."""
        return functional.linear(x, self.weight, self.bias)


class Centring(nn.Module):
    """Take the mean of each channel away: that of the batch in training, the running one after.

    It lets activations lie round 0, as batch normalisation does, without any scaling: its Lipschitz
    constant is 1.
    """

    mean: Tensor

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        if channels < 1 or not 0 < momentum <= 1:
            raise ModelError(
                f"expected channels >= 1, momentum in (0, 1]; got {channels}, {momentum}"
            )
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(channels))

    def extra_repr(self) -> str:
        """Show the size."""
        return f"channels={len(self.mean)}"

    def forward(self, x: Tensor) -> Tensor:
        """Centre ``x``, shape ``(batch, channels, ...)``."""
        mean = self.mean
        if self.training:
            mean = x.mean([axis for axis in range(x.ndim) if axis != 1])
            with torch.no_grad():
                self.mean.lerp_(mean.to(self.mean.dtype), self.momentum)
        return x - mean.reshape(1, -1, *[1] * (x.ndim - 2))


__all__ = ["Centring", "ResidualConvolution", "ResidualDense"]
