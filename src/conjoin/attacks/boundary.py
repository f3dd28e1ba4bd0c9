"""The nearest decision boundary: by several searches, then drawn onto it and near.

    min ‖z - x‖  over  Q(f(z)) <= goal

:class:`OntoBoundary` is an attack; :func:`nearest_boundary` runs it and says of each example how far
the boundary was found, which class lies behind it, and how exactly the point meets it. Distances are
*upper* bounds; a certified radius is a lower one, and their quotient says how far the true boundary can
be from the one found. An example near which nothing flips is said not to be found, and has no point.

Reference: wang2022, section 3; brendel2018, section 2 (binary search towards the boundary).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.attacks.deepfool import DeepFool
from conjoin.attacks.fmn import FMN
from conjoin.core.ball import Ball
from conjoin.core.boundary import crossing
from conjoin.core.counted import check_numbers
from conjoin.core.drive import Run
from conjoin.core.evidence import Evidence
from conjoin.core.naming import describe
from conjoin.core.projection import column
from conjoin.core.protocols import Attack, Batch, Model
from conjoin.core.quantity import Avoid, Quantity, Target, margin, predicted
from conjoin.core.result import Result
from conjoin.core.threat import Threat
from conjoin.drivers import Labelled, Network, attack, data_from, model_from, predict
from conjoin.errors import CapabilityError, PlanError
from conjoin.typing import Flags, Inputs, Labels, PerExample

SEARCHES: tuple[Attack, ...] = (FMN(steps=60), DeepFool(steps=10))  # more find hardly nearer ones


@dataclass(frozen=True, slots=True)
class OntoBoundary:
    """Take the nearest point that several attacks find, and draw it onto the boundary.

    Attributes:
        searches: Attacks; minimum-norm ones find the nearest. Without any, FMN and DeepFool.
        rounds: Of projection onto the linearised boundary.
    """

    reference: ClassVar[str] = "wang2022"
    title: ClassVar[str] = "nearest boundary"
    meaning: ClassVar[str] = "the nearest of several searches, drawn onto the boundary"
    searches: tuple[Attack, ...] = ()
    rounds: int = 8

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.rounds < 0:
            raise PlanError(f"rounds must be >= 0; got {self.rounds}")

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return the nearest point on the other side; the example where nothing flips.

        Raises:
            CapabilityError: If the threat is no ball, or the quantity has no goal.
        """
        if not isinstance(threat, Ball):
            raise CapabilityError(
                f"{self!r} measures in the norm of a ball (Linf, L2, L1); {threat} is none"
            )
        if quantity.goal == -torch.inf:
            raise CapabilityError(
                f"{self!r} looks for the boundary where the quantity reaches its goal; {quantity!r} "
                "has none. Take margin, Contrast or Avoid"
            )
        best, near = batch.x, torch.full((len(batch),), torch.inf, dtype=torch.float64)
        near = near.to(batch.x.device)
        for number, search in enumerate(self.searches or SEARCHES):
            part = replace(batch, rng=batch.rng.fold("search").fold(number))
            z = search(model, part, threat, quantity)
            with torch.no_grad():
                fell = quantity(model(batch.at(z)), batch.aim) <= quantity.goal
            far = threat.distance(z, batch.x)
            nearer = fell & threat.contains(z, batch.x) & (far < near)
            best = torch.where(column(nearer, best), z, best)
            near = torch.where(nearer, far, near)
        met = crossing(model, batch, threat, quantity, best, self.rounds)
        nearer = met.found & threat.contains(met.inputs, batch.x) & (met.distance <= near)
        return torch.where(column(nearer, best), met.inputs, best)


@dataclass(frozen=True, eq=False, repr=False)
class NearestBoundary(Result):
    """The nearest boundary that was found of each example.

    Attributes:
        inputs: The point, hardly on the other side; the example where none was found.
        distance: From the example as the threat measures it, an *upper* bound of the distance of the
            boundary; infinite where none was found.
        competitor: The class that lies behind it; -1 where none was found.
        residual: The quantity at the point, less its goal: how exactly it meets the boundary; NaN
            where none was found.
        found: Where the point lies on the other side, in a pass of the driver's own.
    """

    inputs: Inputs
    distance: PerExample
    competitor: Labels
    residual: PerExample
    found: Flags

    @property
    def evidence(self) -> Evidence:
        """Empirical: what these searches found."""
        return Evidence.empirical(self.provenance.method)

    def _outcome(self) -> str:
        return f"{int(self.found.sum())} of {len(self.found)} found"


def nearest_boundary(
    model: Network,
    data: Labelled,
    threat: Threat,
    *,
    seed: int,
    method: OntoBoundary = OntoBoundary(),
    against: int | None = None,
    quantity: Quantity = margin,
    target: Target = predicted,
    run: Run = Run(),
) -> NearestBoundary:
    """Find the nearest point at which the model answers otherwise.

    Args:
        model: Differentiable.
        data: The examples.
        threat: A ball: its norm measures, its radius bounds the search; ``L2(torch.inf)`` for none.
        seed: Of every random number.
        method: The searches.
        against: A class: the nearest point at which the model answers this one.
        quantity: Whose boundary; not with ``against``.
        target: What the quantity is about: the class that is left; the predicted one by default.
        run: Batch size and observer.

    Raises:
        CapabilityError: If the threat is no ball, or the model has no gradient.
        PlanError: If both ``against`` and a quantity are given, or the method is none.
    """
    if not isinstance(method, OntoBoundary):
        raise PlanError(f"expected OntoBoundary(searches); got {describe(method)}")
    if against is not None:
        if quantity is not margin:
            raise PlanError("say the class on the other side, or a quantity, not both")
        quantity = Avoid(against)
    model, data = model_from(model), data_from(data)
    found = attack(
        model, data, method, threat, seed=seed, quantity=quantity, target=target, run=run
    )
    met = found.success & (found.inputs != data.x).flatten(1).any(1)
    if against is None:
        aim = target(predict(model, data, run=run), data.y)
        there = predict(model, replace(data, x=found.inputs), run=run)
        behind = there.scatter(1, aim[:, None], -torch.inf).argmax(1)  # a tie is met, at best
    else:
        behind = torch.full_like(data.y, against)
    return NearestBoundary(
        found.provenance,
        torch.where(column(met, data.x), found.inputs, data.x),
        torch.where(met, found.distance, torch.inf),
        torch.where(met, behind, -1),
        torch.where(met, found.value - quantity.goal, torch.nan),
        met,
    )


def nearest_boundaries(
    model: Network,
    data: Labelled,
    threat: Threat,
    count: int,
    *,
    seed: int,
    method: OntoBoundary = OntoBoundary(),
    run: Run = Run(),
) -> tuple[NearestBoundary, ...]:
    """Find the nearest boundaries of several classes, the nearest first: one search for each class.

    The k-th result holds, of every example, the k-th nearest class of those that were found; classes
    differ between the results.

    Raises:
        PlanError: If ``count`` is not between 1 and the number of other classes.
    """
    model, data = model_from(model), data_from(data)
    answers = predict(model, data, run=run)
    if not 1 <= count < answers.shape[1]:
        raise PlanError(f"expected 1 to {answers.shape[1] - 1} boundaries; got {count}")
    found = [
        nearest_boundary(model, data, threat, seed=seed, method=method, against=label, run=run)
        for label in range(answers.shape[1])
    ]
    order = torch.stack([one.distance for one in found]).argsort(dim=0, stable=True)
    rows = torch.arange(len(data), device=order.device)

    def picked(name: str, place: int) -> Tensor:
        return torch.stack([getattr(one, name) for one in found])[order[place], rows]

    names = ("inputs", "distance", "competitor", "residual", "found")
    return tuple(
        NearestBoundary(found[0].provenance, *(picked(name, place) for name in names))
        for place in range(count)
    )


__all__ = ["NearestBoundary", "OntoBoundary", "nearest_boundaries", "nearest_boundary"]
