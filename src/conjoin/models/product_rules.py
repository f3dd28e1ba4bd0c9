"""The rules of secant passes for products: attention, softmax, normalisation by the input's own values.

A function that is affine in each of two values has, between two rows, the symmetric secant ::

    f(a', b') - f(a, b) = f(Δa, (b + b')/2) + f((a + a')/2, Δb),

that is, its derivative in each at the mean of the other. With the secants of exp, log and the
reciprocal this gives those of quotients, softmax and layer norm: complete to rounding and linear in the
quantity, as the elementwise ones are. It is a choice: a product has no secant of its own, and the order
in which the two factors move is what divides their shares. Here both orders are averaged.

Softmax, with L = log Σ exp z, E(a, b) the secant of exp, and the shares c of the change of L: ::

    c_j = E(z_j - m, z'_j - m) / E(L - m, L' - m)
    Δs_i = E(z_i - L, z'_i - L') (Δz_i - Σ_j c_j Δz_j)

Layer norm, y = c ρ with c = x - μ, ρ = (mean c² + ε)^-½ = 1/σ, is stiff where c is small, e.g. at a
baseline of zeros, and no mean of two ends is near what lies between them. So it has its mean
derivative on the straight way from c to c', in closed form: ::

    ∫ (ρ g - c ρ³ mean(g c)) dt,    with S = σ + σ', u² = mean (c' - c)² / S², w = σσ' + mean(c c') + ε:
    ∫ ρ = 2 artanh(u) / (u S),      ∫ t (1-t) ρ³ = 2 (1/(1-u²) - artanh(u)/u) / (u² S³),
    ∫ (1-t) ρ³ = 1 / (σ w),         ∫ t ρ³ = 1 / (σ' w).

Reference: shrikumar2017, section 3.5 (rescale rule); the product rule is derived here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from conjoin.errors import CapabilityError
from conjoin.models import slopes
from conjoin.models.call import Call
from conjoin.models.cuts import plainly
from conjoin.models.linear import check_made

Ends = Callable[[Tensor, str], Tensor]
Rule = Callable[[Ends, Call], Any]


class _Affine(torch.autograd.Function):
    """f(a, b), affine in each; backwards at the mean of the other and its partner."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, partner: Tensor, f: Callable[..., Tensor]
    ) -> Tensor:
        ctx.save_for_backward(a, b, partner)
        ctx.f = f
        return f(a, b)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        a, b, partner = ctx.saved_tensors
        again = torch.is_grad_enabled()
        with plainly(), torch.enable_grad():
            means = (a + a[partner]) / 2, (b + b[partner]) / 2
            found: list[Tensor | None] = []
            for place, z in enumerate((a, b)):
                if not ctx.needs_input_grad[place]:
                    found.append(None)
                    continue
                leaf = z.detach().requires_grad_()
                value = ctx.f(leaf, means[1]) if place == 0 else ctx.f(means[0], leaf)
                found += torch.autograd.grad(value, leaf, gradients[0], create_graph=again)
        return found[0], found[1], None, None


def _two(ends: Ends, a: Tensor, b: Tensor, f: Callable[..., Tensor], name: str) -> Tensor:
    """Do a function of two values; each must have the batch first."""
    partner = ends(a, name)
    ends(b, name)
    out: Tensor = _Affine.apply(a, b, partner, f)  # type: ignore[no-untyped-call] # torch leaves it untyped
    ends(out, name)
    return out


class _Quotient(torch.autograd.Function):
    """a / b; backwards the mean of 1 / b, and -(mean of a) / (b b')."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, partner: Tensor) -> Tensor:
        ctx.save_for_backward(a, b, partner)
        return a / b

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        a, b, partner = ctx.saved_tensors
        (g,) = gradients
        there = b[partner]
        mean = (a + a[partner]) / 2
        one = g * (1 / b + 1 / there) / 2
        two = -g * mean / (b * there)
        return one.sum_to_size(a.shape), two.sum_to_size(b.shape), None


def _quotient(ends: Ends, call: Call) -> Tensor:
    """Divide by what depends on the input."""
    bound = call.bound("input other rounding_mode")
    if bound.get("rounding_mode") is not None:
        raise CapabilityError(f"{call.name} that rounds has no secant")
    a, b = bound["input"], bound["other"]
    if call.name in {"rdiv", "rtruediv"}:
        a, b = b, a
    partner = ends(b, call.name)
    if not isinstance(a, Tensor) or a.ndim < b.ndim or len(a) != len(b):
        a = torch.as_tensor(a, dtype=b.dtype, device=b.device).expand_as(b)
    if a.ndim != b.ndim:
        raise CapabilityError(f"{call.name} has no secant where the values differ in their axes")
    out: Tensor = _Quotient.apply(a, b, partner)  # type: ignore[no-untyped-call] # torch leaves it untyped
    return out


class _Softmax(torch.autograd.Function):
    """Softmax, or its logarithm, over an axis; see the module."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, partner: Tensor, axis: int, log: bool) -> Tensor:
        ctx.save_for_backward(z, partner)
        ctx.axis, ctx.log = axis, log
        return z.log_softmax(axis) if log else z.softmax(axis)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        z, partner = ctx.saved_tensors
        (g,) = gradients
        low = torch.finfo(z.dtype).min / 4
        z = z.clamp(min=low)  # a mask of minus infinity: no share, and no NaN
        there = z[partner]
        whole, other = (v.logsumexp(ctx.axis, keepdim=True) for v in (z, there))
        top = torch.maximum(whole, other)
        shares = slopes.exp(z - top, there - top) / slopes.exp(whole - top, other - top)
        weighted = g if ctx.log else g * slopes.exp(z - whole, there - other)
        return weighted - weighted.sum(ctx.axis, keepdim=True) * shares, None, None, None


def softmax(ends: Ends, z: Tensor, axis: int, name: str, *, log: bool = False) -> Tensor:
    """Take the softmax over an axis, or its logarithm."""
    if axis % z.ndim == 0:
        raise CapabilityError(f"{name} over the batch has no secant")
    out: Tensor = _Softmax.apply(z, ends(z, name), axis, log)  # type: ignore[no-untyped-call] # torch leaves it untyped
    return out


def _softmaxes(*, log: bool) -> Rule:
    def rule(ends: Ends, call: Call) -> Tensor:
        names = "input dim dtype" if call.func in _OF_TORCH else "input dim _stacklevel dtype"
        bound = call.bound(names)
        z, dtype, axis = bound["input"], bound.get("dtype"), bound.get("dim")
        if axis is None or (
            dtype is not None and torch.finfo(dtype).eps > torch.finfo(z.dtype).eps
        ):
            raise CapabilityError(
                f"{call.name} has no secant without an axis, or to a coarser type"
            )
        return softmax(ends, z if dtype is None else z.to(dtype), axis, call.name, log=log)

    return rule


_OF_TORCH = frozenset(
    {torch.softmax, torch.log_softmax, Tensor.softmax, Tensor.log_softmax, torch.special.softmax}
)


class _Normalised(torch.autograd.Function):
    """(x - μ) / sqrt(mean of squares + ε) over the last axis; μ = 0 if not centred."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, partner: Tensor, eps: float, centred: bool) -> Tensor:
        ctx.save_for_backward(x, partner)
        ctx.eps, ctx.centred = eps, centred
        c = x - x.mean(-1, keepdim=True) if centred else x
        out: Tensor = c * (c.square().mean(-1, keepdim=True) + eps).rsqrt()
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        x, partner = ctx.saved_tensors
        (g,) = gradients
        c = x - x.mean(-1, keepdim=True) if ctx.centred else x
        found = slopes.normalised(g, c, c[partner], ctx.eps)
        if ctx.centred:
            found = found - found.mean(-1, keepdim=True)
        return found, None, None, None


class _Valued(torch.autograd.Function):
    """The first value, with the gradient of the second."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, surrogate: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]


def _as(call: Call, surrogate: Tensor) -> Tensor:
    """Return what a call gives by itself, with the secants of what it is made of."""
    with torch.no_grad():
        value = call.made()
    return valued(value, surrogate)


def valued(value: Tensor, surrogate: Tensor) -> Tensor:
    """Return the first value, with the gradient of the second: one result, computed in two ways."""
    out: Tensor = _Valued.apply(value, surrogate)  # type: ignore[no-untyped-call] # torch leaves it untyped
    return out


def _normalised(ends: Ends, z: Tensor, eps: float, name: str, *, centred: bool = True) -> Tensor:
    out: Tensor = _Normalised.apply(z, ends(z, name), eps, centred)  # type: ignore[no-untyped-call] # torch leaves it untyped
    return out


def _layer_norm(*, centred: bool) -> Rule:
    def rule(ends: Ends, call: Call) -> Tensor:
        names = (
            "input normalized_shape weight bias eps"
            if centred
            else "input normalized_shape weight eps"
        )
        bound = call.bound(names)
        z, shape = bound["input"], bound["normalized_shape"]
        weight, bias = bound.get("weight"), bound.get("bias")
        eps = bound.get("eps", 1e-5 if centred else None)
        eps = torch.finfo(z.dtype).eps if eps is None else eps
        _only(call, z)
        if len(shape) >= z.ndim:
            raise CapabilityError(f"{call.name} over the batch has no secant")
        flat = _normalised(ends, z.flatten(z.ndim - len(shape)), eps, call.name, centred=centred)
        out = flat.reshape(z.shape)
        out = out if weight is None else out * weight
        return _as(call, out if bias is None else out + bias)

    return rule


def _group_norm(ends: Ends, call: Call) -> Tensor:
    bound = call.bound("input num_groups weight bias eps")
    z, weight, bias = bound["input"], bound.get("weight"), bound.get("bias")
    _only(call, z)
    grouped = z.reshape(len(z), bound["num_groups"], -1)
    out = _normalised(ends, grouped, bound.get("eps", 1e-5), call.name).reshape(z.shape)
    wide = (-1, *[1] * (z.ndim - 2))
    out = out if weight is None else out * weight.reshape(wide)
    return _as(call, out if bias is None else out + bias.reshape(wide))


def _only(call: Call, z: Tensor) -> None:
    if len(call.given) > 1 or call.given[0] is not z:
        raise CapabilityError(f"{call.name} has no secant by weights that depend on the input")


def _attention(ends: Ends, call: Call) -> Tensor:
    """softmax(q kᵀ · scale + mask) v."""
    bound = call.bound("query key value attn_mask dropout_p is_causal scale enable_gqa")
    q, k, v, mask = bound["query"], bound["key"], bound["value"], bound.get("attn_mask")
    if bound.get("dropout_p") or bound.get("enable_gqa") or any(t.ndim < 3 for t in (q, k, v)):
        raise CapabilityError(f"{call.name} with dropout, groups or without a batch has no secant")
    scale = bound.get("scale") or 1 / math.sqrt(q.shape[-1])
    scores = product(ends, q * scale, k.mT, call.name)
    if bound.get("is_causal"):
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = (
            scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        )
    return _as(call, product(ends, looked(ends, scores, call.name), v, call.name))


def looked(ends: Ends, scores: Tensor, name: str) -> Tensor:
    """Return how much each position looks at each; one that may look at none looks nowhere."""
    none = scores.detach().isneginf().all(-1, keepdim=True)
    return softmax(ends, scores, -1, name).masked_fill(none, 0)


def product(ends: Ends, a: Tensor, b: Tensor, name: str) -> Tensor:
    """Multiply matrices, ``a @ b``."""
    if not (a.requires_grad or b.requires_grad):
        return a @ b
    return _two(ends, a, b, torch.matmul, name)


def _checked(rule: Rule) -> Rule:
    """Refuse what mixes or moves rows, as of linear operations."""

    def checked(ends: Ends, call: Call) -> Any:
        out = rule(ends, call)
        check_made(call, out, {len(call.given[0])})
        return out

    return checked


def affine_in_two(ends: Ends, call: Call) -> Tensor:
    """Do an operation that is affine in each of the two values that depend on the input."""
    a, b = call.given
    out = _two(ends, a, b, call.of_both((a, b)), call.name)
    check_made(call, out, {len(a)})
    return out


RULES: dict[str, Rule] = {
    "softmax": _softmaxes(log=False),
    "log_softmax": _softmaxes(log=True),
    "layer_norm": _layer_norm(centred=True),
    "rms_norm": _layer_norm(centred=False),
    "group_norm": _group_norm,
    "scaled_dot_product_attention": _attention,
}
QUOTIENTS = frozenset({"div", "divide", "true_divide", "truediv", "rdiv", "rtruediv", "itruediv"})
quotient = _checked(_quotient)

__all__ = ["QUOTIENTS", "RULES", "affine_in_two", "looked", "product", "quotient", "valued"]
