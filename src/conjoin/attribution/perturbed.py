"""Copies of an example with parts replaced by a baseline, and what a quantity is there.

Perturbation methods need outputs only: they ask Q(b + m ⊙ (x - b)) for many masks m, several to a
pass, and differ in the masks and in what they make of the answers. What is asked is what the model
says of inputs that it was never trained on; the baseline decides what "absent" means.

Reference: covert2021 (explaining by removal).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, cast

import torch
from torch import Tensor

from conjoin.core.distribution import Reference
from conjoin.core.naming import describe, name_of
from conjoin.core.protocols import Batch, Model, Sliceable
from conjoin.core.quantity import Question
from conjoin.core.returned import returned
from conjoin.errors import PlanError

CELLS = 49  # of the usual grid: 7 by 7 of an image, 49 of a sequence


def places(x: Tensor) -> tuple[int, ...]:
    """Return the axes of places: a table's columns; of anything else all axes but the channels'."""
    return tuple(x.shape[1:] if x.ndim == 2 else x.shape[2:])


def over_channels(mask: Tensor, x: Tensor) -> Tensor:
    """Let a mask of places, ``(..., *places)``, stand for all channels of ``x``."""
    return mask if x.ndim == 2 else mask.unsqueeze(-(x.ndim - 1))


def cells(sides: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sides of the cells of the usual grid, of at most 49 cells or so in all."""
    along = max(1, round(CELLS ** (1 / len(sides))))
    return tuple(math.ceil(side / along) for side in sides)


def grouped(groups: Tensor | None, x: Tensor) -> tuple[Tensor, int]:
    """Number each element's group, ``(*input)`` from 0, and count the groups.

    Without ``groups`` the columns of a table are groups of one, and all else is cut by the usual grid.

    Raises:
        PlanError: If the groups are no whole numbers, or do not fit the inputs.
    """
    if groups is None:
        return _grid(x)
    if groups.is_floating_point() or groups.is_complex():
        raise PlanError(f"expected the number of each element's group; got {describe(groups)}")
    try:
        whole = groups.to(x.device).broadcast_to(1, *x.shape[1:])[0]
    except RuntimeError as error:
        raise PlanError(
            f"groups of shape {tuple(groups.shape)} do not fit inputs of shape "
            f"{tuple(x.shape[1:])}; give one number for each element, (1, *input)"
        ) from error
    found, ids = whole.unique(return_inverse=True)
    return ids, len(found)


def _grid(x: Tensor) -> tuple[Tensor, int]:
    sides = places(x)
    size = (1,) * len(sides) if x.ndim == 2 else cells(sides)
    ids, count = torch.zeros(1, dtype=torch.int64, device=x.device), 1
    for side, cell in zip(sides, size, strict=True):
        along = torch.arange(side, device=x.device) // cell
        many = math.ceil(side / cell)
        ids, count = ids[..., None] * many + along, count * many
    return over_channels(ids[0], x[:1]).expand(x.shape[1:]), count


def blank_of(baseline: Reference, model: Model, batch: Batch) -> Tensor:
    """Return the baseline of each example.

    Raises:
        PostconditionError: If it is not like the inputs.
    """
    # A baseline that needs more than outputs finds out by itself.
    came: object = baseline(cast(Sliceable, model), batch)
    x = batch.x
    return returned(baseline, came, x.shape, x, dtype=x.dtype, what="its baseline")


def asked(model: Model, batch: Batch, quantity: Question, inputs: Tensor) -> Tensor:
    """Ask a quantity of several inputs for each example, ``(copies, batch, *input)``, in one pass.

    Returns ``(copies, batch)``, in the precision of the inputs, and in the graph of ``batch.x`` if
    that has one.
    """
    rows = batch.repeated(len(inputs)).at(inputs.flatten(0, 1))
    with torch.set_grad_enabled(batch.x.requires_grad):
        outputs = model(rows)
        told: object = quantity(outputs, rows.aim)
        value = returned(quantity, told, (len(rows),), outputs)
    kind = batch.x.dtype if batch.x.is_floating_point() else value.dtype
    return value.reshape(len(inputs), len(batch)).to(kind)


def chunks(count: int, size: int) -> Iterator[range]:
    """Cut ``count`` copies into passes of ``size``."""
    for first in range(0, count, size):
        yield range(first, min(first + size, count))


def spelled(method: Any) -> str:
    """Write a method with its parameters, the same in every process."""
    parts = [f"{f.name}={_said(getattr(method, f.name))}" for f in fields(method)]
    return f"{type(method).__name__}({', '.join(parts)})"


def _said(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{len(value.unique())} of {value.numel()} elements"
    return name_of(value)


__all__ = [
    "CELLS",
    "asked",
    "blank_of",
    "cells",
    "chunks",
    "grouped",
    "over_channels",
    "places",
    "spelled",
]
