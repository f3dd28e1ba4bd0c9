"""Ensembles: attacks in the order of what they find per pass, each on what still stands.

``quick``, ``standard`` and ``thorough`` are presets of :class:`WorstOf`. They hold attacks that fail
for different reasons: descent on the cross-entropy (which saturates), towards each of the likeliest
classes (which do not), on smoothed twins (where clean gradients mislead), to the nearest boundary
(where a step inside the ball leads past it), and without gradients (where these are hidden). What they
leave standing is an *upper* bound of robust accuracy, however long they run.

Reference: croce2020, section 5 (an ensemble of diverse attacks).
"""

from __future__ import annotations

from conjoin.attacks.apgd import APGD
from conjoin.attacks.black_box import BlackBox
from conjoin.attacks.fab import FAB
from conjoin.attacks.fmn import FMN
from conjoin.attacks.homotopy import Homotopy
from conjoin.attacks.pressed import Pressed
from conjoin.attacks.square import Square
from conjoin.attacks.targets import EachTarget
from conjoin.attacks.unguided import Unguided
from conjoin.attacks.worst_of import WorstOf
from conjoin.core.quantity import Contrast, logit_ratio

SHARP = Homotopy(sharpness=(8.0, 16.0, 32.0, 64.0), steps=30, surrogate=None)
UNGUIDED = Unguided((BlackBox(queries=3000, rounds=10),))


def quick() -> WorstOf:
    """Attack what stands in some three hundred passes: cross-entropy, two targets, twins, boundaries.

    A model that gives no gradient is asked a thousand queries. Where the gradient is zero none is: that
    is what a diagnosis, which attacks by this, has to find.

    Reference: croce2020, section 5.
    """
    return WorstOf(
        (
            APGD(steps=20),
            EachTarget(APGD(steps=15, surrogate=logit_ratio), targets=2),
            Homotopy(steps=8),
            FAB(steps=30),
            Unguided((BlackBox(),), flat=False),
        )
    )


def standard() -> WorstOf:
    """Attack about as strongly as AutoAttack's standard version, at a fraction of its passes.

    What both leave standing is compared, case by case, in the documentation (benchmarks). Where no
    gradient leads, thousands of queries are asked, by scores or decisions.

    Reference: croce2020, section 5.
    """
    return WorstOf(
        (
            APGD(steps=20),
            EachTarget(APGD(steps=20, surrogate=logit_ratio), targets=3),
            Homotopy(),
            FAB(steps=100),
            Pressed(
                first=(
                    EachTarget(
                        Homotopy(sharpness=(1.0, 4.0, 16.0), steps=8, surrogate=logit_ratio),
                        targets=3,
                    ),
                    APGD(steps=15, surrogate=None),
                ),
                then=(
                    EachTarget(FAB(steps=100, surrogate=Contrast()), targets=3),
                    Homotopy(sharpness=(4.0, 8.0, 16.0, 32.0), surrogate=None),
                    Pressed(first=(SHARP,), then=(SHARP, SHARP, Square(queries=5000)), within=0.03),
                ),
            ),
            UNGUIDED,
            Square(queries=200),
        )
    )


def thorough() -> WorstOf:
    """Attack for as long as it may be worth: more starts, every target, thousands of queries.

    Reference: croce2020, section 5.
    """
    return WorstOf(
        (
            *standard().attacks,
            APGD(steps=100, restarts=5),
            EachTarget(APGD(steps=100, surrogate=logit_ratio), targets=9),
            Homotopy(sharpness=(0.5, 1.0, 2.0, 4.0, 8.0, 16.0), steps=30),
            EachTarget(Homotopy(steps=30, surrogate=logit_ratio), targets=9),
            EachTarget(FAB(steps=100, surrogate=Contrast()), targets=9),
            FAB(steps=100, restarts=5),
            FMN(),
            Unguided((BlackBox(queries=10_000, rounds=20, directions=60),)),
            Square(queries=5000),
        )
    )


__all__ = ["quick", "standard", "thorough"]
