"""Auto-PGD: descent with momentum whose step halves when it stops paying, without a step to tune.

z ← P(z + a (P(z - η · steepest(∇L)) - z) + (1 - a)(z - z_before)), a = 0.75, from η = 2 eps. At
checkpoints, which come closer together, a point whose loss L fell in too few of the steps since the
last one, or whose best has not moved since although the step stayed, goes back to its best and
halves η. Each example has its own step, and rests when it has reached the goal. It is *not* a
search without gradients: where they mislead it stops at a poor local minimum like any descent.

Reference: croce2020, section 3 (algorithm 1).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attacks.descent import LEAVING, Found, Steppable, descended, steppable
from conjoin.attacks.kept import Kept
from conjoin.core.counted import check_numbers
from conjoin.core.gradient import outputs_and_gradient
from conjoin.core.naming import name_of
from conjoin.core.projection import column
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Quantity, Question, log_likelihood
from conjoin.core.threat import Threat
from conjoin.errors import PlanError

AHEAD = 0.75  # weight of the step against the momentum
PAYING = 0.75  # share of the steps that must have lowered the loss for the step length to stay


@dataclass(frozen=True, slots=True)
class APGD:
    """Descend inside S(x) with steps that adapt to each example.

    Attributes:
        steps: Gradient steps per restart.
        restarts: Random starts; points already fooled do not take part in the next.
        surrogate: Descended in place of the quantity, as
            :func:`~conjoin.attacks.descent.descended` says; ``None`` for the quantity itself.
    """

    reference: ClassVar[str] = "croce2020"
    title: ClassVar[str] = "auto-PGD"
    meaning: ClassVar[str] = "gradient steps with momentum, halved where they stop paying"
    steps: int = 100
    restarts: int = 1
    surrogate: Question | None = log_likelihood

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.steps < 1 or self.restarts < 1:
            raise PlanError(f"steps and restarts must be positive; got {self!r}")

    def __repr__(self) -> str:
        """Show the budget, and the loss by its name."""
        shown = [f"steps={self.steps}"]
        shown += [f"restarts={self.restarts}"] if self.restarts > 1 else []
        shown += [f"surrogate={'None' if self.surrogate is None else name_of(self.surrogate)}"]
        return f"APGD({', '.join(shown)})"

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return the point with the least quantity seen, per example.

        Raises:
            CapabilityError: If nothing can be projected onto the threat, it has no finite radius, or
                the model or its inputs have no gradient.
        """
        threat = steppable(self, threat, batch.x)
        surrogate = descended(self.surrogate, quantity)
        kept = Kept.at(batch.x)
        for restart in range(self.restarts):
            standing = kept.standing(quantity.goal)
            if len(standing) == 0:
                break
            part, own = batch.rows(standing), threat.rows(standing)
            drawn = part.x.is_floating_point()  # tokens: refused by their gradient
            rng = part.rng.fold("restart").fold(restart)
            start = own.sample(part.x, rng) if drawn else part.x
            descent = Descent(model, model, surrogate, quantity, self.steps)
            value, z = descent(part, own, start)
            kept.take(standing, value, z)
        return kept.best


@dataclass(frozen=True, slots=True)
class Descent:
    """One descent from given points, possibly along the gradients of another model.

    Attributes:
        model: Judges: its quantity is what is kept.
        guide: Gives losses and gradients; the model itself, or a twin that is smoother.
        surrogate: The loss.
        quantity: Q.
        steps: Gradient steps.
    """

    model: Model
    guide: Model
    surrogate: Question
    quantity: Quantity
    steps: int

    def __call__(self, batch: Batch, threat: Steppable, start: Tensor) -> tuple[Tensor, Tensor]:
        """Return the least quantities and their points; what reaches the goal leaves in bulk."""
        found = Found.at(batch.x)
        length, every, since = 2 * threat.radius(batch.x).to(start.dtype), _every(self.steps), 0
        loss, gradient, open_ = self._see(found, batch, start)
        path = _Path.at(start, loss, gradient, length)
        for step in range(self.steps):
            left = int(open_.sum())  # the one wait for the device in a step
            if left == 0:
                break
            if left <= len(open_) * (1 - LEAVING):
                keep = open_.nonzero()[:, 0]
                found.leave(keep)
                threat, batch, path = threat.rows(keep), batch.rows(keep), path.rows(keep)
            z = path.next(threat, batch.x, 1 if step == 0 else AHEAD)
            if step == self.steps - 1:  # nothing comes after it: no gradient
                with torch.no_grad():
                    value = self.quantity(self.model(batch.at(z)), batch.aim)
                found.see(z, value, self.quantity.goal)
                break
            loss, gradient, open_ = self._see(found, batch, z)
            path.move(z, loss, gradient)
            since += 1
            if since == every[0]:
                path.adapt(since)
                every, since = every[1:] or every, 0
        return found.whole()

    def _see(self, found: Found, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return loss and gradient at ``z``, and which points have not reached the goal."""
        here = batch.at(z)
        outputs, loss, gradient = outputs_and_gradient(self.guide, self.surrogate, here)
        if self.guide is not self.model:
            with torch.no_grad():
                outputs = self.model(here)
        value = loss
        if self.guide is not self.model or self.surrogate is not self.quantity:
            value = self.quantity(outputs, batch.aim)
        return loss, gradient, found.see(z, value, self.quantity.goal)


@dataclass(slots=True)
class _Path:
    """Where each example's descent is, and what it remembers; all batch-first."""

    z: Tensor
    before: Tensor
    loss: Tensor
    gradient: Tensor
    best: Tensor
    best_loss: Tensor
    best_gradient: Tensor
    length: Tensor
    falls: Tensor
    halved: Tensor
    last_best: Tensor

    @classmethod
    def at(cls, z: Tensor, loss: Tensor, gradient: Tensor, length: Tensor) -> _Path:
        """Start with nothing but the first point."""
        halved = torch.ones_like(loss, dtype=torch.bool)
        falls = torch.zeros_like(loss)
        return cls(z, z, loss, gradient, z, loss, gradient, length, falls, halved, loss)

    def rows(self, keep: Tensor) -> _Path:
        """Select examples."""
        return _Path(*(getattr(self, field.name)[keep] for field in fields(self)))

    def next(self, threat: Steppable, x: Tensor, ahead: float) -> Tensor:
        """Return the next point, inside S(x)."""
        step = column(self.length, self.z) * threat.steepest(-self.gradient, self.z)
        z = threat.project(self.z + step, x)
        if ahead == 1:
            return z
        moved = self.z + ahead * (z - self.z) + (1 - ahead) * (self.z - self.before)
        return threat.project(moved, x)

    def move(self, z: Tensor, loss: Tensor, gradient: Tensor) -> None:
        """Go there, and keep it if it is better than all before."""
        self.falls += loss < self.loss
        self.before, self.z, self.loss, self.gradient = self.z, z, loss, gradient
        better = loss < self.best_loss
        self._keep(better)

    def _keep(self, better: Tensor) -> None:
        wide = column(better, self.z)
        self.best_loss = torch.where(better, self.loss, self.best_loss)
        self.best = torch.where(wide, self.z, self.best)
        self.best_gradient = torch.where(wide, self.gradient, self.best_gradient)

    def adapt(self, since: int) -> None:
        """Halve the step of the points where it does not pay, and send them back to their best."""
        rare = self.falls <= PAYING * since
        stuck = ~self.halved & (self.best_loss >= self.last_best)
        self.halved = rare | stuck
        self.last_best = self.best_loss
        self.length = torch.where(self.halved, self.length / 2, self.length)
        wide = column(self.halved, self.z)
        self.z = torch.where(wide, self.best, self.z)
        self.gradient = torch.where(wide, self.best_gradient, self.gradient)
        self.loss = torch.where(self.halved, self.best_loss, self.loss)
        self.falls = torch.zeros_like(self.falls)


def _every(steps: int) -> list[int]:
    """Return how many steps lie between checkpoints: 22 % of all, then 3 % fewer, down to 6 %."""
    period, least, less = (max(round(steps * share), 1) for share in (0.22, 0.06, 0.03))
    periods = [period]
    while periods[-1] > least:
        periods.append(max(periods[-1] - less, least))
    return periods


__all__ = ["APGD", "Descent"]
