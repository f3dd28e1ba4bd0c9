"""Faithfulness: does the output follow the features the explanation ranks highest?

Features are replaced by a baseline (deletion) or brought back from it (insertion) in the order of
their attribution, largest first, while the probability of the explained class is recorded; the score
is the mean height of that curve (trapezoid rule over the share of features). The reverse order and a
random one say what the score is worth. What it says depends on the baseline, since blanked inputs are
unlike any the model was trained on; :class:`ROAD` blurs instead.

Reference: petsiuk2018, section 3.3; samek2017 for the order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import ClassVar, cast

import torch
from torch import Tensor

from conjoin.core.baseline import Reference
from conjoin.core.counted import check_numbers
from conjoin.core.naming import Better
from conjoin.core.probing import per_pass
from conjoin.core.protocols import Attributor, Batch, Model, Sliceable
from conjoin.errors import PlanError
from conjoin.metrics.ordering import Order, features_of, over_input

ROWS = 256  # rows of one pass, at most
SAID: Mapping[Order, str] = MappingProxyType(
    {Order.MORF: "the top features", Order.LERF: "the lowest features", Order.RANDOM: "features"}
)
# Of a curve along which features are removed; where they are brought back the ends are swapped.
FALLING: Mapping[Order, Better] = MappingProxyType(
    {Order.MORF: Better.LOWER, Order.LERF: Better.HIGHER, Order.RANDOM: Better.NEITHER}
)
RISING: Mapping[Order, Better] = MappingProxyType(
    {Order.MORF: Better.HIGHER, Order.LERF: Better.LOWER, Order.RANDOM: Better.NEITHER}
)


def titled(name: str, order: Order) -> str:
    """Name a curve and its order, if that is not the usual one."""
    said = {Order.MORF: "", Order.LERF: ", lowest first", Order.RANDOM: ", random order"}
    return name + said[order]


@dataclass(frozen=True, slots=True)
class Deletion:
    """Remove the highest-ranked features first: 0..1, **lower** is more faithful.

    In the order ``LERF`` higher is; in a random one it is what a score is to be compared with.

    Attributes:
        steps: Points of the curve after the first; each removes an equal share.
        baseline: Value that removed features take, in input units, or what gives one for each.
        order: Which features go first.
    """

    reference: ClassVar[str] = "petsiuk2018"
    between: ClassVar[tuple[float, float]] = (0.0, 1.0)
    steps: int = 14
    baseline: float | Reference = 0.0
    order: Order = Order.MORF

    def __post_init__(self) -> None:
        check_numbers(self)
        check_steps(self.steps)

    @property
    def title(self) -> str:
        """What it is called."""
        return titled("deletion", self.order)

    @property
    def meaning(self) -> str:
        """What it measures."""
        return f"mean probability while {SAID[self.order]} are removed"

    @property
    def better(self) -> Better:
        """Which way it is to be read."""
        return FALLING[self.order]

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the mean probability along the curve, per example."""
        return _curve(model, batch, values, self, keep=False)


@dataclass(frozen=True, slots=True)
class Insertion:
    """Bring the highest-ranked features back first: 0..1, **higher** is more faithful.

    In the order ``LERF`` lower is; in a random one it is what a score is to be compared with.

    Attributes:
        steps: Points of the curve after the first; each restores an equal share.
        baseline: Value of the features not yet restored, in input units, or what gives one for
            each.
        order: Which features come first.
    """

    reference: ClassVar[str] = "petsiuk2018"
    between: ClassVar[tuple[float, float]] = (0.0, 1.0)
    steps: int = 14
    baseline: float | Reference = 0.0
    order: Order = Order.MORF

    def __post_init__(self) -> None:
        check_numbers(self)
        check_steps(self.steps)

    @property
    def title(self) -> str:
        """What it is called."""
        return titled("insertion", self.order)

    @property
    def meaning(self) -> str:
        """What it measures."""
        return f"mean probability while {SAID[self.order]} are brought back"

    @property
    def better(self) -> Better:
        """Which way it is to be read."""
        return RISING[self.order]

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the mean probability along the curve, per example."""
        return _curve(model, batch, values, self, keep=True)


def check_steps(steps: int) -> None:
    """Refuse a curve without a step.

    Raises:
        PlanError: If there is none.
    """
    if steps < 1:
        raise PlanError(f"a curve needs one step at least; got {steps}")


def _curve(
    model: Model, batch: Batch, values: Tensor, method: Deletion | Insertion, *, keep: bool
) -> Tensor:
    base = method.baseline
    blank = base(cast(Sliceable, model), batch) if callable(base) else base
    place = method.order.places(features_of(values, batch.x), batch.rng)
    shares = torch.linspace(0, 1, method.steps + 1, device=place.device)

    def inputs(touched: Tensor, points: range) -> Tensor:
        return torch.where(touched == keep, batch.x, blank)

    found = heights(model, batch, place, shares, inputs)
    # Added up one by one: a reduction's order may depend on the number of examples.
    area = torch.zeros_like(found[0])
    for left, right in pairwise(found):
        area = area + (left + right) / 2
    return area / method.steps


def heights(
    model: Model,
    batch: Batch,
    place: Tensor,
    shares: Tensor,
    inputs: Callable[[Tensor, range], Tensor],
) -> list[Tensor]:
    """Return the probability of the explained class at each point of a curve, several to a pass.

    ``inputs`` makes the inputs, ``(points, batch, *input)``, from what is touched at these points.
    """
    at_once = min(per_pass(batch.x), max(1, ROWS // len(batch)))
    found: list[Tensor] = []
    for first in range(0, len(shares), at_once):
        points = range(first, min(first + at_once, len(shares)))
        counts = (shares[first : points.stop] * place.shape[1]).round()
        touched = over_input(place < counts[:, None, None], batch.x)
        with torch.no_grad():
            several = batch.repeated(len(points)).at(inputs(touched, points).flatten(0, 1))
            outputs = model(several).softmax(1)
        label = several.aim[:, None]
        found += outputs.gather(1, label).reshape(len(points), -1).unbind()
    return found


__all__ = ["Deletion", "Insertion", "Order"]
