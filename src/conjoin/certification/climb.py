"""What is known of each example while a ladder is climbed, and what it is at the end.

Attacks lower the least value that was seen, certifiers raise the lower bound; an example is open
until one of the two decides it. All goes through the drivers. A climb may stop at any moment.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run, prepared, versions
from conjoin.core.evidence import (
    Bounds,
    Claim,
    Evidence,
    EvidenceClass,
    Judgement,
    Provenance,
    Verdict,
)
from conjoin.core.meter import Count
from conjoin.core.naming import name_of
from conjoin.core.protocols import Attack, Batch, Certifier, Event, Model
from conjoin.core.quantity import Quantity, Target
from conjoin.core.result import AttackResult, Certificate, Result
from conjoin.core.run import attack, certify
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, SoundnessError
from conjoin.typing import Flags, Inputs, PerExample

ARROW = " → "
Rung = Callable[[Tensor], None]


@dataclass(frozen=True, eq=False, repr=False)
class Climb(Result):
    """What a climb has decided.

    Attributes:
        lower: The best lower bound that was proved, per example; -inf where none was. value: The
        least value of the quantity that was seen in S(x), at ``inputs``. inputs: Where it was seen;
        x itself where nothing lower was. certified: Where ``lower`` is above the quantity's goal.
        falsified: Where ``value`` is at or below it. rung: Which rung decided, by its place in
        ``rungs``; that of the last one tried where none did, -1
            where none was tried.
    """

    lower: PerExample
    value: PerExample
    inputs: Inputs
    certified: Flags
    falsified: Flags
    rung: Tensor

    @property
    def rungs(self) -> tuple[str, ...]:
        """The rungs, from below."""
        return tuple(self.provenance.method.split(ARROW))

    @property
    def evidence(self) -> Evidence:
        """Certified, where it certifies."""
        return Evidence(EvidenceClass.CERTIFIED, f"ladder, {self.provenance.claim}")

    def judged(self) -> tuple[Judgement, ...]:
        """Return what is known of each example, and why."""
        columns = (c.tolist() for c in (self.certified, self.falsified, self.rung))
        return tuple(self._judgement(*facts) for facts in zip(*columns, strict=True))

    def _judgement(self, certified: bool, falsified: bool, rung: int) -> Judgement:
        name = self.rungs[rung] if rung >= 0 else "x itself"
        if certified:
            return Judgement(Verdict.CERTIFIED, f"{name} ({self.provenance.claim})")
        if falsified:
            return Judgement(Verdict.FALSIFIED, f"{name} found an input")
        last = (
            "nothing was tried" if rung < 0 else f"{name}, the last that was tried, leaves it open"
        )
        over = [f"passed over: {said}" for said in dict.fromkeys(self.provenance.passed_over)]
        return Judgement(Verdict.UNKNOWN, "; ".join([last, *self.provenance.reasons, *over]))

    def _outcome(self) -> str:
        return (
            f"{int(self.certified.sum())} certified and {int(self.falsified.sum())} falsified of "
            f"{len(self.certified)}"
        )


@dataclass(slots=True)
class Climber:
    """What is known while the ladder is climbed."""

    model: Model
    data: Dataset
    threat: Threat
    quantity: Quantity
    target: Target
    seed: int
    run: Run
    seconds: float
    lower: Tensor = field(init=False)
    value: Tensor = field(init=False)
    inputs: Tensor = field(init=False)
    rung: Tensor = field(init=False)
    radius: Tensor = field(init=False)
    ready: dict[int, Certifier] = field(default_factory=dict)
    weights: str = ""
    claims: set[Claim] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    count: Count = field(default_factory=Count)
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        found = self._attack(_Still(), torch.arange(len(self.data)))
        self.value, self.inputs = found.clean.clone(), self.data.x.clone()
        self.lower = torch.full_like(self.value, -math.inf)
        self.rung = torch.full((len(self.data),), -1, device=self.value.device)
        self.radius = torch.zeros_like(self.value, dtype=torch.float64)
        self.weights = found.provenance.weights

    def climb(
        self, rungs: Sequence[Rung], first: int, allowed: Sequence[Tensor] | None = None
    ) -> None:
        """Try rungs in order on what is open, batch after batch, until time is up.

        Args:
            rungs: Each bounds or attacks some examples.
            first: The number of the first of them.
            allowed: For each, on which examples it is tried; ``None`` for all.
        """
        if self.reasons:
            return
        size = self.run.rows(self.data.x.shape)
        try:
            for number, rung in enumerate(rungs):
                open_ = self.open()
                if allowed is not None:
                    open_ = open_[allowed[number][open_]]
                for part in open_.split(size) if len(open_) else ():
                    if time.perf_counter() - self.started > self.seconds:
                        self.reasons.append(f"the {self.seconds:g} s were over")
                        return
                    try:
                        rung(part)
                    except CapabilityError as error:
                        self.passed_over.append(str(error))
                        break
                    self.rung[part] = first + number
                    self._tell()
        except KeyboardInterrupt:
            self.reasons.append("it was interrupted")

    def open(self) -> Tensor:
        """Return what is not decided."""
        goal = self.quantity.goal
        return ((self.lower <= goal) & (self.value > goal)).nonzero()[:, 0]

    def ended(self) -> Tensor:
        """Tell of which examples all was tried, or needed no more."""
        goal = self.quantity.goal
        decided = (self.lower > goal) | (self.value <= goal)
        return decided | (not self.reasons)

    def attacked(self, method: Attack, part: Tensor) -> None:
        """Let an attack search."""
        found = self._attack(method, part)
        self._seen(part, found.inputs, found.value)

    def certified_by(self, method: Certifier, part: Tensor) -> None:
        """Let a certifier bound, and try the inputs that it found on the way."""
        if id(method) not in self.ready:
            self.ready[id(method)] = prepared(method, self.model, self.data.select(part))
        ready = Recorder(self.ready[id(method)], [])
        found: Certificate = certify(
            self.model,
            self.data.select(part),
            ready,
            self.threat.rows(part),
            seed=self.seed,
            quantity=self.quantity,
            target=self.target,
            run=self.run,
        )
        self._counted(found.provenance)
        self.lower[part] = torch.maximum(self.lower[part], found.lower)
        proved = torch.where(found.settled, found.radius.double(), 0.0)
        self.radius[part] = torch.maximum(self.radius[part], proved)
        if bool(found.certified.any()):
            self.claims.add(Claim(found.provenance.claim))
        if ready.seen and not any(seen is None for seen in ready.seen):
            inputs = torch.cat([seen for seen in ready.seen if seen is not None])
            again = self._attack(_Replayed(inputs.to(self.data.x.device)), part)
            self._seen(part, again.inputs, again.value)

    def result(self, names: str) -> Climb:
        """Return what is known."""
        goal = self.quantity.goal
        story = Provenance(
            act="ladder",
            method=names,
            reference="",
            seed=self.seed,
            threat=repr(self.threat),
            quantity=name_of(self.quantity),
            goal=goal,
            claim=Claim.weakest(self.claims) if self.claims else "",
            weights=self.weights,
            data=self.data.digest,
            versions=versions(),
            forward=self.count.forward,
            backward=self.count.backward,
            seconds=time.perf_counter() - self.started,
            passed_over=tuple(self.passed_over),
            reasons=tuple(self.reasons),
        )
        return Climb(
            story,
            self.lower,
            self.value,
            self.inputs,
            self.lower > goal,
            self.value <= goal,
            self.rung,
        )

    def _attack(self, method: Attack, part: Tensor) -> AttackResult:
        found = attack(
            self.model,
            self.data.select(part),
            method,
            self.threat.rows(part),
            seed=self.seed,
            quantity=self.quantity,
            target=self.target,
            run=self.run,
        )
        self._counted(found.provenance)
        return found

    def _seen(self, part: Tensor, inputs: Tensor, value: Tensor) -> None:
        better = value < self.value[part]
        rows = part[better]
        self.value[rows], self.inputs[rows] = value[better], inputs[better]
        slack = 2e-5 * self.value[part].abs().amax() if len(part) else 0.0
        if bool((self.lower[part] > self.value[part] + slack).any()):
            raise SoundnessError(
                f"a value of {float(self.value[part].min()):g} was found below a bound that was "
                "proved: the certificate is wrong for this model"
            )

    def _counted(self, story: Provenance) -> None:
        self.count.forward += story.forward
        self.count.backward += story.backward

    def _tell(self) -> None:
        if self.run.observe is not None:
            done = len(self.data) - len(self.open())
            self.run.observe(Event("ladder", done, len(self.data)))


@dataclass(frozen=True, slots=True)
class Recorder:
    """A certifier whose counterexamples are kept; the drivers return none."""

    method: Certifier
    seen: list[Tensor | None]

    def __repr__(self) -> str:
        """Show it as the certifier."""
        return repr(self.method)

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Bounds:
        """Return its bounds."""
        bounds = self.method(model, batch, threat, quantity)
        self.seen.append(bounds.witness)
        return bounds


@dataclass(frozen=True, slots=True)
class _Still:
    """Moves nothing."""

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        return batch.x.clone()


@dataclass(frozen=True, slots=True, eq=False)
class _Replayed:
    """Gives inputs that are known, of one batch of examples that all stand."""

    inputs: Tensor

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        return self.inputs.to(batch.x.device, batch.x.dtype)


__all__ = ["Climb", "Climber", "Rung"]
