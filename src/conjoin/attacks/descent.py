"""Projected gradient descent on a quantity: the PGD family.

z ← P_{S(x)}(z - α · steepest(∇Q(f(z)))), from a random start in S(x), best of several restarts. The
norm lives in the threat, targets in the quantity, so one loop serves all. It finds *upper* bounds on
the minimum of Q over S(x); that it finds nothing proves nothing.

Reference: madry2018, section 2; goodfellow2015, section 4 (one step).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.core.naming import name_of
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Quantity, log_likelihood, value_and_gradient
from conjoin.core.threat import Ball
from conjoin.errors import PlanError


@dataclass(frozen=True, slots=True)
class PGD:
    """Descend the quantity inside S(x) by steepest steps of the threat's norm.

    Attributes:
        steps: Gradient steps per restart.
        step_size: Step length as a share of eps.
        restarts: Random starts; points already fooled do not take part in the next.
        random_start: Start anywhere in S(x) instead of at x.
        surrogate: Descended in place of the quantity, e.g. ``log_likelihood``; success is always
            judged by the quantity.
    """

    reference: ClassVar[str] = "madry2018"
    steps: int = 40
    step_size: float = 0.1
    restarts: int = 1
    random_start: bool = True
    surrogate: Quantity | None = None

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1 or not self.step_size > 0:
            raise PlanError(f"steps, restarts and step_size must be positive; got {self!r}")

    def __repr__(self) -> str:
        """Show what differs from the defaults, and the loss by its name."""
        shown = [f"steps={self.steps}", f"step_size={self.step_size:g}"]
        shown += [f"restarts={self.restarts}"] if self.restarts > 1 else []
        shown += [] if self.random_start else ["random_start=False"]
        shown += [] if self.surrogate is None else [f"surrogate={name_of(self.surrogate)}"]
        return f"PGD({', '.join(shown)})"

    def __call__(self, model: Model, batch: Batch, threat: Ball, quantity: Quantity, /) -> Tensor:
        """Return the point with the least quantity seen, per example."""
        best = batch.x.clone()
        least = torch.full_like(batch.x.flatten(1)[:, 0], torch.inf)
        for restart in range(self.restarts):
            standing = (least > 0).nonzero()[:, 0]
            if len(standing) == 0:
                break
            part = threat.rows(standing)
            value, z = self._descend(model, batch.rows(standing), part, quantity, restart)
            better = value < least[standing]
            least[standing[better]], best[standing[better]] = value[better], z[better]
        return best

    def _descend(
        self, model: Model, batch: Batch, threat: Ball, quantity: Quantity, restart: int
    ) -> tuple[Tensor, Tensor]:
        """Run one restart; points leave the batch as soon as they fall."""
        descended = self.surrogate or quantity
        best, least = batch.x.clone(), torch.full_like(batch.x.flatten(1)[:, 0], torch.inf)
        alive = torch.arange(len(best), device=best.device)
        x, y = batch.x, batch.y
        z = threat.sample(x, batch.rng.fold(restart)) if self.random_start else x.clone()
        length = self.step_size * threat.radius(x).reshape(-1, *[1] * (x.ndim - 1))
        for step in range(self.steps + 1):
            if step == self.steps:
                with torch.no_grad():
                    value = quantity(model(z), y)
            elif self.surrogate is None:
                value, gradient = value_and_gradient(model, quantity, z, y)
            else:
                value, gradient = _with_surrogate(model, quantity, descended, z, y)
            better = value < least[alive]
            least[alive] = torch.where(better, value, least[alive])
            best[alive[better]] = z[better]
            if step == self.steps:
                break
            keep = value > 0
            if not bool(keep.all()):
                if not bool(keep.any()):
                    break
                alive, threat = alive[keep], threat.rows(keep)
                x, y, z, length, gradient = x[keep], y[keep], z[keep], length[keep], gradient[keep]
            z = threat.project(z + length * threat.steepest(-gradient, z), x)
        return least, best


def _with_surrogate(
    model: Model, quantity: Quantity, surrogate: Quantity, z: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """Evaluate the quantity and the surrogate's gradient from one forward pass."""
    seen: list[Tensor] = []

    def forward(leaf: Tensor) -> Tensor:
        seen.append(model(leaf))
        return seen[0]

    _, gradient = value_and_gradient(forward, surrogate, z, y)
    return quantity(seen[0].detach(), y), gradient


def fgsm(surrogate: Quantity = log_likelihood) -> PGD:
    """Take one full step from x along the steepest direction of the cross-entropy.

    Reference: goodfellow2015, section 4.
    """
    return PGD(steps=1, step_size=1.0, random_start=False, surrogate=surrogate)
