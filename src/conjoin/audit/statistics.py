"""Confidence intervals for shares of examples, and how many examples a share needs.

Reference: clopper1934.
"""

from __future__ import annotations

from bisect import bisect_left

from conjoin.audit.schema import Bound, Number, Unit, number
from conjoin.core.binomial import clopper_pearson, least_share
from conjoin.core.result import Evidence

SOURCE = "clopper1934"  # of the intervals


def share(
    hits: int, count: int, alpha: float, evidence: Evidence, bound: Bound = Bound.ESTIMATE
) -> Number:
    """Return the share of examples as a number with its interval over examples."""
    interval = clopper_pearson(hits, count, alpha)
    return number(hits / count, evidence, unit=Unit.SHARE, bound=bound, interval=interval)


def enough(share: float, floor: float, alpha: float, most: int = 1 << 30) -> int | None:
    """Return the least number of examples whose interval at this share lies above ``floor``.

    Hits are not rounded, so the lower end grows with the number. ``None`` if the share is not above
    the floor, or ``most`` would not do.
    """

    def clears(count: int) -> bool:
        return least_share(share * count, count, alpha) > floor

    if share <= floor or not clears(most):
        return None
    return bisect_left(range(1, most), True, key=clears) + 1


__all__ = ["SOURCE", "clopper_pearson", "enough", "share"]
