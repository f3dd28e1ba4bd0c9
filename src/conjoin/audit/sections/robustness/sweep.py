"""One model under one threat, on a few examples: attack, certify, hold the two against each other.

The search for each example's nearest adversarial input gives the whole attacked curve: *upper* bounds
of the true distances. The certified radii are *lower* bounds. Where the two cross, one of them is
wrong, and that is a defect of the tool, never a result.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import FunctionType

import torch
from torch import Tensor

from conjoin.attacks import Closest
from conjoin.attribution import saliency
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard
from conjoin.certification import BestOf, certified_radius
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run, prepared
from conjoin.core.evidence import Claim
from conjoin.core.protocols import Attack, Certifier, Model
from conjoin.core.quantity import given, margin
from conjoin.core.run import attack, attribute, certify, predict
from conjoin.core.threat import Graded
from conjoin.errors import CapabilityError, SoundnessError

SLACK = 1e-5  # of a radius proved in real arithmetic only: rounding is not covered


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is asked of one threat.

    Attributes:
        name: As the plan says it.
        threat: The set, at the radius that is audited.
        first: Attacks at that radius, and what stands there at the largest.
        search: Looks for inputs nearer than those found.
        certifiers: Those that know the model's layers are used; the best bound counts.
        reach: The largest radius, as a multiple.
        rounds: Attacks per example beyond the first.
        seed: Of the attacks.
        queried: In place of ``first`` and ``search`` where these do not apply: by queries alone.
    """

    name: str
    threat: Graded
    first: Attack
    search: Attack
    certifiers: tuple[Certifier, ...]
    reach: float
    rounds: int
    seed: int
    queried: tuple[Attack, Attack] | None = None

    def eps(self, data: Dataset) -> float:
        """Return the audited radius: one for all examples."""
        return float(self.threat.radius(data.x[:1])[0])

    def largest(self, data: Dataset) -> float:
        """Return the largest radius, rounded as the radii are: what is proved there counts there."""
        return float(torch.tensor(self.eps(data) * self.reach, dtype=data.x.dtype))

    def at(self, eps: Tensor, data: Dataset) -> Graded:
        """Return the threat at other radii, one for each example; of words whole numbers."""
        return self.threat.at(eps.to(data.x.dtype) if data.x.is_floating_point() else eps)

    def nearer(self, method: Attack, data: Dataset) -> Attack:
        """Return an attack that stays near: between two words there is nothing to bisect."""
        return Closest(method) if data.x.is_floating_point() else method


def robustness(subject: Subject, shard: Shard, sweep: Sweep) -> dict[str, Tensor]:
    """Attack, certify and cross-check.

    Raises:
        SoundnessError: If an attack succeeded inside a certified radius.
    """
    model, data, run = subject.model, shard.data, shard.run
    queried = sweep.queried is not None and not attackable(
        model, data, (sweep.first, sweep.search), sweep.threat
    )
    if queried and sweep.queried is not None:
        sweep = replace(sweep, first=sweep.queried[0], search=sweep.queried[1])
    found = nearest(model, data, sweep, run)
    inputs = found.pop("inputs")
    proof = _proved(model, data, sweep, run)
    _cross_check(found["distance"], proof, sweep, subject, data)
    before, after = (predict(model, some, run=run) for some in (data, _moved(data, inputs)))
    shown = torch.tensor(shard.shown, dtype=torch.int64)
    return {
        **found,
        **proof,
        "right": margin(before, data.y) > 0,
        "answer": after.argmax(1),
        "queried": torch.full((len(data),), queried),
        "labelled": (before.amax(1) == 1) & ((before != 0).sum(1) == 1),
        "inputs": inputs[shown],
        "before": before.softmax(1)[shown],
        "after": after.softmax(1)[shown],
        "apart": found["distance"][shown][:, None],
    }


def attackable(model: Model, data: Dataset, methods: tuple[Attack, ...], threat: Graded) -> bool:
    """Tell whether attacks apply to the model, tried on one example: most ask for a gradient.

    On one that is right: drivers attack no other, and where none is there is nothing to attack.
    """
    right = (margin(predict(model, data), data.y) > 0).nonzero()[:1, 0].cpu()
    try:
        for method in methods if len(right) else ():
            attack(model, data.select(right), method, threat, seed=0)
    except CapabilityError:
        return False
    return True


def nearest(model: Model, data: Dataset, sweep: Sweep, run: Run) -> dict[str, Tensor]:
    """Find each example's nearest adversarial input: attack at eps, then halve an interval.

    The first method attacks at eps, and what it leaves standing again at the largest radius; the
    second, cheaper, looks for inputs nearer than those found. What either finds within eps counts.
    The interval runs from the largest radius that withstood to the smallest distance found. Every
    distance found is an upper bound, also where a smaller radius withstood: an attack that fails
    proves nothing.
    """
    whole = not data.x.is_floating_point()  # words are counted
    audited = sweep.eps(data)
    largest = sweep.largest(data) if whole else audited * sweep.reach
    withstood = torch.zeros(len(data), dtype=torch.float64)
    distance = torch.full_like(withstood, torch.inf)
    inputs = data.x.clone()
    for turn in range(sweep.rounds + 1):
        eps = torch.where(distance.isinf(), largest, (withstood + distance) / 2)
        eps = torch.full_like(eps, audited) if turn == 0 else eps.floor() if whole else eps
        open_, fresh = (withstood < largest) & (distance > 0), distance.isinf()
        if whole:
            open_ = open_ & (distance > withstood + 1)
        for method, some in ((sweep.first, open_ & fresh), (sweep.search, open_ & ~fresh)):
            rows = some.nonzero()[:, 0]
            if len(rows) == 0:
                continue
            threat, by = sweep.at(eps[rows], data), sweep.nearer(method, data)
            found = attack(model, data.select(rows), by, threat, seed=sweep.seed, run=run)
            fallen, stood = rows[found.success], rows[~found.success]
            nearer = found.distance[found.success] < distance[fallen]
            distance[fallen[nearer]] = found.distance[found.success][nearer]
            inputs[fallen[nearer]] = found.inputs[found.success][nearer]
            withstood[stood] = eps[stood]
    return {"distance": distance, "inputs": inputs}


def _proved(model: Model, data: Dataset, sweep: Sweep, run: Run) -> dict[str, Tensor]:
    """Return the certified radius, the bound at eps, and where it covers the deployed network."""
    certifier = best(model, data, sweep.certifiers, sweep.threat)
    if certifier is None:
        radius = torch.zeros(len(data), dtype=torch.float64)
        lower, deployed = torch.full((len(data),), -torch.inf), False
    else:
        largest = sweep.largest(data)
        radius = certified_radius(model, data, certifier, sweep.threat, largest=largest, run=run)
        proved = certify(model, data, certifier, sweep.threat, run=run)
        lower, deployed = proved.lower, proved.provenance.claim == Claim.SOUND_DEPLOYED
    return {"radius": radius, "lower": lower, "deployed": torch.full((len(data),), deployed)}


def _cross_check(
    distance: Tensor, proof: dict[str, Tensor], sweep: Sweep, subject: Subject, data: Dataset
) -> None:
    # A certificate of the network as deployed has no slack; the others leave out rounding.
    exact = torch.where(proof["deployed"], 1.0, 1.0 - SLACK).double()
    contradicted = (distance < proof["radius"] * exact) | (
        (distance <= sweep.eps(data) * exact) & (proof["lower"] > 0)
    )
    if bool(contradicted.any()):
        ids = [i for i, bad in zip(data.ids, contradicted.tolist(), strict=True) if bad]
        raise SoundnessError(
            f"{subject.name} under {sweep.name}: an attack succeeded inside a certified radius, at "
            f"{ids[:5]}. The certificate is wrong for this model; no result is given"
        )


def _moved(data: Dataset, inputs: Tensor) -> Dataset:
    return Dataset(inputs, data.y, context=data.context)


@dataclass(frozen=True)
class _Asked:
    """What a prepared certifier depends on, by value; the objects themselves are not compared."""

    weights: str
    rest: tuple[object, ...]
    parts: tuple[object, ...] = field(compare=False, repr=False)


def best(
    model: Model, data: Dataset, certifiers: tuple[Certifier, ...], threat: Graded
) -> Certifier | None:
    """Prepare those certifiers that know the model's layers; ``None`` if none does."""
    digest = getattr(model, "digest", str)()
    one = data.select([0])
    like = [(name, v.shape, v.dtype) for name, v in (("x", one.x), *sorted(one.context.items()))]
    try:
        rest = _Value((like, certifiers, threat)).told
    except (
        pickle.PicklingError,
        AttributeError,
        TypeError,
    ):  # nobody can tell whether it is another
        rest = ()
    asked = _Asked(digest, rest, (model, one, certifiers, threat))
    return _prepared(asked) if digest and rest else _prepared.__wrapped__(asked)


class _Value(pickle.Pickler):
    """Writes what an object is made of; its classes and functions are noted as they are.

    What an object prints may leave out what matters, and not every one can be compared. A name does
    not tell a class either: a notebook defines it again.
    """

    def __init__(self, value: object) -> None:
        self.file, self.noted = io.BytesIO(), list[object]()
        super().__init__(self.file)
        self.dump(value)

    def persistent_id(self, value: object) -> int | None:
        """Note a class or a function."""
        if not isinstance(value, type | FunctionType):
            return None
        self.noted.append(value)
        return len(self.noted)

    @property
    def told(self) -> tuple[object, ...]:
        """What can be compared and kept as a key."""
        return self.file.getvalue(), *self.noted


@lru_cache(maxsize=8)
def _prepared(asked: _Asked) -> Certifier | None:
    model, one, certifiers, threat = asked.parts
    usable = []
    for method in certifiers:  # type: ignore[attr-defined]
        try:
            usable.append(applied(model, one, method, threat))  # type: ignore[arg-type]
        except CapabilityError:  # said by the task that asks for this alone
            continue
    return BestOf(tuple(usable)) if usable else None


def applied(model: Model, one: Dataset, method: Certifier, threat: Graded) -> Certifier:
    """Return the certifier, prepared.

    Raises:
        CapabilityError: If it does not know the model's layers.
    """
    ready = prepared(method, model, one)
    certify(model, one, ready, threat)
    return ready


def applies(subject: Subject, shard: Shard, method: Certifier, threat: Graded) -> dict[str, Tensor]:
    """Ask whether a certifier knows the model: nothing, or what it lacks."""
    applied(subject.model, shard.data.select([0]), method, threat)
    return {}


def gradient(subject: Subject, shard: Shard) -> dict[str, Tensor]:
    """Flag examples where the margin has no gradient at all: attacks by gradients are blind there."""
    method = saliency(quantity=margin)
    values = attribute(
        subject.model, shard.data, method, seed=0, target=given, run=shard.run
    ).values
    return {"vanishing": values.flatten(1).abs().amax(1) == 0}


__all__ = ["SLACK", "Sweep", "applies", "attackable", "best", "gradient", "nearest", "robustness"]
