"""Projections onto a hyperplane within a box: the shortest move that changes a linear function by c.

min ‖d‖_p over <w, d> = c and low <= d <= high, where low <= 0 <= high; per example. The optimality
conditions leave one multiplier t >= 0, with s = sign(c): d = clip(s t w) for the Euclidean norm,
d = clip(s t sign(w)) for the largest element, and for the sum the elements of largest |w| go to
their ends, one after another. |<w, d(t)>| is concave and piecewise linear in t, so Newton's method
from t = 0 ends in finitely many steps, never beyond the solution. Where the plane does not meet the
box the corner nearest to it is returned. The numbers are *not* rounded strictly to either side.

Reference: croce2020fab, section 2.2 (the box-constrained projections).
"""

from __future__ import annotations

import torch
from torch import Tensor

TURNS = 1000  # of Newton's method, at most; each passes a breakpoint, and few are needed


def onto_plane(w: Tensor, c: Tensor, low: Tensor, high: Tensor, order: float) -> Tensor:
    """Return the shortest displacement with <w, d> = c inside the box, or the corner nearest to it.

    Args:
        w: Normals, ``(batch, features)``.
        c: Changes asked for, ``(batch,)``.
        low, high: Least and largest displacement of each element, ``(batch, features)``.
        order: The p of the norm: 1, 2 or infinity.
    """
    way = w.sign() * c.sign()[:, None]
    reach = torch.where(way > 0, high, -low).masked_fill(way == 0, 0)
    size, wanted = w.abs(), c.abs()
    if order == 1:
        return way * _filled(size, reach, wanted)
    speed = size if order == 2 else torch.ones_like(size)
    t, slope, short = torch.zeros_like(wanted), wanted, wanted
    near = 4 * torch.finfo(w.dtype).eps
    going = wanted > 0
    for _ in range(TURNS):
        moved = speed * t[:, None]
        slope = (size * speed * (moved < reach)).sum(1)
        short = wanted - (size * torch.minimum(moved, reach)).sum(1)
        # Each example rests by its own numbers, so that nothing depends on the others.
        going = going & (slope > 0) & (short > near * wanted)
        if not bool(going.any()):
            break
        t = torch.where(going, t + short / slope, t)
    spent = (slope <= 0) & (short > near * wanted)  # nothing is left to move
    moved = torch.where(spent[:, None], reach, torch.minimum(speed * t[:, None], reach))
    return way * moved


def _filled(size: Tensor, reach: Tensor, wanted: Tensor) -> Tensor:
    """Move the elements of largest ``size`` to their ends, until the change is as wanted."""
    order = size.argsort(dim=1, descending=True, stable=True)
    size, reach = size.gather(1, order), reach.gather(1, order)
    gain = torch.where(size > 0, size * reach, 0)  # of an infinite reach, too
    before = torch.nn.functional.pad(gain.cumsum(1), (1, 0))[:, :-1]
    share = (wanted[:, None] - before) / torch.where(size > 0, size, 1)
    moved = torch.minimum(share.clamp(min=0), reach) * (size > 0)
    return torch.zeros_like(moved).scatter(1, order, moved)


__all__ = ["onto_plane"]
