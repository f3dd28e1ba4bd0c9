"""What an opaque operator does, as places and factors: found by running it, not by believing a name.

    y_o = Σ_r factor[o, r] · x[place[o, r]]        or the largest of x[place[o, :]]

Pools, means, padding, moves and copies are closures to a reasoner; a file needs numbers. A linear map
is run on the unit vectors, a move on whole numbers, and a maximum on unit vectors too: an element is in
the windows that it raises. -1 fills up rows that have fewer entries.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from conjoin.core.linear import Averages, Shape
from conjoin.core.operator import Elementwise, MaxWindows, Reshape
from conjoin.errors import CapabilityError

LARGEST = 2**24  # elements in times elements out
_FAR = 1e30


def linear_entries(map: Averages, source: Shape, rows: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return places ``(rows, k)`` and factors of a map without negative entries.

    Raises:
        CapabilityError: If it is too large to be looked at.
    """
    matrix = _images(map, source, rows)
    order = _first(matrix != 0)
    factors = np.take_along_axis(matrix, order, 1)
    return np.where(factors != 0, order, -1), factors


def windows(op: MaxWindows, source: Shape, rows: int) -> NDArray[Any]:
    """Return the places of each window, ``(rows, k)``.

    Raises:
        CapabilityError: If it is too large to be looked at.
    """
    if op.pool is not None:
        return _pooled(op.pool, source)
    inside = _images(op, source, rows) > 0
    order = _first(inside)
    return np.where(np.take_along_axis(inside, order, 1), order, -1)


def moved(op: Reshape) -> NDArray[Any]:
    """Return the place that each element of the result comes from, ``(rows, 1)``."""
    count = math.prod(op.source)
    places = op(torch.arange(count, dtype=torch.float64).reshape(1, *op.source))
    return places.long().reshape(-1, 1).numpy()


def function_of(op: Elementwise) -> tuple[str, list[float]]:
    """Return a function's name, and its ends: the limits of a clip, the slope of a leaky ReLU."""
    low, high = op(torch.tensor([-_FAR, _FAR], dtype=torch.float64)).tolist()
    if op.name == "leaky_relu":
        return op.name, [min(op.slopes, key=lambda s: abs(s + low / _FAR)), 0.0]
    name = "clip" if op.name in {"clip", "hardtanh"} else op.name
    return name, [low, high]


def _images(op: Any, source: Shape, rows: int) -> NDArray[Any]:
    """Return what an operator makes of the unit vectors, ``(rows, elements)``."""
    count = math.prod(source)
    if count * rows > LARGEST:
        raise CapabilityError(f"{op.name}: {rows} x {count} entries are too many to look at")
    unit = torch.eye(count, dtype=torch.float64).reshape(-1, *source)
    return torch.cat([op(part).flatten(1) for part in unit.split(256)]).T.numpy()


def _pooled(pool: tuple[Shape, Shape, Shape, Shape], source: Shape) -> NDArray[Any]:
    """Return the places of the windows of a pool over the last axes, by its numbers."""
    axes = len(pool[0])
    outer, inner = source[:-axes], source[-axes:]
    lines = []
    for n, k, stride, pad, d in zip(inner, *pool, strict=True):
        starts = np.arange(-pad, n + pad - d * (k - 1), stride)
        at = starts[:, None] + d * np.arange(k)
        lines.append(np.where((at >= 0) & (at < n), at, -1))
    whole = np.arange(math.prod(outer)).reshape(-1, 1)
    for n, at in zip(inner, lines, strict=True):
        joined = whole[:, None, :, None] * n + at[None, :, None, :]
        inside = (whole[:, None, :, None] >= 0) & (at[None, :, None, :] >= 0)
        whole = np.where(inside, joined, -1).reshape(len(whole) * len(at), -1)
    order = _first(whole >= 0)
    return np.where(
        np.take_along_axis(whole >= 0, order, 1), np.take_along_axis(whole, order, 1), -1
    )


def _first(inside: NDArray[Any]) -> NDArray[Any]:
    """Return the places of the entries of each row, in order."""
    most = max(1, int(inside.sum(1).max()))
    return np.argsort(~inside, axis=1, kind="stable")[:, :most]


__all__ = ["function_of", "linear_entries", "moved", "windows"]
