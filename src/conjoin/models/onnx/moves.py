"""Nodes that move, copy and join elements, and those that count them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from conjoin.errors import DataError
from conjoin.models.onnx.value import Made, Node, Rule, opened, place, reshaped

_LAST = 2**62  # "to the end" in a slice


def _same(n: Node) -> Made:
    if n.kind == "Dropout" and n.outputs > 1:
        n.refuse("the mask of a dropout")
    return Made(lambda x: x, batch=n.value().batch)


def _reshape(n: Node) -> Made:
    value, asked = n.value(), n.numbers(1, "shape")
    if asked is None:
        raise DataError(f"Reshape {n.name!r} has no shape")
    if not n.said.get("allowzero"):
        asked = [
            value.shape[k] if v == 0 and k < len(value.shape) else v for k, v in enumerate(asked)
        ]
    known, count = math.prod(v for v in asked if v != -1), math.prod(value.shape)
    if asked.count(-1) == 1 and known:
        asked = [count // known if v == -1 else v for v in asked]
    if min(asked, default=0) < 0 or math.prod(asked) != count:
        raise DataError(f"Reshape {n.name!r}: {value.shape} does not become {asked}")
    return reshaped(tuple(asked))


def _flatten(n: Node) -> Made:
    shape, axis = n.value().shape, int(n.said.get("axis", 1))
    if not -len(shape) <= axis <= len(shape):
        raise DataError(f"Flatten {n.name!r} names axis {axis} of {shape}")
    axis = axis + len(shape) if axis < 0 else axis
    return reshaped((math.prod(shape[:axis]), math.prod(shape[axis:])))


def _squeeze(n: Node) -> Made:
    shape, asked = n.value().shape, n.numbers(1, "axes")
    if asked is None:
        gone = {k for k, size in enumerate(shape) if size == 1}
    else:
        gone = {place(axis, len(shape), n) for axis in asked}
    if any(shape[k] != 1 for k in gone):
        raise DataError(f"Squeeze {n.name!r} drops axes {sorted(gone)} of {shape}")
    return reshaped(tuple(size for k, size in enumerate(shape) if k not in gone))


def _unsqueeze(n: Node) -> Made:
    shape, asked = list(n.value().shape), n.numbers(1, "axes") or []
    ndim = len(shape) + len(asked)
    for axis in sorted(place(axis, ndim, n) for axis in asked):
        shape.insert(axis, 1)
    return reshaped(tuple(shape))


def _transpose(n: Node) -> Made:
    value = n.value()
    ndim = len(value.shape)
    order = list(n.said.get("perm", range(ndim - 1, -1, -1)))
    if sorted(order) != list(range(ndim)):
        raise DataError(f"Transpose {n.name!r}: {order} is no order of {ndim} axes")
    stays = not ndim or order[0] == 0
    _, opens = n.axes([] if stays else [0])
    if value.batch and stays:
        return Made(lambda x: x.permute(order))
    whole = (0, *(axis + 1 for axis in order))
    return Made(lambda x: opened(x, opens).permute(whole), batch=False)


def _concat(n: Node) -> Made:
    values = [n.value(at) for at in range(len(n.inputs))]
    moving = [v for v in values if v.fixed is None]
    ndim, axis = len(moving[0].shape), int(n.said.get("axis", 0))
    axis = place(axis, ndim, n)
    batch = all(v.batch for v in moving)
    opens = axis == 0 or not batch
    if opens and n.free and any(v.batch for v in moving):
        n.refuse("it joins along the batch")
    if any(len(v.shape) != ndim for v in values):
        raise DataError(f"Concat {n.name!r} joins {[v.shape for v in values]}")
    still = [v.fixed is not None for v in values]
    open_each = [opens and v.batch for v in values]
    at = axis + 1 if opens else axis

    def run(*parts: Tensor) -> Tensor:
        rows = next(p.shape[0] for p, fixed in zip(parts, still, strict=True) if not fixed)
        made = [
            _copied(part, rows, opens) if fixed else opened(part, open_)
            for part, fixed, open_ in zip(parts, still, open_each, strict=True)
        ]
        return torch.cat(made, at)

    return Made(run, tuple(range(len(values))), batch=not opens)


def _copied(constant: Tensor, rows: int, opens: bool) -> Tensor:
    """Give every example a constant, which is the file's batch of one, or a row of it."""
    whole = constant[None] if opens else constant
    return whole.expand(rows, *whole.shape[1:])


def _slice(n: Node) -> Made:
    value = n.value()
    starts, ends = n.numbers(1, "starts"), n.numbers(2, "ends")
    if starts is None or ends is None or len(starts) != len(ends):
        raise DataError(f"Slice {n.name!r} has starts {starts} and ends {ends}")
    named = n.numbers(3, "axes") or list(range(len(starts)))
    steps = n.numbers(4) or [1] * len(starts)
    if not len(named) == len(steps) == len(starts) or 0 in steps:
        raise DataError(f"Slice {n.name!r} has axes {named} and steps {steps} for {starts}")
    spans = {}
    for axis, start, end, step in zip(named, starts, ends, steps, strict=True):
        at = place(axis, len(value.shape), n)
        stop = None if step < 0 and end < -(2**31) else max(-_LAST, min(_LAST, end))
        found = range(value.shape[at])[slice(start, stop, step)]
        if list(found) != list(range(value.shape[at])):
            spans[at] = found
    _, opens = n.axes(list(spans))
    shift = 1 if opens or not value.batch else 0
    cuts = [(axis + shift, _cut(span), span.step < 0) for axis, span in spans.items()]

    def run(x: Tensor) -> Tensor:
        x = opened(x, opens)
        for axis, cut, turned in cuts:
            x = x[(slice(None),) * axis + (cut,)]
            x = x.flip(axis) if turned else x
        return x

    return Made(run, batch=value.batch and not opens)


def _cut(span: range) -> slice:
    """Return the elements of a range in rising order."""
    if not span:
        return slice(0, 0)
    return slice(min(span), max(span) + 1, abs(span.step))


def _gather(n: Node) -> Made:
    value, index = n.value(), n.constant(1)
    axis = place(int(n.said.get("axis", 0)), len(value.shape), n)
    (at,), opens = n.axes([axis])
    size = value.shape[axis]
    if index.is_floating_point() or index.numel() == 0 or not _within(index, size):
        raise DataError(f"Gather {n.name!r} takes elements {index.tolist()[:5]} of {size}")
    chosen = (index % size).long()
    batch = value.batch and not opens
    if chosen.ndim == 0:
        number = int(chosen)
        return Made(lambda x: opened(x, opens).select(at, number), batch=batch)
    ends, flat = tuple(chosen.shape), [chosen.flatten()]

    def run(x: Tensor) -> Tensor:
        found = opened(x, opens).index_select(at, flat[0].to(x.device))
        return found if len(ends) == 1 else found.unflatten(at, ends)

    return Made(run, batch=batch)


def _within(index: Tensor, size: int) -> bool:
    return bool((index >= -size).all() and (index < size).all())


def _split(n: Node) -> Made:
    value = n.value()
    axis = place(int(n.said.get("axis", 0)), len(value.shape), n)
    (at,), opens = n.axes([axis])
    sizes = n.numbers(1, "split")
    if sizes is None:
        each = -(-value.shape[axis] // max(n.outputs, 1))
        sizes = [min(each, value.shape[axis] - each * k) for k in range(n.outputs)]
    if sum(sizes) != value.shape[axis] or min(sizes) < 0:
        raise DataError(f"Split {n.name!r}: {sizes} of {value.shape[axis]}")
    parts: Sequence[int] = sizes
    return Made(lambda x: opened(x, opens).split(parts, at), batch=value.batch and not opens)


def _expand(n: Node) -> Made:
    value, asked = n.value(), n.numbers(1) or []
    whole = tuple(torch.broadcast_shapes(value.shape, tuple(asked)))
    if value.batch and (len(whole) != len(value.shape) or whole[0] != 1):
        n.refuse(f"it makes several of an example: {value.shape} to {whole}")
    if len(whole) != len(value.shape):
        n.refuse(f"it adds axes: {value.shape} to {whole}")
    rest = whole[1:] if value.batch else whole
    return Made(lambda x: x.expand(x.shape[0], *rest), batch=value.batch)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("Identity", "Dropout"), _same),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Slice": _slice,
    "Gather": _gather,
    "Split": _split,
    "Expand": _expand,
}

__all__ = ["RULES"]
