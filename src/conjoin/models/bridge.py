"""A model of another framework, given by two functions on arrays.

``forward(x)`` returns the logits, ``vjp(x, v)`` the product vᵀ ∂forward/∂x; both take and give
arrays that speak DLPack (NumPy, JAX, TensorFlow, CuPy), or torch tensors. All quantities, losses
and loops stay in PyTorch. First order only: a second derivative would be silently wrong, so it
raises.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from conjoin.core.protocols import NO_VALUES, Batch
from conjoin.core.slice import INPUT, OUTPUT, Cut
from conjoin.errors import CapabilityError

ArrayFunction = Callable[..., Any]


def over_dlpack(function: ArrayFunction, from_dlpack: ArrayFunction) -> ArrayFunction:
    """Let a function of another framework's arrays take and give torch tensors, without a copy."""

    def array(tensor: Tensor) -> Any:
        return from_dlpack(tensor.detach().contiguous())

    def called(*tensors: Tensor, **context: Tensor) -> Tensor:
        out = function(*map(array, tensors), **{k: array(v) for k, v in context.items()})
        return torch.utils.dlpack.from_dlpack(out)

    return called


class _Foreign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, model: Bridge, context: Mapping[str, Tensor]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.model, ctx.context = model, context
        out: Tensor = model.forward(x, **context)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        if torch.is_grad_enabled():
            raise CapabilityError(
                "a second derivative through a bridged model was asked for; the bridge knows first "
                "derivatives only. Use a torch model for second-order methods"
            )
        (x,) = ctx.saved_tensors
        return ctx.model.vjp(x, gradients[0], **ctx.context), None, None


@dataclass(frozen=True)
class Bridge:
    """A differentiable classifier from ``forward`` and ``vjp`` on torch tensors.

    Attributes:
        forward: ``x -> logits``; the batch's context comes by keyword, where there is one.
        vjp: ``(x, v) -> gradient of <v, forward(x)> in x``; the context as above.
        device: Where both compute.
        version: What tells this model from others, e.g. a hash of its weights: results are kept
            apart by it. Nothing else can: without one, a run of this model cannot be resumed.
    """

    forward: ArrayFunction
    vjp: ArrayFunction
    device: torch.device = field(default=torch.device("cpu"))
    version: str = ""

    def __call__(self, batch: Batch, /) -> Tensor:
        """Return the logits; gradients flow back through ``vjp``."""
        return self._passed(batch.x, batch.context)

    def run(
        self,
        batch: Batch,
        /,
        *,
        put: Mapping[Cut, Tensor] = NO_VALUES,
        take: tuple[Cut, ...] = (OUTPUT,),
    ) -> tuple[Tensor, ...]:
        """Read and write the input and the output.

        Raises:
            CapabilityError: If an inner cut is asked for; those are the other framework's.
        """
        for cut in (*put, *take):
            if cut not in (INPUT, OUTPUT):
                raise CapabilityError(
                    f"a bridged model can be cut at its input and output only; got {cut}. Give "
                    "each part of the network as a bridge of its own"
                )
        known = {INPUT: batch.x, **put}
        if OUTPUT in take and OUTPUT not in known:
            known[OUTPUT] = self._passed(known[INPUT], batch.context)
        return tuple(known[cut] for cut in take)

    def held(self) -> AbstractContextManager[None]:
        """Do nothing: what cannot be seen cannot be frozen."""
        return nullcontext()

    def digest(self) -> str:
        """Return the SHA-256 of ``version``; empty without one."""
        return hashlib.sha256(self.version.encode()).hexdigest() if self.version else ""

    def _passed(self, x: Tensor, context: Mapping[str, Tensor]) -> Tensor:
        out: Tensor = _Foreign.apply(x, self, context)  # type: ignore[no-untyped-call] # torch leaves it untyped
        return out
