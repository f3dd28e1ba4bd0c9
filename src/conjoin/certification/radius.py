"""Certified radii: the largest eps that a certifier proves, per example.

Where the method has a closed form that is it; elsewhere bisection, whose every answer was itself
certified, so that it is a lower bound of the distance to the nearest decision boundary whatever the
certifier; no monotonicity is assumed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run, prepared
from conjoin.core.protocols import Certifier, Model
from conjoin.core.run import certify
from conjoin.core.threat import Graded, Threat
from conjoin.errors import PlanError
from conjoin.typing import PerExample


def certified_radius(
    model: Model,
    data: Dataset,
    method: Certifier,
    threat: Threat,
    *,
    largest: float,
    steps: int = 12,
    run: Run = Run(),
) -> PerExample:
    """Find each example's certified radius in [0, ``largest``].

    By bisection it is found to ``largest`` / 2^``steps``. It is 0 where nothing is certified at that
    radius, wrong predictions included, and ``largest`` where all of it is.

    Raises:
        PlanError: If the threat has no radius.
    """
    if not isinstance(threat, Graded):
        raise PlanError(f"{threat} has no radius to search; expected e.g. Linf(0.1) or L2(0.5)")
    ready = prepared(method, model, data)
    first = certify(model, data, ready, threat.at(largest), run=run)
    below = first.radius.clamp(max=largest)
    open_ = (~first.settled & ~first.certified).nonzero()[:, 0]
    if len(open_):  # those that are not proved at the least step have no radius
        least = threat.rows(open_).at(largest / 2**steps)
        open_ = open_[certify(model, data.select(open_), ready, least, run=run).certified]
    if len(open_):
        below[open_] = _bisected(
            model, data.select(open_), ready, threat.rows(open_), (largest, steps), run
        )
    return below


def _bisected(
    model: Model,
    data: Dataset,
    ready: Certifier,
    threat: Graded,
    search: tuple[float, int],
    run: Run,
) -> Tensor:
    largest, steps = search
    below = torch.zeros(len(data), dtype=torch.float64, device=data.x.device)
    above = torch.full_like(below, largest)
    for _ in range(steps):
        middle = (below + above) / 2
        good = certify(model, data, ready, threat.at(middle), run=run).certified
        below, above = torch.where(good, middle, below), torch.where(good, above, middle)
    return below
