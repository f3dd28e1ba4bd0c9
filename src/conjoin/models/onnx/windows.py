"""Pools, padding, and means over axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from conjoin.errors import DataError
from conjoin.models.onnx.value import Made, Node, Rule, opened

_MAXIMA: dict[int, Callable[..., Tensor]] = {
    1: functional.max_pool1d,
    2: functional.max_pool2d,
    3: functional.max_pool3d,
}
_MEANS: dict[int, Callable[..., Tensor]] = {
    1: functional.avg_pool1d,
    2: functional.avg_pool2d,
    3: functional.avg_pool3d,
}
_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}


def around(
    n: Node, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Return the padding before and after each axis of an image.

    Raises:
        DataError: If the numbers do not fit, or one is not positive.
    """
    axes, mode = len(kernel), n.said.get("auto_pad", b"NOTSET")
    if not len(stride) == len(dilation) == axes or min(*kernel, *stride, *dilation) < 1:
        raise DataError(
            f"{n.kind} {n.name!r}: kernel {list(kernel)}, strides {list(stride)} and dilations "
            f"{list(dilation)} do not fit"
        )
    if mode in (b"SAME_UPPER", b"SAME_LOWER"):
        whole = []
        sizes = zip(n.value().shape[2:], kernel, stride, dilation, strict=True)
        for size, k, s, d in sizes:
            whole.append(max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size))
        less, more = [w // 2 for w in whole], [w - w // 2 for w in whole]
        return (less, more) if mode == b"SAME_UPPER" else (more, less)
    pads = [0] * 2 * axes if mode == b"VALID" else list(n.said.get("pads", [0] * 2 * axes))
    if mode not in (b"NOTSET", b"VALID", b"") or len(pads) != 2 * axes:
        raise DataError(f"{n.kind} {n.name!r}: auto_pad {mode!r} and pads {pads} do not fit")
    if min(pads) < 0:
        n.refuse(f"negative padding {pads}")
    return pads[:axes], pads[axes:]


def _flat(before: Sequence[int], after: Sequence[int]) -> list[int]:
    pairs = zip(reversed(before), reversed(after), strict=True)
    return [v for pair in pairs for v in pair]


def _window(n: Node) -> tuple[int, list[int], list[int], list[int], list[int], list[int]]:
    axes = n.images()
    kernel = [int(v) for v in n.said.get("kernel_shape", ())]
    if axes not in _MAXIMA or len(kernel) != axes:
        raise DataError(f"{n.kind} {n.name!r}: kernel {kernel} for a value of {n.value().shape}")
    stride = list(n.said.get("strides", [1] * axes))
    dilation = list(n.said.get("dilations", [1] * axes))
    before, after = around(n, kernel, stride, dilation)
    return axes, kernel, stride, dilation, before, after


def _max_pool(n: Node) -> Made:
    axes, kernel, stride, dilation, before, after = _window(n)
    ceil, act = bool(n.said.get("ceil_mode", 0)), _MAXIMA[axes]
    if n.outputs > 1:
        n.refuse("the places of its maxima")
    even = before == after and all(2 * p <= k for p, k in zip(before, kernel, strict=True))
    if not even and ceil:
        n.refuse("uneven padding with ceil_mode")
    pads, inner = _flat(before, after), before if even else [0] * axes

    def run(x: Tensor) -> Tensor:
        x = x if even else functional.pad(x, pads, value=-math.inf)
        return act(x, kernel, stride, inner, dilation, ceil)

    return Made(run)


def _average_pool(n: Node) -> Made:
    axes, kernel, stride, dilation, before, after = _window(n)
    ceil, whole = bool(n.said.get("ceil_mode", 0)), bool(n.said.get("count_include_pad", 0))
    padded = any((*before, *after))
    if set(dilation) != {1} or (ceil and (padded or _overhangs(n, kernel, stride))):
        n.refuse("an average with dilations, or with ceil_mode and windows beyond the image")
    act, pads = _MEANS[axes], _flat(before, after)
    if not padded or whole:
        return Made(lambda x: act(functional.pad(x, pads) if padded else x, kernel, stride))
    ones = torch.ones(1, 1, *n.value().shape[2:], dtype=torch.float64)
    share = act(functional.pad(ones, pads), kernel, stride)  # of the pixels inside
    scale = [1 / share]

    def run(x: Tensor) -> Tensor:
        return act(functional.pad(x, pads), kernel, stride) * scale[0].to(x)

    return Made(run)


def _overhangs(n: Node, kernel: Sequence[int], stride: Sequence[int]) -> bool:
    sizes = zip(n.value().shape[2:], kernel, stride, strict=True)
    return any((size - k) % s for size, k, s in sizes)


def _global(act: Callable[..., Tensor]) -> Rule:
    def rule(n: Node) -> Made:
        over = tuple(range(2, n.images() + 2))
        return Made(lambda x: act(x, over, True))

    return rule


def _reduced(act: Callable[..., Tensor]) -> Rule:
    def rule(n: Node) -> Made:
        value = n.value()
        asked = n.numbers(1, "axes")
        if not asked:
            if n.said.get("noop_with_empty_axes"):
                return Made(lambda x: x, batch=value.batch)
            asked = list(range(len(value.shape)))
        keep = bool(n.said.get("keepdims", 1))
        axes, opens = n.axes(asked)
        return Made(lambda x: act(opened(x, opens), axes, keep), batch=value.batch and not opens)

    return rule


def _pad(n: Node) -> Made:
    value, mode = n.value(), n.said.get("mode", b"constant").decode()
    pads = n.numbers(1, "pads")
    if pads is None or mode not in _MODES:
        n.refuse(f"padding {pads} of mode {mode!r}")
    fill = float(n.said.get("value", 0.0))
    if n.has(2):
        fill = float(n.constant(2))
    axes = n.numbers(3) if n.has(3) else list(range(len(value.shape)))
    if axes is None or len(pads) != 2 * len(axes):
        raise DataError(f"Pad {n.name!r}: {pads} for {len(value.shape)} axes")
    whole = {axis % len(value.shape): (pads[k], pads[k + len(axes)]) for k, axis in enumerate(axes)}
    moved = [axis for axis, pair in whole.items() if any(pair)]
    _, opens = n.axes(moved)
    ndim, least = len(value.shape), min(moved, default=len(value.shape))
    flat = [v for axis in range(ndim - 1, least - 1, -1) for v in whole.get(axis, (0, 0))]
    if min(flat, default=0) < 0:
        n.refuse(f"negative padding {pads}")

    def run(x: Tensor) -> Tensor:
        x = opened(x, opens)
        return functional.pad(x, flat, _MODES[mode], fill if mode == "constant" else None)

    return Made(run, batch=value.batch and not opens)


RULES: dict[str, Rule] = {
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global(torch.mean),
    "GlobalMaxPool": _global(torch.amax),
    "ReduceMean": _reduced(torch.mean),
    "ReduceSum": _reduced(torch.sum),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMin": _reduced(torch.amin),
    "Pad": _pad,
}

__all__ = ["RULES", "around"]
