"""The rules of secant passes: what each operation that is not linear does backwards.

A rule gets ``ends`` (the partners of the rows of a value), the function called and its arguments, and
returns the same value as the function, with slopes in place of derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from conjoin.errors import CapabilityError
from conjoin.models import slopes
from conjoin.models.slopes import Slope

Ends = Callable[[Tensor, str], Tensor]
Named = dict[str, Any]
Rule = Callable[[Ends, Callable[..., Any], tuple[Any, ...], Named], Any]


def name_of(func: Callable[..., Any]) -> str:
    """Return an operation's name, the same for its functional, method, dunder and in-place forms."""
    name = getattr(func, "__name__", type(func).__name__)
    if name == "__get__":
        return f".{func.__self__.__name__}"  # type: ignore[attr-defined] # a property's getter
    plain = name.strip("_")
    return plain[1:] if name.startswith("__i") and plain[1:] in _OPERATORS else plain


_OPERATORS = frozenset({"add", "sub", "mul", "truediv", "pow", "matmul"})


def in_place(func: Callable[..., Any], named: Named) -> bool:
    """Tell whether a call writes its result into its first argument."""
    name = getattr(func, "__name__", "")
    return bool(named.get("inplace")) or (
        (name.endswith("_") and not name.endswith("__"))
        or (name.startswith("__i") and name[3:-2] in _OPERATORS)
    )


class _Elementwise(torch.autograd.Function):
    """f forwards; its slope between a row and its partner backwards."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, partner: Tensor, function: Callable[[Tensor], Tensor], slope: Slope
    ) -> Tensor:
        ctx.save_for_backward(z, partner)
        ctx.slope = slope
        return function(z)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        z, partner = ctx.saved_tensors
        return gradients[0] * ctx.slope(z, z[partner]), None, None, None


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


def _bind(names: str, args: tuple[Any, ...], named: Named) -> Named:
    """Name the arguments of a call."""
    bound = dict(zip(names.split(), args, strict=False))
    return {**bound, **named}


def _elementwise(
    names: str,
    slope: Callable[[Named], Slope],
    function: Callable[[Tensor, Named], Tensor] | None = None,
) -> Callable[..., Tensor]:
    def rule(ends: Ends, func: Callable[..., Any], args: tuple[Any, ...], named: Named) -> Tensor:
        bound = _bind(f"input {names}", args, named)
        z, rest = bound.pop("input"), {k: v for k, v in named.items() if k != "inplace"}
        rest.pop("input", None)

        def forwards(x: Tensor) -> Tensor:
            return func(x.clone() if in_place(func, {}) else x, *args[1:], **rest)  # type: ignore[no-any-return]

        partner = ends(z, name_of(func))
        out: Tensor = _Elementwise.apply(z, partner, forwards, slope(bound))  # type: ignore[no-untyped-call] # torch leaves it untyped
        return out

    return rule


def _larger(ends: Ends, a: Tensor, b: Tensor, name: str) -> Tensor:
    a, b = torch.broadcast_tensors(a, b)
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
    chosen = [dims] if isinstance(dims, int) else list(dims)
    axes = sorted(d % z.ndim for d in chosen)
    if not axes or 0 in axes:
        raise CapabilityError(f"{name} over the batch has no secant")
    last = z
    for axis in axes:
        ways = last.shape[axis]
        while ways > 1:
            half = ways // 2
            parts = last.split([half, half, ways - 2 * half], axis)
            larger = _larger(ends, parts[0], parts[1], name)
            last = torch.cat([larger, parts[2]], axis) if ways % 2 else larger
            ways = last.shape[axis]
    return last if keep else last.squeeze(tuple(axes))


def _pair(sign: int) -> Callable[..., Any]:
    """Max or min: of two values, or over axes."""

    def rule(ends: Ends, func: Callable[..., Any], args: tuple[Any, ...], named: Named) -> Any:
        name = name_of(func)
        bound = _bind("input other keepdim", args, named)
        z, other = bound["input"], bound.get("other", bound.get("dim"))
        if isinstance(other, Tensor):
            return sign * _larger(ends, sign * z, sign * other, name)
        if other is None:
            raise CapabilityError(f"{name} over a whole batch has no secant")
        values = sign * _largest(ends, sign * z, other, bool(bound.get("keepdim")), name)
        if name.startswith("a"):  # amax, amin
            return values
        with torch.no_grad():
            found = func(*args, **named)
        return type(found)((values, found.indices))

    return rule


def _pool(axes: int) -> Callable[..., Tensor]:
    names = "input kernel_size stride padding dilation ceil_mode return_indices"

    def rule(ends: Ends, func: Callable[..., Any], args: tuple[Any, ...], named: Named) -> Tensor:
        bound = _bind(names, args, named)
        if bound.get("return_indices") or name_of(func).endswith("with_indices"):
            raise CapabilityError("max pooling with indices has no secant")
        z, kernel = bound["input"], _each(bound["kernel_size"], axes)
        stride = _each(bound.get("stride") or kernel, axes)
        padding, dilation = (
            _each(bound.get("padding", 0), axes),
            _each(bound.get("dilation", 1), axes),
        )
        if z.ndim != axes + 2:
            raise CapabilityError("max pooling of one image without a batch has no secant")
        with torch.no_grad():
            shape = func(
                z.detach(), *args[1:], **{k: v for k, v in named.items() if k != "input"}
            ).shape[2:]
        around: list[int] = []
        for k in reversed(range(axes)):
            need = (shape[k] - 1) * stride[k] + (kernel[k] - 1) * dilation[k] + 1
            around += [padding[k], max(0, need - z.shape[2 + k] - padding[k])]
        entries = [functional.pad(z, around, value=-torch.inf)]
        for k in range(axes):
            entries = [
                entry.narrow(2 + k, place * dilation[k], (shape[k] - 1) * stride[k] + 1)[
                    (slice(None),) * (2 + k) + (slice(None, None, stride[k]),)
                ]
                for entry in entries
                for place in range(kernel[k])
            ]
        return _tournament(ends, entries, name_of(func))

    return rule


def _adaptive(axes: int) -> Callable[..., Tensor]:
    def rule(ends: Ends, func: Callable[..., Any], args: tuple[Any, ...], named: Named) -> Tensor:
        bound = _bind("input output_size return_indices", args, named)
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
        return _pool(axes)(ends, plain, (z, kernel), {})

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


def _clamp(low: str, high: str) -> Callable[[Named], Slope]:
    def slope(bound: Named) -> Slope:
        ends = bound.get(low), bound.get(high)
        if any(isinstance(end, Tensor) and end.numel() > 1 for end in ends):
            raise CapabilityError("clamp with bounds for each element has no secant")
        if any(isinstance(end, Tensor) and end.requires_grad for end in ends):
            raise CapabilityError("clamp with bounds that depend on the input has no secant")
        return slopes.clamp(*(None if end is None else float(end) for end in ends))

    return slope


def _prelu(ends: Ends, func: Callable[..., Any], args: tuple[Any, ...], named: Named) -> Tensor:
    bound = _bind("input weight", args, named)
    z, weight = bound["input"], bound["weight"]
    if weight.requires_grad:
        raise CapabilityError("prelu with weights that depend on the input has no secant")
    shape = (1, -1, *[1] * (z.ndim - 2)) if weight.numel() > 1 else (1,)
    slope = slopes.leaky(weight.reshape(shape))
    partner = ends(z, "prelu")
    out: Tensor = _Elementwise.apply(z, partner, lambda x: func(x, weight), slope)  # type: ignore[no-untyped-call] # torch leaves it untyped
    return out


def _plain(slope: Slope) -> Callable[..., Tensor]:
    return _elementwise("", lambda _: slope)


RULES: dict[str, Rule] = {
    "relu": _plain(slopes.relu),
    "relu6": _plain(slopes.clamp(0.0, 6.0)),
    "abs": _plain(slopes.absolute),
    "absolute": _plain(slopes.absolute),
    "tanh": _plain(slopes.tanh),
    "sigmoid": _plain(slopes.sigmoid),
    "expit": _plain(slopes.sigmoid),
    "silu": _plain(slopes.silu),
    "mish": _plain(slopes.mish),
    "hardsigmoid": _plain(slopes.hardsigmoid),
    "hardswish": _plain(slopes.hardswish),
    "tanhshrink": _plain(slopes.tanhshrink),
    "softsign": _plain(slopes.softsign),
    "logsigmoid": _plain(slopes.logsigmoid),
    "log_sigmoid": _plain(slopes.logsigmoid),
    "selu": _plain(slopes.elu(1.6732632423543772, 1.0507009873554805, 1.0)),
    "exp": _plain(slopes.exp),
    "expm1": _plain(slopes.exp),
    "log": _plain(slopes.logarithm),
    "log1p": _plain(lambda a, b: slopes.logarithm(1 + a, 1 + b)),
    "sqrt": _plain(slopes.root),
    "square": _plain(slopes.square),
    "reciprocal": _plain(slopes.reciprocal),
    "erf": _plain(slopes.erf),
    "sin": _plain(slopes.sine),
    "cos": _plain(slopes.cosine),
    "leaky_relu": _elementwise(
        "negative_slope", lambda a: slopes.leaky(a.get("negative_slope", 0.01))
    ),
    "elu": _elementwise("alpha", lambda a: slopes.elu(a.get("alpha", 1.0), 1.0, 1.0)),
    "celu": _elementwise(
        "alpha", lambda a: slopes.elu(a.get("alpha", 1.0), 1.0, 1 / a.get("alpha", 1.0))
    ),
    "gelu": _elementwise("", lambda a: slopes.gelu(a.get("approximate", "none"))),
    "softplus": _elementwise(
        "beta threshold",
        lambda a: slopes.softplus(float(a.get("beta", 1.0)), float(a.get("threshold", 20.0))),
    ),
    "softshrink": _elementwise("lambd", lambda a: slopes.softshrink(a.get("lambd", 0.5))),
    "hardtanh": _elementwise(
        "min_val max_val",
        lambda a: slopes.clamp(a.get("min_val", -1.0), a.get("max_val", 1.0)),
    ),
    "clamp": _elementwise("min max", _clamp("min", "max")),
    "clip": _elementwise("min max", _clamp("min", "max")),
    "clamp_min": _elementwise("min", _clamp("min", "")),
    "clamp_max": _elementwise("max", _clamp("", "max")),
    "prelu": _prelu,
    "pow": _elementwise("exponent", _power),
    "maximum": _pair(1),
    "fmax": _pair(1),
    "max": _pair(1),
    "amax": _pair(1),
    "minimum": _pair(-1),
    "fmin": _pair(-1),
    "min": _pair(-1),
    "amin": _pair(-1),
    **{f"max_pool{axes}d": _pool(axes) for axes in (1, 2, 3)},
    **{f"adaptive_max_pool{axes}d": _adaptive(axes) for axes in (1, 2, 3)},
}
