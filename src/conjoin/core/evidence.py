"""How strong a number is, of what a certificate is true, and where a result comes from.

Every number of this library is of one class of evidence (:class:`EvidenceClass`); a certificate says of
what network it is true (:class:`Claim`); a result carries all that is needed to obtain it again
(:class:`Provenance`). Values only: what is computed is in :mod:`conjoin.core.result`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from conjoin.typing import Inputs, PerExample

NOT_DIAGNOSED = "not diagnosed"  # the verdict on what an attack left, where nobody asked


class EvidenceClass(StrEnum):
    """How strong a number is."""

    CERTIFIED = "certified"  # proved, for the stated set
    STATISTICAL = "statistical"  # holds with a stated confidence
    EMPIRICAL = "empirical"  # what a stated attack with a stated budget found
    HEURISTIC = "heuristic"  # a measurement without a guarantee


@dataclass(frozen=True, slots=True)
class Evidence:
    """The class of evidence behind a number, with what makes it concrete."""

    kind: EvidenceClass
    detail: str = ""

    @classmethod
    def certified(cls, method: str) -> Evidence:
        """A bound proved by a certifier."""
        return cls(EvidenceClass.CERTIFIED, method)

    @classmethod
    def statistical(cls, alpha: float) -> Evidence:
        """An estimate from a sample, with an interval that fails with probability ``alpha``."""
        return cls(EvidenceClass.STATISTICAL, f"alpha={alpha:g}")

    @classmethod
    def empirical(cls, attack: str) -> Evidence:
        """What this attack, with its budget, found; a stronger one may find more."""
        return cls(EvidenceClass.EMPIRICAL, attack)

    @classmethod
    def heuristic(cls, why: str = "") -> Evidence:
        """A measurement that guarantees nothing beyond itself."""
        return cls(EvidenceClass.HEURISTIC, why)


class Verdict(StrEnum):
    """What is known of one example under one threat."""

    CERTIFIED = "certified"
    FALSIFIED = "falsified"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict on one example, with its reason."""

    verdict: Verdict
    reason: str


class Claim(StrEnum):
    """Of what a certificate is true.

    ``SOUND_REAL``: of the stored weights in real arithmetic. ``SOUND_DEPLOYED``: also of the
    network as it is computed in its own precision, for any order of summation; kernels that compute
    something else (Winograd, FFT, TF32) are outside it.
    """

    SOUND_REAL = "sound-real"
    SOUND_DEPLOYED = "sound-deployed"

    @classmethod
    def weakest(cls, claims: Iterable[Claim]) -> Claim:
        """Return what all of several claims allow to be said."""
        return cls.SOUND_REAL if cls.SOUND_REAL in set(claims) else cls.SOUND_DEPLOYED


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a certifier returns.

    Attributes:
        lower: At most the minimum of the quantity over S(x); -inf where nothing is proved.
        claim: Of what network the bounds are true.
        upper: At least that minimum, where one is known.
        witness: Inputs in S(x) at which the quantity is at most ``upper``.
        radius: The largest radius of the threat within which the method proves the quantity to
            stay above its goal, in closed form; ``None`` if it has none.
    """

    lower: PerExample
    claim: Claim
    upper: PerExample | None = None
    witness: Inputs | None = None
    radius: PerExample | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """Everything needed to obtain a result again.

    ``forward`` and ``backward`` count examples passed through the model, ``seconds`` is wall time.
    ``passed_over`` are parts of the method that did not apply, and why. ``verdict`` says of an attack
    whether what it left standing can be believed: ``green``, ``amber`` or ``red`` with ``reasons``
    (:func:`conjoin.attacks.diagnosis.diagnosed`), or ``not diagnosed``. ``shared`` names the quantities
    that were explained from the same passes, whose counts are those of all together.
    """

    act: str
    method: str
    reference: str
    seed: int
    threat: str = ""
    quantity: str = ""
    goal: float = -math.inf
    claim: str = ""
    weights: str = ""
    data: str = ""
    versions: dict[str, str] | None = None
    forward: int = 0
    backward: int = 0
    seconds: float = 0.0
    passed_over: tuple[str, ...] = ()
    verdict: str = ""
    reasons: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()

    @classmethod
    def read(cls, story: Mapping[str, Any]) -> Provenance:
        """Make it of JSON, which knows no tuples."""
        told: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in story.items()}
        return cls(**told)


__all__ = [
    "NOT_DIAGNOSED",
    "Bounds",
    "Claim",
    "Evidence",
    "EvidenceClass",
    "Judgement",
    "Provenance",
    "Verdict",
]
