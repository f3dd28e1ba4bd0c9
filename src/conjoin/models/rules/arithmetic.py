"""Sums, differences, multiples and functions of one number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from conjoin.core.linear import Diagonal
from conjoin.core.operator import Add, Affine, Elementwise
from conjoin.errors import CapabilityError
from conjoin.models.activations import (
    ACTIVATIONS,
    per_channel,
    rounding_of,
    softsign,
    square,
    tanhshrink,
)
from conjoin.models.rules.call import Call, Known, Rule, broadcast


def _scaled(c: Call, index: int, factor: Any) -> int:
    index = broadcast(c, index, c.shapes[0])
    scale = c.constant(factor, len(c.shapes[0]))
    return c.add(Affine(Diagonal(scale, c.shape(index))), index)


def _shifted(c: Call, index: int, by: Any) -> int:
    index = broadcast(c, index, c.shapes[0])
    shift = c.constant(by, len(c.shapes[0]))
    one = torch.ones((), dtype=torch.float64, device=shift.device)
    return c.add(Affine(Diagonal(one, c.shape(index)), shift), index)


def _sum_of(c: Call, terms: Sequence[tuple[float, Any]]) -> int:
    """Σ factor · value, of values and constants."""
    moving: list[tuple[float, int]] = []
    for factor, value in terms:
        if not isinstance(value, Known):
            continue
        index = broadcast(c, c.step(value), c.shapes[0])
        if factor in (1.0, -1.0):
            moving.append((factor, index))
        else:
            scale = torch.tensor(factor, dtype=torch.float64)
            moving.append((1.0, c.add(Affine(Diagonal(scale, c.shape(index))), index)))
    if len(moving) == len(terms):
        signs = tuple(sign for sign, _ in moving)
        return c.add(Add(signs), *(index for _, index in moving))
    (sign, index), fixed = moving[0], next((f, v) for f, v in terms if not isinstance(v, Known))
    if sign < 0:
        index = _scaled(c, index, -1.0)
    shift = c.constant(fixed[1], len(c.shapes[0])) * fixed[0]
    return _shifted(c, index, shift)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CapabilityError(f"a factor of type {type(value).__name__} is not known")
    return float(value)


def _add(c: Call) -> int:
    return _sum_of(c, [(1.0, c["self"]), (_number(c["alpha"]), c["other"])])


def _sub(c: Call) -> int:
    a, b = c["self"], c["other"]
    if isinstance(a, Known) and isinstance(b, Known):
        taken, source = c.graph.steps[c.step(b)], c.step(a)
        tanh = isinstance(taken.op, Elementwise) and taken.op.name == "tanh"
        if tanh and taken.sources == (source,) and c["alpha"] == 1:
            return c.add(tanhshrink(), source)
    return _sum_of(c, [(1.0, c["self"]), (-_number(c["alpha"]), c["other"])])


def _rsub(c: Call) -> int:
    return _sum_of(c, [(1.0, c["other"]), (-_number(c["alpha"]), c["self"])])


def _neg(c: Call) -> int:
    return _scaled(c, c.source(), -1.0)


def _mul(c: Call) -> int:
    a, b = c["self"], c["other"]
    if isinstance(a, Known) and isinstance(b, Known):
        if c.step(a) == c.step(b):
            return c.add(square(), c.step(a))
        raise CapabilityError("a product of two values that depend on the input has no bound")
    value, factor = (a, b) if isinstance(a, Known) else (b, a)
    return _scaled(c, c.step(value), factor)


def _div(c: Call) -> int:
    if c.arguments.get("rounding_mode") is not None:
        raise CapabilityError("a division that rounds is not continuous")
    if isinstance(c["other"], Known):
        return _softsign(c)
    divisor = c.constant(c["other"], len(c.shapes[0]))
    if bool((divisor == 0).any()):
        raise CapabilityError("division by zero")
    index = broadcast(c, c.source(), c.shapes[0])
    return c.add(Affine(Diagonal(1 / divisor, c.shape(index)), uncertainty=2.0), index)


def _softsign(c: Call) -> int:
    """x / (1 + |x|), as PyTorch writes softsign."""
    source = c.source()
    over = c.graph.steps[c.step(c["other"])]
    inner = c.graph.steps[over.sources[0]] if over.sources else over
    plus_one = isinstance(over.op, Affine) and isinstance(over.op.map, Diagonal)
    if (
        plus_one
        and bool((over.op.map.scale == 1).all())  # type: ignore[union-attr] # checked above
        and over.op.bias is not None  # type: ignore[union-attr]
        and bool((over.op.bias == 1).all())  # type: ignore[union-attr]
        and isinstance(inner.op, Elementwise)
        and inner.op.name == "abs"
        and inner.sources == (source,)
    ):
        return c.add(softsign(), source)
    raise CapabilityError("a quotient of two values that depend on the input has no bound")


def _prelu(c: Call) -> int:
    source = c.source()
    return c.add(per_channel(c.constant(c["weight"], len(c.shapes[0]))), source)


def _threshold(c: Call) -> int:
    t, v = float(c["threshold"]), float(c["value"])
    if t != v:
        raise CapabilityError(f"threshold {t:g} with value {v:g} jumps; expected them equal")
    exact = rounding_of(t)
    op = Elementwise("threshold", lambda x: x.clamp(min=t), (0.0, 1.0), rounding=exact, kinks=(t,))
    return c.add(op, c.source())


def _activation(c: Call) -> int:
    others = {k: v for k, v in c.arguments.items() if k not in ("self", "noise")}
    if any(isinstance(v, Known) for v in others.values()):
        raise CapabilityError("its parameters depend on the input")
    return c.add(ACTIVATIONS[c.name](others), c.source())


RULES: dict[str, Rule] = {
    **dict.fromkeys(ACTIVATIONS, _activation),
    "add": _add,
    "sub": _sub,
    "rsub": _rsub,
    "neg": _neg,
    "mul": _mul,
    "div": _div,
    "_prelu_kernel": _prelu,
    "threshold": _threshold,
}

__all__ = ["RULES"]
