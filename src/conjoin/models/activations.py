"""The activations: what a reasoner needs to know of each function of one number.

One table for every reasoner: slopes, turns, kinks, jumps. Slope ranges and turning points that have
no closed form were found as roots of the second and first derivative with 40 digits and are rounded
outward here. A function that jumps or has no bounded description is not in the table, and a network
that uses it is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from conjoin.core.operator import Elementwise
from conjoin.errors import CapabilityError

Arguments = dict[str, Any]

_GELU_TURN = ((-0.7517915246935650, -0.7517915246935640),)
_GELU_TANH_TURN = ((-0.7524614220710170, -0.7524614220710160),)
_SILU_TURN = ((-1.2784645427610750, -1.2784645427610720),)
_MISH_TURN = ((-1.1924312145154960, -1.1924312145154940),)
_AT_ZERO = ((0.0, 0.0),)


def relu() -> Elementwise:
    """max(x, 0)."""
    return Elementwise("relu", torch.relu, (0.0, 1.0), rounding=0, kinks=(0.0,))


def _relu(a: Arguments) -> Elementwise:
    return relu()


def _leaky(a: Arguments) -> Elementwise:
    return leaky(float(a["negative_slope"]))


def leaky(slope: float) -> Elementwise:
    """max(x, 0) + slope min(x, 0)."""
    turns = _AT_ZERO if slope < 0 else ()
    return Elementwise(
        "leaky_relu",
        lambda x: functional.leaky_relu(x, slope),
        (min(slope, 1.0), max(slope, 1.0)),
        turns,
        rounding=1,
        kinks=(0.0,),
    )


def per_channel(weight: Tensor) -> Elementwise:
    """max(x, 0) + w min(x, 0), ``w`` in double precision broadcasting to one example."""
    low, high = float(weight.min()), float(weight.max())
    return Elementwise(
        "prelu",
        lambda x: torch.where(x > 0, x, x * weight.to(x.dtype)),
        (min(low, 1.0), max(high, 1.0)),
        _AT_ZERO if low < 0 else (),
        rounding=1,
        kinks=(0.0,),
    )


def _rrelu(a: Arguments) -> Elementwise:
    if a["training"]:
        raise CapabilityError("rrelu in training mode draws random slopes")
    return leaky((float(a["lower"]) + float(a["upper"])) / 2)


def _clip(low: float | None, high: float | None) -> Elementwise:
    kinks = tuple(float(v) for v in (low, high) if v is not None)
    return Elementwise(
        "clip",
        lambda x: x.clamp(low, high),
        (0.0, 1.0),
        rounding=rounding_of(*kinks),
        kinks=kinks,
    )


def rounding_of(*ends: float) -> float:
    """Return the rounding of a clip: a deployed network may have its ends in single precision."""
    return 0.0 if all(torch.tensor(end, dtype=torch.float32).item() == end for end in ends) else 1.0


def _hardtanh(a: Arguments) -> Elementwise:
    return _clip(a["min_val"], a["max_val"])


def _clamp(a: Arguments) -> Elementwise:
    for end in (a["min"], a["max"]):
        if isinstance(end, Tensor):
            raise CapabilityError("clamp with tensors as ends is not known; give numbers")
    return _clip(a["min"], a["max"])


def _clamp_min(a: Arguments) -> Elementwise:
    return _clip(a["min"], None)


def _clamp_max(a: Arguments) -> Elementwise:
    return _clip(None, a["max"])


def _elu(a: Arguments) -> Elementwise:
    alpha, scale, inner = (float(a[name]) for name in ("alpha", "scale", "input_scale"))
    if scale <= 0 or inner <= 0:
        raise CapabilityError(f"elu with scale {scale:g} and input scale {inner:g} is not known")
    steep = alpha * scale * inner  # the left branch's slope runs from 0 to this at 0
    low, high = min(0.0, steep), max(scale, steep)
    return Elementwise(
        "elu",
        lambda x: torch.ops.aten.elu(x, alpha, scale, inner),
        (low, high),
        _AT_ZERO if alpha < 0 else (),
        rounding=8 * max(1.0, abs(alpha) * scale),
    )


def _celu(a: Arguments) -> Elementwise:
    alpha = float(a["alpha"])
    if alpha <= 0:
        raise CapabilityError(f"celu with alpha {alpha:g} is not known; expected alpha > 0")
    return Elementwise(
        "celu", lambda x: functional.celu(x, alpha), (0.0, 1.0), rounding=8 * max(1.0, alpha)
    )


def _selu(a: Arguments) -> Elementwise:
    # Slope on the left up to scale * alpha = 1.758..., on the right scale = 1.0507...
    return Elementwise("selu", functional.selu, (0.0, 1.7581), rounding=16)


def _gelu(a: Arguments) -> Elementwise:
    form = a["approximate"]
    exact = form == "none"
    return Elementwise(
        "gelu",
        lambda x: functional.gelu(x, approximate=form),
        (-0.128905, 1.128905) if exact else (-0.128994, 1.128994),
        _GELU_TURN if exact else _GELU_TANH_TURN,
        rounding=16,
    )


def _silu(a: Arguments) -> Elementwise:
    return Elementwise("silu", functional.silu, (-0.09984, 1.09984), _SILU_TURN, rounding=8)


def _mish(a: Arguments) -> Elementwise:
    return Elementwise("mish", functional.mish, (-0.112527, 1.088499), _MISH_TURN, rounding=16)


def _hardswish(a: Arguments) -> Elementwise:
    # x (x + 3) / 6 between -3 and 3: its slope (2 x + 3) / 6 runs from -1/2 to 3/2.
    turn = ((-1.5, -1.5),)
    return Elementwise("hardswish", functional.hardswish, (-0.5, 1.5), turn, rounding=8)


def _hardsigmoid(a: Arguments) -> Elementwise:
    return Elementwise("hardsigmoid", functional.hardsigmoid, (0.0, 0.16666666666666669))


def _softplus(a: Arguments) -> Elementwise:
    beta, threshold = float(a["beta"]), float(a["threshold"])
    if beta <= 0:
        raise CapabilityError(f"softplus with beta {beta:g} is not known; expected beta > 0")
    # Above the threshold PyTorch gives x itself, which lies below log(1 + exp(beta x)) / beta.
    jump = math.log1p(math.exp(-threshold)) / beta * (1 + 1e-12)
    return Elementwise(
        "softplus",
        lambda x: functional.softplus(x, beta, threshold),
        (0.0, 1.0),
        jump=jump,
        rounding=8 * max(1.0, 1 / beta),
    )


def _sigmoid(a: Arguments) -> Elementwise:
    return Elementwise("sigmoid", torch.sigmoid, (0.0, 0.25))


def _tanh(a: Arguments) -> Elementwise:
    return Elementwise("tanh", torch.tanh, (0.0, 1.0))


def _log_sigmoid(a: Arguments) -> Elementwise:
    return Elementwise("log_sigmoid", functional.logsigmoid, (0.0, 1.0), rounding=8)


def _softshrink(a: Arguments) -> Elementwise:
    width = float(a["lambd"])
    kinks = (-width, width)
    return Elementwise(
        "softshrink", lambda x: functional.softshrink(x, width), (0.0, 1.0), rounding=1, kinks=kinks
    )


def _abs(a: Arguments) -> Elementwise:
    return Elementwise("abs", torch.abs, (-1.0, 1.0), _AT_ZERO, rounding=0, kinks=(0.0,))


def square() -> Elementwise:
    """x²: interval bounds only, since its slope has no bound."""
    return Elementwise("square", torch.square, (-math.inf, math.inf), _AT_ZERO, rounding=1)


def _square(a: Arguments) -> Elementwise:
    return square()


def _pow(a: Arguments) -> Elementwise:
    if a["exponent"] != 2:
        raise CapabilityError(f"the power {a['exponent']} is not known; expected 2")
    return square()


def _exp(a: Arguments) -> Elementwise:
    return Elementwise("exp", torch.exp, (0.0, math.inf))


def _erf(a: Arguments) -> Elementwise:
    return Elementwise("erf", torch.erf, (0.0, 1.1283791670955128))


def _atan(a: Arguments) -> Elementwise:
    return Elementwise("atan", torch.atan, (0.0, 1.0))


def softsign() -> Elementwise:
    """x / (1 + |x|)."""
    return Elementwise("softsign", functional.softsign, (0.0, 1.0))


def tanhshrink() -> Elementwise:
    """x - tanh(x)."""
    return Elementwise("tanhshrink", functional.tanhshrink, (0.0, 1.0), rounding=8)


ACTIVATIONS: dict[str, Callable[[Arguments], Elementwise]] = {
    "relu": _relu,
    "leaky_relu": _leaky,
    "rrelu_with_noise": _rrelu,
    "hardtanh": _hardtanh,
    "relu6": lambda a: _clip(0.0, 6.0),
    "clamp": _clamp,
    "clamp_min": _clamp_min,
    "clamp_max": _clamp_max,
    "elu": _elu,
    "celu": _celu,
    "selu": _selu,
    "gelu": _gelu,
    "silu": _silu,
    "mish": _mish,
    "hardswish": _hardswish,
    "hardsigmoid": _hardsigmoid,
    "softplus": _softplus,
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "log_sigmoid_forward": _log_sigmoid,
    "softshrink": _softshrink,
    "abs": _abs,
    "square": _square,
    "pow": _pow,
    "exp": _exp,
    "erf": _erf,
    "atan": _atan,
}

__all__ = [
    "ACTIVATIONS",
    "leaky",
    "per_channel",
    "relu",
    "rounding_of",
    "softsign",
    "square",
    "tanhshrink",
]
