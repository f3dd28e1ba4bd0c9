"""Euclidean projections onto a norm ball cut by a box, strictly inside in real arithmetic.

For an input x the point nearest to z with ‖p - x‖ <= eps and low <= p <= high, where low <= x <= high.
The optimality conditions leave one multiplier t per example: p = clip(x + t d, low, high) for the
Euclidean norm and ``p = clip(x + sign(d) max(|d| - t, 0), low, high)`` for the sum, d = z - x; this
is *not* the usual "rescale, then clip", which is only feasible. The equation ‖p(t) - x‖ = eps is
solved on the rounded points themselves, with rounding errors added to their length, so its solution
is strictly inside and at most a few units in the last place from the nearest point. (For the largest
element the set is a box: clip.)

Reference: croce2021, section 3 (projection onto the l1 ball and the box).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.core.exact import SMALL, distance, holds, relative_error


def column(value: Tensor, like: Tensor) -> Tensor:
    """Shape one number per example to broadcast along the axes of ``like``."""
    return value.reshape(-1, *[1] * (like.ndim - 1))


@dataclass(frozen=True, slots=True)
class Rule:
    """How the projection onto one norm's ball depends on its multiplier.

    Attributes:
        order: The p of the norm.
        moved: The displacement that belongs to (d, t), before the box.
        ends: The t at which nothing is left of d, and the one that leaves d as it is.
        guess: A first trial from (d, eps).
    """

    order: float
    moved: Callable[[Tensor, Tensor], Tensor]
    ends: Callable[[Tensor], tuple[Tensor, Tensor]]
    guess: Callable[[Tensor, Tensor], Tensor]


def _scaled(d: Tensor, t: Tensor) -> Tensor:
    return t[:, None] * d


def _shrunk(d: Tensor, t: Tensor) -> Tensor:
    return d.sign() * (d.abs() - t[:, None]).clamp_(min=0)


def _length(d: Tensor, order: float) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(d, ord=order, dim=1, dtype=torch.float64)
    return length


EUCLIDEAN = Rule(
    2.0,
    _scaled,
    lambda d: (torch.zeros_like(d[:, 0]), torch.ones_like(d[:, 0])),
    lambda d, eps: eps / _length(d, 2.0),  # right where no element meets the box
)
SUM = Rule(
    1.0,
    _shrunk,
    lambda d: (d.abs().amax(1), torch.zeros_like(d[:, 0])),
    # right where no element meets the box and none comes to rest at x
    lambda d, eps: (_length(d, 1.0) - eps) / (d != 0).sum(1),
)


def nearest(rule: Rule, z: Tensor, x: Tensor, limits: tuple[Tensor, Tensor], eps: Tensor) -> Tensor:
    """Project ``z`` onto the ball of radius ``eps`` round ``x``, within the limits of each element.

    What lies inside comes back as it is; everything returned lies inside in real arithmetic.
    ``eps`` is in double precision, one per example.
    """
    clipped = torch.minimum(torch.maximum(z, limits[0]), limits[1])
    out = (~holds(clipped, x, eps, rule.order)).nonzero()[:, 0]
    if len(out) == 0:
        return clipped
    z, x, low, high = (value[out].flatten(1) for value in (z, x, *limits))
    d, eps = z - x, torch.where(eps[out] < SMALL, 0, eps[out])
    slack = 1 + relative_error(d.shape[1])

    def path(t: Tensor) -> Tensor:
        return (x + rule.moved(d, t)).clamp_(low, high)

    def excess(t: Tensor) -> Tensor:
        return distance(path(t), x, rule.order) * slack / eps - 1

    t = _last_inside(excess, rule.ends(d), rule.guess(d, eps))
    return clipped.index_copy_(0, out, path(t).reshape(-1, *clipped.shape[1:]))


def _last_inside(
    excess: Callable[[Tensor], Tensor], ends: tuple[Tensor, Tensor], trial: Tensor
) -> Tensor:
    """Return a t with excess(t) <= 0, and close to 0, between two ends of which the first has it.

    False position (the rule of Anderson and Björck) per example, until the excess is at least -4
    units in the last place or no float is left between; every fifth turn halves what is left.
    """
    inner, outer = ends
    unit = 4 * torch.finfo(inner.dtype).eps
    aim = unit / 2
    below = torch.full_like(trial, aim - 1)  # the excess at ``inner``, less what is aimed at
    above = excess(outer) + aim
    done = ~above.isfinite()  # a radius of 0: nothing but x itself
    for turn in range(100):
        low, high = torch.minimum(inner, outer), torch.maximum(inner, outer)
        first, last = low.nextafter(high), high.nextafter(low)
        trial = low + (high - low) / 2 if turn % 5 == 4 else trial.to(low.dtype)
        t = trial.clamp(first, last)
        done |= first >= high
        if bool(done.all()):
            break
        value = excess(t) + aim
        inside = value <= aim
        ratio = 1 - value / torch.where(inside, below, above)
        weight = torch.where(ratio > 0, ratio, 0.5)
        inner, outer = torch.where(inside & ~done, t, inner), torch.where(inside | done, outer, t)
        below = torch.where(inside, value, below * weight)
        above = torch.where(inside, above * weight, value)
        done |= inside & (value >= -aim)
        trial = inner + (outer - inner) * (below / (below - above))
    return inner
