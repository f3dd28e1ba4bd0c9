"""Smoothed twins: a network whose kinks are rounded off, to be descended in its place.

Kinked operations are replaced by their soft versions of a given sharpness β: relu by
log(1 + exp(βz))/β, a maximum by log Σ exp(βz_i)/β, and what is made of these likewise. β is a
multiple of 1/σ, the deviation of the operation's own input within an example, so that one number
fits every layer of every network, however it is scaled; as it grows the twin becomes the network.
What has no rule here stays as it is. The twin's answers are *not* the network's: success, values and
certificates are the network's own affair.

Reference: dugas2001 (softplus); nesterov2005, section 4 (a smooth maximum).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from conjoin.core.protocols import Batch, Held, Model
from conjoin.core.witness import unmarked
from conjoin.errors import CapabilityError, PlanError
from conjoin.models.call import Call

Rule = Callable[[float, Call], Tensor | None]


@dataclass(frozen=True, slots=True)
class Smoothed:
    """A model with its kinks rounded off; see :func:`smoothed`."""

    model: Model
    sharpness: float

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    def __call__(self, batch: Batch, /) -> Tensor:
        """Return the twin's outputs; where no gradient is asked for, the model's own.

        Raises:
            CapabilityError: If nothing was rounded off, though gradients were asked for: the model has
                no kinks, or they lie where functions of ``torch`` are not seen.
        """
        with _Rounded(self.sharpness) as mode:
            outputs = self.model(unmarked(batch))
        if not mode.count and outputs.requires_grad:
            raise CapabilityError(
                "nothing of this model could be rounded off: it has no relu, no maximum and the "
                "like, or does not compute in torch. Its own gradients are all there are"
            )
        return outputs

    def held(self) -> AbstractContextManager[None]:
        """Hold the model."""
        return self.model.held() if isinstance(self.model, Held) else nullcontext()

    def digest(self) -> str:
        """Return nothing: it is another function than the weights say."""
        return ""


def smoothed(model: Model, sharpness: float) -> Smoothed:
    """Make a model's smoothed twin.

    Args:
        model: Computes in ``torch``.
        sharpness: β in units of 1/σ, positive: 1 is very soft, 16 close to the network.

    Raises:
        PlanError: If the sharpness is not positive.
    """
    if not sharpness > 0:
        raise PlanError(f"sharpness must be positive; got {sharpness}")
    return Smoothed(model, sharpness)


class _Rounded(TorchFunctionMode):
    """The mode in which kinked operations are soft."""

    def __init__(self, sharpness: float) -> None:
        super().__init__()
        self.sharpness, self.count = sharpness, 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do one operation."""
        call = Call(func, args, dict(kwargs or {}))
        rule = _RULES.get(call.name) if call.given else None
        soft = None if rule is None else rule(self.sharpness, call)
        if soft is None:
            return call.made()
        self.count += 1
        if call.in_place:
            written = call.bound("input")["input"]
            return written.copy_(soft)
        return soft


def _beta(sharpness: float, z: Tensor) -> Tensor | None:
    """Return β for each example, shaped to broadcast; ``None`` where there is no spread to go by."""
    if not z.is_floating_point() or z.ndim < 2:
        return None
    flat = z.detach().flatten(1)
    if flat.shape[1] < 2:
        return None
    deviation = flat.std(1).clamp_min(torch.finfo(z.dtype).tiny ** 0.25)
    return (sharpness / deviation).reshape(-1, *[1] * (z.ndim - 1))


def _soft(z: Tensor, beta: Tensor) -> Tensor:
    """Return log(1 + exp(βz))/β."""
    return functional.softplus(beta * z) / beta


def _relu(sharpness: float, call: Call) -> Tensor | None:
    z = call.bound("input")["input"]
    beta = _beta(sharpness, z)
    return None if beta is None else _soft(z, beta)


def _leaky(sharpness: float, call: Call) -> Tensor | None:
    bound = call.bound("input negative_slope" if call.name == "leaky_relu" else "input weight")
    z, slope = bound["input"], bound.get("negative_slope", bound.get("weight", 0.01))
    beta = _beta(sharpness, z)
    if beta is None:
        return None
    if isinstance(slope, Tensor) and slope.numel() > 1:
        slope = slope.reshape(-1, *[1] * (z.ndim - 2))
    soft: Tensor = slope * z + (1 - slope) * _soft(z, beta)
    return soft


def _abs(sharpness: float, call: Call) -> Tensor | None:
    z = call.bound("input")["input"]
    beta = _beta(sharpness, z)
    return None if beta is None else _soft(z, beta) + _soft(-z, beta)


def _clipped(sharpness: float, call: Call) -> Tensor | None:
    """Clip: z - soft(z - high) + soft(low - z)."""
    names, low, high = _CLIPS[call.name]
    bound = call.bound(f"input {names}")
    z = bound["input"]
    low = bound.get("min_val", bound.get("min", low))
    high = bound.get("max_val", bound.get("max", high))
    beta = _beta(sharpness, z)
    if beta is None:
        return None
    out: Tensor = z
    if high is not None:
        out = out - _soft(z - high, beta)
    if low is not None:
        out = out + _soft(low - z, beta)
    return out


def _larger(sign: int) -> Rule:
    """Make the rule of max or min, of two values or over axes."""

    def rule(sharpness: float, call: Call) -> Tensor | None:
        bound = call.bound("input other keepdim")
        z, other = bound["input"], bound.get("other", bound.get("dim"))
        beta = _beta(sharpness, z)
        if beta is None:
            return None
        if isinstance(other, Tensor):
            larger: Tensor = z + sign * _soft(sign * (other - z), beta)
            return larger
        if call.name not in ("amax", "amin") or other is None:
            return None  # max and min over an axis tell places, too
        dims = [d % z.ndim for d in ([other] if isinstance(other, int) else other)]
        if 0 in dims:
            return None
        keep = bool(bound.get("keepdim"))
        soft = sign * torch.logsumexp(sign * beta * z, dims, keepdim=True) / beta
        return soft if keep else soft.squeeze(tuple(dims))

    return rule


def _pooled(axes: int) -> Rule:
    """Make the rule of a pool of maxima over windows of the last axes."""

    def rule(sharpness: float, call: Call) -> Tensor | None:
        bound = call.bound("input kernel_size stride padding dilation ceil_mode return_indices")
        z = bound["input"]
        size = _each(bound["kernel_size"], axes)
        stride = _each(bound.get("stride") or size, axes)
        padding, dilation = (_each(bound.get(k, d), axes) for k, d in _POOL)
        odd = bound.get("ceil_mode") or bound.get("return_indices") or set(dilation) != {1}
        beta = _beta(sharpness, z)
        if odd or beta is None or z.ndim != axes + 2:
            return None
        sides = [side for p in reversed(padding) for side in (p, p)]
        windows = functional.pad(z, sides, value=-torch.inf) if any(padding) else z
        for axis in range(axes):
            windows = windows.unfold(2 + axis, size[axis], stride[axis])
        last = tuple(range(windows.ndim - axes, windows.ndim))
        wide = beta.reshape(-1, *[1] * (windows.ndim - 1))
        return torch.logsumexp(wide * windows, last) / beta

    return rule


_POOL = (("padding", 0), ("dilation", 1))
# Of each kind of clip: its arguments after the input, and its usual ends.
_CLIPS: dict[str, tuple[str, float | None, float | None]] = {
    "relu6": ("", 0.0, 6.0),
    "hardtanh": ("min_val max_val", -1.0, 1.0),
    "clamp": ("min max", None, None),
    "clip": ("min max", None, None),
    "clamp_min": ("min", None, None),
    "clamp_max": ("max", None, None),
}


def _each(value: Any, axes: int) -> list[int]:
    """Return one number per axis of what may be given as one for all."""
    values = [value] if isinstance(value, int) else list(value)
    return values * axes if len(values) == 1 else values


_RULES: dict[str, Rule] = {
    "relu": _relu,
    **dict.fromkeys(("leaky_relu", "prelu"), _leaky),
    "abs": _abs,
    "absolute": _abs,
    **dict.fromkeys(_CLIPS, _clipped),
    **dict.fromkeys(("maximum", "max", "amax"), _larger(1)),
    **dict.fromkeys(("minimum", "min", "amin"), _larger(-1)),
    **{f"max_pool{axes}d": _pooled(axes) for axes in (1, 2, 3)},
}


__all__ = ["Smoothed", "smoothed"]
