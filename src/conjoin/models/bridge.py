"""A model of another framework, given by two functions on arrays.

``forward(x)`` returns the logits, ``vjp(x, v)`` the product vᵀ ∂forward/∂x; both take and give
arrays that speak DLPack (NumPy, JAX, TensorFlow, CuPy), or torch tensors. All quantities, losses
and loops stay in PyTorch. First order only: a second derivative would be silently wrong, so it
raises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from conjoin.core.slice import INPUT, OUTPUT, Cut, Slice
from conjoin.errors import CapabilityError

ArrayFunction = Callable[..., Any]


def over_dlpack(function: ArrayFunction, from_dlpack: ArrayFunction) -> ArrayFunction:
    """Let a function of another framework's arrays take and give torch tensors, without a copy."""

    def called(*tensors: Tensor) -> Tensor:
        out = function(*(from_dlpack(t.detach().contiguous()) for t in tensors))
        return torch.utils.dlpack.from_dlpack(out)

    return called


class _Foreign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, model: Bridge) -> Tensor:
        ctx.save_for_backward(x)
        ctx.model = model
        out: Tensor = model.forward(x)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled():
            raise CapabilityError(
                "a second derivative through a bridged model was asked for; the bridge knows first "
                "derivatives only. Use a torch model for second-order methods"
            )
        (x,) = ctx.saved_tensors
        return ctx.model.vjp(x, gradients[0]), None


@dataclass(frozen=True)
class Bridge:
    """A differentiable classifier from ``forward`` and ``vjp`` on torch tensors.

    Attributes:
        forward: ``x -> logits``.
        vjp: ``(x, v) -> gradient of <v, forward(x)> in x``.
        device: Where both compute.
    """

    forward: ArrayFunction
    vjp: ArrayFunction
    device: torch.device = field(default=torch.device("cpu"))

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return the logits; gradients flow back through ``vjp``."""
        out: Tensor = _Foreign.apply(x, self)  # type: ignore[no-untyped-call] # torch leaves it untyped
        return out

    def read(self, x: Tensor, cut: Cut, /) -> Tensor:
        """Return the input or the output; inner activations are the other framework's."""
        return x if cut == INPUT else self.resume(x, x, Slice(INPUT, cut))

    def resume(self, z: Tensor, x: Tensor, where: Slice, /) -> Tensor:
        """Pass from input to output.

        Raises:
            CapabilityError: If an inner cut is asked for.
        """
        if where != Slice(INPUT, OUTPUT):
            raise CapabilityError(
                f"a bridged model can be cut at its input and output only; got {where.start} to "
                f"{where.stop}. Give each part of the network as a bridge of its own"
            )
        return self(z)
