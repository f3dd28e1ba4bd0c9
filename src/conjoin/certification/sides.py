"""Across which side a box is best halved: the one to which relaxations owe most.

A function that is relaxed costs a linear bound ``|Λ|`` times the distance of its two lines, Λ being
the coefficient with which it enters. That its argument has an interval at all is owed to the sides of
the box by the shares of its affine form, and so is the cost::

    cost_i  =  Σ_j  |Λ_j| gap_j  |g_ij| / Σ_k |g_kj|

Halving a side along which all is linear gains nothing, however steep it is. A side that is far more
often halved than another is passed over, so that all become small in the end. It is a guess, *not* a
bound: any side is right.

Reference: wang2018reluval, section 4.3 (influence of inputs).
"""

from __future__ import annotations

import torch
from torch import Tensor

from conjoin.certification.backward import Descent, Relaxed
from conjoin.certification.forms import Forms
from conjoin.core.linear import flat

NARROW = 32  # times as often as the least: then a side waits


def costs(forms: Forms, known: Relaxed, met: Descent, which: Tensor) -> Tensor:
    """Return what relaxations cost a linear bound, by side of the box, ``(batch, sides)``.

    Args:
        forms: Of the activations.
        known: The relaxation.
        met: The bounds' way back, with the coefficients of all functions.
        which: The row that is meant of each example.
    """
    found = torch.zeros_like(met.rows[:, 0])
    for place, value in met.met.items():
        pair, source = known.lines[place], known.steps[place].sources[0]
        form = forms.known.get(source)
        if form is None or pair.over.shape != form.centre.shape:  # of pairs, the lines are of half
            continue
        at = which.reshape(-1, 1, *[1] * (value.ndim - 2)).expand(-1, 1, *value.shape[2:])
        size = flat(value.gather(1, at)[:, 0].abs())
        gap = (pair.above - pair.below) * form.centre + pair.over - pair.under
        cost = (size * flat(gap).clamp(min=0)).nan_to_num()
        own = flat(form.shares, 2)[:, : len(forms.free)].abs()
        own = own / own.sum(1, keepdim=True).clamp(min=1e-300)
        found[:, forms.free] += torch.einsum("bin,bn->bi", own, cost)
    return found


def chosen(cost: Tensor, width: Tensor, whole: Tensor) -> Tensor:
    """Choose a side for each box.

    Args:
        cost: Of each side, ``(batch, sides)``.
        width: Of the box.
        whole: Of the box that it is a part of.
    """
    share = torch.where(whole > 0, width / whole, 0.0)
    late = share < share.amax(1, keepdim=True) / NARROW
    score = torch.where(cost.amax(1, keepdim=True) > 0, cost, share)
    return torch.where(late, -1.0, score).argmax(1)


__all__ = ["chosen", "costs"]
