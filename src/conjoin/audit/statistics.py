"""What may be said of shares and means over examples: intervals, how many are enough, pairs, samples.

All of it holds for any number of examples: binomial and hypergeometric tails, bets on bounded values,
and *no* normal approximation, but for Student's interval of what has no bounds, which says so.

Reference: clopper1934 (intervals of shares); waudbysmith2024 (of means); mcnemar1947 (pairs).
"""

from __future__ import annotations

from bisect import bisect_left
from fractions import Fraction
from math import comb, log, sqrt

import numpy as np
import torch
from scipy import special
from torch import Tensor

from conjoin.audit.schema import Bound, Number, Unit, number
from conjoin.core.binomial import clopper_pearson, least_share
from conjoin.core.evidence import Evidence
from conjoin.core.random import Streams

SOURCE = "clopper1934"  # of the intervals
STAKE = 0.75  # of what a bet may lose at the most
HALVINGS = 50  # of the range of a mean


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


def mean_between(
    values: Tensor, between: tuple[float, float], alpha: float, seed: int = 0
) -> tuple[float, float]:
    """Return an interval of the mean of values of a known range; it fails with ``alpha`` at most.

    Against each candidate one bets on the values, one after another, in an order drawn from the seed:
    if it is the mean, the capital Π (1 ± λ_t (x_t - m)) comes to 2 / α with probability α / 2 at most.
    The values must be those of examples drawn at random; of their distribution nothing is supposed.

    Args:
        values: One an example; what rounding put outside the range counts as its end.
        between: The least and the greatest value that there can be.
        alpha: Of both sides together.
        seed: Of the order.

    Reference: waudbysmith2024, theorem 3 (the hedged capital), for a fixed number of examples.
    """
    least, most = between
    order = Streams.of(seed, torch.arange(len(values))).fold("bets").uniform(1)[:, 0].argsort()
    found = values.detach().cpu().double()[order].numpy()
    unit = ((found - least) / (most - least)).clip(0.0, 1.0)
    # Bets may refute every candidate; a wider interval holds as well, and has the mean of the values.
    mean = float(unit.mean())
    low = min(_least_mean(unit, alpha), mean)
    high = max(1.0 - _least_mean(1.0 - unit, alpha), mean)
    return least + (most - least) * low, least + (most - least) * high


def mean_of_normal(
    total: float, squares: float, count: int, alpha: float
) -> tuple[float, float] | None:
    """Return Student's interval of a mean, of the sums of the values and of their squares.

    Exact for normal values, and nearly so for means of many; of few that are far from it, it is not: so
    it makes no number ``statistical``. ``None`` of fewer than two values.

    Reference: student1908.
    """
    if count < 2:
        return None
    mean = total / count
    variance = max(0.0, (squares - total * mean) / (count - 1))
    half = float(special.stdtrit(count - 1, 1 - alpha / 2)) * sqrt(variance / count)
    return mean - half, mean + half


def _least_mean(x: np.ndarray, alpha: float) -> float:
    """Return the least mean in 0..1 that no bet on larger values refutes."""
    count = np.arange(1, len(x) + 1)
    mean = (0.5 + x.cumsum()) / (count + 1)
    spread = (0.25 + np.square(x - mean).cumsum()) / (count + 1)
    before = np.concatenate([[0.25], spread[:-1]])  # a bet is placed before the value is seen
    bet = np.sqrt(2 * log(2 / alpha) / (len(x) * before))

    def refuted(m: float) -> bool:
        gains = np.log1p(np.minimum(bet, STAKE / max(m, 1e-300)) * (x - m))
        return bool(gains.cumsum().max() >= log(2 / alpha))

    low, high = 0.0, 1.0  # the capital falls as the candidate rises
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


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


__all__ = [
    "SOURCE",
    "clopper_pearson",
    "enough",
    "mcnemar",
    "mean_between",
    "mean_of_normal",
    "most_marked",
    "share",
]
