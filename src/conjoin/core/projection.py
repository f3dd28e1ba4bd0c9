"""Exact Euclidean projections of a displacement onto a norm ball cut by a box.

For a displacement d0 the nearest d with ‖d‖_p <= eps and low <= d <= high, where low <= 0 <= high
(the box always holds the unperturbed input). All solve the optimality conditions for one
multiplier per example; none is the usual "rescale, then clip", which is only feasible.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _column(value: Tensor, like: Tensor) -> Tensor:
    return value.reshape(-1, *[1] * (like.ndim - 1))


def linf(d: Tensor, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Project onto the cube of half-width ``eps`` (one per example) and the box, element-wise."""
    radius = _column(eps, d)
    return torch.minimum(torch.maximum(d, torch.maximum(low, -radius)), torch.minimum(high, radius))


def l2(d: Tensor, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Project onto the Euclidean ball of radius ``eps`` (one per example) and the box.

    The solution is clip(t d, low, high) with the largest t in (0, 1] that fits the ball. Starting
    from no clipping, t only grows while coordinates hit the box, so the active-set iteration
    t² = (eps² - Σ_clipped bound²) / Σ_free d² ends after finitely many steps with the exact t.
    """
    flat, lo, hi = d.flatten(1), low.flatten(1), high.flatten(1)
    bound = torch.where(flat >= 0, hi, -lo)
    size = flat.abs()
    inside = torch.minimum(size, bound).square().sum(1) <= eps.square()
    t = _scale(torch.zeros_like(size, dtype=torch.bool), size, bound, eps)
    for _ in range(size.shape[1]):
        grown = torch.maximum(t, _scale(t[:, None] * size >= bound, size, bound, eps))
        settled = grown <= t
        t = grown
        if bool((settled | inside).all()):
            break
    t = torch.where(inside, torch.ones_like(t), t.clamp(max=1))
    return torch.minimum(torch.maximum(t[:, None] * flat, lo), hi).reshape(d.shape)


def _scale(clipped: Tensor, size: Tensor, bound: Tensor, eps: Tensor) -> Tensor:
    """Solve ‖min(t·size, bound)‖ = eps for t, given which coordinates are clipped."""
    rest = eps.square() - torch.where(clipped, bound, 0).square().sum(1)
    free = torch.where(clipped, 0, size).square().sum(1)
    t = (rest.clamp(min=0) / free.clamp(min=torch.finfo(size.dtype).tiny)).sqrt()
    return torch.where(free > 0, t, torch.ones_like(t))


def l1(d: Tensor, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Project onto the l1 ball of radius ``eps`` (one per example) and the box.

    The solution is ``sign(d) clip(|d| - t, 0, bound)`` with the least t >= 0 that fits the ball.
    Bisection finds the linear piece that holds the root; one closed-form step then solves it.

    Reference: croce2021, section 3 (projection onto the l1 ball and the box).
    """
    flat, lo, hi = d.flatten(1), low.flatten(1), high.flatten(1)
    bound = torch.where(flat >= 0, hi, -lo)
    size = flat.abs()

    def shrunk(t: Tensor) -> Tensor:
        return torch.minimum((size - t[:, None]).clamp(min=0), bound)

    below = torch.zeros_like(eps)
    above = size.amax(1)
    for _ in range(30):
        middle = (below + above) / 2
        outside = shrunk(middle).sum(1) > eps
        below, above = torch.where(outside, middle, below), torch.where(outside, above, middle)
    excess = size - above[:, None]
    full, sloped = excess >= bound, (excess > 0) & (excess < bound)
    total = torch.where(full, bound, 0).sum(1) + torch.where(sloped, size, 0).sum(1)
    t = (total - eps) / sloped.sum(1).clamp(min=1)
    t = torch.minimum(torch.maximum(t, below), above)  # the root lies in the bracket
    t = torch.where(shrunk(t).sum(1) > eps, above, t)  # rounding must not leave the ball
    inside = torch.minimum(size, bound).sum(1) <= eps
    return (flat.sign() * shrunk(torch.where(inside, torch.zeros_like(t), t))).reshape(d.shape)
