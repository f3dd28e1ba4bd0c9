"""Intervals of means: they hold for any distribution, and are those of the paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from conjoin.audit.statistics import STAKE, mean_between
from conjoin.core.random import Streams


def by_the_paper(values: np.ndarray, alpha: float, steps: int = 2000) -> tuple[float, float]:
    """Bet against every mean of a grid, one value after another; return the ends of what is left."""
    chances = Streams.of(0, torch.arange(len(values))).fold("bets").uniform(1)[:, 0]
    ordered, kept = [float(values[k]) for k in chances.argsort()], []
    for m in np.linspace(0, 1, steps + 1):
        richest, plus, minus, seen = 0.0, 0.5, 0.5, list[float]()
        spread = 0.25
        for x in ordered:
            bet = math.sqrt(2 * math.log(2 / alpha) / (len(values) * spread))
            plus *= 1 + (min(bet, STAKE / m) if m else bet) * (x - m)
            minus *= 1 - (min(bet, STAKE / (1 - m)) if m < 1 else bet) * (x - m)
            richest = max(richest, plus, minus)
            seen.append(x)
            means = [(0.5 + sum(seen[: k + 1])) / (k + 2) for k in range(len(seen))]
            spread = 0.25 + sum((v - mean) ** 2 for v, mean in zip(seen, means, strict=True))
            spread /= len(seen) + 1
        if richest < 1 / alpha:
            kept.append(float(m))
    return min(kept), max(kept)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_interval_is_that_of_the_paper(alpha: float) -> None:
    values = np.random.default_rng(0).beta(4, 2, 18)
    low, high = mean_between(torch.from_numpy(values), (0.0, 1.0), alpha)
    wanted = by_the_paper(values, alpha)
    assert (low, high) == pytest.approx(wanted, abs=1 / 2000)
    assert 0 < low < values.mean() < high < 1


def test_a_capital_that_was_lost_again_had_refuted() -> None:
    chances = Streams.of(0, torch.arange(40)).fold("bets").uniform(1)[:, 0]
    values = torch.zeros(40, dtype=torch.float64)
    values[chances.argsort()] = torch.tensor([0.7] * 15 + [0.5] * 25, dtype=torch.float64)
    found = mean_between(values, (0.0, 1.0), 0.1)
    assert found == pytest.approx(by_the_paper(values.numpy(), 0.1), abs=1 / 2000)


def test_the_interval_holds_the_mean_of_the_values_where_all_is_refuted() -> None:
    chances = Streams.of(0, torch.arange(40)).fold("bets").uniform(1)[:, 0]
    values = torch.zeros(40, dtype=torch.float64)
    values[chances.argsort()[:20]] = 1.0
    low, high = mean_between(values, (0.0, 1.0), 0.2)
    assert low <= 0.5 <= high


def test_the_mean_is_missed_as_seldom_as_is_said() -> None:
    rng, alpha = np.random.default_rng(1), 0.2
    for draw, mean in (
        (lambda: (rng.random(25) < 0.1).astype(float), 0.1),
        (lambda: rng.beta(8, 2, 25), 0.8),
    ):
        ends = [mean_between(torch.from_numpy(draw()), (0.0, 1.0), alpha) for _ in range(300)]
        missed = sum(not low <= mean <= high for low, high in ends) / 300
        # Three standard errors of a share of a fifth.
        assert missed <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / 300)


def test_one_example_says_nothing_and_many_say_much() -> None:
    assert mean_between(torch.ones(1), (0.0, 1.0), 0.05) == (0.0, 1.0)
    low, high = mean_between(torch.full((2000,), 0.3), (0.0, 1.0), 0.05)
    assert low <= 0.3 <= high and high - low < 0.03


def test_ranges_are_shifted_and_scaled_and_mirrored() -> None:
    values = torch.rand(30, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    low, high = mean_between(values, (0.0, 1.0), 0.05)
    wide = mean_between(4 * values - 1, (-1.0, 3.0), 0.05)
    assert wide == pytest.approx((4 * low - 1, 4 * high - 1), abs=1e-12)
    mirrored = mean_between(1 - values, (0.0, 1.0), 0.05)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)
    assert mean_between(values + 1e-9, (0.0, 1.0), 0.05)[1] <= 1


def test_more_confidence_is_a_wider_interval() -> None:
    values = torch.rand(40, generator=torch.Generator().manual_seed(3))
    ends = [mean_between(values, (0.0, 1.0), alpha) for alpha in (0.2, 0.05, 0.01)]
    assert ends[0][0] > ends[1][0] > ends[2][0] and ends[0][1] < ends[1][1] < ends[2][1]
