"""Sums, products and functions of one number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from conjoin.models.onnx.value import Made, Node, Rule, Value, place

TYPES = {
    **{1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32},
    **{7: torch.int64, 9: torch.bool, 11: torch.float64},
}


def _aligned(value: Value, whole: int) -> Callable[[Tensor], Tensor]:
    """Return what gives a value as many axes as the running result, behind the batch."""
    if value.fixed is not None:
        return lambda c: c
    missing = whole - len(value.shape) - (not value.batch)
    return lambda x: x.reshape(x.shape[0], *[1] * missing, *x.shape[1:]) if missing else x


def _binary(act: Callable[[Tensor, Tensor], Tensor]) -> Rule:
    """A sum or a product of values and constants, which broadcast as in the file."""

    def rule(n: Node) -> Made:
        values = [n.value(at) for at in range(len(n.inputs))]
        ndim = max(len(v.shape) for v in values)
        full = [v for v in values if len(v.shape) == ndim]
        batch = all(v.batch if v.fixed is None else v.shape[0] == 1 for v in full)
        batch = batch and any(v.fixed is None for v in full)
        if n.free and not batch and any(v.batch for v in values):
            n.refuse(f"shapes {[v.shape for v in values]} do not keep examples apart")
        turn = [_aligned(v, ndim + (not batch)) for v in values]

        def run(first: Tensor, *others: Tensor) -> Tensor:
            total = turn[0](first)
            for align, other in zip(turn[1:], others, strict=True):
                total = act(total, align(other))
            return total

        return Made(run, tuple(range(len(values))), batch)

    return rule


def _divided(a: Tensor, b: Tensor) -> Tensor:
    whole = not (a.is_floating_point() or b.is_floating_point())
    return torch.div(a, b, rounding_mode="trunc") if whole else a / b


def _power(n: Node) -> Made:
    if n.value(1).fixed is None or n.constant(1).numel() != 1:
        n.refuse("a power that is no number")
    exponent = float(n.constant(1))
    batch = n.value().batch
    if exponent == 2:
        return Made(lambda x: x * x, batch=batch)
    return Made(lambda x: x.pow(exponent), batch=batch)


def _each(act: Callable[[Tensor], Tensor]) -> Rule:
    return lambda n: Made(act, batch=n.value().batch)


def _said(act: Callable[..., Tensor], **defaults: float) -> Rule:
    """A function of one number with settings, in the order of ``act``'s."""

    def rule(n: Node) -> Made:
        given = [float(n.said.get(name, default)) for name, default in defaults.items()]
        return Made(lambda x: act(x, *given), batch=n.value().batch)

    return rule


def _selu(x: Tensor, alpha: float, gamma: float) -> Tensor:
    return gamma * functional.elu(x, alpha)


def _hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    if (alpha, beta) == (1 / 6, 0.5) or abs(alpha - 1 / 6) < 1e-7:
        return functional.hardsigmoid(x)
    return (x * alpha + beta).clamp(0, 1)


def _gelu(n: Node) -> Made:
    mode = n.said.get("approximate", b"none").decode()
    return Made(lambda x: functional.gelu(x, approximate=mode), batch=n.value().batch)


def _prelu(n: Node) -> Made:
    slope, value = n.constant(1), n.value()
    flat = slope.numel() == 1 or (
        value.batch and len(value.shape) > 1 and slope.numel() == value.shape[1] == max(slope.shape)
    )
    if not flat or (
        slope.numel() > 1 and slope.ndim not in (len(value.shape) - 1, len(value.shape))
    ):
        n.refuse(f"slopes of shape {tuple(slope.shape)} for {value.shape}")
    return Made(lambda x, w: functional.prelu(x, w.flatten()), (0, 1), value.batch)


def _clip(n: Node) -> Made:
    ends: list[float | None] = []
    for at, name in ((1, "min"), (2, "max")):
        said = n.said.get(name)
        ends.append(float(n.constant(at)) if n.has(at) else None if said is None else float(said))
    low, high = ends
    if low is None and high is None:
        return Made(lambda x: x, batch=n.value().batch)
    return Made(lambda x: x.clamp(low, high), batch=n.value().batch)


def _softmax(act: Callable[..., Tensor]) -> Rule:
    def rule(n: Node) -> Made:
        value, new = n.value(), n.version >= 13
        axis = place(int(n.said.get("axis", -1 if new else 1)), len(value.shape), n)
        if not new and axis != len(value.shape) - 1 and max(value.shape[axis + 1 :]) > 1:
            n.refuse("a softmax over several axes at once")
        (at,), opens = n.axes([axis])
        if opens:
            n.refuse("a softmax over the batch")
        return Made(lambda x: act(x, at), batch=value.batch)

    return rule


def _cast(n: Node) -> Made:
    kind = TYPES.get(int(n.said.get("to", 0)))
    if kind is None:
        n.refuse("a conversion to a type that is not known")
    return Made(lambda x: x.to(kind), batch=n.value().batch)


def _where(n: Node) -> Made:
    """Choose by a condition that does not depend on the input."""
    whole = len(torch.broadcast_shapes(*(n.value(at).shape for at in range(3))))
    if any(v is not None and v.fixed is None for v in n.inputs[1:]):
        n.refuse("a choice among values that depend on the input")
    condition = _aligned(n.value(), whole + 1)
    return Made(lambda c, a, b: torch.where(condition(c).bool(), a, b), (0, 1, 2), batch=False)


SIMPLE: dict[str, Callable[[Tensor], Tensor]] = {
    **{"Relu": torch.relu, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "Abs": torch.abs},
    **{"Neg": torch.neg, "Exp": torch.exp, "Log": torch.log, "Sqrt": torch.sqrt},
    **{"Sin": torch.sin, "Cos": torch.cos, "Erf": torch.erf, "Floor": torch.floor},
    **{"Reciprocal": torch.reciprocal, "Softplus": functional.softplus, "Not": torch.logical_not},
    **{"Softsign": functional.softsign, "HardSwish": functional.hardswish, "Ceil": torch.ceil},
    **{"Mish": functional.mish, "Sign": torch.sign},
}
_BINARY: dict[str, Callable[..., Any]] = {
    **{"Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": _divided, "Sum": torch.add},
    **{"Max": torch.maximum, "Min": torch.minimum, "Equal": torch.eq},
}
RULES: dict[str, Rule] = {
    **{name: _each(act) for name, act in SIMPLE.items()},
    **{name: _binary(act) for name, act in _BINARY.items()},
    "LeakyRelu": _said(functional.leaky_relu, alpha=0.01),
    "Elu": _said(functional.elu, alpha=1.0),
    "Selu": _said(_selu, alpha=1.6732632423543772, gamma=1.0507009873554805),
    "HardSigmoid": _said(_hard_sigmoid, alpha=0.2, beta=0.5),
    "Gelu": _gelu,
    "PRelu": _prelu,
    "Pow": _power,
    "Clip": _clip,
    "Softmax": _softmax(torch.softmax),
    "LogSoftmax": _softmax(torch.log_softmax),
    "Cast": _cast,
    "Where": _where,
}

__all__ = ["RULES", "SIMPLE", "TYPES"]
