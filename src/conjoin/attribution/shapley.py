"""Shapley values of groups of elements, by KernelSHAP's weighted least squares.

The game is v(S) = Q(x with all groups but S at the baseline). The Shapley values φ are the minimum of

    Σ_S π(S) (v(S) - v(∅) - Σ_{i in S} φ_i)²,   π(S) = (M - 1) / (C(M, |S|) |S| (M - |S|)),

over all S but none and all of the M groups, subject to Σ φ_i = v(all) - v(∅). Where the budget
reaches all coalitions the values are exact (up to 10 groups by default). Else those of the extreme
sizes are all taken, as far as the budget would draw them anyway, and the others are drawn in
proportion to π, each with its complement; the values then are an estimate, without error where Q is
of degree 2 in what is present. They sum to Q(x) - Q(baseline) either way. It is *not* an average over
the data: absent means at the baseline, whether or not such inputs occur.

Reference: lundberg2017, theorem 2; covert2021kernel (paired sampling).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attribution.ablation import spread
from conjoin.attribution.perturbed import asked, blank_of, chunks, grouped, spelled
from conjoin.core.counted import check_numbers
from conjoin.core.distribution import Reference, per_pass, zeros
from conjoin.core.protocols import Batch, Model, Promise
from conjoin.core.quantity import Question, logit
from conjoin.core.random import Streams
from conjoin.core.slice import INPUT, Slice
from conjoin.errors import PlanError

USUAL = 1024  # coalitions
HELD = 1 << 25  # memberships of coalitions at once, or entries of the systems to be solved


@dataclass(frozen=True, slots=True, eq=False)
class KernelShap:
    """Shapley values against a baseline; see :func:`kernel_shap`.

    Attributes:
        groups: The number of each element's group, ``(1, *input)``; ``None`` for every column of a
            table by itself, and else for the cells of a grid of 49, all channels together.
        coalitions: Asked of each example; ``None`` for 1024, or four a group if that is more.
        baseline: What stands in place of absent groups.
        quantity: What is shared out.
    """

    needs: ClassVar[type] = Model
    where: ClassVar[Slice] = Slice()
    reference: ClassVar[str] = "lundberg2017"
    title: ClassVar[str] = "Shapley values (KernelSHAP)"
    meaning: ClassVar[str] = "the fair share of each group of features in the output"
    groups: Tensor | None = None
    coalitions: int | None = None
    baseline: Reference = zeros
    quantity: Question = logit

    def __post_init__(self) -> None:
        check_numbers(self)

    def __repr__(self) -> str:
        """Show the parameters, the same in every process."""
        return spelled(self)

    def __call__(self, model: Model, batch: Batch, /) -> Tensor:
        """Return each group's share, spread evenly over its elements.

        Raises:
            PlanError: If the groups do not fit the inputs, or the coalitions are too few to tell
                all groups apart.
        """
        ids, players = grouped(self.groups, batch.x)
        budget = max(USUAL, 4 * players) if self.coalitions is None else self.coalitions
        if budget < 2 * players and budget < 2**players - 2:
            raise PlanError(
                f"{players} groups need {2 * players} coalitions at least, each group alone and all "
                f"but it; got {budget}. Give more, or fewer groups"
            )
        size = max(1, HELD // (players * max(budget, players)))
        parts = [
            self._shares(model, batch.rows(slice(first, first + size)), ids, players, budget)
            for first in range(0, len(batch), size)
        ]
        return spread(torch.cat(parts), ids)

    def ends(self, model: Model, batch: Batch, /) -> Promise:
        """Promise that the values sum to Q(x) - Q(baseline)."""
        return Promise(
            self.quantity, {INPUT: blank_of(self.baseline, model, batch)}, {INPUT: batch.x}
        )

    def _shares(self, model: Model, batch: Batch, ids: Tensor, players: int, budget: int) -> Tensor:
        """Return the shares of the groups, ``(batch, groups)``."""
        x, blank = batch.x, blank_of(self.baseline, model, batch)
        ends = asked(model, batch, self.quantity, torch.stack([blank, x]))
        change = (ends[1].double() - ends[0].double())[:, None]
        if players == 1:
            return change.to(ends.dtype)
        chosen, weights = coalitions(players, budget, batch.rng.fold("coalitions"))
        values = []
        for chunk in chunks(len(chosen), per_pass(x)):
            shown = chosen[chunk.start : chunk.stop, :, ids.flatten()]
            shown = shown.reshape(len(chunk), -1, *ids.shape)
            values.append(asked(model, batch, self.quantity, torch.where(shown, x, blank)))
        gained = (torch.cat(values).double() - ends[0].double()).T
        return solved(chosen.transpose(0, 1).double(), weights, gained, change).to(ends.dtype)


def coalitions(players: int, budget: int, rng: Streams) -> tuple[Tensor, Tensor]:
    """Return who is in each coalition, ``(coalitions, batch, players)``, and their weights."""
    device, batch = rng.key.device, len(rng.key)
    whole, weight, least = _enumerated(players, budget)
    sure = whole.to(device)[:, None].expand(-1, batch, -1)
    weights = weight.to(device)
    pairs, sizes = (budget - len(whole)) // 2, range(least, players // 2 + 1)
    if not sizes or not pairs:
        return sure, weights
    # A pair stands for two sizes; if they are one, its weight is that of one.
    each = [_weight(players, s) * (1 if 2 * s == players else 2) for s in sizes]
    left = torch.tensor(each, dtype=torch.float64, device=device)
    edges = (left.cumsum(0) / left.sum())[:-1].contiguous()
    drawn = torch.bucketize(rng.fold("size").uniform(pairs, dtype=torch.float64), edges) + least
    order = rng.fold("members").uniform(pairs, players, dtype=torch.float64).argsort(dim=2)
    inside = order.argsort(dim=2) < drawn[..., None]
    some = torch.stack([inside, ~inside], 2).flatten(1, 2).transpose(0, 1)
    share = (left.sum() / (2 * pairs)).expand(2 * pairs)
    return torch.cat([sure, some]), torch.cat([weights, share])


def solved(inside: Tensor, weights: Tensor, gained: Tensor, change: Tensor) -> Tensor:
    """Solve the least squares subject to the sum, in double precision.

    ``inside`` is ``(batch, coalitions, players)``, ``gained`` is v(S) - v(∅).
    """
    weighted = (inside * weights[:, None]).transpose(1, 2)
    factor = torch.linalg.cholesky(weighted @ inside)
    ones = torch.ones_like(inside[:, 0, :, None])
    sides = torch.cat([weighted @ gained[..., None], ones], 2)
    free, level = torch.cholesky_solve(sides, factor).unbind(2)
    excess = free.sum(1, keepdim=True) - change
    return free - level * excess / level.sum(1, keepdim=True)


def _weight(players: int, size: int) -> float:
    """Σ π(S) over the coalitions of a size."""
    return (players - 1) / (size * (players - size))


@lru_cache(maxsize=16)
def _enumerated(players: int, budget: int) -> tuple[Tensor, Tensor, int]:
    """Take whole sizes s and M - s while they would be drawn as often; return the first that is not.

    Groups alone, and all but one, are always taken: they tell all groups apart.
    """
    rows: list[Tensor] = []
    weights: list[float] = []
    for size in range(1, players // 2 + 1):
        count, each = math.comb(players, size), _weight(players, size)
        sides = 1 if 2 * size == players else 2
        left = sum(_weight(players, s) for s in range(size, players - size + 1))
        would = (budget - len(rows)) * sides * each / left
        if would < sides * count and size > 1 and budget < 2**players - 2:
            return torch.stack(rows), torch.tensor(weights, dtype=torch.float64), size
        for inside in combinations(range(players), size):
            row = torch.zeros(players, dtype=torch.bool)
            row[list(inside)] = True
            rows += [row, ~row][:sides]
        weights += [each / count] * (sides * count)
    return torch.stack(rows), torch.tensor(weights, dtype=torch.float64), players // 2 + 1


def kernel_shap(
    groups: Tensor | None = None,
    coalitions: int | None = None,
    *,
    baseline: Reference = zeros,
    quantity: Question = logit,
) -> KernelShap:
    """Share the change from a baseline out among groups by their Shapley values.

    By default a group is one column of a table, and else one cell of a grid of 49 (4 by 4 places of 28
    by 28), all channels together; up to ten groups are exact.

    Reference: lundberg2017, theorem 2.
    """
    return KernelShap(groups, coalitions, baseline, quantity)


__all__ = ["KernelShap", "kernel_shap"]
