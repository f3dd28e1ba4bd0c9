"""HopSkipJump: walk along the boundary towards x, by decisions alone.

From a point that fools, bisection leads back to the boundary; there the direction in which the decision
changes is estimated by whether small random steps still fool,

    g = mean of (φ_b - mean φ) u_b,     φ_b = ±1 as Q(f(z + δ u_b)) <= goal or not,

a step along g leads back inside the fooling region, its length halved until it does, and bisection
follows. Nothing but the *decision* is asked of the model, so it applies where outputs are labels. It is
dear, thousands of passes an example, and its distances are upper bounds as any attack's.

Reference: chen2020, algorithm 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attacks.fmn import euclidean
from conjoin.attacks.nearest import Nearest, Searchable, searchable
from conjoin.attacks.units import has_units, in_units
from conjoin.core.boundary import bisected
from conjoin.core.counted import check_numbers
from conjoin.core.projection import column
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Quantity
from conjoin.core.random import Streams
from conjoin.core.threat import Threat
from conjoin.errors import PlanError

HALVINGS = 16  # of the way to x, and of a step
STARTS = 32  # random points, each √2 times as wild as the last, but inside the box
AT_ONCE = 256  # inputs of a pass of probes
WILD = 2.0**-8  # deviation of the first of them, in input units


@dataclass(frozen=True, slots=True)
class HopSkipJump:
    """Search for the nearest input that fools, by decisions alone.

    Attributes:
        rounds: Steps along the boundary.
        probes: Random directions of the first round; √t times as many in round t.
    """

    reference: ClassVar[str] = "chen2020"
    title: ClassVar[str] = "HopSkipJump"
    meaning: ClassVar[str] = "walks along the boundary by decisions alone; no gradients, no outputs"
    rounds: int = 20
    probes: int = 60

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.rounds < 1 or self.probes < 2:
            raise PlanError(f"expected rounds >= 1 and probes >= 2; got {self!r}")

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return the nearest point that reaches the goal; where none was found, x or what is least.

        Raises:
            CapabilityError: If nothing can be projected onto the threat, it has no radius, or the
                quantity has no finite goal.
        """
        ball = searchable(self, threat, quantity)
        if has_units(threat, batch.x):
            return in_units(self, model, batch, threat, quantity)
        with torch.no_grad():
            kept = Nearest.none(batch.x, ball, quantity.goal)
            kept.see(batch.x, quantity(model(batch), batch.aim))
            hop = _Hop(model, batch, ball.at(math.inf), quantity, kept)
            hop.start()
            for number in range(1, self.rounds + 1):
                hop.jump(number, math.ceil(self.probes * math.sqrt(number)))
            return kept.whole(model, batch, quantity)


@dataclass(frozen=True, slots=True)
class _Hop:
    """A search under way.

    Attributes:
        model, batch, quantity: What is attacked.
        free: The set without its radius: norm, box and mask.
        kept: What was found.
    """

    model: Model
    batch: Batch
    free: Searchable
    quantity: Quantity
    kept: Nearest

    def fools(self, z: Tensor, asked: Tensor | None = None) -> Tensor:
        """Return the decision, and keep what it was asked of: of the examples ``asked`` alone.

        What else is in the batch must not decide how often an example is looked at.
        """
        value = self.quantity(self.model(self.batch.at(z)), self.batch.aim)
        self.kept.see(z, value if asked is None else value.masked_fill(~asked, math.inf))
        return value <= self.quantity.goal

    def start(self) -> None:
        """Try points that are further and further away at random."""
        x = self.batch.x
        for number in range(STARTS):
            lacking = ~self.kept.distance.isfinite()
            if not bool(lacking.any()):
                break
            noise = self.batch.rng.fold("start").fold(number).normal(*x.shape[1:], dtype=x.dtype)
            self.fools(self.free.project(x + WILD * 2.0 ** (number / 2) * noise, x), lacking)
        self._back(self.kept.point.clone())

    def jump(self, number: int, probes: int) -> None:
        """Step along the boundary, and back onto it."""
        x, z = self.batch.x, self.kept.point.clone()  # which moves with what is seen
        found = self.kept.distance.isfinite() & (self.kept.distance > 0)
        if not bool(found.any()):
            return
        size = x[0].numel()
        apart = (z - x).flatten(1).double().norm(dim=1).to(x.dtype)
        guess = self._direction(z, apart / size, number, probes)
        twin = self.free if math.isinf(getattr(self.free, "order", 2.0)) else euclidean(self.free)
        way = twin.steepest(guess, z)
        length = twin.distance(z, x).to(x.dtype) / math.sqrt(number)
        length = torch.where(found, length, 0)
        end, inside = z, ~found
        for _ in range(HALVINGS):
            if bool(inside.all()):
                break
            there = self.free.project(z + column(length, z) * way, x)
            still = self.fools(there, ~inside) & ~inside
            end, inside = torch.where(column(still, z), there, end), inside | still
            length = length / 2
        self._back(end)

    def _direction(self, z: Tensor, size: Tensor, number: int, probes: int) -> Tensor:
        """Estimate in which direction the decision turns, at points ``size`` away."""
        total, mean, said = torch.zeros_like(z), torch.zeros_like(z), torch.zeros_like(size)
        rng = self.batch.rng.fold("jump").fold(number)
        for some in torch.arange(probes).split(max(1, AT_ONCE // len(z))):
            tried = [self._near(z, size, rng.fold(int(probe))) for probe in some]
            fooled = self._fool(torch.cat(tried), len(tried))
            for there, fools in zip(tried, fooled, strict=True):
                sign, step = torch.where(fools, 1.0, -1.0).to(z.dtype), there - z
                total, mean, said = total + column(sign, z) * step, mean + step, said + sign
        # Where all fool, or none does, the mean would leave nothing: the plain sum says where to.
        level = torch.where(said.abs() < probes, said / probes, 0)
        return total - column(level, z) * mean

    def _near(self, z: Tensor, size: Tensor, rng: Streams) -> Tensor:
        """Draw a point that far away; the box and the mask may draw it nearer."""
        noise = rng.normal(*z.shape[1:], dtype=z.dtype)
        noise = noise / column(noise.flatten(1).norm(dim=1).clamp(min=1e-30), z)
        return self.free.project(z + column(size, z) * noise, self.batch.x)

    def _fool(self, z: Tensor, times: int) -> tuple[Tensor, ...]:
        """Return the decisions on several points of each example."""
        several = self.batch.repeated(times).at(z)
        value = self.quantity(self.model(several), several.aim)
        for point, own in zip(z.chunk(times), value.chunk(times), strict=True):
            self.kept.see(point, own)
        return (value <= self.quantity.goal).chunk(times)

    def _back(self, far: Tensor) -> None:
        """Bisect the radius at which points that fool, drawn into the ball, still do."""
        x = self.batch.x
        radius = self.free.distance(far, x)

        def on_way(share: Tensor) -> Tensor:
            return self.free.at(share * radius).project(far, x)

        bisected(on_way, self.fools, far, HALVINGS)


__all__ = ["HopSkipJump"]
