"""Which examples are shown: a seeded choice, the same for any batch size and executor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from conjoin.core.dataset import Dataset
from conjoin.core.random import Streams

FIRST = "accuracy"  # the section by whose columns they are chosen
CHOICES = ("all models are right", "a model is wrong", "near a decision boundary")


def choose(
    data: Dataset, margins: Sequence[Tensor], nearness: Sequence[Tensor], count: int, seed: int
) -> dict[int, str]:
    """Choose examples by position, and why: some right, some wrong, some near a boundary.

    ``margins`` and ``nearness`` are those of each model; none if no model could be asked.
    """
    chance = Streams.of(seed, data.positions).fold("shown").uniform(1)[:, 0]
    if not margins:
        return dict.fromkeys(chance.argsort()[:count].tolist(), "drawn at random")
    right = (torch.stack(list(margins)) > 0).all(0)
    nearest = torch.stack(list(nearness)).amin(0)
    orders = (
        torch.where(right, chance, torch.inf),
        torch.where(~right, chance, torch.inf),
        nearest,
    )
    chosen: dict[int, str] = {}
    third = -(-count // len(CHOICES))
    for why, order in zip(CHOICES, orders, strict=True):
        candidates = [i for i in order.argsort().tolist() if i not in chosen]
        candidates = [i for i in candidates if order[i] < torch.inf]
        chosen.update(dict.fromkeys(candidates[: min(third, count - len(chosen))], why))
    return chosen


def explained(data: Dataset, chosen: Iterable[int], count: int, seed: int) -> Tensor:
    """Return positions that are explained: the chosen ones first, then a sample for the scores."""
    chance = Streams.of(seed, data.positions).fold("scored").uniform(1)[:, 0]
    sample = chance.argsort()[:count].sort().values.tolist()
    first = list(chosen)
    return torch.tensor([*first, *(i for i in sample if i not in first)], dtype=torch.int64)


__all__ = ["CHOICES", "FIRST", "choose", "explained"]
