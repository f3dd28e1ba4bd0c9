"""Nodes with weights: dense layers, convolutions, normalisations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from conjoin.errors import DataError
from conjoin.models.onnx.value import Made, Node, Rule
from conjoin.models.onnx.windows import around

_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def _gemm(n: Node) -> Made:
    """alpha A B + beta C."""
    a, b = n.value(), n.value(1)
    alpha, beta = float(n.said.get("alpha", 1.0)), float(n.said.get("beta", 1.0))
    if a.fixed is not None or b.fixed is None or n.said.get("transA") or not a.batch:
        n.refuse("expected x W + b, with a constant W and one example in each row of x")
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise DataError(f"Gemm {n.name!r} multiplies {a.shape} by {b.shape}; expected two matrices")
    turned = bool(n.said.get("transB"))
    bias = n.constant(2) if n.has(2) else None
    if bias is not None and bias.ndim == 2 and len(bias) != 1:
        n.refuse("its bias differs from example to example")

    def run(x: Tensor, w: Tensor, c: Tensor | None = None) -> Tensor:
        w = w if turned else w.T
        if alpha != 1:
            w = w * alpha
        if c is not None:
            c = c.flatten().expand(len(w)) if beta == 1 else c.flatten().expand(len(w)) * beta
        return functional.linear(x, w, c)

    return Made(run, (0, 1) if bias is None else (0, 1, 2))


def _matmul(n: Node) -> Made:
    a, b = n.value(), n.value(1)
    if a.fixed is None and b.fixed is None:
        if a.batch != b.batch or len(a.shape) != len(b.shape) or len(a.shape) < 3:
            n.refuse("two values that depend on the input, of which one has no rows of its own")
        return Made(torch.matmul, (0, 1), a.batch)
    value, weight = (a, b) if a.fixed is None else (b, a)
    assert weight.fixed is not None  # noqa: S101 - one of the two
    extra = len(weight.shape) - 2
    if extra > 0 and (extra > len(value.shape) - 2 or weight.fixed[..., 0, 0].numel() != 1):
        n.refuse(f"a product of {a.shape} and {b.shape}")
    if value is a:
        return _from_the_right(n, weight.fixed)
    return _from_the_left(n, value.batch, len(value.shape), weight.fixed)


def _from_the_right(n: Node, weight: Tensor) -> Made:
    """x W: the last axis is summed."""
    value = n.value()
    if value.batch and len(value.shape) == 1:
        n.refuse("it sums over the batch")
    vector = weight.ndim == 1

    def run(x: Tensor, w: Tensor) -> Tensor:
        if vector:
            return functional.linear(x, w[None])[..., 0]
        return functional.linear(x, w.reshape(w.shape[-2:]).T)

    return Made(run, (0, 1), value.batch)


def _from_the_left(n: Node, batch: bool, ndim: int, weight: Tensor) -> Made:
    """W x: the last axis but one is summed, or the only one."""
    if ndim == 1 or weight.ndim == 1:
        if batch or ndim != 1 or weight.ndim == 1:
            n.refuse("a product with a vector from the left")
        return Made(lambda w, x: functional.linear(x, w.reshape(w.shape[-2:])), (0, 1), batch=False)
    opens = batch and ndim == 2  # the axis that is summed has the size 1
    if opens and n.free:
        n.refuse("it sums over the batch")

    def run(w: Tensor, x: Tensor) -> Tensor:
        x = x[:, None] if opens else x
        return functional.linear(x.transpose(-1, -2), w.reshape(w.shape[-2:])).transpose(-1, -2)

    return Made(run, (0, 1), batch and not opens)


def _convolution(n: Node) -> Made:
    weight = n.constant(1)
    axes = n.images(weight.ndim - 2)
    if axes not in _CONVOLUTIONS:
        n.refuse(f"a convolution with {axes} axes")
    bias = n.has(2) and n.constant(2) is not None
    stride, dilation = n.said.get("strides", [1] * axes), n.said.get("dilations", [1] * axes)
    groups, act = int(n.said.get("group", 1)), _CONVOLUTIONS[axes]
    before, after = around(n, list(weight.shape[2:]), stride, dilation)
    even = before == after
    pads = [v for pair in zip(reversed(before), reversed(after), strict=True) for v in pair]

    def run(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        if not even:
            x = functional.pad(x, pads)
        return act(x, w, b, stride, before if even else 0, dilation, groups)

    return Made(run, (0, 1, 2) if bias else (0, 1))


def _transposed(n: Node) -> Made:
    weight = n.constant(1)
    axes = n.images(weight.ndim - 2)
    said = n.said
    if (
        axes not in _TRANSPOSED
        or said.get("output_shape")
        or said.get("auto_pad", b"") not in (*(b"", b"NOTSET"),)
    ):
        n.refuse("a transposed convolution with an output_shape or auto_pad")
    pads = said.get("pads", [0] * 2 * axes)
    if pads[:axes] != pads[axes:]:
        n.refuse(f"a transposed convolution with uneven pads {pads}")
    bias = n.has(2) and n.constant(2) is not None
    stride, dilation = said.get("strides", [1] * axes), said.get("dilations", [1] * axes)
    extra, groups = said.get("output_padding", [0] * axes), int(said.get("group", 1))
    act = _TRANSPOSED[axes]

    def run(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return act(x, w, b, stride, pads[:axes], extra, groups, dilation)

    return Made(run, (0, 1, 2) if bias else (0, 1))


def _batch_norm(n: Node) -> Made:
    if n.said.get("training_mode") or n.outputs > 1:
        n.refuse("it is in training mode; export network.eval()")
    if not n.value().batch or len(n.value().shape) < 2 or n.said.get("spatial", 1) != 1:
        n.refuse(f"normalisation of a value of shape {n.value().shape}")
    for at in (1, 2, 3, 4):
        n.constant(at)
    eps = float(n.said.get("epsilon", 1e-5))

    def run(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        return functional.batch_norm(x, mean, var, scale, bias, False, 0.0, eps)

    return Made(run, (0, 1, 2, 3, 4), statistics=(3, 4))


def _layer_norm(n: Node) -> Made:
    value = n.value()
    axes, opens = n.axes([int(n.said.get("axis", -1))])
    if opens or n.outputs > 1:
        n.refuse("it normalises over the batch")
    over = value.shape[axes[0] if value.batch else axes[0] - 1 :]
    eps, bias = float(n.said.get("epsilon", 1e-5)), n.has(2)
    for at in (1, 2) if bias else (1,):
        n.constant(at)

    def run(x: Tensor, w: Tensor, b: Any = None) -> Tensor:
        return functional.layer_norm(x, over, w, b, eps)

    return Made(run, (0, 1, 2) if bias else (0, 1), value.batch)


RULES: dict[str, Rule] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
}

__all__ = ["RULES"]
