"""Objectives of training: each a surrogate of minus the least quantity over S(x).

Standard training looks at x alone, adversarial training at what an attack finds in S(x) (an upper
bound of the minimum). Objectives that look at a *lower* bound are in
:mod:`conjoin.training.certified` and :mod:`conjoin.training.interval`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from conjoin.attacks.descent import PGD
from conjoin.core.ball import Ball
from conjoin.core.protocols import Attack, Batch
from conjoin.core.quantity import Quantity, Question, log_likelihood, logit
from conjoin.core.threat import Threat
from conjoin.errors import PlanError
from conjoin.training.graph import evaluated
from conjoin.training.schedule import Curve, Linear

RISE = Linear(0.0, 1.0, until=1 / 3)  # of eps


@runtime_checkable
class Objective(Protocol):
    """A differentiable loss of a batch; ``progress`` in 0..1 drives schedules."""

    def __call__(self, network: nn.Module, batch: Batch, progress: float, /) -> Tensor:
        """Return the mean loss."""
        ...


@runtime_checkable
class Preparable(Objective, Protocol):
    """An objective that keeps something about the network while it trains.

    What it returns is called as an objective, and its ``state`` is a module whose buffers belong in a
    checkpoint.
    """

    def prepare(self, network: nn.Module, example: Tensor, /) -> Objective:
        """Read the network, for inputs shaped like the example, ``(1, *input)``."""
        ...


@dataclass(frozen=True, slots=True)
class Standard:
    """Cross-entropy at x."""

    title: ClassVar[str] = "standard training"

    def __call__(self, network: nn.Module, batch: Batch, progress: float, /) -> Tensor:
        """Return the mean cross-entropy in nats."""
        return functional.cross_entropy(network(batch.x, **batch.context), batch.aim)


@dataclass(frozen=True, slots=True)
class Adversarial:
    """Cross-entropy at the worst point an attack finds in S(x).

    Attributes:
        method: The attack.
        threat: S(x).
        ratio: What eps is multiplied with; by default it grows over the first third.
        quantity: What the attack lowers. The log-likelihood has no goal, so that points go on after
            they are misclassified; with ``margin`` they rest there, which is cheaper and weaker.

    Reference: madry2018, equation 2.1.
    """

    reference: ClassVar[str] = "madry2018"
    method: Attack
    threat: Threat
    ratio: Curve = RISE
    quantity: Question = log_likelihood

    def __post_init__(self) -> None:
        if not isinstance(self.quantity, Quantity):
            raise PlanError(
                f"expected a quantity with a goal, e.g. log_likelihood; got {self.quantity!r}"
            )

    def __call__(self, network: nn.Module, batch: Batch, progress: float, /) -> Tensor:
        """Return the mean cross-entropy in nats at the attacked inputs."""
        threat = scaled(self.threat, self.ratio(progress))
        asked = self.quantity
        assert isinstance(asked, Quantity)  # noqa: S101 - it was looked at
        with evaluated(network):
            z = self.method(Plain(network, batch.x.device), batch, threat, asked)
        return functional.cross_entropy(network(z, **batch.context), batch.aim)


@dataclass(frozen=True, slots=True)
class TRADES:
    """Cross-entropy at x, and how far the answer moves within S(x).

        CE(f(x), y) + β max_{z in S(x)} KL(f(x) ‖ f(z))

    Attributes:
        threat: S(x).
        weight: β.
        method: Looks for z: descends minus the divergence.
        ratio: What eps is multiplied with.

    Reference: zhang2019, section 3.
    """

    reference: ClassVar[str] = "zhang2019"
    threat: Threat
    weight: float = 6.0
    method: Attack = PGD(steps=10, step_size=0.25)  # noqa: RUF009 - frozen
    ratio: Curve = RISE

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise PlanError(f"the weight of the divergence is at least 0; got {self.weight}")

    def __call__(self, network: nn.Module, batch: Batch, progress: float, /) -> Tensor:
        """Return the mean of both, in nats."""
        threat = scaled(self.threat, self.ratio(progress))
        with evaluated(network):
            with torch.no_grad():
                clean = network(batch.x, **batch.context).log_softmax(1)
            z = self.method(Agreement(network, batch.x.device), beside(batch, clean), threat, logit)
        both = torch.cat([batch.x, z.detach()])
        logits, others = network(both, **batch.repeated(2).context).chunk(2)
        moved = divergence(logits.log_softmax(1), others.log_softmax(1)).mean()
        return functional.cross_entropy(logits, batch.aim) + self.weight * moved


ANSWER = "the answer at x"


@dataclass(frozen=True, slots=True)
class Agreement:
    """A model whose one output is -KL of the answer at x, in the context, and the one here."""

    network: nn.Module
    device: torch.device

    def __call__(self, batch: Batch, /) -> Tensor:
        """Return ``(batch, 1)``."""
        rest = {name: value for name, value in batch.context.items() if name != ANSWER}
        here = self.network(batch.x, **rest).log_softmax(1)
        return -divergence(batch.context[ANSWER], here)[:, None]


def beside(batch: Batch, answer: Tensor) -> Batch:
    """Return the batch with log-probabilities beside the inputs, aimed at the only output."""
    return Batch(batch.x, torch.zeros_like(batch.aim), batch.rng, {**batch.context, ANSWER: answer})


def divergence(one: Tensor, other: Tensor) -> Tensor:
    """Return KL(one ‖ other) of log-probabilities, ``(batch, classes)``, per example."""
    return (one.exp() * (one - other)).sum(1)


@dataclass(frozen=True, slots=True)
class FastAdversarial:
    """Cross-entropy after one step from a random start, guarded against catastrophic overfitting.

    One step of length ``step`` eps from a uniform start; along the way of that step the *first* of
    ``guard`` evenly spaced points that is misclassified is taken, the last if none is. With one point
    this is plain FGSM with a random start, under which a network learns to be robust at the end of
    the step alone.

    Attributes:
        threat: S(x).
        step: Length of the step as a share of eps.
        guard: Points on the way that are looked at.
        ratio: What eps is multiplied with.

    Reference: wong2020, algorithm 3; kim2021 (the points on the way).
    """

    reference: ClassVar[str] = "kim2021"
    threat: Threat
    step: float = 1.25
    guard: int = 3
    ratio: Curve = RISE

    def __post_init__(self) -> None:
        if not self.step > 0 or self.guard < 1:
            raise PlanError(f"expected step > 0 and guard >= 1; got {self!r}")

    def __call__(self, network: nn.Module, batch: Batch, progress: float, /) -> Tensor:
        """Return the mean cross-entropy in nats at the points found."""
        threat = scaled(self.threat, self.ratio(progress))
        with evaluated(network):
            z = self._found(network, batch, threat)
        return functional.cross_entropy(network(z, **batch.context), batch.aim)

    def _found(self, network: nn.Module, batch: Batch, threat: Ball) -> Tensor:
        x = batch.x
        start = threat.sample(x, batch.rng.fold("start")).requires_grad_()
        loss = functional.cross_entropy(network(start, **batch.context), batch.aim, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, start)
        length = self.step * threat.radius(x).reshape(-1, *[1] * (x.ndim - 1)).to(x.dtype)
        end = threat.project(start.detach() + length * threat.steepest(gradient, start), x)
        found = end
        with torch.no_grad():
            for part in range(self.guard - 1, 0, -1):
                z = x + (end - x) * (part / self.guard)
                wrong = network(z, **batch.context).argmax(1) != batch.aim
                found = torch.where(wrong.reshape(-1, *[1] * (x.ndim - 1)), z, found)
        return found.detach()


def scaled(threat: Threat, ratio: float) -> Ball:
    """Return the threat with another radius.

    Raises:
        PlanError: If the radius is not one number.
    """
    if not isinstance(threat, Ball) or not isinstance(threat.eps, float | int):
        raise PlanError(f"training needs a ball of one radius for all examples; got {threat}")
    return threat.at(threat.eps * ratio)


@dataclass(frozen=True, slots=True)
class Plain:
    """A module as a model, without adapter, for the inner loop of training."""

    network: nn.Module
    device: torch.device

    def __call__(self, batch: Batch, /) -> Tensor:
        """Pass through the module."""
        out: Tensor = self.network(batch.x, **batch.context)
        return out


__all__ = [
    "TRADES",
    "Adversarial",
    "FastAdversarial",
    "Objective",
    "Plain",
    "Preparable",
    "Standard",
    "evaluated",
]
