"""Running estimates of the operator norms of a network's layers, for training.

Power iteration approaches the norm **from below**: this is a training signal and never a
certificate. Certificates come from :mod:`conjoin.certification.lipschitz`, which bounds from above.

Reference: leino2021, section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional, grad

from conjoin.core.random import Streams
from conjoin.errors import CapabilityError


class PowerIteration(nn.Module):
    """Keep one iterate per linear layer of a sequential network as a buffer.

    Args:
        network: Of linear and convolutional layers, and layers of constant 1 between.
        example: One input, ``(1, *input)``, to learn the sizes from.
    """

    def __init__(self, network: nn.Sequential, example: Tensor) -> None:
        super().__init__()
        self.layers: list[nn.Linear | nn.Conv2d] = []
        x = example
        for layer in network:
            if isinstance(layer, nn.Linear | nn.Conv2d):
                number = len(self.layers)
                stream = Streams.of(0, torch.tensor([number]))
                iterate = stream.normal(*x.shape[1:], dtype=x.dtype).to(x.device)
                self.register_buffer(f"iterate{number}", iterate)
                self.layers.append(layer)
            x = layer(x)

    def forward(self, steps: int = 2) -> list[Tensor]:
        """Advance every iterate and return the estimates ‖W v‖, differentiable in W."""
        norms = []
        for number, layer in enumerate(self.layers):
            v = self.get_buffer(f"iterate{number}")
            with torch.no_grad():
                for _ in range(steps):
                    v = _transposed(layer, _applied(layer, v), v)
                    v = v / v.norm().clamp(min=torch.finfo(v.dtype).tiny)
                self.get_buffer(f"iterate{number}").copy_(v)
            norms.append(_applied(layer, v.clone()).norm())
        return norms


def _applied(layer: nn.Linear | nn.Conv2d, v: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return functional.linear(v, layer.weight)
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise CapabilityError("power iteration knows zero padding given by numbers only")
    return functional.conv2d(
        v, layer.weight, None, layer.stride, layer.padding, layer.dilation, layer.groups
    )


def _transposed(layer: nn.Linear | nn.Conv2d, u: Tensor, like: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return functional.linear(u, layer.weight.T)
    back: Tensor = grad.conv2d_input(
        like.shape, layer.weight, u, layer.stride, layer.padding, layer.dilation, layer.groups
    )
    return back
