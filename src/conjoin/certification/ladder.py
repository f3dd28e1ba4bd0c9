"""The ladder: what decides each example, from the cheapest method to the dearest.

An attack first (what it wins is refuted), then one certifier after another; only what none has
decided climbs on. Nothing that is known is given up: at any moment, also when time is up or the
user interrupts, each example has a lower bound that is proved, a least value that was seen, and a
verdict with its reason. Every rung goes through the drivers, so that each bound and each input is
held to what they ask.

It is *not* a method of its own: what it proves, a rung has proved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from conjoin.certification.alpha import AlphaCrown
from conjoin.certification.branch import BranchAndBound
from conjoin.certification.climb import ARROW, Climb, Climber
from conjoin.certification.crown import Crown
from conjoin.certification.interval import Interval
from conjoin.certification.jacobian import LocalLipschitz
from conjoin.certification.lipschitz import Lipschitz
from conjoin.core.arguments import check_parts
from conjoin.core.drive import Run
from conjoin.core.protocols import Attack, Certifier
from conjoin.core.quantity import Quantity, Target, given, margin
from conjoin.core.threat import Threat
from conjoin.drivers import Labelled, Network, data_from, model_from
from conjoin.errors import PlanError

RUNGS: tuple[Certifier, ...] = (
    Lipschitz(),
    Interval(),
    LocalLipschitz(),
    Crown(),
    AlphaCrown(),
    BranchAndBound(),
)


def ladder(
    model: Network,
    data: Labelled,
    threat: Threat,
    *,
    attacks: Sequence[Attack] = (),
    rungs: Sequence[Certifier] = RUNGS,
    seconds: float = math.inf,
    seed: int = 0,
    quantity: Quantity = margin,
    target: Target = given,
    run: Run = Run(),
) -> Climb:
    """Certify or refute each example by the first method that can.

    Args:
        model: A model, or a ``torch.nn.Module``.
        data: The examples, or a pair of inputs and labels.
        threat: The set.
        attacks: Tried first, in order.
        rungs: Certifiers, tried in order on what is not decided.
        seconds: Time in all; looked at between batches, so that one may be finished beyond it. What a
            rung does in a batch is bounded by its own settings.
        seed: Of the attacks.
        quantity: What is bounded.
        target: What it is about.
        run: Batches, and who is told of progress.

    Raises:
        PlanError: If there is no time, or something is no attack or certifier.
        SoundnessError: If an input was found below what was proved.
    """
    if not seconds > 0:
        raise PlanError(f"expected seconds > 0; got {seconds!r}")
    check_parts(tuple(rungs), "a certifier, e.g. Crown()")
    names = [repr(method) for method in (*attacks, *rungs)]
    held, data = model_from(model), data_from(data)
    climber = Climber(held, data, threat, quantity, target, seed, run, seconds)
    climber.climb([*(partial(climber.attacked, a) for a in attacks)], 0)
    climber.climb([*(partial(climber.certified_by, r) for r in rungs)], len(attacks))
    return climber.result(ARROW.join(names))


__all__ = ["RUNGS", "ladder"]
