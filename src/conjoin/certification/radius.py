"""Certified radii: the largest eps a certifier still proves, by bisection, per example.

The radius returned was itself certified, so it is a lower bound of the distance to the nearest
decision boundary whatever the certifier; no monotonicity is assumed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Certifier, Model
from conjoin.core.run import Run, certify, prepared
from conjoin.core.threat import Ball
from conjoin.typing import PerExample


def certified_radius(
    model: Model,
    data: Dataset,
    method: Certifier,
    threat: Ball,
    *,
    largest: float,
    steps: int = 12,
    run: Run = Run(),  # noqa: B008 - frozen
) -> PerExample:
    """Find each example's certified radius in [0, ``largest``], to ``largest`` / 2^``steps``.

    Returns 0 where nothing is certified, wrong predictions included, and ``largest`` where all of
    it is.
    """

    ready = prepared(method, model, data.x[:1])

    def holds(eps: Tensor) -> Tensor:
        return certify(model, data, ready, threat.at(eps), run=run).certified

    top = torch.full((len(data),), largest, dtype=data.x.dtype, device=data.x.device)
    below, above = torch.zeros_like(top), top
    below = torch.where(holds(top), top, below)
    for _ in range(steps):
        middle = (below + above) / 2
        good = holds(middle)
        below, above = torch.where(good, middle, below), torch.where(good, above, middle)
    return below
