"""Accuracy against the radius: both bounds at several radii, each going on where the last one stopped.

The sets grow with the radius, so a point that is broken stays broken in every larger set, and one that
is certified stays certified in every smaller one. Certificates go from the largest radius down; attacks
from the smallest up, where what stands is attacked again at *every* radius, or, thriftily, from the
largest down, where a point is let go as soon as it withstands all tiers once. Each radius starts from
the worst points of the one before, then attacks afresh. An adversarial input that lies in a smaller set
counts there. It is *not* a search for each point's nearest boundary: it knows the radii it was given.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from conjoin.attacks import APGD, standard
from conjoin.attacks.descent import Steppable
from conjoin.audit.evaluation.known import Known, Part
from conjoin.audit.evaluation.record import Record
from conjoin.audit.evaluation.search import Search, Steps, plan, setting_of
from conjoin.audit.evaluation.setting import Act, Key, Setting, Step
from conjoin.audit.evaluation.started import Started
from conjoin.certification import Interval, Lipschitz
from conjoin.core.arguments import check_seed
from conjoin.core.counted import check_number
from conjoin.core.drive import Run, untouched
from conjoin.core.evidence import Provenance
from conjoin.core.naming import describe
from conjoin.core.postcondition import contained, part_of, placed
from conjoin.core.protocols import Attack, Certifier
from conjoin.core.quantity import Quantity, Target, given, margin
from conjoin.core.rung import meets
from conjoin.core.threat import Graded
from conjoin.drivers import Labelled, Network
from conjoin.errors import CapabilityError, PlanError


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Curve:
    """Both bounds of robust accuracy at several radii.

    Attributes:
        radii: From the smallest to the largest.
        right: Where the model is right at the example itself.
        broken: ``(batch, radii)``: where an adversarial input is known.
        certified: ``(batch, radii)``: where there is proved to be none.
        distance: Of the nearest adversarial input that was found; infinite where none was.
        refused: The methods that did not apply, and why.
        provenance: How it came about; passes are those of the whole curve.
    """

    radii: tuple[float, ...]
    right: Tensor
    broken: Tensor
    certified: Tensor
    distance: Tensor
    refused: tuple[str, ...]
    provenance: Provenance

    @property
    def clean_accuracy(self) -> float:
        """The share of the examples where the model is right."""
        return int(self.right.sum()) / len(self.right)

    @property
    def robust_accuracy(self) -> tuple[float, ...]:
        """The share that the attacks left standing at each radius: *upper* bounds."""
        standing = self.right[:, None] & ~self.broken
        return tuple(int(n) / len(self.right) for n in standing.sum(0))

    @property
    def certified_accuracy(self) -> tuple[float, ...]:
        """The share that is proved to stand at each radius: *lower* bounds."""
        return tuple(int(n) / len(self.right) for n in self.certified.sum(0))

    def __repr__(self) -> str:
        """Show the bounds at each radius, and what the whole curve cost."""
        said = [
            f"{eps:g}: {low:.1%} to {high:.1%}"
            for eps, low, high in zip(
                self.radii, self.certified_accuracy, self.robust_accuracy, strict=True
            )
        ]
        story = self.provenance
        return (
            f"Curve(certified to attacked (upper bound; {story.verdict}) accuracy of "
            f"{len(self.right)} examples, at {'; '.join(said)}; {story.forward} forward and "
            f"{story.backward} backward passes)"
        )


def curve(
    model: Network,
    data: Labelled,
    threat: Graded,
    radii: Sequence[float],
    *,
    attack: Attack = standard(),  # noqa: B008 - frozen
    certifiers: Sequence[Certifier] = (Interval(), Lipschitz()),
    warm: Attack | None = APGD(steps=20),  # noqa: B008 - frozen
    thrifty: bool = False,
    seed: int,
    quantity: Quantity = margin,
    target: Target = given,
    run: Run = Run(),
) -> Curve:
    """Bound robust accuracy at several radii, from below and from above.

    Args:
        model, data, seed, quantity, target, run: As for :func:`conjoin.attack`.
        threat: The set, e.g. ``Linf(8/255)``; its own radius is not used.
        radii: Positive; they are taken in rising order.
        attack, certifiers: As for ``worst_case``.
        warm: Run first at each radius but the first, from the worst points of the one before; an
            attack that starts from a sample of the set. ``None`` for none.
        thrifty: Attack from the largest radius down, and a point that withstands no more. Passes of one
            or two single runs, where otherwise it is about one for each radius; what an attack misses
            at a large radius it is not asked at a small one.

    Raises:
        PlanError: If there are no radii, or one is not positive and finite.
        SoundnessError: If an attack contradicts a certificate.
    """
    seed = check_seed(seed)
    steps = plan(attack, certifiers, seed, None)
    if not isinstance(radii, Iterable) or isinstance(radii, str):
        raise PlanError(f"expected radii, e.g. [0.01, 0.02, 0.05]; got {describe(radii)}")
    given_ = tuple(radii)
    for eps in given_:
        check_number(eps, "a radius", "float")
    rising = tuple(sorted({float(eps) for eps in given_}))
    if not rising or not all(0 < eps < math.inf for eps in rising):
        raise PlanError(f"expected radii, positive and finite; got {describe(radii)}: {rising}")
    if not meets(threat, Graded):
        raise PlanError(f"expected a threat that has a radius, e.g. Linf(0.1); got {threat}")
    start = time.perf_counter()
    setting = setting_of(model, data, threat.at(rising[0]), quantity, target, run)
    warmed = None if warm is None else Step(Act.ATTACK, warm, seed)
    with untouched(setting.model):
        climb = _Climb(setting, threat, rising, steps, warmed)
        climb.certified()
        if thrifty:
            climb.fall()
        else:
            climb.rise()
        broken, distance = climb.broken()
        proved = torch.stack([search.known.certified for search in climb.searches], 1)
        story = replace(
            setting.story("curve", attack, seed),
            threat=repr(threat),
            passed_over=climb.refusals(),
            forward=climb.forward,
            backward=climb.backward,
            seconds=time.perf_counter() - start,
        )
    return Curve(rising, climb.first.right, broken, proved, distance, climb.refusals(), story)


@dataclass(slots=True, eq=False)
class _Climb:
    """What is known at each radius."""

    setting: Setting
    threat: Graded
    radii: tuple[float, ...]
    steps: Steps
    warm: Step | None
    first: Known = field(init=False)
    searches: list[Search] = field(init=False)

    def __post_init__(self) -> None:
        self.first = Known.of(self.setting)
        device = self.setting.data.x.device
        sets = [placed(self.threat.at(eps), device) for eps in self.radii]
        settings = [replace(self.setting, threat=set_) for set_ in sets]
        refused: dict[str, CapabilityError] = {}
        ready: dict[Key, Certifier] = {}
        self.searches = [
            Search(self.first.again(there), Record(None), refused, ready) for there in settings
        ]

    @property
    def every(self) -> Tensor:
        """All examples."""
        return torch.arange(len(self.first.clean), device=self.first.clean.device)

    def certified(self) -> None:
        """Certify from the largest radius down: a bound over a larger set holds over a smaller one."""
        before: Known | None = None
        for search in reversed(self.searches):
            known = search.known
            if before is not None:
                known.lower, known.deployed = before.lower.clone(), before.deployed.clone()
            for step in self.steps.certifiers:
                search.take(step, self.every)
            before = known

    def rise(self) -> None:
        """Attack from the smallest radius up, and what stands at every one."""
        before: Known | None = None
        for number, search in enumerate(self.searches):
            known = search.known
            if before is not None:
                known.carry(before)
                self._warmed(search, known.inputs.clone(), self.every)
            search.go(replace(self.steps, certifiers=()), self.every)
            for smaller in self.searches[:number]:
                self._within(smaller.known, known)
            before = known

    def fall(self) -> None:
        """Attack from the largest radius down, and no point that withstood."""
        before: Known | None = None
        rows = self.every
        for search in reversed(self.searches):
            known = search.known
            if before is not None:
                self._within(known, before)
                self._warmed(search, before.inputs, rows)
            search.go(replace(self.steps, certifiers=()), rows)
            rows, before = known.fell.nonzero()[:, 0], known

    def broken(self) -> tuple[Tensor, Tensor]:
        """Return where a point fell, and the least distances."""
        fell = torch.stack([search.known.fell for search in self.searches], 1)
        found = torch.stack([search.known.distance for search in self.searches], 1)
        return fell, torch.where(fell, found, torch.inf).amin(1)

    def _warmed(self, search: Search, start: Tensor, rows: Tensor) -> None:
        """Attack from the worst points of the radius before, where the set can be stepped in."""
        known = search.known
        inside = known.setting.threat
        if self.warm is None or not meets(inside, Steppable):
            return
        inward = inside.project(start, self.setting.data.x)
        known.setting = replace(known.setting, threat=Started(inside, inward))
        try:
            search.take(self.warm, rows)
        finally:
            known.setting = replace(known.setting, threat=inside)

    def _within(self, smaller: Known, larger: Known) -> None:
        """Count adversarial inputs of a larger set that lie in a smaller one."""
        rows = (larger.fell & ~smaller.fell).nonzero()[:, 0]
        if not len(rows):
            return
        x, z = self.setting.data.x[rows], larger.inputs[rows]
        rows = rows[contained(part_of(smaller.setting.threat, rows), z, x)]
        for name in ("value", "inputs", "distance", "fell"):
            getattr(smaller, name)[rows] = getattr(larger, name)[rows]
        smaller.hold(rows)

    @property
    def forward(self) -> int:
        """Forward passes of all of it."""
        return sum(part.forward for part in self._parts()) + len(self.first.clean)

    @property
    def backward(self) -> int:
        """Backward passes of all of it."""
        return sum(part.backward for part in self._parts())

    def _parts(self) -> list[Part]:
        return [part for search in self.searches for part in search.known.parts]

    def refusals(self) -> tuple[str, ...]:
        """Return what did not apply, and why."""
        return tuple(dict.fromkeys(said for one in self.searches for said in one.passed_over))


__all__ = ["Curve", "curve"]
