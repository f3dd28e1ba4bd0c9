"""The last affine maps of a network, folded into what is asked of its outputs.

A row ρ of the quantity and a chain of affine maps z = A h + b give ρ·z = (Aᵀρ)·h + ρ·b: one linear
function of the features h before the chain, in which what the classes share cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.certification.rounding import gamma
from conjoin.core.operator import Affine, Reshape, Step


@dataclass(frozen=True, slots=True)
class Folded:
    """Linear functions of the features: ``rows`` · h + ``offset``, up to rounding.

    Attributes:
        rows: ``(batch, k, features)``, in double precision.
        offset: ``(batch, k)``.
        size: Magnitudes that ``rows`` was summed from: its error is ``share`` times these.
        offset_size: Likewise of ``offset``.
        share: Relative error of both.
    """

    rows: Tensor
    offset: Tensor
    size: Tensor
    offset_size: Tensor
    share: float


def tail(steps: Sequence[Step]) -> tuple[int, ...]:
    """Return the places of the last affine maps and moves of elements, the first of them first."""
    places: list[int] = []
    place = len(steps) - 1
    while isinstance(steps[place].op, Affine | Reshape):
        places.insert(0, place)
        place = steps[place].sources[0]
    return tuple(places)


def fold(steps: Sequence[Step], chain: Sequence[int], rows: Tensor) -> Folded:
    """Carry rows of the outputs, ``(batch, k, classes)``, back through a chain of affine maps."""
    batch, k = rows.shape[:2]
    rows = rows.flatten(0, 1)
    size = rows.abs()
    offset = rows.new_zeros(len(rows))
    offset_size, share = offset, 0.0
    for place in reversed(chain):
        step = steps[place]
        op = step.op
        rows, size = rows.reshape(-1, *step.shape), size.reshape(-1, *step.shape)
        if isinstance(op, Affine):
            if op.bias is not None:
                bias = op.bias.expand(step.shape)
                magnitude = bias.abs() if op.size is None else op.size.expand(step.shape)
                offset = offset + (rows * bias).flatten(1).sum(1)
                offset_size = offset_size + (size * magnitude).flatten(1).sum(1)
            share += 2 * gamma(rows[0].numel() + op.map.terms + 16)
            rows, size = op.map.transposed(rows), op.map.absolute().transposed(size)
        elif isinstance(op, Reshape):
            rows, size = op.transposed(rows), op.transposed(size)
        rows, size = rows.flatten(1), size.flatten(1) * (1 + share)
    return Folded(
        rows.reshape(batch, k, -1),
        offset.reshape(batch, k),
        size.reshape(batch, k, -1),
        offset_size.reshape(batch, k),
        share,
    )


def features(steps: Sequence[Step], chain: Sequence[int]) -> int:
    """Return the place of the value before a chain; the output's if the chain is empty."""
    return steps[chain[0]].sources[0] if chain else len(steps) - 1


def identity(classes: int, device: torch.device) -> Tensor:
    """Return one row per class, ``(1, classes, classes)``."""
    return torch.eye(classes, dtype=torch.float64, device=device)[None]


__all__ = ["Folded", "features", "fold", "identity", "tail"]
