"""Which examples are shown: a seeded choice, the same for any batch size and executor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from conjoin.core.dataset import Dataset
from conjoin.core.random import Streams

FIRST = "accuracy"  # the section by whose columns they are chosen
CHOICES = ("all models are right", "a model is wrong", "near a decision boundary")
PIECE = 4096  # examples whose chances are drawn together


def choose(
    data: Dataset, answers: Sequence[Iterator[Mapping[str, Tensor]]], count: int, seed: int
) -> dict[int, str]:
    """Choose examples by position, and why: some right, some wrong, some near a boundary.

    ``answers`` are the ``margin`` and ``nearness`` of each model, shard by shard; none if no model
    could be asked. Of equals the first in the data is chosen.
    """
    if not answers:
        drawn = _drawn(data, "shown", seed, count)
        return dict.fromkeys(drawn, "drawn at random")
    kept, first = [_Least(2 * count) for _ in CHOICES], 0  # any other list may have taken half
    for made in zip(*answers, strict=True):
        rows = range(first, first + len(made[0]["margin"]))
        first = rows.stop
        chance = _chance(data, rows, "shown", seed)
        right = (torch.stack([m["margin"] for m in made]) > 0).all(0)
        kept[0].see(torch.where(right, chance, torch.inf), rows)
        kept[1].see(torch.where(~right, chance, torch.inf), rows)
        kept[2].see(torch.stack([m["nearness"] for m in made]).amin(0), rows)
    chosen: dict[int, str] = {}
    third = -(-count // len(CHOICES))
    for why, least in zip(CHOICES, kept, strict=True):
        candidates = [i for i in least.rows if i not in chosen]
        chosen.update(dict.fromkeys(candidates[: min(third, count - len(chosen))], why))
    return chosen


def explained(data: Dataset, chosen: Iterable[int], count: int, seed: int) -> list[int]:
    """Return positions that are explained: the chosen ones first, then a sample for the scores."""
    first = list(chosen)
    sample = sorted(_drawn(data, "scored", seed, count))
    return [*first, *(i for i in sample if i not in first)]


def sample(data: Dataset, purpose: str, count: int, seed: int) -> list[int]:
    """Return the positions of a sample without replacement, in order."""
    return sorted(_drawn(data, purpose, seed, count))


def _drawn(data: Dataset, purpose: str, seed: int, count: int) -> list[int]:
    """Draw positions, without the chances of all of them at once."""
    least = _Least(count)
    for first in range(0, len(data), PIECE):
        rows = range(first, min(first + PIECE, len(data)))
        least.see(_chance(data, rows, purpose, seed), rows)
    return least.rows


def _chance(data: Dataset, rows: range, purpose: str, seed: int) -> Tensor:
    index = data.positions[rows.start : rows.stop]
    return Streams.of(seed, index).fold(purpose).uniform(1)[:, 0]


class _Least:
    """The positions of the least values that were seen, least first; infinite ones are none."""

    def __init__(self, count: int) -> None:
        self.count, self.rows = count, list[int]()
        self.values = torch.empty(0)

    def see(self, values: Tensor, rows: range) -> None:
        """See the values at positions that come after those before."""
        joined = torch.cat([self.values, values])
        order = joined.argsort(stable=True)[: self.count]
        order = order[joined[order] < torch.inf]
        self.values = joined[order]
        all_ = [*self.rows, *rows]
        self.rows = [all_[i] for i in order.tolist()]


__all__ = ["CHOICES", "FIRST", "choose", "explained", "sample"]
