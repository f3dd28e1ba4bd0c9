"""The rules of the verdicts: worsening any number never improves one, and nothing embarrasses."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as some
from scipy import stats

from conjoin.audit import audit
from conjoin.audit.finding import Bearing, Ruling, Verdict, judge
from conjoin.audit.plan import make_plan
from conjoin.audit.rules import (
    Rules,
    beats_guessing,
    blind,
    proves,
    relies,
    stable,
    withstands,
)
from conjoin.audit.section import Records
from conjoin.audit.sections.accuracy import Accuracy, Record
from conjoin.audit.statistics import clopper_pearson, enough, share
from conjoin.core.dataset import Dataset
from conjoin.core.evidence import Evidence
from conjoin.errors import PlanError

ALPHA = 0.05
USUAL = Rules()
PLAN = make_plan({"models": ["m"], "data": "d"}, [])
DATA = Dataset(torch.zeros(1, 2), torch.tensor([0]))


@some.composite
def counts(draw: some.DrawFn) -> tuple[int, int]:
    """Some of a number of examples, often even so that both can be halved."""
    count = draw(some.integers(1, 300))
    hits = draw(some.integers(0, count))
    return (2 * hits, 2 * count) if draw(some.booleans()) else (hits, count)


@some.composite
def rules(draw: some.DrawFn) -> Rules:
    shares = some.floats(0, 1)
    return draw(
        some.one_of(
            some.just(USUAL),
            some.builds(
                Rules,
                least_examples=some.integers(1, 200),
                attacked_floor=shares,
                proved_floor=shares,
                lost_ceiling=shares,
                blind_ceiling=shares,
                stability_floor=some.floats(-1, 1),
            ),
        )
    )


def rank(ruling: Ruling) -> tuple[Verdict, bool]:
    """What a ruling allows: the cap, and whether it speaks for the model."""
    return ruling.cap, ruling.bearing is Bearing.FOR


def no_better(worse: Ruling, than: Ruling) -> bool:
    return all(a <= b for a, b in zip(rank(worse), rank(than), strict=True))


Rule = Callable[[int, int, float, Rules], Ruling]
UPWARDS: list[Any] = [
    pytest.param(lambda h, n, a, r: beats_guessing(h, n, 0.3, a, r), id="beats_guessing"),
    pytest.param(withstands, id="withstands"),
    pytest.param(proves, id="proves"),
    pytest.param(lambda h, n, a, r: relies(n - h, n, a, r), id="relies"),
    pytest.param(lambda h, n, a, r: blind(n - h, n, r), id="blind"),
]


@pytest.mark.parametrize("rule", UPWARDS)
@settings(deadline=None)
@given(counted=counts(), alpha=some.sampled_from((0.01, 0.05, 0.3)), by=rules())
def test_fewer_good_examples_never_improve_a_ruling(
    rule: Rule, counted: tuple[int, int], alpha: float, by: Rules
) -> None:
    hits, count = counted
    assume(hits > 0)
    assert no_better(rule(hits - 1, count, alpha, by), rule(hits, count, alpha, by))


@pytest.mark.parametrize("rule", UPWARDS)
@settings(deadline=None)
@given(counted=counts(), times=some.integers(2, 5), by=rules())
def test_fewer_examples_at_the_same_shares_never_improve_a_ruling(
    rule: Rule, counted: tuple[int, int], times: int, by: Rules
) -> None:
    hits, count = counted
    assert no_better(rule(hits, count, ALPHA, by), rule(times * hits, times * count, ALPHA, by))


@settings(deadline=None)
@given(counted=counts(), guess=some.floats(0, 1), more=some.floats(0, 1), by=rules())
def test_a_better_guess_never_improves_a_ruling(
    counted: tuple[int, int], guess: float, more: float, by: Rules
) -> None:
    low, high = sorted((guess, more))
    assert no_better(
        beats_guessing(*counted, high, ALPHA, by), beats_guessing(*counted, low, ALPHA, by)
    )


@settings(deadline=None)
@given(some.floats(-1, 1), some.floats(-1, 1), rules())
def test_stability_is_monotone_and_caps_nothing(one: float, other: float, by: Rules) -> None:
    low, high = sorted((one, other))
    assert no_better(stable(low, by), stable(high, by))
    assert stable(low, by).cap is Verdict.TRUST


@settings(deadline=None)
@given(some.data())
def test_worsening_any_number_never_improves_a_verdict(data: some.DataObject) -> None:
    count = data.draw(some.integers(1, 300))
    times = data.draw(some.integers(1, 3))
    numbers = {
        name: data.draw(some.integers(0, count), label=name)
        for name in ("hits", "standing", "proved", "lost", "vanishing")
    }
    guess, by = data.draw(some.floats(0, 1)), data.draw(rules())

    def verdict(n: int, guess: float, **of: int) -> Verdict:
        return judge(
            [
                ("accuracy", beats_guessing(of["hits"], n, guess, ALPHA, by)),
                ("attacked_accuracy", withstands(of["standing"], n, ALPHA, by)),
                ("certified_accuracy", proves(of["proved"], n, ALPHA, by)),
                ("reliance_on_region", relies(of["lost"], n, ALPHA, by)),
                ("vanishing_gradient", blind(of["vanishing"], n, by)),
            ],
            by.required,
        )

    before = verdict(times * count, guess, **{k: times * v for k, v in numbers.items()})
    for name in ("hits", "standing", "proved"):
        lower = {k: times * v - (k == name) for k, v in numbers.items()}
        if lower[name] >= 0:
            assert verdict(times * count, guess, **lower) <= before
    for name in ("lost", "vanishing"):
        higher = {k: times * v + (k == name) for k, v in numbers.items()}
        if higher[name] <= times * count:
            assert verdict(times * count, guess, **higher) <= before
    assert (
        verdict(times * count, min(1.0, guess + 0.05), **{k: times * v for k, v in numbers.items()})
        <= before
    )
    assert verdict(count, guess, **numbers) <= before


@settings(deadline=None)
@given(counted=counts(), alpha=some.sampled_from((0.01, 0.05, 0.3)))
def test_intervals_are_those_of_scipy(counted: tuple[int, int], alpha: float) -> None:
    known = stats.binomtest(*counted).proportion_ci(1 - alpha, method="exact")
    assert clopper_pearson(*counted, alpha) == pytest.approx((known.low, known.high), abs=1e-9)


@settings(deadline=None)
@given(
    share=some.fractions(0, 1, max_denominator=60),
    floor=some.floats(0, 1),
    alpha=some.sampled_from((0.01, 0.05, 0.3)),
)
def test_enough_is_tight(share: Fraction, floor: float, alpha: float) -> None:
    least = enough(float(share), floor, alpha)
    if least is None:
        # Not above the floor, or so near it that not even a thousand million examples would do.
        assert float(share) - floor < 1e-3
        return
    unit = share.denominator  # so many examples hold the share exactly
    assume(unit <= least <= 10**6)
    before, at = (least - 1) // unit * unit, -(-least // unit) * unit
    assert clopper_pearson(int(share * at), at, alpha)[0] > floor
    if before:
        assert clopper_pearson(int(share * before), before, alpha)[0] <= floor


@settings(deadline=None)
@given(counted=counts(), guess=some.floats(0, 0.99), by=rules())
def test_with_as_many_examples_as_would_do_the_finding_is_for_the_model(
    counted: tuple[int, int], guess: float, by: Rules
) -> None:
    hits, count = counted
    for rule in (
        lambda h, n: beats_guessing(h, n, guess, ALPHA, by),
        lambda h, n: proves(h, n, ALPHA, by),
        lambda h, n: relies(n - h, n, ALPHA, by),
    ):
        needed = rule(hits, count).enough
        if needed is None or needed > 10**6:
            continue
        times = math.ceil(needed / count)
        assert times > 1 or rule(hits, count).cap is not Verdict.TOO_FEW
        after = rule(times * hits, times * count)
        assert after.cap is not Verdict.TOO_FEW


@pytest.mark.parametrize(
    ("counted", "verdict"),
    [
        ((0, 0, 0, 0, 8, 0.125), Verdict.GUESSING),  # a random network
        ((0, 0, 0, 0, 1, 1.0), Verdict.GUESSING),  # one wrong example
        ((35, 20, 0, 0, 100, 0.5), Verdict.GUESSING),  # two classes, untrained
        ((8, 8, 8, 0, 8, 0.125), Verdict.TOO_FEW),
        ((5, 5, 5, 0, 8, 0.125), Verdict.TOO_FEW),
        ((430, 330, 345, 0, 500, 0.12), Verdict.TRUST),
        ((430, 330, 345, 45, 500, 0.12), Verdict.TOO_FEW),  # 9 % lost: is it below 10 %?
        ((430, 330, 345, 50, 500, 0.12), Verdict.DO_NOT_TRUST),
        ((440, 60, 0, 0, 500, 0.12), Verdict.DO_NOT_TRUST),
        ((450, 400, 100, 0, 500, 0.12), Verdict.WITH_CARE),
        ((450, 130, 300, 0, 500, 0.12), Verdict.TOO_FEW),  # 26 % stand: are they 25 %?
    ],
)
def test_known_cases(counted: tuple[int, int, int, int, int, float], verdict: Verdict) -> None:
    hits, standing, proved, lost, count, guess = counted
    found = [
        ("accuracy", beats_guessing(hits, count, guess, ALPHA, USUAL)),
        ("attacked_accuracy", withstands(standing, count, ALPHA, USUAL)),
        ("certified_accuracy", proves(proved, count, ALPHA, USUAL)),
        ("reliance_on_region", relies(lost, count, ALPHA, USUAL)),
        ("vanishing_gradient", blind(0, count, USUAL)),
    ]
    assert judge(found, USUAL.required) is verdict
    if verdict is Verdict.TRUST:
        for kind in USUAL.required:  # without what is required nobody is trusted
            assert judge([f for f in found if f[0] != kind], USUAL.required) is Verdict.WITH_CARE


def test_nothing_proved_is_never_good() -> None:
    found = proves(0, 500, ALPHA, USUAL)
    assert found.bearing is Bearing.OPEN
    assert found.cap is Verdict.WITH_CARE
    assert found.enough is None


@settings(deadline=None)
@given(counted=counts(), guess=some.floats(0, 1))
def test_the_section_s_own_findings_are_monotone(counted: tuple[int, int], guess: float) -> None:
    """The same through records and findings, as an audit does it."""
    hits, count = counted

    def verdict(hits: int) -> Verdict:
        record = Record(
            accuracy=share(hits, count, ALPHA, Evidence.statistical(ALPHA)),
            hits=hits,
            count=count,
            guess=guess,
        )
        records = Records(PLAN, DATA, {}, {"m": record})
        found = [(f.kind, f.ruling) for f in Accuracy().findings(records)]
        return judge(found, ("accuracy",))

    if hits:
        assert verdict(hits - 1) <= verdict(hits)


class Fixed(torch.nn.Module):
    """It answers by the first input: class 0 if it is negative, else the class that it is."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, classes)
        with torch.no_grad():  # logits k x - k²/2: the nearest k has the largest
            steps = torch.arange(classes, dtype=torch.float32)
            self.layer.weight.copy_(steps[:, None])
            self.layer.bias.copy_(-steps.square() / 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x[:, :1])


def judged(answers: list[int], labels: list[int], classes: int) -> tuple[str, str]:
    """Audit a network that gives these answers; return its verdict and the first reason."""
    x = torch.tensor(answers, dtype=torch.float32)[:, None].expand(-1, 3) / 16
    model = torch.nn.Sequential(Scale(16.0), Fixed(classes))
    data = Dataset(x.contiguous(), torch.tensor(labels), name="given")
    (standing,) = audit({"given": model}, data, {"limit": 0}, sections=[Accuracy()]).standings
    return standing.verdict, standing.reasons[0]


class Scale(torch.nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


def test_a_random_network_on_eight_examples_is_no_better_than_guessing() -> None:
    verdict, reason = judged([1, 2, 3, 4, 5, 6, 7, 0], [0, 1, 2, 3, 4, 5, 6, 7], 8)
    assert verdict == "no better than guessing"
    assert "not shown to be better than guessing: it is right on 0 %" in reason
    assert "guessing gets 12.5 %" in reason


def test_one_wrong_example_is_no_better_than_guessing() -> None:
    verdict, reason = judged([1], [0], 3)
    assert verdict == "no better than guessing"
    assert "right on 0 %" in reason


def test_an_untrained_two_class_network_is_no_better_than_guessing() -> None:
    answers = [0] * 100
    verdict, reason = judged(answers, [0] * 35 + [1] * 65, 2)
    assert verdict == "no better than guessing"
    assert "right on 35 %, and guessing gets 65 %" in reason


def test_a_model_of_which_nothing_was_found_is_not_judged() -> None:
    assert judge([], USUAL.required) is Verdict.TOO_FEW


def test_eight_right_examples_are_too_few_and_it_is_said_how_many_would_do() -> None:
    verdict, reason = judged(list(range(8)), list(range(8)), 8)
    assert verdict == "too little evidence to say"
    assert "of 8 examples that says too little, 100 would do" in reason


def test_a_plan_replaces_the_thresholds() -> None:
    labels = torch.tensor([0, 1] * 4)
    data = Dataset(labels[:, None].float().expand(-1, 2).contiguous(), labels, name="given")
    plan = {"limit": 0, "rules": {"least_examples": 8, "required": ["accuracy"]}}
    (standing,) = audit({"given": Fixed(2)}, data, plan, sections=[Accuracy()]).standings
    assert standing.verdict == "trust within limits"
    plan = {"limit": 0, "rules": {"least_examples": 8}}  # and no chapter that proves anything
    (standing,) = audit({"given": Fixed(2)}, data, plan, sections=[Accuracy()]).standings
    assert standing.verdict == "with care"
    assert "nothing speaks for it as to certified accuracy" in standing.reasons[0]
    with pytest.raises(PlanError, match="did you mean 'least_examples'"):
        audit({"given": Fixed(2)}, data, {"rules": {"least_example": 8}}, sections=[Accuracy()])
