"""How far each example holds: the ladder at one radius after another, between two ends that only close.

Each example has a radius within which it is certified and one at which it was attacked; between the
two nothing is known. Every step bisects what is left of each example by itself. What is known is used
again: a closed form gives its radius at once, an attack the distance of what it found, and a rung that
has failed at a radius is not asked at a larger one. Monotony is assumed nowhere: every radius was
itself proved.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from conjoin.certification.climb import ARROW, Climber
from conjoin.certification.ladder import RUNGS
from conjoin.core.arguments import check_parts
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.evidence import Evidence, EvidenceClass, Provenance
from conjoin.core.protocols import Attack, Certifier, Model
from conjoin.core.quantity import Quantity, Target, given, margin
from conjoin.core.result import Result
from conjoin.core.threat import Graded
from conjoin.drivers import Labelled, Network, data_from, model_from
from conjoin.errors import PlanError, SoundnessError
from conjoin.typing import Inputs, PerExample


@dataclass(frozen=True, eq=False, repr=False)
class Radii(Result):
    """Between what radii the robustness of each example lies.

    Attributes:
        certified: Within this nothing wins: proved. 0 where nothing is.
        attacked: An input that wins is this far; infinite where none was found.
        inputs: That input; x itself where there is none.
    """

    certified: PerExample
    attacked: PerExample
    inputs: Inputs

    @property
    def evidence(self) -> Evidence:
        """Certified from below, seen from above."""
        return Evidence(EvidenceClass.CERTIFIED, f"ladder, {self.provenance.claim}")

    def _outcome(self) -> str:
        known = self.attacked.isfinite()
        return (
            f"median certified radius {float(self.certified.median()):.4g}, "
            f"{int(known.sum())} of {len(known)} attacked"
        )


def radii(
    model: Network,
    data: Labelled,
    threat: Graded,
    *,
    largest: float,
    steps: int = 10,
    attacks: Sequence[Attack] = (),
    rungs: Sequence[Certifier] = RUNGS,
    seconds: float = math.inf,
    seed: int = 0,
    quantity: Quantity = margin,
    target: Target = given,
    run: Run = Run(),
) -> Radii:
    """Bracket each example's radius in [0, ``largest``].

    To ``largest`` / 2^``steps`` where the rungs decide at every step.

    Args:
        model: A model, or a ``torch.nn.Module``.
        data: The examples, or a pair of inputs and labels.
        threat: The set; its own radius is not used.
        largest: Where the search starts.
        steps: Of the bisection.
        attacks: Tried first, and at each step.
        rungs: Certifiers, tried in order.
        seconds: Time in all, looked at between batches: what is known then is returned.
        seed: Of the attacks.
        quantity: What is bounded.
        target: What it is about.
        run: Batches, and who is told of progress.

    Raises:
        PlanError: If the threat has no radius, or a number is out of range.
        SoundnessError: If an input that wins was found within a radius that was proved.
    """
    if not isinstance(threat, Graded):
        raise PlanError(f"{threat} has no radius to search; expected e.g. Linf(0.1) or L2(0.5)")
    if not 0 < largest < math.inf or steps < 1 or not seconds > 0:
        raise PlanError(
            f"expected 0 < largest < inf, steps >= 1 and seconds > 0; got {largest!r}, {steps!r} and "
            f"{seconds!r}"
        )
    check_parts(tuple(rungs), "a certifier, e.g. Crown()")
    held, data = model_from(model), data_from(data)
    search = _Search(held, data, threat, tuple(attacks), tuple(rungs), largest)
    asked = quantity, target, seed, run
    deadline = time.perf_counter() + seconds
    for step in range(steps + 1):
        left = max(deadline - time.perf_counter(), 1e-9)  # what is over is found by the climb
        if not search.step(asked, left, first=step == 0):
            break
    return search.result(seed)


class _Search:
    """What is known of the radii."""

    def __init__(
        self,
        model: Model,
        data: Dataset,
        threat: Graded,
        attacks: tuple[Attack, ...],
        rungs: tuple[Certifier, ...],
        largest: float,
    ) -> None:
        self.model, self.data, self.threat = model, data, threat
        self.attacks, self.rungs, self.largest = attacks, rungs, largest
        device = data.x.device
        self.low = torch.zeros(len(data), dtype=torch.float64, device=device)
        self.attacked = torch.full_like(self.low, math.inf)
        self.high = torch.full_like(self.low, largest)  # beyond it nothing is tried
        self.failed = torch.full((len(rungs), len(data)), math.inf, device=device).double()
        self.inputs = data.x.clone()
        self.stories: list[Provenance] = []
        self.ready: dict[int, Certifier] = {}

    def step(
        self, asked: tuple[Quantity, Target, int, Run], seconds: float, *, first: bool
    ) -> bool:
        """Try all that is open at a radius of its own; tell whether to go on."""
        quantity, target, seed, run = asked
        rows = (self.high > self.low).nonzero()[:, 0]
        if not len(rows):
            return False
        eps = self.high[rows] if first else (self.low[rows] + self.high[rows]) / 2
        data, threat = self.data.select(rows), self.threat.rows(rows).at(eps)
        climber = Climber(self.model, data, threat, quantity, target, seed, run, seconds)
        climber.ready = self.ready
        climber.climb([partial(climber.attacked, a) for a in self.attacks], 0)
        ask = [self.failed[k, rows] > eps for k in range(len(self.rungs))]
        climber.climb(
            [partial(climber.certified_by, r) for r in self.rungs], len(self.attacks), ask
        )
        self.take(climber, rows, eps)
        return not climber.reasons

    def take(self, climber: Climber, rows: Tensor, eps: Tensor) -> None:
        """Keep what a climb has found."""
        goal = climber.quantity.goal
        won, lost = climber.lower > goal, climber.value <= goal
        distance = self.threat.rows(rows).distance(climber.inputs, self.data.x[rows]).double()
        self.low[rows] = torch.maximum(self.low[rows], torch.where(won, eps, 0.0))
        self.low[rows] = torch.maximum(self.low[rows], climber.radius.minimum(eps))
        nearer = lost & (distance < self.attacked[rows])
        self.attacked[rows] = torch.where(nearer, distance, self.attacked[rows])
        self.inputs[rows[nearer]] = climber.inputs[nearer]
        for number in range(len(self.rungs)):
            tried = climber.rung >= len(self.attacks) + number
            failed = tried & (~won | (climber.rung > len(self.attacks) + number))
            before = self.failed[number, rows]
            self.failed[number, rows] = torch.where(failed, before.minimum(eps), before)
        high = torch.where(won, self.high[rows], eps).minimum(self.attacked[rows])
        self.high[rows] = torch.where(climber.ended(), high, self.high[rows])
        if bool(((self.low > 0) & (self.low >= self.attacked)).any()):
            raise SoundnessError(
                "an input that wins was found within a radius that was proved: the certificate is "
                "wrong for this model"
            )
        self.stories.append(climber.result("").provenance)

    def result(self, seed: int) -> Radii:
        """Return what is known."""
        names = ARROW.join(repr(method) for method in (*self.attacks, *self.rungs))
        last = self.stories[-1]
        claims = {story.claim for story in self.stories if story.claim}
        story = Provenance(
            act="radii",
            method=names,
            reference="",
            seed=seed,
            threat=repr(self.threat),
            quantity=last.quantity,
            goal=last.goal,
            claim=min(claims, key=lambda claim: claim != "sound-real", default=""),
            weights=last.weights,
            data=self.data.digest,
            versions=last.versions,
            forward=sum(story.forward for story in self.stories),
            backward=sum(story.backward for story in self.stories),
            seconds=sum(story.seconds for story in self.stories),
            passed_over=last.passed_over,
            reasons=last.reasons,
        )
        return Radii(story, self.low, self.attacked, self.inputs)


__all__ = ["Radii", "radii"]
