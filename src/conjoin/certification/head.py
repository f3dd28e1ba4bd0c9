"""The last affine maps of a network, folded into what is asked of its outputs.

A row ρ of the quantity and a chain of affine maps z = A h + b give ρ·z = (ρA)·h + ρ·b: one linear
function of the features h before the chain, in which what the classes share cancels. Folding is linear
in ρ, so the rows V = A of the classes are folded once for each network, and a row of a quantity is
the sum ρV of theirs; of z_y - z_k the difference of two. What is shared cancels in it up to rounding,
which is relative to the magnitudes that *both* were summed from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.certification.rounding import gamma
from conjoin.core.linear import Averages, Diagonal, Shape, flat
from conjoin.core.operator import Affine, Given, Reshape, Step

PART = 2**22  # numbers of a part of the rows: 32 MiB


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """The outputs as linear functions of the features: ``rows`` · h + ``offset``, up to rounding.

    Attributes:
        rows: ``(classes, features)``, in double precision.
        offset: ``(classes,)``.
        size: Magnitudes that ``rows`` was summed from: its error is at most ``share`` times these.
        offset_size: Likewise of ``offset``.
        share: Relative error of both.
    """

    rows: Tensor
    offset: Tensor
    size: Tensor
    offset_size: Tensor
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Rows ρ of a quantity, ``(batch, k, classes)``, and which are a logit or a difference of two.

    Attributes:
        rows: The rows.
        i, j: Where each is largest and least, ``(batch, k)``.
        logit, difference: Whether it is e_i, and e_i - e_j.
    """

    rows: Tensor
    i: Tensor
    j: Tensor
    logit: Tensor
    difference: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Asked:
        """Look at rows."""
        most, least = rows.max(2), rows.min(2)
        entries, one = rows.count_nonzero(2), most.values == 1
        difference = (entries == 2) & one & (least.values == -1)
        return cls(rows, most.indices, least.indices, (entries == 1) & one, difference)

    @property
    def pairs(self) -> bool:
        """Whether all are differences: then nothing is multiplied with the many zeros."""
        return bool(self.difference.all())

    @property
    def terms(self) -> int:
        """The number of non-zero entries that a row has at most."""
        return 2 if self.pairs else self.rows.shape[2]

    def lower(self, values: Tensor, room: Tensor, which: Tensor | None = None) -> Tensor:
        """Return ρ · values - ``|ρ|`` · room, for numbers per class, ``(batch, classes)``.

        Args:
            values: What the outputs are.
            room: By how much they may be off.
            which: Of the rows belong to each; ``None`` if they come in the same order.
        """
        rows, i, j = self.rows, self.i, self.j
        if self.pairs:
            if which is not None:
                i, j = i.index_select(0, which), j.index_select(0, which)
            return (values - room).gather(1, i) - (values + room).gather(1, j)
        rows = rows if which is None else rows[which]
        whole = torch.einsum("bkc,bc->bk", rows.abs(), room)
        return torch.einsum("bkc,bc->bk", rows, values) - whole

    def across(self, matrix: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield ρ V for a matrix V, ``(classes, features)``: some of the k rows at a time."""
        step = max(1, PART // (len(self.rows) * max(matrix.shape)))
        for some in (slice(at, at + step) for at in range(0, self.rows.shape[1], step)):
            if self.pairs:
                yield some, matrix[self.i[:, some]].sub_(matrix[self.j[:, some]])
            else:
                yield some, self.rows[:, some] @ matrix


def tail(steps: Sequence[Step]) -> tuple[int, ...]:
    """Return the places of the last affine maps and moves of elements, the first of them first."""
    places: list[int] = []
    place = len(steps) - 1
    while isinstance(steps[place].op, Affine | Reshape):
        places.insert(0, place)
        place = steps[place].sources[0]
    return tuple(places)


def coupled(steps: Sequence[Step], chain: Sequence[int]) -> tuple[int, ...]:
    """Return the chain without the first maps that boxes pass through with no loss.

    Those in which no element enters two sums: scaling, the mean over all places. The features
    behind them are fewer, and a box of these is as good as one of those before. A ball is not, so that
    nothing is left out where the chain starts at the input.
    """
    if chain and isinstance(steps[steps[chain[0]].sources[0]].op, Given):
        return tuple(chain)
    first = 0
    while first < len(chain) and _separate(steps[chain[first]], device_of(steps)):
        first += 1
    return tuple(chain[first:])


def _separate(step: Step, device: torch.device) -> bool:
    """Whether no element enters two sums. Were this said wrongly, bounds would be wider, not wrong."""
    op = step.op
    if not isinstance(op, Affine):
        return isinstance(op, Reshape)
    if isinstance(op.map, Averages):
        return _one_per_column(op.map, step.shape, device)
    return isinstance(op.map, Diagonal)


def _one_per_column(map: Averages, shape: Shape, device: torch.device) -> bool:
    """Look whether each column of a map without negative entries has one, or none.

    By the equality case of Cauchy and Schwarz: (Σ a_i p_i)² = Σ a_i Σ a_i p_i² only where all p_i with
    a_i > 0 are the same, and here no two rows i have the same p_i.
    """
    count = math.prod(shape)
    p = torch.arange(1, count + 1, dtype=torch.float64, device=device).reshape(1, *shape) / count
    none, one, two = (map.transposed(v) for v in (torch.ones_like(p), p, p.square()))
    return bool((none * two - one.square() <= 1e-14 * none * two).all())


def fold(steps: Sequence[Step], chain: Sequence[int]) -> Folded:
    """Carry one row for each class back through a chain of affine maps."""
    classes = steps[-1].shape[0]
    rows = torch.eye(classes, dtype=torch.float64, device=device_of(steps))
    size = rows
    offset = rows.new_zeros(classes)
    offset_size, share = offset, 0.0
    for place in reversed(chain):
        step = steps[place]
        op = step.op
        rows, size = rows.reshape(-1, *step.shape), size.reshape(-1, *step.shape)
        if isinstance(op, Affine):
            if op.bias is not None:
                bias = op.bias.expand(step.shape)
                magnitude = bias.abs() if op.size is None else op.size.expand(step.shape)
                offset = offset + flat(rows * bias).sum(1)
                offset_size = offset_size + flat(size * magnitude).sum(1)
            share += 2 * gamma(rows[0].numel() + op.map.terms + 16)
            rows, size = op.map.transposed(rows), op.map.absolute().transposed(size)
        elif isinstance(op, Reshape):
            rows, size = op.transposed(rows), op.transposed(size)
        rows, size = flat(rows), flat(size) * (1 + share)
    return Folded(rows, offset, size, offset_size, share)


def features(steps: Sequence[Step], chain: Sequence[int]) -> int:
    """Return the place of the value before a chain; the output's if the chain is empty."""
    return steps[chain[0]].sources[0] if chain else len(steps) - 1


def device_of(steps: Sequence[Step]) -> torch.device:
    """Return where the last of the operators lie."""
    for step in reversed(steps):
        if isinstance(step.op, Affine):
            return step.op.map.device
    return torch.device("cpu")


__all__ = ["Asked", "Folded", "coupled", "device_of", "features", "fold", "tail"]
