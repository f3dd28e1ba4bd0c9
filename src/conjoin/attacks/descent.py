"""Projected gradient descent on a quantity: the PGD family.

z ← P_{S(x)}(z - α · steepest(∇Q(f(z)))), from a random start in S(x), best of several restarts. The
norm lives in the threat, targets in the quantity, so one loop serves all. It finds *upper* bounds on
the minimum of Q over S(x); that it finds nothing proves nothing.

Reference: madry2018, section 2; goodfellow2015, section 4 (one step).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from conjoin.attacks.kept import Kept
from conjoin.core.counted import check_numbers
from conjoin.core.gradient import outputs_and_gradient
from conjoin.core.naming import describe, name_of
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import (
    LogitRatio,
    LogLikelihood,
    Margin,
    Quantity,
    Question,
    log_likelihood,
)
from conjoin.core.threat import Graded, Projectable, Threat
from conjoin.errors import CapabilityError, PlanError

LEAVING = 0.125  # of the points must have reached the goal before the batch is copied without them


@runtime_checkable
class Steppable(Projectable, Graded, Protocol):
    """A set that can be stepped in: it projects, and has a radius to take steps of."""


def steppable(method: object, threat: Threat, x: Tensor) -> Steppable:
    """Return a threat that can be stepped in, of finite radius.

    Raises:
        CapabilityError: If it is another.
    """
    if not isinstance(threat, Steppable):
        raise CapabilityError(
            f"{method!r} steps inside a set that it can project onto, of a given radius; {threat} "
            "tells neither. Attacks that only sample the set apply to it"
        )
    if not bool(threat.radius(x).isfinite().all()):
        raise CapabilityError(
            f"{method!r} takes steps that are a share of the radius, which is infinite; give the "
            "radius of interest, e.g. the width of the box"
        )
    return threat


def descended(surrogate: Question | None, quantity: Quantity) -> Question:
    """Return what is descended for a quantity.

    ``log_likelihood`` and ``logit_ratio`` fall where the margin falls, and so they stand for it
    alone: of a class to be reached, or of a contrast, they would lead elsewhere, and the quantity
    itself is descended. Other surrogates are taken at their word.

    Raises:
        PlanError: If it is no function of outputs and aims.
    """
    if surrogate is not None and (isinstance(surrogate, type) or not callable(surrogate)):
        raise PlanError(
            "expected a surrogate, e.g. surrogate=log_likelihood, or None for the quantity itself; got "
            f"{describe(surrogate)}"
        )
    if surrogate is None or (
        isinstance(surrogate, LogLikelihood | LogitRatio) and not isinstance(quantity, Margin)
    ):
        return quantity
    return surrogate


@dataclass(frozen=True, slots=True)
class PGD:
    """Descend the quantity inside S(x) by steepest steps of the threat's norm.

    Attributes:
        steps: Gradient steps per restart.
        step_size: Step length as a share of eps.
        restarts: Random starts; points already fooled do not take part in the next.
        random_start: Start anywhere in S(x) instead of at x.
        surrogate: Descended in place of the quantity, e.g. ``log_likelihood``, as :func:`descended`
            says; success is always judged by the quantity.
    """

    reference: ClassVar[str] = "madry2018"
    title: ClassVar[str] = "projected gradient descent"
    meaning: ClassVar[str] = (
        "steps along the gradient, inside the set of changes, from random starts"
    )
    steps: int = 40
    step_size: float = 0.1
    restarts: int = 1
    random_start: bool = True
    surrogate: Question | None = None

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.steps < 1 or self.restarts < 1 or not self.step_size > 0:
            raise PlanError(f"steps, restarts and step_size must be positive; got {self!r}")

    def __repr__(self) -> str:
        """Show what differs from the defaults, and the loss by its name."""
        shown = [f"steps={self.steps}", f"step_size={self.step_size:g}"]
        shown += [f"restarts={self.restarts}"] if self.restarts > 1 else []
        shown += [] if self.random_start else ["random_start=False"]
        shown += [] if self.surrogate is None else [f"surrogate={name_of(self.surrogate)}"]
        return f"PGD({', '.join(shown)})"

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return the point with the least quantity seen, per example.

        Raises:
            CapabilityError: If nothing can be projected onto the threat, it has no finite radius, or
                the model or its inputs have no gradient.
        """
        threat = steppable(self, threat, batch.x)
        kept = Kept.at(batch.x)
        for restart in range(self.restarts):
            standing = kept.standing(quantity.goal)
            if len(standing) == 0:
                break
            part = batch.rows(standing)
            value, z = self._descend(model, part, threat.rows(standing), quantity, restart)
            kept.take(standing, value, z)
        return kept.best

    def _descend(
        self, model: Model, batch: Batch, threat: Steppable, quantity: Quantity, restart: int
    ) -> tuple[Tensor, Tensor]:
        """Run one restart; points rest as soon as they reach the goal, and leave in bulk."""
        x = batch.x
        rng = batch.rng.fold("restart").fold(restart)
        drawn = self.random_start and x.is_floating_point()  # tokens: refused by their gradient
        z = threat.sample(x, rng) if drawn else x.clone()
        length = self.step_size * threat.radius(x).reshape(-1, *[1] * (z.ndim - 1)).to(x.dtype)
        found = Found.at(x)
        surrogate = descended(self.surrogate, quantity)
        for _ in range(self.steps):
            outputs, value, gradient = outputs_and_gradient(model, surrogate, batch.at(z))
            if surrogate is not quantity:
                value = quantity(outputs, batch.aim)
            open_ = found.see(z, value, quantity.goal)
            left = int(open_.sum())  # the one wait for the device in a step
            if left == 0:
                return found.whole()
            if left <= len(z) * (1 - LEAVING):
                keep = open_.nonzero()[:, 0]
                found.leave(keep)
                threat, batch = threat.rows(keep), batch.rows(keep)
                z, length, gradient = z[keep], length[keep], gradient[keep]
            z = threat.project(z + length * threat.steepest(-gradient, z), batch.x)
        with torch.no_grad():
            found.see(z, quantity(model(batch.at(z)), batch.aim), quantity.goal)
        return found.whole()


@dataclass(slots=True)
class Found:
    """The best points seen of those that still take part, and of the whole batch behind them.

    What has reached the goal is not improved on, so that nothing depends on when it leaves.
    """

    best: Tensor
    least: Tensor
    open: Tensor
    place: Tensor
    all_best: Tensor
    all_least: Tensor

    @classmethod
    def at(cls, x: Tensor) -> Found:
        """Start with nothing seen."""
        least = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        everywhere = torch.ones(len(x), dtype=torch.bool, device=x.device)
        place = torch.arange(len(x), device=x.device)
        return cls(x.clone(), least, everywhere, place, x.clone(), least.clone())

    def see(self, z: Tensor, value: Tensor, goal: float) -> Tensor:
        """Keep what is better; return which have not reached the goal."""
        better = self.open & (value < self.least)
        self.least = torch.where(better, value.double(), self.least)
        self.best = torch.where(better.reshape(-1, *[1] * (z.ndim - 1)), z, self.best)
        self.open = self.open & (value > goal)
        return self.open

    def leave(self, keep: Tensor) -> None:
        """Write the points down and go on with the rows ``keep``."""
        self.whole()
        self.best, self.least = self.best[keep], self.least[keep]
        self.open, self.place = self.open[keep], self.place[keep]

    def whole(self) -> tuple[Tensor, Tensor]:
        """Return the least values and the best points of the whole batch."""
        self.all_best[self.place], self.all_least[self.place] = self.best, self.least
        return self.all_least, self.all_best


def fgsm(surrogate: Question = log_likelihood) -> PGD:
    """Take one full step from x along the steepest direction of the cross-entropy.

    Reference: goodfellow2015, section 4.
    """
    return PGD(steps=1, step_size=1.0, random_start=False, surrogate=surrogate)
