"""The training loop: seeded order, Adam with a cosine rate, one objective."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Batch, Event, Observer
from conjoin.core.random import Streams
from conjoin.training.objective import Objective


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: Passes over the data.
        batch_size: Examples per step.
        rate: Largest learning rate of Adam; it rises for 5 % of the steps, then falls to 0.
        seed: Seeds the order and every random number of the objective.
    """

    epochs: int
    batch_size: int = 128
    rate: float = 1e-3
    seed: int = 0


def fit(
    network: nn.Module,
    data: Dataset,
    objective: Objective,
    recipe: Recipe,
    observe: Observer | None = None,
) -> None:
    """Train the network in place; the same recipe on the same machine gives the same weights."""
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.rate)
    per_epoch = math.ceil(len(data) / recipe.batch_size)
    total, step = recipe.epochs * per_epoch, 0
    streams = Streams.of(recipe.seed, data.positions)
    network.train()
    for epoch in range(recipe.epochs):
        now = streams.fold(epoch)
        order = now.uniform(1, dtype=torch.float64)[:, 0].argsort()
        for rows in order.split(recipe.batch_size):
            progress = step / total
            warm = min(1.0, progress / 0.05 + 1 / total)
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate * warm * (1 + math.cos(math.pi * progress)) / 2
            context = {name: value[rows] for name, value in data.context.items()}
            batch = Batch(data.x[rows], data.y[rows], now.rows(rows), context)
            loss = objective(network, batch, progress)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1
        if observe is not None:
            observe(Event("train", epoch + 1, recipe.epochs))
    network.eval()
