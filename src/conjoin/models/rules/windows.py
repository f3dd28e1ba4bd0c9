"""Sums and maxima over axes and windows, padding, the larger of two values."""

from __future__ import annotations

import math
from typing import Any

import torch

from conjoin.core.linear import Averages
from conjoin.core.operator import Affine, Concat, Elementwise, MaxWindows, Reshape
from conjoin.errors import CapabilityError
from conjoin.models.rules.call import Call, Known, Rule, axes_of, broadcast, negated


def _reduced(c: Call, kind: str) -> int:
    source = c.plain()
    shape = c.shape(source)
    axes, keep = axes_of(c.arguments.get("dim"), len(shape) + 1), bool(c.arguments.get("keepdim"))
    count = math.prod(shape[a - 1] for a in axes)
    if count == 0:
        raise CapabilityError("there is no element to take it of")
    act = torch.Tensor.mean if kind == "mean" else torch.Tensor.sum
    op = Averages(kind, lambda x: act(x, axes, keepdim=keep), shape, count)
    return c.add(Affine(op), source, shape=c.shapes[0][1:])


def _averages(c: Call, row: int, source: int | None = None) -> int:
    """The call itself is a linear map without negative entries."""
    source = c.plain() if source is None else source
    func, others = c.func, {k: v for k, v in c.arguments.items() if k != "self"}
    op = Averages(c.name, lambda x: func(x, **others), c.shape(source), row)
    return c.add(Affine(op), source, shape=c.shapes[0][1:])


def _average_pool(c: Call) -> int:
    _spatial(c)
    if (c.arguments.get("divisor_override") or 1) < 0:
        raise CapabilityError("a negative divisor_override turns the average round")
    return _averages(c, math.prod(_each(c["kernel_size"], _pool_axes(c))))


def _adaptive_average(c: Call) -> int:
    axes = len(c["output_size"])
    inner, outer = c.shape(c.plain())[-axes:], c.shapes[0][-axes:]
    return _averages(c, math.prod(math.ceil(i / o) + 1 for i, o in zip(inner, outer, strict=True)))


def _copies(c: Call) -> int:
    return _averages(c, 1)


def _constant_pad(c: Call) -> int:
    source, pad, value = c.plain(), list(c["pad"]), float(c["value"])
    if len(pad) // 2 > len(c.shape(source)):
        raise CapabilityError("it pads the batch")
    shape = c.shape(source)
    op = Averages("pad", lambda x: torch.constant_pad_nd(x, pad), shape, 1)
    bias = None
    if value:
        zero = torch.zeros(1, *shape, dtype=torch.float64)
        bias = torch.constant_pad_nd(zero, pad, value)[0]
    return c.add(Affine(op, bias), source, shape=c.shapes[0][1:])


def _pool_axes(c: Call) -> int:
    return int(c.name.split("pool")[1][0])


def _spatial(c: Call) -> None:
    if len(c.shapes[0]) != _pool_axes(c) + 2:
        raise CapabilityError("it takes the batch for channels; expected (batch, channels, ...)")


def _each(value: Any, axes: int, default: Any = None) -> tuple[int, ...]:
    given = tuple(value) if isinstance(value, list | tuple) else (value,)
    given = given or tuple(default)
    return given * axes if len(given) == 1 else given


def _max_pool(c: Call) -> list[int | None]:
    _spatial(c)
    axes = _pool_axes(c)
    kernel = _each(c["kernel_size"], axes)
    stride = _each(c["stride"], axes, kernel)
    padding, dilation = _each(c["padding"], axes), _each(c["dilation"], axes)
    ceil = bool(c["ceil_mode"])
    overlap = math.prod(
        math.ceil(k / (s // math.gcd(s, d)))
        for k, s, d in zip(kernel, stride, dilation, strict=True)
    )
    pool = (torch.max_pool1d, torch.max_pool2d, torch.max_pool3d)[axes - 1]
    op = MaxWindows(
        "max_pool",
        lambda x: pool(x, kernel, stride, padding, dilation, ceil),
        overlap,
        None if ceil else (kernel, stride, padding, dilation),
    )
    return [c.add(op, c.plain(), shape=c.shapes[0][1:])]


def _adaptive_max(c: Call) -> list[int | None]:
    source, axes = c.plain(), _pool_axes(c)
    _spatial(c)
    overlap = 1
    for i, o in zip(c.shape(source)[-axes:], c.shapes[0][-axes:], strict=True):
        spans = [(j * i // o, -(-(j + 1) * i // o)) for j in range(o)]
        overlap *= max(sum(a <= place < b for a, b in spans) for place in range(i))
    func, size = c.func, c["output_size"]
    op = MaxWindows("adaptive_max_pool", lambda x: func(x, size)[0], overlap)
    return [c.add(op, source, shape=c.shapes[0][1:])]


def _largest(c: Call, sign: int) -> int:
    source = c.plain()
    axes, keep = (
        axes_of(c.arguments.get("dim"), len(c.shape(source)) + 1),
        bool(c.arguments.get("keepdim")),
    )
    if sign < 0:
        source = negated(c, source)
    op = MaxWindows("amax", lambda x: x.amax(axes, keepdim=keep), 1)
    found = c.add(op, source, shape=c.shapes[0][1:])
    return negated(c, found) if sign < 0 else found


def _extreme(c: Call, kind: str) -> int:
    a, b = c["self"], c["other"]
    if not (isinstance(a, Known) and isinstance(b, Known)):
        value, fixed = (a, b) if isinstance(a, Known) else (b, a)
        index = broadcast(c, c.step(value), c.shapes[0])
        limit = c.constant(fixed, len(c.shapes[0]))
        act = torch.maximum if kind == "max" else torch.minimum
        op = Elementwise(
            f"{kind}imum",
            lambda x: act(x, limit.to(x.dtype).expand_as(x)),
            (0.0, 1.0),
            rounding=0.0 if torch.equal(limit.float().double(), limit) else 1.0,
        )
        return c.add(op, index)
    one, other = (broadcast(c, c.step(v), c.shapes[0]) for v in (a, b))
    places, shape = (one, other), c.shape(one)
    both = tuple(negated(c, p) for p in places) if kind == "min" else places
    raised = [
        c.add(Reshape("unsqueeze", lambda x: x[:, None], shape), p, shape=(1, *shape)) for p in both
    ]
    joined = c.add(Concat(1), *raised, shape=(2, *shape))
    found = c.add(MaxWindows("maximum", lambda x: x.amax(1), 1), joined, shape=shape)
    found = negated(c, found) if kind == "min" else found
    c.graph.extremes[found] = (kind, one, other)
    return found


RULES: dict[str, Rule] = {
    "mean": lambda c: _reduced(c, "mean"),
    "sum": lambda c: _reduced(c, "sum"),
    **{f"avg_pool{d}d": _average_pool for d in (1, 2, 3)},
    **{f"_adaptive_avg_pool{d}d": _adaptive_average for d in (2, 3)},
    **{f"reflection_pad{d}d": _copies for d in (1, 2, 3)},
    **{f"replication_pad{d}d": _copies for d in (1, 2, 3)},
    **{f"upsample_nearest{d}d": _copies for d in (1, 2, 3)},
    "constant_pad_nd": _constant_pad,
    **{f"max_pool{d}d_with_indices": _max_pool for d in (2, 3)},
    **{f"adaptive_max_pool{d}d": _adaptive_max for d in (2, 3)},
    **dict.fromkeys(("amax", "max"), lambda c: _largest(c, 1)),
    **dict.fromkeys(("amin", "min"), lambda c: _largest(c, -1)),
    "maximum": lambda c: _extreme(c, "max"),
    "minimum": lambda c: _extreme(c, "min"),
}

__all__ = ["RULES"]
