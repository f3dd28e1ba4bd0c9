"""The secant of multi-head attention as torch does it, ``multi_head_attention_forward``.

    out = concat_h [softmax(q_h k_hᵀ / √d + mask) v_h] Wᵀ + b,    q_h, k_h, v_h affine in the inputs.

Its parts have rules (products, softmax), so the whole is computed once more of these with the batch in
front, and the value is the one that torch gives. Its inputs are ``(positions, batch, features)``.

Reference: shrikumar2017, section 3.5 (rescale rule); vaswani2017, section 3.2.2, for attention.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from conjoin.errors import CapabilityError
from conjoin.models.call import Call
from conjoin.models.product_rules import Ends, looked, product, valued
from conjoin.models.second import Seconds

NAME = "multi_head_attention_forward"
_SIGNATURE = inspect.signature(functional.multi_head_attention_forward)


def multihead(ends: Ends, call: Call, seconds: Seconds) -> tuple[Tensor, Tensor | None]:
    """Return what the attention gives, and its weights if they are asked for, with secants.

    Raises:
        CapabilityError: If a part of it has no rule, or the batch does not stand second.
    """
    told = _SIGNATURE.bind(*call.args, **call.named)
    told.apply_defaults()
    bound = told.arguments
    _check(call, bound, seconds)
    q, k, v = _projected(bound)
    scores = product(ends, q / math.sqrt(q.shape[-1]), k.mT, NAME)
    weights = looked(ends, _masked(scores, bound), NAME)
    mixed = product(ends, weights, v, NAME).transpose(1, 2).flatten(2)
    out = functional.linear(mixed, bound["out_proj_weight"], bound["out_proj_bias"])
    with torch.no_grad():
        value, seen = call.made()
    out = seconds.add(valued(value, out.transpose(0, 1)))
    if seen is None:
        return out, None
    return out, valued(seen, weights.mean(1) if bound["average_attn_weights"] else weights)


def _check(call: Call, bound: dict[str, Any], seconds: Seconds) -> None:
    inputs = [bound[name] for name in ("query", "key", "value")]
    odd = ("bias_k", "bias_v", "static_k", "static_v")
    if any(t.ndim != 3 for t in inputs):
        raise CapabilityError(f"{NAME} of one example without a batch has no secant")
    if any(bound[name] is not None for name in odd) or bound["add_zero_attn"]:
        raise CapabilityError(
            f"{NAME} with biases of keys, zero attention or static keys has no secant"
        )
    if bound["training"] and bound["dropout_p"] > 0:
        raise CapabilityError(f"{NAME} with dropout has no secant")
    among = {id(t) for t in inputs}
    if any(id(t) not in among or t not in seconds for t in call.given):
        raise CapabilityError(
            f"{NAME} has no secant where its first axis is the batch, or weights or masks depend on "
            "the input: it takes (positions, batch, features), if not batch_first=True"
        )


def _projected(bound: dict[str, Any]) -> tuple[Tensor, ...]:
    """Return queries, keys and values, ``(batch, heads, positions, features)``."""
    if bound["use_separate_proj_weight"]:
        by = tuple(bound[f"{name}_proj_weight"] for name in "qkv")
    else:
        by = bound["in_proj_weight"].chunk(3)
    shifts = (None,) * 3 if bound["in_proj_bias"] is None else bound["in_proj_bias"].chunk(3)
    found = []
    for name, weight, shift in zip(("query", "key", "value"), by, shifts, strict=True):
        z = functional.linear(bound[name].transpose(0, 1), weight, shift)
        found.append(z.unflatten(-1, (bound["num_heads"], -1)).transpose(1, 2))
    return tuple(found)


def _masked(scores: Tensor, bound: dict[str, Any]) -> Tensor:
    """Mask pairs of positions, and positions of each example; true means: not looked at."""
    pairs, padding = bound["attn_mask"], bound["key_padding_mask"]
    if bound["is_causal"] and padding is None and not bound["need_weights"]:
        pairs = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
    if pairs is not None and pairs.ndim == 3:
        pairs = pairs.reshape(-1, *scores.shape[1:]) if len(pairs) > 1 else pairs
    for mask in (pairs, None if padding is None else padding[:, None, None]):
        if mask is not None:
            hidden = mask.dtype == torch.bool
            scores = scores.masked_fill(mask, -torch.inf) if hidden else scores + mask
    return scores


__all__ = ["NAME", "multihead"]
