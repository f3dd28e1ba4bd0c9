"""Confidence intervals of a binomial share.

Exact: they hold for every share and number, being made of binomial tails and *not* of a normal
approximation.

Reference: clopper1934.
"""

from __future__ import annotations

from scipy import special


def clopper_pearson(hits: int, count: int, alpha: float) -> tuple[float, float]:
    """Return the exact interval of a binomial share; it fails with probability <= ``alpha``."""
    return least_share(hits, count, alpha), 1 - least_share(count - hits, count, alpha)


def least_share(hits: float, count: int, alpha: float) -> float:
    """Return the share at which so many hits or more have probability ``alpha`` / 2."""
    return float(special.betaincinv(hits, count - hits + 1, alpha / 2)) if hits else 0.0


__all__ = ["clopper_pearson", "least_share"]
