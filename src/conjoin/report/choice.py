"""Which examples are shown and scored: a seeded choice, the same for any batch size."""

from __future__ import annotations

import torch
from torch import Tensor

from conjoin.core.dataset import Dataset
from conjoin.core.quantity import margin
from conjoin.core.random import Streams
from conjoin.report.plan import AuditPlan

CHOICES = ("all models are right", "a model is wrong", "near a decision boundary")


def choose(plan: AuditPlan, data: Dataset, outputs: dict[str, Tensor]) -> dict[int, str]:
    """Choose the examples to show, by position: some right, some wrong, some near a boundary."""
    margins = torch.stack([margin(out, data.y) for out in outputs.values()])
    spread = torch.stack([out.std(1) for out in outputs.values()])
    right = (margins > 0).all(0)
    nearness = (margins / spread.clamp(min=1e-12)).abs().amin(0)
    chance = Streams.of(plan.seed, data.positions).fold(0xC405E).uniform(1)[:, 0]
    orders = (
        torch.where(right, chance, torch.inf),
        torch.where(~right, chance, torch.inf),
        nearness,
    )
    chosen: dict[int, str] = {}
    third = -(-plan.explain.examples // 3)
    for why, order in zip(CHOICES, orders, strict=True):
        candidates = [i for i in order.argsort().tolist() if i not in chosen]
        candidates = [i for i in candidates if order[i] < torch.inf]
        room = min(third, plan.explain.examples - len(chosen))
        chosen.update(dict.fromkeys(candidates[:room], why))
    return chosen


def explained_positions(plan: AuditPlan, data: Dataset, chosen: dict[int, str]) -> Tensor:
    """Positions that are explained: the chosen ones first, then a seeded sample for the scores."""
    chance = Streams.of(plan.seed, data.positions).fold(0x5C04E).uniform(1)[:, 0]
    sample = chance.argsort()[: plan.explain.scored].sort().values.tolist()
    rest = [i for i in sample if i not in chosen]
    return torch.tensor([*chosen, *rest], dtype=torch.int64)
