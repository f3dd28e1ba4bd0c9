"""What is evaluated, and by which steps: values that a record can be bound to.

A :class:`Setting` is the question (a model, data, a threat, a quantity), a :class:`Step` one method
that is run to answer it, with its seed. Both have names that are the same in every process: they say
what a number was about. How it was computed (batch size, threads, versions) is *not* of them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import StrEnum

import torch
from torch import Tensor

from conjoin.attacks import WorstOf
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run, batch_of, versions
from conjoin.core.evidence import NOT_DIAGNOSED, Provenance
from conjoin.core.naming import name_of, references_of
from conjoin.core.postcondition import asked, outputs_of
from conjoin.core.protocols import Attack, Batch, Certifier, Held, Model
from conjoin.core.quantity import Quantity, Target
from conjoin.core.rung import meets
from conjoin.core.threat import Threat
from conjoin.errors import PlanError

ADDRESS = " at 0x"  # in the words of an object that does not say what it is


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """The question whose worst case is looked for.

    Attributes:
        model, data, threat, quantity, target: As the drivers take them.
        run: How drivers are to run.
    """

    model: Model
    data: Dataset
    threat: Threat
    quantity: Quantity
    target: Target
    run: Run

    def identity(self) -> dict[str, str]:
        """Name everything that a record's numbers are about.

        Raises:
            PlanError: If a part of it cannot be told in another process.
        """
        weights = self.model.digest() if meets(self.model, Held) else ""
        if not weights:
            raise PlanError(
                f"a record is bound to the weights of its model, and {type(self.model).__name__} "
                "cannot tell its own; give it a digest(), or leave out the folder"
            )
        places = hashlib.sha256(self.data.positions.cpu().numpy().tobytes()).hexdigest()
        return {
            "model": weights,
            "data": f"{self.data.digest} at {places}",
            "threat": plainly(told(self.threat)),
            "quantity": plainly(f"{name_of(self.quantity)} > {self.quantity.goal}"),
            "target": plainly(name_of(self.target)),
        }

    def story(self, act: str, method: Attack, seed: int) -> Provenance:
        """Say what is evaluated, by what; passes, seconds and the claim are not known yet."""
        return Provenance(
            act=act,
            method=name_of(method),
            reference="; ".join(references_of(method)),
            seed=seed,
            threat=repr(self.threat),
            quantity=name_of(self.quantity),
            goal=self.quantity.goal,
            weights=self.model.digest() if meets(self.model, Held) else "",
            data=self.data.digest,
            versions=versions(),
            verdict=NOT_DIAGNOSED,
        )

    def values(self, rows: Tensor, inputs: Tensor, aim: Tensor, seed: int) -> Tensor:
        """Return the quantity of some examples at other inputs, in fresh passes."""
        part, size = self.data.select(rows), self.run.rows(self.data.x.shape)
        found = []
        for first in range(0, len(rows), size):
            some = slice(first, first + size)
            batch = batch_of(part, some, self.model.device, seed)
            there = replace(batch, x=inputs[some].to(batch.x), aim=aim[rows][some].to(batch.aim))
            value = asked(self.quantity, outputs_of(self.model, there), there.aim)
            found.append(value.to(self.data.x.device))
        return torch.cat(found)


class Act(StrEnum):
    """What a step does."""

    CERTIFY = "certify"
    CHECK = "check"  # attack a few of the points that are certified
    ATTACK = "attack"


@dataclass(frozen=True, slots=True)
class Step:
    """One method, run on the examples that it concerns.

    Attributes:
        act: What it does.
        method: An attack or a certifier.
        seed: Of its random numbers.
        place: Among the attacks of a :class:`~conjoin.attacks.WorstOf`, of whose random numbers it
            takes its own; ``None`` for an attack by itself.
    """

    act: Act
    method: Attack | Certifier
    seed: int = 0
    place: int | None = None

    @property
    def key(self) -> Key:
        """What a record calls it."""
        return Key(str(self.act), name_of(self.method), self.seed, self.place)


@dataclass(frozen=True, slots=True)
class Key:
    """A step in words: what has the same is not done again."""

    act: str
    method: str
    seed: int
    place: int | None


@dataclass(frozen=True, slots=True, repr=False)
class InTurn:
    """An attack with the random numbers that it has as a part of a ``WorstOf``."""

    attack: Attack
    place: int

    def __repr__(self) -> str:
        """Show the attack."""
        return repr(self.attack)

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Attack."""
        rng = batch.rng.fold("attack").fold(self.place)
        return self.attack(model, replace(batch, rng=rng), threat, quantity)


def tiers(attack: Attack, seed: int) -> tuple[Step, ...]:
    """Return the attacks of a ``WorstOf`` as steps, or the one attack that it is."""
    if not isinstance(attack, WorstOf):
        return (Step(Act.ATTACK, attack, seed),)
    parts = enumerate(attack.attacks)
    return tuple(Step(Act.ATTACK, part, seed, place) for place, part in parts)


def told(value: object) -> str:
    """Name a value by all that it is made of, tensors by their content."""
    if isinstance(value, Tensor):
        content = value.detach().cpu().contiguous().numpy().tobytes()
        shape, digest = tuple(value.shape), hashlib.sha256(content).hexdigest()
        return f"{value.dtype} of shape {shape} {digest}"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(told, value))})"
    if is_dataclass(value) and not isinstance(value, type):
        parts = [f"{f.name}={told(getattr(value, f.name))}" for f in fields(value) if f.init]
        return f"{type(value).__qualname__}({', '.join(parts)})"
    return name_of(value)


def plainly(text: str) -> str:
    """Return a name that is the same in every process.

    Raises:
        PlanError: If it holds an address in memory, or a function without a name.
    """
    if ADDRESS in text or "<lambda>" in text:
        raise PlanError(
            f"{text} has no words of its own, so a record cannot name it; make it a frozen dataclass, "
            "give it a __repr__, or leave out the folder"
        )
    return text


__all__ = ["Act", "InTurn", "Key", "Setting", "Step", "plainly", "tiers", "told"]
