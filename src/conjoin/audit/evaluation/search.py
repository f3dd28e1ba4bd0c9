"""Takes steps on the points that each concerns, in full batches, and keeps what they find.

A step that does not apply (``CapabilityError``) is passed over, and the result says so. What a step has
told of a point it is not asked again. It decides nothing: what follows is told by what is known.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor

from conjoin import drivers
from conjoin.audit.evaluation.known import Known, Part
from conjoin.audit.evaluation.record import Record
from conjoin.audit.evaluation.setting import Act, InTurn, Key, Setting, Step, tiers
from conjoin.audit.evaluation.stopping import Sampled, Stop
from conjoin.core import run as core
from conjoin.core.arguments import check_method, check_model, check_quantity, check_threat
from conjoin.core.drive import Run, check_run, prepared
from conjoin.core.evidence import Claim
from conjoin.core.naming import describe
from conjoin.core.postcondition import part_of, placed
from conjoin.core.protocols import Attack, Certifier, Event
from conjoin.core.quantity import Quantity, Target
from conjoin.core.threat import Threat
from conjoin.core.trace import Trace
from conjoin.drivers import Labelled, Network
from conjoin.errors import CapabilityError, PlanError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Steps:
    """What is to be done, in order."""

    certifiers: tuple[Step, ...]
    attacks: tuple[Step, ...]

    @property
    def checks(self) -> tuple[Step, ...]:
        """The attacks as checks of certificates, of which the first that applies is run."""
        return tuple(replace(step, act=Act.CHECK) for step in self.attacks)


def plan(
    attack: Attack, certifiers: Sequence[Certifier], seed: int, stop: Stop | Sampled | None
) -> Steps:
    """Make steps of methods.

    Raises:
        PlanError: If they are none, or do not go with ``stop``.
    """
    drivers.method_from(attack, "an attack, e.g. standard()")
    check_method(attack, "an attack, e.g. standard()")
    if not isinstance(certifiers, tuple | list):
        raise PlanError(
            f"expected certifiers, e.g. (Interval(), Lipschitz()) or (); got {describe(certifiers)}"
        )
    for method in certifiers:
        check_method(method, "a certifier, e.g. Lipschitz()")
    if stop is not None and not isinstance(stop, Stop | Sampled):
        raise PlanError(
            f"expected stop=Stop(width=0.02) or Sampled(100, after=4); got {describe(stop)}"
        )
    if not -(2**63) <= seed < 2**63:
        raise PlanError(f"a record keeps seeds of 64 bits; got seed={seed}")
    attacks = tiers(attack, seed)
    if isinstance(stop, Sampled) and stop.after >= len(attacks):
        raise PlanError(
            f"{stop!r} leaves no attack for the sample: there are {len(attacks)}; give a smaller after"
        )
    return Steps(tuple(Step(Act.CERTIFY, method) for method in certifiers), attacks)


def setting_of(
    model: Network, data: Labelled, threat: Threat, quantity: Quantity, target: Target, run: Run
) -> Setting:
    """Take what a caller gives, as the drivers do.

    Raises:
        ModelError, DataError, ThreatError, PlanError: If a part is not what it is taken for.
    """
    taken, examples = drivers.model_from(model), drivers.data_from(data)
    check_model(taken, examples)
    check_quantity(quantity)
    set_ = drivers.threat_from(threat)
    check_threat(set_, examples.x)
    return Setting(
        taken, examples, placed(set_, examples.x.device), quantity, target, check_run(run)
    )


@dataclass(slots=True)
class Search:
    """Takes steps and keeps what they find.

    Attributes:
        known: What is known so far.
        record: Where it is kept.
        refused: What does not apply, by the words of the method.
        ready: Certifiers that were prepared for the model.
    """

    known: Known
    record: Record
    refused: dict[str, CapabilityError] = field(default_factory=dict)
    ready: dict[Key, Certifier] = field(default_factory=dict)
    within: dict[str, None] = field(default_factory=dict)  # passed over by a method of methods

    @property
    def passed_over(self) -> tuple[str, ...]:
        """What did not apply, and why: steps, then parts of steps."""
        return (*(f"{name}: {error}" for name, error in self.refused.items()), *self.within)

    def go(self, steps: Steps, rows: Tensor) -> None:
        """Take all steps on some examples.

        Raises:
            CapabilityError: If none of the attacks applies.
        """
        for step in steps.certifiers:
            self.take(step, rows)
        for step in steps.checks:
            if self.take(step, rows):
                break
        applied = [self.take(step, rows) for step in steps.attacks]
        if not any(applied):
            raise self.refused[steps.attacks[0].key.method]

    def take(self, step: Step, rows: Tensor) -> bool:
        """Take a step on those of some examples that it concerns; tell whether it applies."""
        todo = self.known.todo(step, rows)
        if not len(todo):
            return True
        setting, done = self.known.setting, 0
        try:
            taken = self._ready(step)
            for some in todo.split(setting.run.rows(setting.data.x.shape)):
                part = taken(some)
                self.known.take(part)
                self.record.write(part, setting.data)
                done += len(some)
                if setting.run.observe is not None:
                    setting.run.observe(Event(f"{step.act}: {step.key.method}", done, len(todo)))
        except CapabilityError as error:
            if step.key.method not in self.refused:
                log.warning("%s was passed over: %s", step.key.method, error)
            self.refused[step.key.method] = error
            return False
        return True

    def taken_by(self, steps: Sequence[Step]) -> Tensor:
        """Return which examples one of some steps was the first to break."""
        keys = {step.key for step in steps}
        places = [place for place, part in enumerate(self.known.parts) if part.key in keys]
        return torch.isin(self.known.won, torch.tensor(places, device=self.known.won.device).long())

    def _ready(self, step: Step) -> Callable[[Tensor], Part]:
        """Return what takes the step on some examples."""
        setting = self.known.setting
        if step.act is Act.CERTIFY:
            if step.key not in self.ready:
                certifier = cast(Certifier, step.method)
                self.ready[step.key] = prepared(certifier, setting.model, setting.data)
            return lambda rows: self._proved(step, self.ready[step.key], rows)
        method = cast(Attack, step.method)
        own = method if step.place is None else InTurn(method, step.place)
        return lambda rows: self._attacked(step, own, rows)

    def _proved(self, step: Step, method: Certifier, rows: Tensor) -> Part:
        setting = self.known.setting
        proved = core.certify(
            setting.model,
            setting.data.select(rows),
            method,
            part_of(setting.threat, rows),
            quantity=setting.quantity,
            target=setting.target,
            run=Run(setting.run.batch_size),
        )
        story = proved.provenance
        deployed = torch.full_like(proved.certified, story.claim == Claim.SOUND_DEPLOYED)
        columns = {"lower": proved.lower.double(), "deployed": deployed}
        return Part(step.key, rows, columns, None, story.forward, story.backward)

    def _attacked(self, step: Step, method: Attack, rows: Tensor) -> Part:
        setting = self.known.setting
        some, set_ = setting.data.select(rows), part_of(setting.threat, rows)
        aim, quantity = self.known.aim[rows], setting.quantity
        trace = Trace.of(setting.model, some.x, aim, set_, quantity)
        found = core.attack(
            setting.model,
            some,
            method,
            set_,
            seed=step.seed,
            quantity=quantity,
            target=setting.target,
            run=Run(setting.run.batch_size, witness=trace),
        )
        story = found.provenance
        self.within.update(dict.fromkeys(story.passed_over))
        columns = {
            "success": found.success,
            "value": found.value,
            "distance": found.distance.double(),
            **{name: column.to(rows.device) for name, column in trace.columns.items()},
        }
        return Part(step.key, rows, columns, found.inputs, story.forward, story.backward)


__all__ = ["Search", "Steps", "plan", "setting_of"]
