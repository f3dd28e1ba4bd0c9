"""The rules of secant passes: what each operation that is not linear does backwards.

A rule gets ``ends`` (the partners of the rows of a value) and the call of a function, and returns the
same value as the function, with slopes in place of derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from conjoin.errors import CapabilityError
from conjoin.models import product_rules, slopes
from conjoin.models.call import Call
from conjoin.models.linear import PRODUCTS
from conjoin.models.product_rules import QUOTIENTS
from conjoin.models.slopes import Slope

_BLOCK = 1 << 17  # elements

Ends = Callable[[Tensor, str], Tensor]
Rule = Callable[[Ends, Call], Any]
Named = dict[str, Any]


class _Elementwise(torch.autograd.Function):
    """f forwards; its slope between a row and its partner backwards."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, partner: Tensor, call: Call, slope: Slope) -> Tensor:
        ctx.save_for_backward(z, partner)
        ctx.slope = slope
        out: Tensor = call.of(z)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        z, partner = ctx.saved_tensors
        return _through(gradients[0], ctx.slope, z, partner), None, None, None


def _through(gradient: Tensor, slope: Slope, z: Tensor, partner: Tensor) -> Tensor:
    """Multiply by slopes; some rows at a time on a CPU, whose cache then holds what is between."""
    size = len(z) if z.is_cuda else max(1, _BLOCK // max(1, z[0].numel()))
    if torch.is_grad_enabled() or size >= len(z):
        return gradient * slope(z, z[partner])
    found = torch.empty_like(gradient)
    rows = (value.split(size) for value in (gradient, z, partner, found))
    for g, here, there, out in zip(*rows, strict=True):
        torch.mul(g, slope(here, z.index_select(0, there)), out=out)
    return found


class _Larger(torch.autograd.Function):
    """max(a, b) = b + relu(a - b) forwards; the slopes of it backwards."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, partner: Tensor) -> Tensor:
        ctx.save_for_backward(a, b, partner)
        return torch.maximum(a, b)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        a, b, partner = ctx.saved_tensors
        room = torch.finfo(a.dtype).max / 8
        d = (a - b).nan_to_num(0.0).clamp(-room, room)  # -inf stands for what can never be largest
        share = slopes.relu(d, d[partner])
        return gradients[0] * share, gradients[0] * (1 - share), None


def _elementwise(slope: Callable[[Named], Slope], names: str = "") -> Rule:
    """Make the rule of a function of one number; ``names`` are its other arguments, in order."""

    def rule(ends: Ends, call: Call) -> Tensor:
        bound = call.bound(f"input {names}")
        z = bound["input"]
        out: Tensor = _Elementwise.apply(z, ends(z, call.name), call, slope(bound))  # type: ignore[no-untyped-call] # torch leaves it untyped
        return out

    return rule


def _always(slope: Slope) -> Callable[[Named], Slope]:
    return lambda _: slope


def _larger(ends: Ends, a: Tensor, b: Tensor, name: str) -> Tensor:
    given = [t for t in (a, b) if t.requires_grad]
    a, b = torch.broadcast_tensors(a, b)
    if any(t.ndim < a.ndim for t in given):
        raise CapabilityError(f"{name} has no secant where constants have more axes than the batch")
    out: Tensor = _Larger.apply(a, b, ends(a, name))  # type: ignore[no-untyped-call] # torch leaves it untyped
    return out


def _tournament(ends: Ends, entries: list[Tensor], name: str) -> Tensor:
    """Return the largest of several values, by pairs."""
    while len(entries) > 1:
        odd = entries[-1:] if len(entries) % 2 else []
        pairs = zip(entries[::2], entries[1::2], strict=False)
        entries = [_larger(ends, a, b, name) for a, b in pairs] + odd
    return entries[0]


def _largest(ends: Ends, z: Tensor, dims: Any, keep: bool, name: str) -> Tensor:
    """Return the largest over axes of a value."""
    axes = sorted(d % z.ndim for d in ([dims] if isinstance(dims, int) else dims))
    if not axes or 0 in axes:
        raise CapabilityError(f"{name} over the batch has no secant")
    last = z
    for axis in axes:
        while (ways := last.shape[axis]) > 1:
            half = ways // 2
            one, two, odd = last.split([half, half, ways - 2 * half], axis)
            larger = _larger(ends, one, two, name)
            last = torch.cat([larger, odd], axis) if ways % 2 else larger
    return last if keep else last.squeeze(tuple(axes))


def _pair(sign: int) -> Rule:
    """Make the rule of max or min: of two values, or over axes."""

    def rule(ends: Ends, call: Call) -> Any:
        bound = call.bound("input other keepdim")
        z, other = bound["input"], bound.get("other", bound.get("dim"))
        if isinstance(other, Tensor):
            return sign * _larger(ends, sign * z, sign * other, call.name)
        if other is None:
            raise CapabilityError(f"{call.name} over a whole batch has no secant")
        values = sign * _largest(ends, sign * z, other, bool(bound.get("keepdim")), call.name)
        if call.name.startswith("a"):  # amax, amin
            return values
        with torch.no_grad():
            found = call.made()
        return type(found)((values, found.indices))

    return rule


def _pool(axes: int) -> Rule:
    def rule(ends: Ends, call: Call) -> Tensor:
        bound = call.bound("input kernel_size stride padding dilation ceil_mode return_indices")
        if bound.get("return_indices") or call.name.endswith("with_indices"):
            raise CapabilityError("max pooling with indices has no secant")
        z, kernel = bound["input"], _each(bound["kernel_size"], axes)
        stride = _each(bound.get("stride") or kernel, axes)
        padding = _each(bound.get("padding", 0), axes)
        dilation = _each(bound.get("dilation", 1), axes)
        if z.ndim != axes + 2:
            raise CapabilityError("max pooling of one image without a batch has no secant")
        with torch.no_grad():
            shape = call.of(z.detach()).shape[2:]
        around: list[int] = []
        for k in reversed(range(axes)):
            need = (shape[k] - 1) * stride[k] + (kernel[k] - 1) * dilation[k] + 1
            around += [padding[k], max(0, need - z.shape[2 + k] - padding[k])]
        entries = [functional.pad(z, around, value=-torch.inf)]
        for k in range(axes):
            before, span = (slice(None),) * (2 + k), (shape[k] - 1) * stride[k] + 1
            entries = [
                entry[*before, slice(start, start + span, stride[k])]
                for entry in entries
                for start in range(0, kernel[k] * dilation[k], dilation[k])
            ]
        return _tournament(ends, entries, call.name)

    return rule


def _adaptive(axes: int) -> Rule:
    def rule(ends: Ends, call: Call) -> Tensor:
        bound = call.bound("input output_size return_indices")
        z = bound["input"]
        size = [w or n for w, n in zip(_each(bound["output_size"], axes), z.shape[2:], strict=True)]
        if bound.get("return_indices") or any(
            n % w for n, w in zip(z.shape[2:], size, strict=True)
        ):
            raise CapabilityError(
                "adaptive max pooling to a size that does not divide has no secant"
            )
        kernel = [n // w for n, w in zip(z.shape[2:], size, strict=True)]
        plain = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[axes - 1]
        return _pool(axes)(ends, Call(plain, (z, kernel), {}))  # type: ignore[no-any-return]

    return rule


def _each(value: Any, axes: int) -> list[int]:
    sizes = [value] if isinstance(value, int) else list(value)
    return sizes * axes if len(sizes) == 1 else sizes


def _power(bound: Named) -> Slope:
    exponent = bound.get("exponent")
    if exponent == 0.5:
        return slopes.root
    if not isinstance(exponent, int | float) or exponent != int(exponent) or not 1 <= exponent <= 8:
        raise CapabilityError(f"pow with exponent {exponent!r} has no secant")
    return slopes.power(int(exponent))


def _clamp(bound: Named) -> Slope:
    ends = bound.get("min"), bound.get("max")
    axes = bound["input"].ndim
    if any(isinstance(end, Tensor) and (end.numel() > 1 or end.ndim > axes) for end in ends):
        raise CapabilityError("clamp with bounds for each element has no secant")
    if any(isinstance(end, Tensor) and end.requires_grad for end in ends):
        raise CapabilityError("clamp with bounds that depend on the input has no secant")
    return slopes.clamp(*(None if end is None else float(end) for end in ends))


def _prelu(bound: Named) -> Slope:
    z, weight = bound["input"], bound["weight"]
    if weight.requires_grad:
        raise CapabilityError("prelu with weights that depend on the input has no secant")
    return slopes.leaky(
        weight.reshape(1, -1, *[1] * (z.ndim - 2)) if weight.numel() > 1 else weight
    )


_PLAIN: dict[str, Slope] = {
    "relu": slopes.relu,
    "relu6": slopes.clamp(0.0, 6.0),
    "abs": slopes.absolute,
    "absolute": slopes.absolute,
    "tanh": slopes.tanh,
    "sigmoid": slopes.sigmoid,
    "expit": slopes.sigmoid,
    "silu": slopes.silu,
    "mish": slopes.mish,
    "hardsigmoid": slopes.hardsigmoid,
    "hardswish": slopes.hardswish,
    "tanhshrink": slopes.tanhshrink,
    "softsign": slopes.softsign,
    "logsigmoid": slopes.logsigmoid,
    "log_sigmoid": slopes.logsigmoid,
    "selu": slopes.elu(1.6732632423543772, 1.0507009873554805, 1.0),
    "exp": slopes.exp,
    "expm1": slopes.exp,
    "log": slopes.logarithm,
    "log1p": lambda a, b: slopes.logarithm(1 + a, 1 + b),
    "sqrt": slopes.root,
    "square": slopes.square,
    "reciprocal": slopes.reciprocal,
    "erf": slopes.erf,
    "sin": slopes.sine,
    "cos": slopes.cosine,
}
_WITH: dict[str, tuple[Callable[[Named], Slope], str]] = {  # slopes that other arguments shape
    "leaky_relu": (lambda a: slopes.leaky(a.get("negative_slope", 0.01)), "negative_slope"),
    "elu": (lambda a: slopes.elu(a.get("alpha", 1.0), 1.0, 1.0), "alpha"),
    "celu": (lambda a: slopes.elu(a.get("alpha", 1.0), 1.0, 1 / a.get("alpha", 1.0)), "alpha"),
    "gelu": (lambda a: slopes.gelu(a.get("approximate", "none")), ""),
    "softplus": (
        lambda a: slopes.softplus(float(a.get("beta", 1.0)), float(a.get("threshold", 20.0))),
        "beta threshold",
    ),
    "softshrink": (lambda a: slopes.softshrink(a.get("lambd", 0.5)), "lambd"),
    "hardtanh": (
        lambda a: slopes.clamp(a.get("min_val", -1.0), a.get("max_val", 1.0)),
        "min_val max_val",
    ),
    "clamp": (_clamp, "min max"),
    "clip": (_clamp, "min max"),
    "clamp_min": (_clamp, "min"),
    "clamp_max": (_clamp, "max"),
    "prelu": (_prelu, "weight"),
    "pow": (_power, "exponent"),
}
RULES: dict[str, Rule] = {
    **product_rules.RULES,
    **{name: _elementwise(_always(slope)) for name, slope in _PLAIN.items()},
    **{name: _elementwise(slope, names) for name, (slope, names) in _WITH.items()},
    **{name: _pair(1) for name in ("maximum", "fmax", "max", "amax")},
    **{name: _pair(-1) for name in ("minimum", "fmin", "min", "amin")},
    **{f"max_pool{axes}d": _pool(axes) for axes in (1, 2, 3)},
    **{f"adaptive_max_pool{axes}d": _adaptive(axes) for axes in (1, 2, 3)},
}


ELEMENTWISE = (_PLAIN.keys() | _WITH.keys()) - {"prelu"}  # which do not look at the axes


def rule_of(call: Call) -> Rule | None:
    """Return the rule of an operation; none if it must be linear."""
    if call.name in QUOTIENTS and not _divides_by_a_constant(call):
        return product_rules.quotient
    if call.name in PRODUCTS and len(call.given) == 2:
        return product_rules.affine_in_two
    return RULES.get(call.name)


def _divides_by_a_constant(call: Call) -> bool:
    divisor = call.bound("input other").get("input" if call.name.startswith("r") else "other")
    return not (isinstance(divisor, Tensor) and divisor.requires_grad)
