"""How far a smoothed gradient can drift: certified stability of SmoothGrad.

    ‖∇F(z) - ∇F(x)‖ <= B(r) = 2 K (2 Φ(r / 2σ) - 1)      for ‖z - x‖ <= r,

F = f * N(0, σ² I) with f Lipschitz with constant K in l2, so that ‖∇f‖ <= K almost everywhere: both
gradients average the same field over two normal distributions, whose total variation is
2 Φ(r / 2σ) - 1. An average of n draws is off by at most K/√n (1 + √(2 ln 1/α)) with probability
1 - α, whatever the dimension: K/√n in the mean, the rest by bounded differences. Nothing of the kind
holds for the gradient itself, which jumps at every kink: a Lipschitz network does *not* have a
Lipschitz gradient. What follows from a distance d: :func:`least_cosine`, :func:`least_overlap`.

Reference: levine2019 (certified SmoothGrad); mcdiarmid1989 (bounded differences).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from conjoin.certification.head import Asked
from conjoin.certification.known import linear_rows
from conjoin.certification.lipschitz import PreparedLipschitz, row_constants
from conjoin.core.quantity import Quantity
from conjoin.errors import DataError, PlanError
from conjoin.typing import PerExample

UNIT = 1e-12  # relative room for the rounding of these few operations in double precision


def steepness(ready: PreparedLipschitz, quantity: Quantity, aim: Tensor) -> PerExample:
    """Return an upper bound of the l2 Lipschitz constant of a quantity, per example of ``aim``.

    Of a minimum of linear functions of the outputs: that of the steepest. In double precision, in units
    of the quantity per input unit, over all inputs.

    Raises:
        CapabilityError: If the quantity does not tell its rows.
    """
    ask, found = linear_rows(quantity, ready), ready.constants
    dim = None if aim.ndim == 1 else 0
    aims, which = aim.unique(dim=dim, return_inverse=True)
    rows = Asked.of(ask.rows(aims, len(found.single)))
    return row_constants(found, rows)[0].amax(1)[which]


def drift(constant: Tensor, radius: float, scale: float) -> Tensor:
    """Return B(r), the distance that the smoothed gradient can move within ``radius``, at most.

    Args:
        constant: K.
        radius: r, in l2.
        scale: σ of the noise, in input units.

    Raises:
        PlanError: If a radius is negative or a scale is not positive.
    """
    if not radius >= 0 or not 0 < scale < math.inf:
        raise PlanError(f"expected radius >= 0 and a positive scale; got {radius!r} and {scale!r}")
    moved = math.erf(radius / (2 * math.sqrt(2) * scale))  # 2 Φ(t) - 1 = erf(t / √2)
    return 2 * constant * min(moved * (1 + UNIT), 1.0) * (1 + UNIT)


def sampling_error(constant: Tensor, draws: int, alpha: float) -> Tensor:
    """Return how far an average of ``draws`` gradients can lie from ∇F(x), but with probability alpha.

    Raises:
        PlanError: If there are no draws, or ``alpha`` is no probability.
    """
    if draws < 1 or not 0 < alpha < 1:
        raise PlanError(f"expected draws >= 1 and 0 < alpha < 1; got {draws} and {alpha}")
    share = (1 + math.sqrt(2 * math.log(1 / alpha))) / math.sqrt(draws)
    return constant * share * (1 + UNIT)


def least_cosine(values: Tensor, distance: Tensor) -> Tensor:
    """Return the least cosine of ``values`` and any map within ``distance`` of them in l2.

    √(1 - (d/‖a‖)²), and -1, which says nothing, where d reaches the length of the map.
    """
    size = torch.linalg.vector_norm(values.flatten(1).double(), dim=1)
    part = distance / size.clamp(min=torch.finfo(torch.float64).tiny)
    held = distance < size
    cosine = (1 - part.square()).clamp(min=0).sqrt() - 1e-12
    return torch.where(held, cosine, -1.0)


def least_overlap(values: Tensor, distance: Tensor, top: int) -> Tensor:
    """Return the least share of the top that stays on top in any map within ``distance`` in l2.

    By magnitude. That t of the top leave, t others must pass each of them; with the smallest of the
    top and the largest of the rest, paired against each other, this takes at least
    Σ_pairs (a - b)² / 2 <= d².

    Args:
        values: ``(batch, features)``.
        distance: Per example.
        top: How many features are on top.

    Raises:
        DataError: If there are no more features than that.
    """
    size = values.flatten(1).double().abs()
    if not 0 < top < size.shape[1]:
        raise DataError(f"expected 0 < top < {size.shape[1]}, the number of features; got {top}")
    ordered = size.sort(1, descending=True).values
    inside, outside = ordered[:, :top], ordered[:, top:]
    most = min(top, outside.shape[1])
    leave = torch.zeros_like(distance)
    for count in range(1, most + 1):
        gaps = inside[:, top - count :] - outside[:, :count].flip(1)
        cost = gaps.square().sum(1) / 2 * (1 - UNIT)
        leave = torch.where(cost <= distance.square(), float(count), leave)
    return 1 - leave / top


def pooled(values: Tensor, patch: int) -> Tensor:
    """Return sums over patches and channels over the root of their number, ``(batch, patches)``.

    An orthogonal projection: no distance grows. Patches at the edge that are cut off count as whole.

    Raises:
        DataError: If the maps are no images.
    """
    if values.ndim != 4 or patch < 1:
        raise DataError(
            "expected maps (batch, channels, height, width) and patch >= 1; got "
            f"{values.ndim} axes, {patch}"
        )
    one = values.double().sum(1, keepdim=True)
    high, wide = (-size % patch for size in one.shape[2:])
    whole = functional.pad(one, (0, wide, 0, high))
    sums = functional.avg_pool2d(whole, patch) * patch**2
    return sums.flatten(1) / math.sqrt(values.shape[1] * patch**2)


__all__ = [
    "drift",
    "least_cosine",
    "least_overlap",
    "pooled",
    "sampling_error",
    "steepness",
]
