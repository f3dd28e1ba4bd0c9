"""Intervals, curves and verdicts: the numbers of ``run.json`` from measurements made by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from scipy import stats

from conjoin.core.ball import L2, Ball, Linf
from conjoin.core.result import Evidence, Verdict
from conjoin.report.audit import Robustness
from conjoin.report.statistics import clopper_pearson, share
from conjoin.report.summary import CURVE_POINTS, broken, threat_result, verdicts

INF = math.inf


# The Clopper-Pearson interval


@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.5])
@pytest.mark.parametrize(("hits", "count"), [(0, 10), (10, 10), (1, 10), (37, 40), (250, 500)])
def test_the_interval_is_the_closed_form_in_the_beta_distribution(
    hits: int, count: int, alpha: float
) -> None:
    low, high = clopper_pearson(hits, count, alpha)
    expected_low = stats.beta.ppf(alpha / 2, hits, count - hits + 1) if hits else 0.0
    expected_high = stats.beta.ppf(1 - alpha / 2, hits + 1, count - hits) if hits < count else 1.0
    assert low == pytest.approx(expected_low, abs=1e-9)
    assert high == pytest.approx(expected_high, abs=1e-9)
    assert low <= hits / count <= high


def test_no_hits_leave_the_rule_of_the_closed_form() -> None:
    # 1 - (alpha / 2)^(1 / n) for 0 of n.
    assert clopper_pearson(0, 20, 0.05)[1] == pytest.approx(1 - 0.025 ** (1 / 20), abs=1e-12)


def test_a_share_carries_interval_and_evidence() -> None:
    found = share(3, 4, 0.1, Evidence.statistical(0.1))
    assert found.value == 0.75 and (found.low, found.high) == clopper_pearson(3, 4, 0.1)
    assert found.evidence.kind == "statistical" and found.evidence.detail == "alpha=0.1"


# Verdicts and curves


def robustness(
    distance: list[float],
    radius: list[float],
    lower: list[float],
    threat: Ball | None = None,
    largest: float = 0.2,
) -> Robustness:
    return Robustness(
        threat=threat or Linf(0.1),
        distance=torch.tensor(distance, dtype=torch.float64),
        inputs=torch.zeros(len(distance), 2),
        radius=torch.tensor(radius, dtype=torch.float64),
        lower=torch.tensor(lower),
        deployed=torch.ones(len(radius), dtype=torch.bool),
        largest=largest,
        attack="PGD",
        certifier="Interval()",
        note="",
    )


# Wrong, broken inside eps, broken at eps, broken beyond, open, proved at eps, proved to the end.
SEVEN = robustness(
    [0.0, 0.05, 0.1, 0.15, INF, INF, INF],
    [0.0, 0.02, 0.0, 0.08, 0.05, 0.1, 0.2],
    [-1.0, -0.5, -0.1, -0.1, -0.2, 0.01, 0.6],
)
OK = torch.tensor([False, True, True, True, True, True, True])


def test_each_example_gets_the_verdict_of_its_evidence() -> None:
    assert verdicts(SEVEN, OK) == [
        Verdict.FALSIFIED,
        Verdict.FALSIFIED,
        Verdict.FALSIFIED,
        Verdict.UNKNOWN,
        Verdict.UNKNOWN,
        Verdict.CERTIFIED,
        Verdict.CERTIFIED,
    ]


def test_wrong_examples_are_broken_at_every_radius_and_others_from_their_distance() -> None:
    assert broken(SEVEN, OK, 0.0).tolist() == [True] + [False] * 6
    assert broken(SEVEN, OK, 0.0999).tolist() == [True, True] + [False] * 5
    assert broken(SEVEN, OK, 0.1).tolist() == [True] * 3 + [False] * 4
    # The same radius in single precision is the same radius.
    assert broken(SEVEN, OK, float(torch.tensor(0.1) - 4e-9)).tolist() == [True] * 3 + [False] * 4


def test_counts_shares_and_medians_of_a_threat() -> None:
    found = threat_result("linf:0.1", SEVEN, OK, 0.05)
    assert (found.certified, found.falsified, found.unknown) == (2, 3, 2)
    assert found.robust_accuracy.value == 4 / 7
    assert found.robust_accuracy.evidence.kind == "empirical"
    assert found.certified_accuracy.value == 2 / 7
    assert found.certified_accuracy.evidence.kind == "certified"
    # Of the six that are right: 0.05, 0.1, 0.15, three without; the lower median is 0.15.
    assert found.median_distance is not None and found.median_distance.value == 0.15
    assert found.median_radius.value == pytest.approx(0.05)  # of 0, .02, .05, .08, .1, .2


def test_there_is_no_median_distance_where_fewer_than_half_fell() -> None:
    found = robustness([0.1, INF, INF], [0.0] * 3, [-1.0] * 3)
    assert threat_result("t", found, torch.ones(3, dtype=torch.bool), 0.05).median_distance is None


def test_all_wrong_is_no_division_by_zero() -> None:
    found = robustness([0.0, 0.0], [0.0, 0.0], [-1.0, -1.0])
    made = threat_result("t", found, torch.zeros(2, dtype=torch.bool), 0.05)
    assert made.robust_accuracy.value == 0 and made.median_distance is None
    assert made.median_radius.value == 0 and set(made.curve.attacked) == {0.0}


def test_curves_fall_and_the_lower_stays_below_the_upper() -> None:
    curve = threat_result("linf:0.1", SEVEN, OK, 0.05).curve
    assert len(curve.eps) == CURVE_POINTS + 1
    assert curve.eps[0] == 0 and curve.eps[-1] == pytest.approx(0.2)
    assert list(curve.eps) == sorted(curve.eps)
    for values in (curve.attacked, curve.certified):
        assert all(a >= b for a, b in pairwise(values))
    assert all(c <= a for c, a in zip(curve.certified, curve.attacked, strict=True))
    assert curve.attacked[0] == curve.certified[0] == 6 / 7, "both begin at the clean accuracy"


def test_a_curve_passes_through_the_accuracy_at_eps() -> None:
    found = threat_result("linf:0.1", SEVEN, OK, 0.05)
    middle = CURVE_POINTS // 2
    assert found.curve.eps[middle] == pytest.approx(0.1)
    assert found.curve.attacked[middle] == found.robust_accuracy.value


def test_a_curve_counts_each_example_to_its_own_radius() -> None:
    curve = threat_result("linf:0.1", SEVEN, OK, 0.05).curve
    for k, eps in enumerate(curve.eps):
        right = [r for r, ok in zip(SEVEN.radius.tolist(), OK.tolist(), strict=True) if ok]
        assert curve.certified[k] == sum(r >= eps for r in right) / 7
        fallen = [d for d, ok in zip(SEVEN.distance.tolist(), OK.tolist(), strict=True) if ok]
        assert curve.attacked[k] == sum(d > eps * (1 + 1e-6) for d in fallen) / 7


@pytest.mark.parametrize("eps", [0.35, 0.1, 8 / 255, 0.7])
def test_what_is_certified_at_the_largest_radius_counts_there(eps: float) -> None:
    largest = float(torch.tensor(2 * eps, dtype=torch.float32))
    found = robustness([INF], [largest], [1.0], L2(eps), largest)
    curve = threat_result("t", found, torch.ones(1, dtype=torch.bool), 0.05).curve
    assert set(curve.certified) == {1.0}


def test_a_threat_of_radius_zero_has_a_flat_curve() -> None:
    found = robustness([INF, 0.0], [0.0, 0.0], [0.3, -1.0], Linf(0.0), 0.0)
    made = threat_result("linf:0", found, torch.tensor([True, False]), 0.05)
    assert set(made.curve.eps) == {0.0}
    assert set(made.curve.attacked) == set(made.curve.certified) == {0.5}
