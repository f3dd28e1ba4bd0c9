"""Layers with weights: dense, convolutions, normalisations in evaluation."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from conjoin.core.linear import Convolution, Dense, Diagonal, Shape
from conjoin.core.operator import Affine, Reshape, RootMeanSquare
from conjoin.errors import CapabilityError
from conjoin.models.rules.call import Call, Rule, matrix

LARGEST_CENTRED = 4096  # elements that layer norm may take a mean over: its matrix is written out


def affine(call: Call, source: int, weight: Tensor, bias: Any, out: Shape) -> int:
    """x Wᵀ + b on the last axis."""
    shape = call.shape(source)
    if bias is not None:
        bias = call.constant(bias, len(call.shapes[0]))
    return call.add(Affine(Dense(weight, shape), bias), source, shape=(*shape[:-1], *out))


def _addmm(c: Call) -> int:
    if c["beta"] != 1 or c["alpha"] != 1:
        raise CapabilityError("beta and alpha other than 1 are not known")
    weight = matrix(c, c["mat2"]).T
    return affine(c, c.source("mat1"), weight, c["self"], (len(weight),))


def _mm(c: Call) -> int:
    weight = matrix(c, c["mat2"]).T
    return affine(c, c.source(), weight, None, (len(weight),))


def _bmm(c: Call) -> int:
    """A dense layer on rows that do not lie one after another: its weight once per example."""
    each = matrix(c, c["mat2"])
    if not bool((each == each[:1]).all()):
        raise CapabilityError("a constant differs from example to example of a batch")
    return affine(c, c.source(), each[0].T, None, (each.shape[2],))


def _mv(c: Call) -> int:
    index = affine(c, c.plain(), matrix(c, c["vec"])[None], None, (1,))
    return c.add(Reshape("squeeze", lambda x: x[:, 0], c.shape(index)), index, shape=())


def _convolution(c: Call) -> int:
    source = c.plain("input")
    weight = matrix(c, c["weight"])
    axes = weight.ndim - 2
    bias = c["bias"]
    if bias is not None:
        bias = matrix(c, bias).reshape(-1, *[1] * axes)

    def each(name: str) -> Shape:
        given = tuple(int(v) for v in c[name])
        return given * axes if len(given) == 1 else given

    op = Convolution(
        weight,
        c.shape(source),
        each("stride"),
        each("padding"),
        each("dilation"),
        int(c["groups"]),
        bool(c["transposed"]),
        each("output_padding") if c["transposed"] else (),
    )
    return c.add(Affine(op, bias), source, shape=c.shapes[0][1:])


def _batch_norm(c: Call) -> int:
    source = c.plain("input")
    if c.arguments.get("training") or c["running_mean"] is None or c["running_var"] is None:
        raise CapabilityError(
            "batch normalisation over the batch itself: its examples are not independent"
        )
    mean, var = matrix(c, c["running_mean"]), matrix(c, c["running_var"])
    scale = (var + float(c["eps"])).rsqrt()
    if c["weight"] is not None:
        scale = scale * matrix(c, c["weight"])
    shift, size = -mean * scale, (mean * scale).abs()
    if c["bias"] is not None:
        bias = matrix(c, c["bias"])
        shift, size = shift + bias, size + bias.abs()
    to = (-1, *[1] * (len(c.shape(source)) - 1))
    op = Affine(
        Diagonal(scale.reshape(to), c.shape(source)), shift.reshape(to), size.reshape(to), 8.0
    )
    return c.add(op, source)


def _layer_norm(c: Call) -> list[int | None]:
    source = c.source("input")
    over, shape = tuple(c["normalized_shape"]), c.shape(source)
    size = math.prod(over)
    if size > LARGEST_CENTRED:
        raise CapabilityError(
            f"layer norm over {size} elements; at most {LARGEST_CENTRED} are known"
        )
    lead = shape[: len(shape) - len(over)]
    flat = c.add(
        Reshape("flatten", lambda x: x.reshape(len(x), *lead, size), shape),
        source,
        shape=(*lead, size),
    )
    weight = c["weight"]
    device = weight.device if isinstance(weight, Tensor) else torch.device("cpu")
    centring = torch.eye(size, dtype=torch.float64, device=device) - 1 / size
    centred = c.add(Affine(Dense(centring, (*lead, size)), uncertainty=8.0), flat)
    scaled = c.add(RootMeanSquare(1, float(c["eps"])), centred)
    out = c.add(
        Reshape("unflatten", lambda x: x.reshape(len(x), *shape), (*lead, size)),
        scaled,
        shape=shape,
    )
    bias = None if c["bias"] is None else matrix(c, c["bias"])
    if weight is not None or bias is not None:
        scale = torch.ones(over, dtype=torch.float64) if weight is None else matrix(c, weight)
        out = c.add(Affine(Diagonal(scale, shape), bias), out)
    return [out]


RULES: dict[str, Rule] = {
    "addmm": _addmm,
    "mm": _mm,
    "bmm": _bmm,
    "mv": _mv,
    "convolution": _convolution,
    "native_batch_norm": _batch_norm,
    "_native_batch_norm_legit": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "cudnn_batch_norm": _batch_norm,
    "native_layer_norm": _layer_norm,
}

__all__ = ["RULES"]
