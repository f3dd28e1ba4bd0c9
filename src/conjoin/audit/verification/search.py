"""Points that may violate a property: random ones, corners, and what descent makes of the best.

In the box's own unit cube, in double precision. What is found is a candidate, no witness.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from conjoin.attacks import PGD
from conjoin.audit.verification.conditions import Stretched, Violation
from conjoin.audit.verification.deadline import Deadline
from conjoin.core.ball import Linf
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.random import Streams
from conjoin.core.run import attack
from conjoin.models.torch import TorchModel

POINTS = 256
STARTS = 16
ROUNDS = ((20, 0.25), (100, 0.05))  # steps, and their length as a share of half the box
SHOWN = 4  # candidates of a round that are looked at


def candidates(
    module: nn.Module, quantity: Violation, low: Tensor, high: Tensor, deadline: Deadline
) -> Iterator[Tensor]:
    """Yield points of the box at which the quantity is small, better ones later."""
    whole = Stretched(module, low, high)
    model, shape = TorchModel(whole.eval()), low.shape[1:]
    drawn = Streams.of(0, torch.arange(POINTS)).uniform(*shape, dtype=torch.float64)
    drawn[: POINTS // 4] = drawn[: POINTS // 4].round()  # corners
    drawn[0] = 0.5
    with torch.no_grad():
        values = torch.cat([quantity(whole(part), part) for part in drawn.split(64)])
    order = values.argsort()
    yield whole.at(drawn[order[:SHOWN]])
    starts = drawn[order[:STARTS]]
    for steps, length in ROUNDS:
        if deadline.over:
            return
        data = Dataset(starts, torch.zeros(len(starts), dtype=torch.long))
        method = PGD(steps=steps, step_size=length, random_start=False)
        found = attack(model, data, method, Linf(1.0), seed=0, quantity=quantity, run=Run())
        order = found.value.argsort()
        starts = found.inputs[order]
        yield whole.at(starts[:SHOWN])


__all__ = ["candidates"]
