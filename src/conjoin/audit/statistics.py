"""What may be said of shares of examples: intervals, how many are enough, pairs, and samples.

All of it is exact: binomial and hypergeometric tails, and *no* normal approximation.

Reference: clopper1934 (intervals); mcnemar1947 (pairs).
"""

from __future__ import annotations

from bisect import bisect_left
from fractions import Fraction
from math import comb

from scipy import special

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


def mcnemar(first: int, second: int) -> float:
    """Return the two-sided p-value of so many discordant pairs each way: a fair coin's tails.

    Reference: mcnemar1947, with the exact binomial in place of its normal approximation.
    """
    return min(1.0, 2 * float(special.bdtr(min(first, second), first + second, 0.5)))


def most_marked(marked: int, drawn: int, total: int, alpha: float) -> int:
    """Bound from above how many of ``total`` are marked, where ``marked`` of ``drawn`` of them are.

    The largest M at which a draw without replacement holds so few with probability above ``alpha``:
    the bound fails with probability ``alpha`` at most.
    """
    ways, level = comb(total, drawn), Fraction(alpha)

    def unlikely(more: int) -> bool:
        of = marked + more
        few = sum(comb(of, k) * comb(total - of, drawn - k) for k in range(marked + 1))
        return Fraction(few, ways) <= level

    unseen = total - drawn  # of those that were not drawn each may be marked
    return marked + bisect_left(range(1, unseen + 1), True, key=unlikely)


__all__ = ["SOURCE", "clopper_pearson", "enough", "mcnemar", "most_marked", "share"]
