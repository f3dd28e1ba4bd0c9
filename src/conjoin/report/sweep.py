"""The search for each example's nearest adversarial input, which gives the whole attacked curve."""

from __future__ import annotations

import torch
from torch import Tensor

from conjoin.core.ball import Ball
from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Attack
from conjoin.core.run import Run, attack
from conjoin.report.plan import AuditPlan
from conjoin.report.sources import Subject


def sweep(
    subject: Subject,
    shard: Dataset,
    methods: tuple[Attack, Attack],
    threat: Ball,
    plan: AuditPlan,
    run: Run,
) -> dict[str, Tensor]:
    """Find each example's nearest adversarial input: attack at eps, then halve an interval.

    The first method attacks at eps; the second, cheaper, looks for nearer adversarial inputs and, at
    the largest radius, for those that withstood the first. What either finds within eps counts.
    The interval runs from the largest radius that withstood to the smallest distance found; what
    withstood at eps is next tried at the largest radius. Every distance found is an upper bound,
    also where a smaller radius withstood: an attack that fails proves nothing.
    """
    assert isinstance(threat.eps, float)  # noqa: S101 - a plan gives one radius
    largest = threat.eps * plan.reach
    withstood = torch.zeros(len(shard), dtype=torch.float64)
    distance = torch.full_like(withstood, torch.inf)
    inputs = shard.x.clone()
    for turn in range(plan.rounds + 1):
        eps = torch.where(distance.isinf(), largest, (withstood + distance) / 2)
        eps = torch.full_like(eps, threat.eps) if turn == 0 else eps
        open_ = ((withstood < largest) & (distance > 0)).nonzero()[:, 0]
        if len(open_) == 0:
            break
        found = attack(
            subject.model,
            shard.select(open_),
            methods[min(turn, 1)],
            threat.at(eps[open_].to(shard.x.dtype)),
            seed=plan.seed,
            run=run,
        )
        fallen, stood = open_[found.success], open_[~found.success]
        nearer = found.distance[found.success] < distance[fallen]
        distance[fallen[nearer]] = found.distance[found.success][nearer]
        inputs[fallen[nearer]] = found.inputs[found.success][nearer]
        withstood[stood] = eps[stood]
    return {"distance": distance, "inputs": inputs}
