"""Rectifiers whose backward pass is another: the network is the same, its derivatives are not.

While :class:`Rewired` is entered, every max(z, 0), also one cut off from above (ReLU6), passes back
what a rule makes of its derivative and of the gradient that arrives. It sees what goes through the
functions of ``torch``, so functional, in-place and reused forms alike. Custom autograd functions,
scripted modules, products with a mask and ``maximum(z, 0)`` are not seen: like every other operation
they keep their derivatives. What comes back is *not* a derivative of anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from conjoin.models.call import Call

Backward = Callable[[Tensor, Tensor], Tensor]  # (where the slope is 1, gradient) -> gradient


class Rewired(TorchFunctionMode):
    """The mode; see the module.

    Args:
        rule: What passes back.

    Attributes:
        count: The rectifiers that were met.
        active: Whether the rule holds; else derivatives pass back, for those who differentiate what
            came of a pass.
    """

    def __init__(self, rule: Backward) -> None:
        super().__init__()
        self.rule, self.count, self.active = rule, 0, True

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do one operation."""
        call = Call(func, args, dict(kwargs or {}))
        names = _NAMES.get(call.name) if call.given and torch.is_grad_enabled() else None
        if names is None:
            return call.made()
        bound = call.bound(f"input {names}")
        top = _top(call.name, bound)
        if top is None:
            return call.made()
        self.count += 1
        z = bound["input"]
        if not (call.in_place or bound.get("inplace")):
            return self._applied(z, top)
        return z.copy_(self._applied(z.clone(), top))

    def _applied(self, z: Tensor, top: float) -> Tensor:
        out: Tensor = _Rectifier.apply(z, top, self)  # type: ignore[no-untyped-call] # torch leaves it untyped
        return out


class _Rectifier(torch.autograd.Function):
    """min(max(z, 0), top) forwards; the rule backwards."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, top: float, mode: Rewired) -> Tensor:
        ctx.save_for_backward(z)
        ctx.top, ctx.mode = top, mode
        return z.clamp(0, top)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (z,) = ctx.saved_tensors
        slope = (z > 0) & (z < ctx.top)
        rule = ctx.mode.rule if ctx.mode.active else torch.mul
        return rule(slope, gradients[0]), None, None


def _top(name: str, bound: Mapping[str, Any]) -> float | None:
    """Return where a rectifier is cut off from above, infinite for ReLU; ``None`` for all else."""
    if name in {"relu", "relu6"}:
        return torch.inf if name == "relu" else 6.0
    if name == "threshold":
        return torch.inf if bound.get("threshold") == bound.get("value") == 0 else None
    low = bound.get("min_val", -1.0) if name == "hardtanh" else bound.get("min")
    high = bound.get("max_val", 1.0) if name == "hardtanh" else bound.get("max")
    if isinstance(low, Tensor) or isinstance(high, Tensor) or low != 0:
        return None
    return torch.inf if high is None else float(high) if high > 0 else None


_NAMES = {  # what may be a rectifier, and its other arguments in order
    "relu": "inplace",
    "relu6": "inplace",
    "threshold": "threshold value inplace",
    "hardtanh": "min_val max_val inplace",
    "clamp": "min max",
    "clip": "min max",
    "clamp_min": "min",
}

__all__ = ["Backward", "Rewired"]
