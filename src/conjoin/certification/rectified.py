"""Maxima, sorts and joins written as affine maps, sums and ReLUs: what a polyhedral search can walk.

    max(a, b) = b + relu(a - b),    min(a, b) = a - relu(a - b)

The largest of a window is a tournament of pairs; windows that overlap share those they have in common,
and places of a pool's padding are in no window, so that no infinity enters the arithmetic. A sort is
one round of pairs, or the rounds of a merging network. A join is a sum of embeddings. As functions of
real numbers the networks are *equal*; in floating point the longer chains round more, which
:meth:`Rectified.check` holds against the rounding that is granted to them. It is *not* a relaxation.

Reference: batcher1968 (the merging network).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from conjoin.core.linear import Averages, Shape, flat
from conjoin.core.operator import (
    Add,
    Affine,
    Concat,
    MaxWindows,
    Operator,
    Sort,
    SortPairs,
    Step,
    evaluate,
)
from conjoin.errors import CapabilityError
from conjoin.models.activations import relu
from conjoin.models.entries import windows

LONGEST = 16  # elements that are sorted: their network has 63 pairs, in ten rounds


@dataclass(frozen=True, slots=True, eq=False)
class Rectified:
    """A network without maxima, sorts and joins.

    Attributes:
        steps: The operators.
        places: Where the value of each original step is found among them.
    """

    steps: tuple[Step, ...]
    places: tuple[int, ...]

    @classmethod
    def of(cls, steps: Sequence[Step]) -> Rectified:
        """Rewrite a network.

        Raises:
            CapabilityError: If windows are too large to be looked at, or too much is sorted.
        """
        made = _Rewriting()
        places: list[int] = []
        for step in steps:
            places.append(made.rewritten(step, [places[source] for source in step.sources]))
        return cls(tuple(made.steps), tuple(places))

    def check(self, steps: Sequence[Step], x: Tensor, room: Sequence[Tensor]) -> None:
        """Hold it against the original operators at some points, in double precision.

        Args:
            steps: The original operators.
            x: ``(batch, *shape)``.
            room: How far rounding may take each of the rewritten steps, ``(batch, *shape)`` each.

        Raises:
            CapabilityError: If a value differs by more.
        """
        values, new = evaluate(steps, x.double()), evaluate(self.steps, x.double())
        for step, value, place in zip(steps, values, self.places, strict=True):
            away = (new[place] - value).abs()
            if not bool((away <= room[place]).all()):
                raise CapabilityError(
                    f"{step.name}, written with ReLUs, differs by {float(away.max()):.3g} from what it "
                    "computes, beyond rounding; so nothing is proved of it"
                )


@dataclass(slots=True, eq=False)
class _Rewriting:
    """The steps made so far."""

    steps: list[Step] = field(default_factory=list)

    def rewritten(self, step: Step, sources: list[int]) -> int:
        """Add what a step is made of, and return where its value is."""
        op = step.op
        if isinstance(op, MaxWindows):
            return self.largest(step, op, sources[0])
        if isinstance(op, SortPairs):
            half = step.shape[op.axis - 1] // 2
            return self.sorted(step, op.axis, sources[0], [[(k, k + half) for k in range(half)]])
        if isinstance(op, Sort):
            count = step.shape[op.axis - 1] if step.shape else 1
            if count > LONGEST:
                raise CapabilityError(
                    f"{step.name} sorts {count} elements; as ReLUs at most {LONGEST} are sorted. "
                    "Interval() and Lipschitz() bound longer sorts"
                )
            return self.sorted(step, op.axis, sources[0], merging(count))
        if isinstance(op, Concat):
            return self.joined(step, op.axis, sources)
        return self.add(step.name, op, sources, step.shape)

    def add(self, name: str, op: Operator, sources: Sequence[int], shape: Shape) -> int:
        """Add a step."""
        self.steps.append(Step(name, op, tuple(sources), shape))
        return len(self.steps) - 1

    def picked(self, name: str, place: int, index: Tensor, shape: Shape | None = None) -> int:
        """Copy elements of a value, by their places in it."""
        target = tuple(index.shape) if shape is None else shape

        def copies(x: Tensor) -> Tensor:
            return flat(x)[:, index.to(x.device)].reshape(len(x), *target)

        op = Averages("pick", copies, self.steps[place].shape, 1)
        return self.add(name, Affine(op), [place], target)

    def put(self, name: str, place: int, index: Tensor, shape: Shape) -> int:
        """Put the elements of a value at places of a larger one, which is 0 elsewhere."""

        def copies(x: Tensor) -> Tensor:
            whole = x.new_zeros(len(x), math.prod(shape))
            return whole.index_copy(1, index.to(x.device), flat(x)).reshape(len(x), *shape)

        op = Averages("put", copies, self.steps[place].shape, 1)
        return self.add(name, Affine(op), [place], shape)

    def excess(self, name: str, place: int, first: Tensor, second: Tensor) -> int:
        """Add relu(a - b) for pairs of elements."""
        sides = [self.picked(name, place, index) for index in (first, second)]
        shape = tuple(first.shape)
        apart = self.add(name, Add((1.0, -1.0)), sides, shape)
        return self.add(name, relu(), [apart], shape)

    def largest(self, step: Step, op: MaxWindows, place: int) -> int:
        """Let the elements of each window meet in pairs until one is left."""
        found = windows(op, self.steps[place].shape, math.prod(step.shape))
        table, name = torch.from_numpy(found), step.name
        if not bool((table[:, 0] >= 0).all()):
            raise CapabilityError(f"{name} ({op}) has a window without an element")
        while table.shape[1] > 1:
            table = torch.nn.functional.pad(table, (0, table.shape[1] % 2), value=-1)
            first, second = table[:, 0::2], table[:, 1::2]
            meet, alone = second >= 0, (first >= 0) & (second < 0)
            pairs, at = torch.stack([first[meet], second[meet]], 1).unique(
                dim=0, return_inverse=True
            )
            rest, beyond = first[alone].unique(return_inverse=True)
            over = self.excess(name, place, pairs[:, 0], pairs[:, 1])
            base = self.picked(name, place, torch.cat([pairs[:, 1], rest]))
            count = len(pairs) + len(rest)
            lifted = self.put(name, over, torch.arange(len(pairs)), (count,))
            place = self.add(name, Add((1.0, 1.0)), [base, lifted], (count,))
            table = torch.full_like(first, -1)
            table[meet], table[alone] = at, len(pairs) + beyond
        return self.picked(name, place, table[:, 0], step.shape)

    def sorted(
        self, step: Step, axis: int, place: int, rounds: Sequence[Sequence[tuple[int, int]]]
    ) -> int:
        """Exchange pairs along an axis, so that the smaller comes first, round by round."""
        wires = torch.arange(math.prod(step.shape)).reshape(step.shape).movedim(axis - 1, 0)
        wires = wires.reshape(step.shape[axis - 1], -1)
        for pairs in rounds:
            low, high = (wires[[pair[side] for pair in pairs]].flatten() for side in (0, 1))
            over = self.excess(step.name, place, low, high)
            parts = [self.put(step.name, over, index, step.shape) for index in (low, high)]
            place = self.add(step.name, Add((1.0, -1.0, 1.0)), [place, *parts], step.shape)
        return place

    def joined(self, step: Step, axis: int, sources: list[int]) -> int:
        """Add up what is joined, each at its places."""
        whole = torch.arange(math.prod(step.shape)).reshape(step.shape)
        sizes = [self.steps[source].shape[axis - 1] for source in sources]
        parts = [
            self.put(step.name, source, index.flatten(), step.shape)
            for source, index in zip(sources, whole.split(sizes, axis - 1), strict=True)
        ]
        return self.add(step.name, Add((1.0,) * len(parts)), parts, step.shape)


def merging(count: int) -> list[list[tuple[int, int]]]:
    """Return rounds of pairs, no element in two of a round, that sort any ``count`` numbers."""
    pairs: list[tuple[int, int]] = []
    top = 1 << max(0, (count - 1).bit_length() - 1)
    p = top if count > 1 else 0
    while p > 0:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(count - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    rounds: list[list[tuple[int, int]]] = []
    ready = [0] * count  # the round from which on an element is free
    for i, j in pairs:
        turn = max(ready[i], ready[j])
        rounds += [[] for _ in itertools.repeat(None, turn + 1 - len(rounds))]
        rounds[turn].append((i, j))
        ready[i] = ready[j] = turn + 1
    return rounds


__all__ = ["Rectified", "merging"]
