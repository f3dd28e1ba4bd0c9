"""Fold batch normalisation and other multiples into the layers beside them; the function is the same.

    (D A) x + (D b + d)  for  D (A x + b) + d        (A D) x + (A d + b)  for  A (D x + d) + b

where nothing else reads what lies between. Rules that look at the weights of a layer then see those
that it acts with, and a normalisation in front of the first layer belongs to it. Only elementwise
multiples are folded: two layers in a row stay two, since relevance is shared out layer by layer.

Reference: montavon2019, section 10.3.1 (batch normalisation).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from conjoin.core.linear import Convolution, Dense, Diagonal, Linear, Shape
from conjoin.core.operator import Affine, Step


def folded(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return steps that compute the same, multiples folded into their neighbours."""
    readers = Counter(source for step in steps for source in step.sources)
    made: list[Step] = []
    place: list[int] = []  # where the value of each old step is
    for step in steps:
        sources = tuple(place[source] for source in step.sources)
        alone = len(sources) == 1 and readers[step.sources[0]] == 1
        joint = _joined(made[sources[0]], step) if alone else None
        if joint is None:
            place.append(len(made))
            made.append(replace(step, sources=sources))
        else:  # in the place of the first: nothing but the second reads it
            place.append(sources[0])
            made[sources[0]] = replace(made[sources[0]], op=joint, shape=step.shape)
    return tuple(made)


def _joined(one: Step, two: Step) -> Affine | None:
    """Return two affine steps as one, if one of them is a multiple that fits."""
    if not (isinstance(one.op, Affine) and isinstance(two.op, Affine)):
        return None
    before, after = one.op, two.op
    if isinstance(after.map, Diagonal):
        map = _scaled(before.map, after.map.scale, one.shape)
        if map is None:
            return None
        bias = None if before.bias is None else before.bias * after.map.scale
        return Affine(map, _sum(bias, after.bias))
    if isinstance(before.map, Diagonal):
        map = _fed(after.map, before.map.scale)
        if map is None:
            return None
        bias = before.bias
        if bias is not None:
            bias = after.map(bias.to(map.device).expand(1, *map.source))[0]
        return Affine(map, _sum(bias, after.bias))
    return None


def _sum(one: Tensor | None, two: Tensor | None) -> Tensor | None:
    if one is None or two is None:
        return two if one is None else one
    return one + two


def _scaled(map: Linear, scale: Tensor, shape: Shape) -> Linear | None:
    """Return D A, for a D of one factor for each row of the weight."""
    if isinstance(map, Diagonal):
        return replace(map, scale=map.scale * scale)
    if isinstance(map, Dense):
        each = _each(scale, shape, len(shape) - 1, map)
        return None if each is None else replace(map, weight=map.weight * each[:, None])
    if isinstance(map, Convolution):
        each = _each(scale, shape, 0, map)
        if each is None:
            return None
        if not map.backwards:
            return replace(map, weight=map.weight * _along(each, 0, map.weight))
        return replace(map, weight=_grouped(map.weight, map.groups, each))
    return None


def _fed(map: Linear, scale: Tensor) -> Linear | None:
    """Return A D, for a D of one factor for each column of the weight."""
    if isinstance(map, Dense):
        each = _each(scale, map.source, len(map.source) - 1, map)
        return None if each is None else replace(map, weight=map.weight * each)
    if isinstance(map, Convolution):
        each = _each(scale, map.source, 0, map)
        if each is None:
            return None
        if map.backwards:
            return replace(map, weight=map.weight * _along(each, 0, map.weight))
        return replace(map, weight=_grouped(map.weight, map.groups, each))
    return None


def _each(scale: Tensor, shape: Shape, axis: int, map: Linear) -> Tensor | None:
    """Return the factors along one axis of a value, if they are the same along all others.

    They are put where the map is: a factor that was a Python number lies on the host.
    """
    whole = scale.reshape([1] * (len(shape) - scale.ndim) + list(scale.shape))
    if any(size != 1 for place, size in enumerate(whole.shape) if place != axis):
        return None
    return whole.flatten().to(map.device).expand(shape[axis])


def _along(each: Tensor, axis: int, weight: Tensor) -> Tensor:
    return each.reshape([-1 if place == axis else 1 for place in range(weight.ndim)])


def _grouped(weight: Tensor, groups: int, each: Tensor) -> Tensor:
    """Multiply along the second axis of a weight, which each group of the first counts from 0."""
    parts = weight.chunk(groups)
    factors = each.chunk(groups)
    pairs = zip(parts, factors, strict=True)
    return torch.cat([part * _along(factor, 1, part) for part, factor in pairs])


__all__ = ["folded"]
