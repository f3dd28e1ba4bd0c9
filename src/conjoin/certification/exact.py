"""Exact distances of the nearest boundary, as a certifier and as a result of their own.

:class:`Polyhedral` is a certifier whose radius is, where its budget allows, the true distance of the
boundary: no certifier can prove more, up to the share ``gap``. :func:`exact_boundary` returns beside
the proved lower bound what meets it from above: the nearest point at which the model itself answers
otherwise, the class that lies there and the normal of the boundary. For networks of affine layers,
ReLUs (leaky ones, absolute values), max pooling and short sorts whose boundary is not crowded by
thousands of open neurons; where the budget ends first the two bounds stay apart, and say how far the
true distance can be.

Reference: jordan2019, algorithm 1; fromherz2021, section 3.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.certification.caps import Problem
from conjoin.certification.known import POINTS, Prepared, linear_rows, prepare, still
from conjoin.certification.polyhedral import Budget, Found, Search
from conjoin.certification.rectified import Rectified
from conjoin.certification.relaxed import Kinked
from conjoin.core.ball import Ball
from conjoin.core.boundary import crossing, walked
from conjoin.core.counted import check_numbers
from conjoin.core.drive import Run, batch_of, untouched, versions
from conjoin.core.evidence import Bounds, Claim, Evidence, Provenance
from conjoin.core.gradient import value_and_gradient
from conjoin.core.operator import Step, evaluate
from conjoin.core.projection import column
from conjoin.core.protocols import Batch, Certifier, Model
from conjoin.core.quantity import Quantity, Target, margin, predicted
from conjoin.core.result import Result
from conjoin.core.threat import Threat
from conjoin.drivers import Labelled, Network, data_from, model_from, predict
from conjoin.errors import CapabilityError, PlanError
from conjoin.typing import Flags, Inputs, Labels, PerExample

STEPS, TURNS = 30, 8  # of the walk to a first boundary, and of its projections onto it
DESCENT, FIRST, GROWTH = 100, 1e-3, 1.1  # steps downhill, the length of the first, and their growth
BEYOND = (0.0, 1e-7, 1e-6, 1e-5, 1e-4)  # shares of the distance by which the point is put beyond


@dataclass(frozen=True, slots=True)
class Polyhedral:
    """Find the exact distance of the boundary, cell by cell of the network's polyhedral complex.

    Attributes:
        cells: At most so many are looked at for each example.
        seconds: And for so long, about; by default for as long as it takes, so that a result does
            not depend on the machine.
        gap: The distance counts as found when lower and upper bound differ by at most this share.
    """

    reference: ClassVar[str] = "jordan2019"
    title: ClassVar[str] = "exact boundary"
    meaning: ClassVar[str] = "the true distance of the boundary of a ReLU network, cell by cell"
    cells: int = 1000
    seconds: float = math.inf
    gap: float = 1e-4

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.cells < 1 or not self.seconds > 0 or not 0 < self.gap < 0.5:
            raise PlanError(
                f"expected cells >= 1, seconds > 0 and a gap between 0 and 0.5; got {self!r}"
            )

    def prepare(self, model: Model, example: Batch, /) -> Certifier:
        """Read the operators off the model, once.

        Raises:
            CapabilityError: If a layer is not known, or no network of affine maps and functions with
                one kink at 0 is equal to it.
        """
        known = prepare(model, example, self)
        made = Rectified.of(known.steps)
        network = Kinked.of(made.steps, self)
        some = torch.cat([example.x[:POINTS], -example.x[:POINTS]])  # both sides of many kinks
        sizes = network.magnitudes(some.double().abs())
        made.check(known.steps, some, [network.room(size) for size in sizes])
        return PreparedPolyhedral(known, self, network)

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Bounds:
        """Return radii and whether S(x) is clear; prepares first."""
        return self.prepare(model, batch)(model, batch, threat, quantity)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedPolyhedral:
    """The search on one model, whose operators are known.

    Attributes:
        model: The model's operators, and whose they are.
        method: What it prepares.
        network: The operators, with the slopes of their kinks.
    """

    reference: ClassVar[str] = "jordan2019"
    model: Prepared
    method: Polyhedral
    network: Kinked

    def __repr__(self) -> str:
        """Show it as the method it prepares."""
        return repr(self.method)

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Bounds:
        """Return radii of the threat, and a bound above the goal where S(x) is clear.

        Raises:
            CapabilityError: If the threat is no ball of a norm, or the quantity has no rows or no
                goal.
            ModelError: If it was prepared for another model.
        """
        ball = measured(self, threat, quantity)
        with torch.no_grad(), still(model):
            self.model.check(model, batch)
            outputs = model(batch)
            won = quantity(outputs, batch.aim) <= quantity.goal
            above = outputs.new_tensor(quantity.goal).nextafter(outputs.new_tensor(math.inf))
            goal = float(above) if quantity.goal else 0.0  # at 0 the slack of the rows is more
            found = self.searched(batch, ball, quantity, goal, outputs.shape[1])
        far = torch.tensor([one.lower for one in found], dtype=torch.float64, device=won.device)
        far = torch.where(won, 0.0, far)
        clear = far >= ball.radius(batch.x)
        lower = torch.where(clear & ~won, above, -math.inf)
        return Bounds(lower, Claim.SOUND_REAL, radius=far.masked_fill(~clear & (far <= 0), 0.0))

    def searched(
        self,
        batch: Batch,
        ball: Ball,
        quantity: Quantity,
        goal: float,
        classes: int,
        near: Tensor | None = None,
    ) -> list[Found]:
        """Search each example within the ball's radius, or up to the nearest point known.

        ``near`` holds points that may lie on the other side, nearer than what is found here.
        """
        rows = linear_rows(quantity, self).rows(batch.aim, classes)
        free, points = ball.at(math.inf), _first(self.network.steps, batch, ball, quantity)
        box = free.enclosure(batch.x)
        budget = Budget(self.method.cells, self.method.seconds, self.method.gap)
        found = []
        for place in range(len(batch)):
            own = slice(place, place + 1)
            x, low, high = batch.x[own].double(), box.low[own], box.high[own]
            problem = Problem(self.network, x, low, high, ball.order, rows[place], goal)
            radius = float(ball.radius(batch.x)[place]) * (1 + 2 * budget.gap)
            corner = torch.maximum(x - low, high - x).flatten()
            limit = min(radius, float(torch.linalg.vector_norm(corner, ord=ball.order)))
            search = Search(problem, budget, limit)
            search.know((points[own].double() - x).flatten())
            if near is not None:
                search.know((near[own].double() - x).flatten())
            found.append(search.run())
        return found


def measured(method: object, threat: Threat, quantity: Quantity) -> Ball:
    """Return the ball in which distances are measured.

    Raises:
        CapabilityError: If it is none, or there is no boundary to be found.
    """
    if not isinstance(threat, Ball):
        raise CapabilityError(f"{method!r} measures in a ball of l1, l2 or linf; {threat} is none")
    if not math.isfinite(quantity.goal):
        raise CapabilityError(
            f"{method!r} looks for the boundary where the quantity reaches its goal; {quantity!r} has "
            "none. Take margin or Contrast"
        )
    return threat


@dataclass(frozen=True, slots=True, eq=False)
class _OfSteps:
    """Operators as a model in double precision."""

    steps: Sequence[Step]
    device: torch.device

    def __call__(self, batch: Batch, /) -> Tensor:
        """Return the outputs."""
        return evaluate(self.steps, batch.x)[-1]


def _first(steps: Sequence[Step], batch: Batch, ball: Ball, quantity: Quantity) -> Tensor:
    """Return points near the boundary, by linearisations; the example where none is found."""
    exact, model = batch.at(batch.x.double()), _OfSteps(steps, batch.x.device)
    z = walked(model, exact, ball, quantity, STEPS)
    open_ = quantity(model(exact.at(z)), exact.aim) > quantity.goal
    if bool(
        open_.any()
    ):  # where linearisations lead nowhere, go downhill in longer and longer steps
        z = torch.where(column(open_, z), _descended(model, exact, ball, quantity), z)
    return crossing(model, exact, ball, quantity, z, TURNS).inputs


def _descended(model: Model, batch: Batch, ball: Ball, quantity: Quantity) -> Tensor:
    """Follow the gradient inside the box until the goal is reached, from tiny steps to large ones."""
    free, z = ball.at(math.inf), batch.x
    for turn in range(DESCENT):
        value, slope = value_and_gradient(model, quantity, batch.at(z))
        step = free.steepest(-slope, z) * (FIRST * GROWTH**turn)
        z = torch.where(column(value > quantity.goal, z), free.project(z + step, batch.x), z)
    return z


@dataclass(frozen=True, eq=False, repr=False)
class ExactBoundary(Result):
    """The nearest boundary of each example, from below and from above.

    Attributes:
        inputs: The nearest point at which the model itself answers otherwise; the example where none
            was found.
        lower: *Proved*: no boundary is nearer, of the stored weights in real arithmetic.
        distance: Of ``inputs``, an *upper* bound; infinite where none was found.
        competitor: The class behind the boundary; -1 where none was found.
        normal: Of the boundary at the point, of Euclidean length 1, towards the example's side; 0
            where none was found.
        cells: Looked at.
        exact: Where both bounds are equal, up to the gap and to the rounding of the model.
    """

    inputs: Inputs
    lower: PerExample
    distance: PerExample
    competitor: Labels
    normal: Inputs
    cells: Labels
    exact: Flags

    @property
    def evidence(self) -> Evidence:
        """Certified: the lower bounds are."""
        return Evidence.certified(f"{self.provenance.method}, {self.provenance.claim}")

    def _outcome(self) -> str:
        return f"{int(self.exact.sum())} of {len(self.exact)} exact"


def exact_boundary(
    model: Network,
    data: Labelled,
    threat: Threat,
    *,
    method: Polyhedral = Polyhedral(),
    quantity: Quantity = margin,
    target: Target = predicted,
    near: Inputs | None = None,
    run: Run = Run(),
) -> ExactBoundary:
    """Find the true nearest point at which the model answers otherwise, and prove it.

    Args:
        model: A network of affine layers, ReLUs, max pooling and sorts of pairs.
        data: The examples.
        threat: ``L1``, ``L2`` or ``Linf``: its norm measures, its box holds the points, its radius
            bounds the search; ``L2(torch.inf)`` for none.
        method: The budget.
        quantity: Whose boundary: a minimum of linear functions of the outputs.
        target: What the quantity is about: the class that is left; the predicted one by default.
        near: Points that an attack found, e.g. ``nearest_boundary(...).inputs``; the nearer what is
            known, the faster the search.
        run: Batch size and observer.

    Raises:
        CapabilityError: If a layer, the threat or the quantity is not known to it.
        PlanError: If the method is none.
    """
    if not isinstance(method, Polyhedral):
        raise PlanError(f"expected Polyhedral(cells=...); got {method!r}")
    start = time.perf_counter()
    held, data = model_from(model), data_from(data)
    ball, outputs = measured(method, threat, quantity), predict(held, data, run=run)
    aim, columns, reasons = target(outputs, data.y), [], []
    with untouched(held):
        ready = method.prepare(held, batch_of(data, slice(0, 1), held.device, 0))
        assert isinstance(ready, PreparedPolyhedral)  # noqa: S101 - what it prepares
        size = run.rows(data.x.shape)
        for first in range(0, len(data), size):
            rows = torch.arange(first, min(first + size, len(data)))
            batch = batch_of(data, slice(first, first + size), held.device, 0)
            batch = replace(batch, aim=aim[rows].to(held.device))
            part = ball.to(held.device).rows(rows.to(held.device))
            part.check(batch.x)
            points = None if near is None else near[rows].to(held.device)
            with torch.no_grad():
                args = batch, part, quantity, quantity.goal, outputs.shape[1], points
                found = ready.searched(*args)
                columns.append(_columns(held, batch, part, quantity, found, ready))
            names = [data.ids[place] for place in rows.tolist()]
            reasons += [f"{n}: {f.reason}" for n, f in zip(names, found, strict=True) if f.reason]
        digest = ready.model.digest
    story = Provenance(
        act="exact_boundary",
        method=repr(method),
        reference=method.reference,
        seed=0,
        threat=repr(threat),
        quantity=repr(quantity),
        goal=quantity.goal,
        claim=Claim.SOUND_REAL,
        weights=digest,
        data=data.digest,
        versions=versions(),
        passed_over=tuple(reasons),
        seconds=time.perf_counter() - start,
    )
    whole = {name: torch.cat([part[name] for part in columns]) for name in columns[0]}
    return ExactBoundary(story, **{name: v.to(data.x.device) for name, v in whole.items()})


def _columns(
    model: Model,
    batch: Batch,
    ball: Ball,
    quantity: Quantity,
    found: Sequence[Found],
    ready: PreparedPolyhedral,
) -> dict[str, Tensor]:
    """Put each point hardly beyond the boundary, as the model itself has it, and describe it."""
    x, free = batch.x, ball.at(math.inf)
    points = torch.stack([one.point for one in found]).to(x.device)
    known = torch.tensor([one.row >= 0 for one in found], device=x.device)
    inputs, met, answers = x.clone(), torch.zeros_like(known), model(batch)
    for more in BEYOND:
        z = free.project((x.double() + (1 + more) * (points - x.double())).to(x.dtype), x)
        out = model(batch.at(z))
        now = known & ~met & (quantity(out, batch.aim) <= quantity.goal)
        inputs, answers = (
            torch.where(column(now, x), z, inputs),
            torch.where(now[:, None], out, answers),
        )
        met = met | now
    own = batch.aim if batch.aim.ndim == 1 else batch.aim[:, 0]
    behind = answers.scatter(1, own[:, None], -math.inf).argmax(1)
    distance = torch.where(met, ball.distance(inputs, x), math.inf)
    lower = torch.tensor([one.lower for one in found], dtype=torch.float64, device=x.device)
    near_by = distance <= lower * (1 + 4 * ready.method.gap) + 1e-12
    return {
        "inputs": inputs,
        "lower": torch.minimum(lower, distance),
        "distance": distance,
        "competitor": torch.where(met, behind, -1),
        "normal": torch.where(column(met, x), _normals(ready, batch, points, quantity), 0),
        "cells": torch.tensor([one.cells for one in found], device=x.device),
        "exact": met & near_by & torch.tensor([one.exact for one in found], device=x.device),
    }


def _normals(ready: PreparedPolyhedral, batch: Batch, points: Tensor, quantity: Quantity) -> Tensor:
    """Return the unit normals of the boundary at points."""
    with torch.enable_grad():
        z = points.detach().requires_grad_()
        value = quantity(evaluate(ready.network.steps, z)[-1], batch.aim)
        (slope,) = torch.autograd.grad(value.sum(), z)
    length = torch.linalg.vector_norm(slope.flatten(1), dim=1)
    return (slope / column(torch.where(length > 0, length, 1), slope)).to(batch.x.dtype)


__all__ = ["ExactBoundary", "Polyhedral", "PreparedPolyhedral", "exact_boundary"]
