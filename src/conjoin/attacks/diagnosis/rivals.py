"""Indicators: does another attack break what this one left standing?

Attacks fail for different reasons, so a rival that finds more shows that the first was blind, without
saying what blinded it.
"""

from __future__ import annotations

import torch

from conjoin.attacks.diagnosis.case import Case, positions
from conjoin.attacks.diagnosis.indicator import ANY, Indicator
from conjoin.attacks.ensemble import quick
from conjoin.attacks.fab import FAB
from conjoin.attacks.grid import RandomSearch
from conjoin.attacks.homotopy import Homotopy
from conjoin.attacks.square import Square
from conjoin.core.result import AttackResult
from conjoin.core.run import attack
from conjoin.errors import CapabilityError

NOISE = 50  # random points an example


def _rival(case: Case, name: str, points: tuple[int, ...], red: float, who: str) -> Indicator:
    standing = max(1, len(case.standing))
    return Indicator(
        name,
        len(points) / standing,
        0.03,
        red,
        points,
        f"{who} broke {len(points)} of {len(case.standing)} examples that the attack left standing: "
        "its gradients, or the minimum they lead to, mislead",
        least=2,
    )


def twins(case: Case) -> Indicator:
    """Ask descent on smoothed twins (the surest sign of clean gradients that mislead)."""
    return _rival(
        case, "smoothed twins", case.broken(Homotopy()), 0.10, "Descent on smoothed twins"
    )


def boundaries(case: Case) -> Indicator:
    """Ask the search for the nearest boundary."""
    return _rival(case, "boundaries", case.broken(FAB(steps=60)), 0.10, "A search for boundaries")


def queries(case: Case) -> Indicator:
    """Ask random search, which sees no gradient."""
    said = "Random search, which sees no gradient,"
    return _rival(case, "black box beats white box", case.broken(Square(queries=400)), 0.05, said)


def transfer(case: Case) -> Indicator:
    """Try the adversarial inputs of other models.

    Raises:
        CapabilityError: If none is given.
    """
    if not case.others:
        raise CapabilityError("no other model was given: others=(...)")
    fell = torch.zeros(len(case.data), dtype=torch.bool)
    for other in case.others:
        theirs: AttackResult = attack(
            other,
            case.data,
            quick(),
            case.threat,
            seed=case.seed,
            run=case.run,
        )
        fell |= (case.margin(theirs.inputs) <= 0).cpu()
    points = positions(case.standing[fell[case.standing.cpu()]])
    return _rival(case, "transfer", points, 0.05, "Adversarial inputs of another model")


def noise(case: Case) -> Indicator:
    """Draw random points of S(x): they must not break what an attack left standing."""
    points, count = case.broken(RandomSearch(NOISE)), len(case.standing)
    return Indicator(
        "random points",
        len(points) / max(1, count),
        ANY,
        ANY,
        points,
        f"{NOISE} random points of S(x) broke {len(points)} of {count} examples that the attack left "
        "standing",
    )


__all__ = ["boundaries", "noise", "queries", "transfer", "twins"]
