"""Confidence intervals for shares of examples.

Reference: clopper1934.
"""

from __future__ import annotations

from scipy import stats

from conjoin.core.result import Evidence
from conjoin.report.schema import Number, number


def clopper_pearson(hits: int, count: int, alpha: float) -> tuple[float, float]:
    """Return the exact interval of a binomial share; it fails with probability <= ``alpha``."""
    found = stats.binomtest(hits, count).proportion_ci(1 - alpha, method="exact")
    return float(found.low), float(found.high)


def share(hits: int, count: int, alpha: float, evidence: Evidence) -> Number:
    """Return the share of examples as a number with its interval over examples."""
    return number(hits / count, evidence, clopper_pearson(hits, count, alpha))
