"""Sums and norms of floats with their rounding known: what "inside, in real arithmetic" rests on.

A sum of two floats is a float plus an error that is again a float (TwoSum), so the largest float
below a real sum can be told; a norm is measured in double precision with a bound of its relative
error for any order of summation, and by rational arithmetic where that bound does not decide.

Reference: higham2002, sections 3.1 (sums) and 4.3 (TwoSum).
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

SMALL = 1e-150  # squares of lengths below it may vanish in double precision
BLOCK = 1 << 15  # numbers at a time on a CPU: what is computed in between stays in its cache


def down(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the largest floats of ``dtype`` that do not exceed ``value``, in double precision."""
    near = value.to(dtype)
    return torch.where(near > value, near.nextafter(torch.full_like(near, -math.inf)), near)


def sum_down(x: Tensor, step: Tensor) -> Tensor:
    """Return the largest floats of x's dtype that do not exceed x + step in real arithmetic.

    ``step`` holds one number per example, in double precision; it may be infinite.
    """
    flat, column = x.flatten(1), step[:, None]
    block = max(1, BLOCK // max(1, flat.shape[1])) if x.device.type == "cpu" else max(1, len(x))
    parts = zip(flat.split(block), column.split(block), strict=True)
    return torch.cat([_sum_down(*part) for part in parts]).reshape(x.shape)


def _sum_down(x: Tensor, step: Tensor) -> Tensor:
    wide = x.to(torch.float64, copy=True)  # written to below
    total = wide + step
    part = total - wide
    lost = wide.sub_(total - part).add_(part.neg_().add_(step))  # total + lost = x + step, exactly
    below = total.nextafter(part.fill_(-math.inf))
    return down(torch.where(lost < 0, below, total), x.dtype)


def relative_error(terms: int) -> float:
    """Bound the relative error of a norm of ``terms`` differences in double precision.

    Twice the (terms + 4) 2^-53 of differences, squares, sum in any order and root.
    """
    return (terms + 16) * 2.0**-52


def distance(z: Tensor, x: Tensor, order: float) -> Tensor:
    """Measure ‖z - x‖_p per example in double precision, within :func:`relative_error`."""
    difference = (z.double() - x).flatten(1)
    if order == 1:  # the general norm takes three times as long
        return difference.abs_().sum(1)
    length: Tensor = torch.linalg.vector_norm(difference, ord=order, dim=1)
    return length


def holds(z: Tensor, x: Tensor, eps: Tensor, order: float) -> Tensor:
    """Tell which ‖z - x‖_p <= eps in real arithmetic, for p = 1 or 2; ``eps`` one per example."""
    length, error = distance(z, x, order), relative_error(x.shape[1:].numel())
    held = length * (1 + error) <= eps
    doubtful = ~held & (length * (1 - error) <= eps)
    moved = (z != x).flatten(1).any(1)
    vanished = (length < SMALL) & moved | length.isinf()
    doubtful |= vanished & eps.isfinite()
    for row in doubtful.nonzero()[:, 0].tolist():  # rare: on the sphere to 1e-12
        held[row] = _within(z[row], x[row], float(eps[row]), order)
    return held


def _within(z: Tensor, x: Tensor, eps: float, order: float) -> bool:
    """Decide one case by rational arithmetic."""
    moved = z != x
    pairs = zip(z[moved].tolist(), x[moved].tolist(), strict=True)
    gaps = (abs(Fraction(a) - Fraction(b)) for a, b in pairs)
    return bool(sum(gap ** int(order) for gap in gaps) <= Fraction(eps) ** int(order))
