"""Searches without gradients: every cell of a grid over a small box, or points drawn at random.

Where S(x) has few dimensions, such as the angle and the shifts of a lifted model, gradients mislead and
all of it can be looked at: z = low + (high - low) t for every t of a grid, each example by itself. In
many dimensions the worst of k random points is the weakest attack there is: one that another must not
lose to. Neither is a proof: what lies between the cells was not seen.

Reference: engstrom2019, section 3 (grid search; worst of k).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from conjoin.core.counted import check_numbers
from conjoin.core.drive import Run
from conjoin.core.postcondition import part_of, value_of
from conjoin.core.protocols import Batch, Model, tiled
from conjoin.core.quantity import Quantity
from conjoin.core.threat import Enclosed, Projectable, Threat
from conjoin.errors import CapabilityError, PlanError

CELLS = 1 << 20  # more are no search of a few parameters


@runtime_checkable
class Boxed(Projectable, Enclosed, Protocol):
    """A set of known extent that can be projected onto."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Try every cell of a grid over the box that holds S(x), the outermost first.

    Cells outside S(x) are projected onto it. An example leaves at the first cell that reaches the goal.

    Attributes:
        points: How many values of each number of the input, in order, ends included; 1 leaves it as
            it is. The default is that of rotations and shifts: 775 cells.

    Raises:
        PlanError: If there are no cells, or too many.
    """

    reference: ClassVar[str] = "engstrom2019"
    title: ClassVar[str] = "grid search"
    meaning: ClassVar[str] = "every cell of a grid over the set of changes, the outermost first"
    points: tuple[int, ...] = (31, 5, 5)

    def __post_init__(self) -> None:
        check_numbers(self)
        if not self.points or min(self.points) < 1 or math.prod(self.points) > CELLS:
            raise PlanError(
                f"points must be at least 1 for each number of the input, {CELLS} cells in all at "
                f"most; got {self.points}. Attacks by gradients or RandomSearch take larger inputs"
            )

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return the first cell that reaches the goal, or else that of the least quantity.

        Raises:
            CapabilityError: If the threat has no known extent, or an infinite one.
            PlanError: If the inputs have another number of elements.
        """
        low, high = self._box(batch.x, threat)
        shares = self._shares(batch.x)

        def make(x: Tensor, places: Tensor, numbers: range) -> Tensor:
            t = shares[numbers.start : numbers.stop, None]
            z = (1 - t) * low[places] + t * high[places]  # exact at both ends and midway
            own = part_of(threat, places.repeat(len(numbers)))
            assert isinstance(own, Boxed)  # noqa: S101 - as the whole
            x = tiled(x, len(numbers))
            return own.project(z.reshape(x.shape).to(x.dtype), x)

        return first_or_least(model, batch, quantity, len(shares), make)

    def _box(self, x: Tensor, threat: Threat) -> tuple[Tensor, Tensor]:
        """Return the ends of each number, ``(batch, numbers)`` in double precision."""
        if not isinstance(threat, Boxed):
            raise CapabilityError(
                f"{self!r} lays cells over a set of known extent that it can project onto; {threat} "
                "tells neither. RandomSearch only samples the set"
            )
        if x[0].numel() != len(self.points):
            raise PlanError(
                f"{self!r} has points for {len(self.points)} numbers; the inputs hold "
                f"{x[0].numel()} each. Give one number of points for each"
            )
        enclosure, flat = threat.enclosure(x), x.flatten(1).double()
        still = torch.tensor([n == 1 for n in self.points], device=x.device)
        low = torch.where(still, flat, enclosure.low.flatten(1))
        high = torch.where(still, flat, enclosure.high.flatten(1))
        if not bool((low.isfinite() & high.isfinite()).all()):
            raise CapabilityError(
                f"{self!r} lays cells from end to end, and {threat} has none; give a box, e.g. "
                "Linf(inf, bounds=(-limits, limits))"
            )
        return low, high

    def _shares(self, x: Tensor) -> Tensor:
        """Return the place of each cell between the ends, ``(cells, numbers)``, outermost first."""
        lines = [torch.arange(n, dtype=torch.float64) / max(1, n - 1) for n in self.points]
        cells = torch.cartesian_prod(*lines).reshape(-1, len(lines))
        middle = torch.tensor([0.0 if n == 1 else 0.5 for n in self.points])
        outward = (cells - middle).square().sum(1)
        return cells[outward.argsort(descending=True, stable=True)].to(x.device)


@dataclass(frozen=True, slots=True)
class RandomSearch:
    """Try points drawn at random from S(x).

    An example leaves at the first point that reaches the goal.

    Attributes:
        samples: How many are drawn for each example.

    Raises:
        PlanError: If there are none.
    """

    reference: ClassVar[str] = "engstrom2019"
    title: ClassVar[str] = "random search"
    meaning: ClassVar[str] = "the worst of points drawn at random from the set of changes"
    samples: int = 10

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.samples < 1:
            raise PlanError(f"samples must be at least 1; got {self.samples}")

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return the first point that reaches the goal, or else that of the least quantity."""
        streams = batch.rng.fold("random search")

        def make(x: Tensor, places: Tensor, numbers: range) -> Tensor:
            own = part_of(threat, places.repeat(len(numbers)))
            return own.sample(tiled(x, len(numbers)), streams.rows(places).each(numbers))

        return first_or_least(model, batch, quantity, self.samples, make)


def first_or_least(
    model: Model,
    batch: Batch,
    quantity: Quantity,
    count: int,
    make: Callable[[Tensor, Tensor, range], Tensor],
) -> Tensor:
    """Return the first of ``count`` candidates that reaches the goal, or else the least, per example.

    ``make(x, places, numbers)`` returns the candidates of these numbers for the examples at these
    places, one whole batch after another. A pass holds as many rows as the batch had, or as a driver
    takes by default, so the fewer examples stand the more candidates of each are asked at once.
    """
    best = batch.x.clone()
    least = torch.full((len(best),), torch.inf, dtype=torch.float64, device=best.device)
    places = torch.arange(len(best), device=best.device)
    numbers = sum(value[0].numel() for value in (batch.x, *batch.context.values()))
    room, done = max(len(best), Run().rows((1, numbers))), 0
    while done < count and len(places):
        some = range(done, min(count, done + max(1, room // len(places))))
        part = batch.rows(places)
        z = make(part.x, places, some)
        value = value_of(model, quantity, part.repeated(len(some)).at(z)).double()
        value = value.reshape(len(some), -1)
        rank = torch.where(value <= quantity.goal, -torch.inf, value)  # the first that wins
        reached, chosen = rank.min(0).values, rank.argmin(0)  # the first of equals
        better = (reached < least[places]).nonzero()[:, 0]
        z = z.reshape(len(some), len(places), *best.shape[1:])
        best[places[better]] = z[chosen[better], better]
        least[places[better]] = reached[better]
        places = places[least[places] > -torch.inf]
        done = some.stop
    return best


__all__ = ["Grid", "RandomSearch", "first_or_least"]
