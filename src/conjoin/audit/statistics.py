"""Confidence intervals for shares of examples, and how many examples a share needs.

Reference: clopper1934.
"""

from __future__ import annotations

from bisect import bisect_left

from scipy import special

from conjoin.audit.schema import Bound, Number, Unit, number
from conjoin.core.result import Evidence

SOURCE = "clopper1934"  # of the intervals


def clopper_pearson(hits: int, count: int, alpha: float) -> tuple[float, float]:
    """Return the exact interval of a binomial share; it fails with probability <= ``alpha``."""
    low = _lower(hits, count, alpha)
    return low, 1 - _lower(count - hits, count, alpha)


def _lower(hits: float, count: int, alpha: float) -> float:
    """Return the share at which so many hits or more have probability ``alpha`` / 2."""
    return float(special.betaincinv(hits, count - hits + 1, alpha / 2)) if hits else 0.0


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
        return _lower(share * count, count, alpha) > floor

    if share <= floor or not clears(most):
        return None
    return bisect_left(range(1, most), True, key=clears) + 1


__all__ = ["SOURCE", "clopper_pearson", "enough", "share"]
