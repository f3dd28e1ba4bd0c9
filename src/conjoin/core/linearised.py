"""The nearest boundary of a quantity that is linearised at a point: how far, and which way.

Where the quantity is a minimum of linear functions of the outputs, as the margin is of one for each
other class, each of the least ones is linearised by itself: Q_k reaches the goal at the distance
(Q_k - goal) / ‖∇Q_k‖_*, along the threat's steepest step, and the nearest of them counts. Any other
quantity is linearised as it is. The dual norm is <∇Q, v> for the threat's steepest step v, so no norm
is named here; where walls of S(x) take part of the step away, it is made longer by what is missing. It
is an *estimate*: nothing bounds how much a network bends on the way.

Reference: moosavi2016, section 3 (several classes).
"""

from __future__ import annotations

import torch
from torch import Tensor

from conjoin.core.gradient import gradients, need_floats
from conjoin.core.projection import column
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import PiecewiseLinear, Quantity
from conjoin.core.rung import meets
from conjoin.core.threat import Projectable

LONGEST = 2.0  # times the step without walls


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Return <a, b> per example in double precision."""
    return (a.double() * b).flatten(1).sum(1)


def nearest_plane(
    model: Model,
    batch: Batch,
    x: Tensor,
    threat: Projectable,
    quantity: Quantity,
    candidates: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the quantity, the shortest step to where one of its parts reaches the goal, its length.

    ``batch`` holds the points from which the steps go, ``x`` the examples round which the sets lie. One
    pass forwards, and one backwards for each of the ``candidates`` least parts. Without any slope the
    step is 0, and infinitely long.
    """
    need_floats(batch)
    with torch.enable_grad():
        leaf = batch.x.detach().requires_grad_()
        outputs = model(batch.at(leaf))
        value = quantity(outputs, batch.aim)
        parts = _parts(outputs, value, batch.aim, quantity, candidates)
    shortest = torch.full((len(leaf),), torch.inf, dtype=torch.float64, device=leaf.device)
    step = torch.zeros_like(batch.x)
    for place, part in enumerate(parts):
        (gradient,) = gradients(part, (leaf,), again=place + 1 < len(parts))
        direction = threat.steepest(-gradient, batch.x)
        gap, slope = part.detach().double() - quantity.goal, -inner(gradient, direction)
        move = column(torch.where(slope > 0, gap / slope, 0).to(step.dtype), step) * direction
        taken = -inner(gradient, threat.project(batch.x + move, x) - batch.x)
        longer = torch.where(taken > 0, gap / taken, LONGEST).clamp(1, LONGEST)
        length = torch.where(slope > 0, longer * gap / slope, torch.inf)
        nearer = length < shortest
        shortest = torch.where(nearer, length, shortest)
        step = torch.where(column(nearer, step), column(longer.to(step.dtype), step) * move, step)
    return value.detach(), step, shortest


def _parts(
    outputs: Tensor, value: Tensor, aim: Tensor, quantity: Quantity, candidates: int
) -> tuple[Tensor, ...]:
    """Return the least linear parts of the quantity, or itself."""
    if not meets(quantity, PiecewiseLinear):
        return (value,)
    rows = quantity.rows(aim, outputs.shape[1]).to(outputs.dtype)
    parts = torch.einsum("brc,bc->br", rows, outputs)
    least = parts.topk(min(candidates, parts.shape[1]), dim=1, largest=False).indices
    return parts.gather(1, least).unbind(1)


__all__ = ["inner", "nearest_plane"]
