"""One change for all examples: how a picture of noise, added to anything, misleads a network.

δ minimises the mean of a surrogate over the data, by projected stochastic descent::

    δ ← P(δ - α · steepest(mean ∇ max(Q(f(clip(x + δ))), -9)))

with the threat's ball for δ and its box for x + δ; examples that are lost by far have no say. It is
*not* an attack that the drivers run: its result belongs to all the data, so it is a function that
returns δ and what δ does, recomputed by the driver. What it fools of its own data says less than what
it fools of others: ``attack(model, others, found.attack, threat, seed=0)``.

Reference: moosavi2017 (the question, and the fooling rate); shafahi2020, section 3 (the descent).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.core.ball import Ball
from conjoin.core.counted import check_numbers
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run, batch_of, untouched
from conjoin.core.evidence import Evidence
from conjoin.core.gradient import value_and_gradient
from conjoin.core.meter import Count, Meter, metered
from conjoin.core.naming import describe, name_of
from conjoin.core.postcondition import aimed
from conjoin.core.protocols import Batch, Event, Model
from conjoin.core.quantity import (
    Quantity,
    Question,
    Target,
    log_likelihood,
    margin,
    predicted,
)
from conjoin.core.random import Streams
from conjoin.core.result import Result
from conjoin.core.run import attack, predict
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, PlanError
from conjoin.typing import Flags, PerExample

FLOOR = 9.0  # of the surrogate, in nats: shafahi2020, section 3


@dataclass(frozen=True, slots=True, eq=False)
class Added:
    """Add one change to every example, as far as S(x) lets it.

    Attributes:
        delta: The change, shaped like one input.
    """

    reference: ClassVar[str] = "moosavi2017"
    title: ClassVar[str] = "a universal perturbation"
    meaning: ClassVar[str] = "one change, added to every example"
    delta: Tensor

    def __repr__(self) -> str:
        """Show what is added by its shape and size."""
        return f"Added({describe(self.delta)}, at most {float(self.delta.abs().max()):g})"

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return x + δ, projected onto S(x)."""
        ball = _ball(threat)
        return ball.project(batch.x + self.delta.to(batch.x), batch.x)


@dataclass(frozen=True, eq=False, repr=False)
class Universal(Result):
    """One change for all, and what it does to each example.

    Attributes:
        delta: The change, shaped like one input, in input units.
        value: The quantity at x + δ, recomputed in a fresh pass; never above ``clean``.
        clean: The quantity at x.
        success: Where ``value`` is at or below the quantity's goal.
    """

    delta: Tensor
    value: PerExample
    clean: PerExample
    success: Flags

    @property
    def fooling_rate(self) -> float:
        """The share of the data that it fools; with ``target=predicted``, whose prediction changes."""
        return float(self.success.double().mean())

    @property
    def attack(self) -> Added:
        """The attack that adds this change, for other data and other models."""
        return Added(self.delta)

    @property
    def evidence(self) -> Evidence:
        """Empirical: what this descent found."""
        return Evidence.empirical(self.provenance.method)

    def _outcome(self) -> str:
        return f"{int(self.success.sum())} of {len(self.success)} fooled by one change"


@dataclass(frozen=True, slots=True)
class Descent:
    """How the change is searched.

    Attributes:
        steps: Gradient steps.
        examples: How many examples each takes; they go through the data in a seeded order.
        step_size: Length of the first step as a share of eps; it falls to 0 linearly.
        surrogate: Descended in place of the quantity.
    """

    steps: int = 100
    examples: int = 128
    step_size: float = 0.1
    surrogate: Question = field(default=log_likelihood)

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.steps < 1 or self.examples < 1 or not self.step_size > 0:
            raise PlanError(f"steps, examples and step_size must be positive; got {self!r}")

    def __repr__(self) -> str:
        """Show all of it, and the loss by its name."""
        return (
            f"Descent(steps={self.steps}, examples={self.examples}, step_size={self.step_size:g}, "
            f"surrogate={name_of(self.surrogate)})"
        )


def universal(
    model: Model,
    data: Dataset,
    threat: Threat,
    *,
    seed: int,
    descent: Descent = Descent(),
    quantity: Quantity = margin,
    target: Target = predicted,
    run: Run = Run(),
) -> Universal:
    """Search one change δ, ‖δ‖ <= eps, that makes the quantity small over all of the data.

    Success is judged as the drivers do, by the quantity at x + δ cut by the box. The result depends on
    the seed, and on which examples the data hold, not on their order or on the batch size.

    Raises:
        CapabilityError: If the threat is no ball that all examples share, or has no finite radius, or
            the model or its inputs have no gradient.
    """
    ball = _shared(threat)
    count, start = Count(forward=len(data)), time.perf_counter()
    labelled = data.labelled(aimed(target, predict(model, data, run=run), data.y))
    meter = metered(model, count)
    delta = _descended(meter, labelled, ball.to(data.x.device), seed, descent, run)
    found = attack(
        model, data, Added(delta), threat, seed=seed, quantity=quantity, target=target, run=run
    )
    story = replace(
        found.provenance,
        act="universal",
        method=f"universal({descent!r})",
        reference="moosavi2017",
        forward=found.provenance.forward + count.forward,
        backward=count.backward,
        seconds=time.perf_counter() - start,
    )
    return Universal(story, delta, found.value, found.clean, found.success)


def _descended(
    model: Meter, data: Dataset, threat: Ball, seed: int, descent: Descent, run: Run
) -> Tensor:
    """Return the change after all steps."""
    delta = torch.zeros_like(data.x[:1])
    free, radius = replace(threat, bounds=(-math.inf, math.inf)), float(threat.radius(data.x[:1]))
    low, high = (torch.as_tensor(bound, dtype=data.x.dtype) for bound in threat.bounds)

    def objective(outputs: Tensor, aim: Tensor) -> Tensor:
        return descent.surrogate(outputs, aim).clamp(min=-FLOOR)

    with untouched(model.model):
        for step, some in enumerate(_parts(data, seed, descent)):
            part, slopes = data.select(some), []
            for first in range(0, len(some), run.rows(data.x.shape)):
                rows = slice(first, min(len(some), first + run.rows(data.x.shape)))
                batch = batch_of(part, rows, model.device, seed)
                moved = batch.x + delta.to(batch.x)
                z = torch.minimum(torch.maximum(moved, low.to(moved)), high.to(moved))
                _, gradient = value_and_gradient(model, objective, batch.at(z))
                slopes.append((gradient * (z == moved)).to(delta.device))
            # In double precision and in one sum: alike for every batch size.
            mean = torch.cat(slopes).double().mean(0, keepdim=True).to(delta.dtype)
            length = radius * descent.step_size * (1 - step / descent.steps)
            moved = delta + length * free.steepest(-mean, delta)
            delta = free.project(moved, torch.zeros_like(delta))
            if run.observe is not None:
                run.observe(Event("universal", step + 1, descent.steps))
    return delta[0]


def _parts(data: Dataset, seed: int, descent: Descent) -> Iterator[Tensor]:
    """Yield the positions that each step takes: the data in a new order, again and again."""
    order, turn = torch.empty(0, dtype=torch.int64), 0
    size = min(descent.examples, len(data))
    streams = Streams.of(seed, data.positions).fold("universal")
    for _ in range(descent.steps):
        if len(order) < size:
            drawn = streams.fold(turn).uniform(1, dtype=torch.float64)[:, 0]
            order, turn = drawn.argsort(), turn + 1
        yield order[:size]
        order = order[size:]


def _ball(threat: Threat) -> Ball:
    if not isinstance(threat, Ball):
        raise CapabilityError(
            f"one change for all lies in a ball of its own, e.g. Linf(0.1); got {threat}"
        )
    return threat


def _shared(threat: Threat) -> Ball:
    """Return a ball that is one for all examples, or refuse."""
    ball = _ball(threat)
    parts = (ball.mask, *ball.bounds)
    each = [part for part in parts if isinstance(part, Tensor) and part.ndim and len(part) > 1]
    if each or (isinstance(ball.eps, Tensor) and ball.eps.ndim):
        raise CapabilityError(
            f"one change for all needs one set for all; {ball} has an eps, a mask or bounds of each "
            "example"
        )
    if not math.isfinite(ball.eps):
        raise CapabilityError(f"one change for all needs a finite eps; got {ball}")
    return ball


__all__ = ["Added", "Descent", "Universal", "universal"]
