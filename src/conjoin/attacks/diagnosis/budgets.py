"""Indicators: would another budget, radius or start have changed the result?"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from conjoin.attacks.apgd import APGD
from conjoin.attacks.descent import PGD, fgsm
from conjoin.attacks.diagnosis.case import Case, excess, where
from conjoin.attacks.diagnosis.indicator import ANY, Indicator
from conjoin.core.ball import Ball, Linf
from conjoin.core.quantity import log_likelihood
from conjoin.errors import CapabilityError

RESTARTS = 4
ALLOWED = 0.01  # of the examples may stand in the whole box: blank inputs of a class


def one_step(case: Case) -> Indicator:
    """Compare one full step with twenty."""
    one = case.attacked(fgsm()).success & case.right
    many = (case.by_likelihood.success | case.by_margin.success) & case.right
    points = where(one & ~many)
    return Indicator(
        "one step beats many",
        excess(len(points), len(where(many & ~one)), case.count) if len(points) else 0.0,
        ANY,
        0.02,
        points,
        f"One step breaks {len(points)} examples that twenty do not: the landscape misleads descent",
        least=2,
    )


def unbounded(case: Case) -> Indicator:
    """Attack within the whole box: nothing may stand where everything may change.

    Raises:
        CapabilityError: If the threat is no ball in a finite box.
    """
    threat = case.threat
    if not isinstance(threat, Ball):
        raise CapabilityError(f"{threat} is no ball: what is unbounded is not known")
    low, high = (torch.as_tensor(end, dtype=torch.float64) for end in threat.bounds)
    width = float((high - low).amax())
    if not math.isfinite(width) or threat.mask is not None or low.ndim or high.ndim:
        raise CapabilityError(
            "the box is infinite or no plain range, or a mask bounds what may change"
        )
    whole = Linf(width, threat.bounds)
    stands = case.right & ~case.attacked(PGD(100, 0.05), threat=whole).success
    stands &= ~case.attacked(PGD(100, 0.05, surrogate=log_likelihood), threat=whole).success
    points = where(stands)
    return Indicator(
        "unbounded attack fails",
        len(points) / max(1, case.count),
        ALLOWED,
        0.05,
        points,
        f"A hundred steps in the whole box leave {len(points)} of {case.count} examples standing, "
        "where none can: the gradient leads nowhere",
        least=2,
    )


def monotone(case: Case) -> Indicator:
    """Attack at half the radius: what falls there must have fallen at the whole.

    Raises:
        CapabilityError: If the threat has no radius.
    """
    points = case.broken(PGD(steps=20), case.smaller(0.5))
    return Indicator(
        "not monotone in eps",
        len(points) / max(1, case.count),
        ANY,
        0.02,
        points,
        f"{len(points)} examples that stand at the radius fall at half of it: the attack stopped short",
    )


def more_steps(case: Case) -> Indicator:
    """Go on for a hundred steps."""
    points = case.broken(APGD(steps=100))
    return Indicator(
        "more steps",
        len(points) / max(1, case.count),
        0.03,
        0.10,
        points,
        f"A hundred steps break {len(points)} of {len(case.standing)} examples more: the attack's "
        "budget was too small",
        least=2,
    )


def restarts(case: Case) -> Indicator:
    """Estimate from several starts how many examples no start has found yet (Chao's estimate)."""
    hits = torch.zeros(len(case.data), device=case.found.success.device)
    for number in range(RESTARTS):
        made = replace(case, seed=case.seed + 1 + number)
        hits += made.by_margin.success & case.right
    once, twice = int((hits == 1).sum()), int((hits == 2).sum())
    unseen = (RESTARTS - 1) / RESTARTS * once**2 / (2 * max(1, twice))
    points = where((hits == 1) & ~case.found.success)
    return Indicator(
        "more restarts",
        len(points) / max(1, case.count),
        0.02,
        0.10,
        points,
        f"{RESTARTS} starts of twenty steps break {len(points)} examples by one start only that the "
        f"attack left standing; about {unseen:.1f} more are to be expected of further starts",
        least=2,
    )


__all__ = ["monotone", "more_steps", "one_step", "restarts", "unbounded"]
