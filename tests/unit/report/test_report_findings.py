"""The rules behind findings and verdicts, on results made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from conjoin.core.result import Evidence
from conjoin.report.findings import Finding, at_least, at_most, find, percent, standings
from conjoin.report.schema import (
    Curve,
    DataRecord,
    ModelResult,
    Number,
    ScoreResult,
    ThreatResult,
    number,
    record,
)

SAMPLED, ATTACKED = Evidence.statistical(0.05), Evidence.empirical("PGD(steps=3)")
PROVED, MEASURED = Evidence.certified("Interval()"), Evidence.heuristic("mean")


def share(value: float, evidence: Evidence = SAMPLED) -> Number:
    return number(value, evidence)


def threat(upper: float, lower: float = 0.0, **changes: Any) -> ThreatResult:
    settings: dict[str, Any] = {
        "threat": "linf:0.05",
        "norm": "linf",
        "eps": 0.05,
        "robust_accuracy": share(upper, ATTACKED),
        "certified_accuracy": share(lower, PROVED),
        "certified": 0,
        "falsified": 0,
        "unknown": 0,
        "median_distance": None,
        "median_radius": share(0.0, PROVED),
        "curve": Curve(
            eps=(0.0, 0.1),
            attacked=(0.9, upper),
            certified=(0.9, lower),
            attacked_evidence=record(ATTACKED),
            certified_evidence=record(PROVED),
        ),
        "attack": "PGD(steps=3)",
        "certifier": "best of Interval()",
    }
    return ThreatResult(**{**settings, **changes})


def model(name: str = "net", clean: float = 0.9, **changes: Any) -> ModelResult:
    settings: dict[str, Any] = {
        "name": name,
        "summary": "a net",
        "weights": "ab" * 32,
        "parameters": 10,
        "notes": (),
        "clean_accuracy": share(clean),
        "blanked_accuracy": None,
        "region_share": None,
        "threats": (threat(0.8),),
        "scores": (),
    }
    return ModelResult(**{**settings, **changes})


def data(**changes: Any) -> DataRecord:
    settings: dict[str, Any] = {
        "name": "some",
        "count": 100,
        "available": 100,
        "sha256": "0" * 64,
        "shape": (1, 28, 28),
        "classes": (),
        "region": "the mark",
        "region_area": 0.05,
    }
    return DataRecord(**{**settings, **changes})


def stability(value: float) -> ScoreResult:
    return ScoreResult(
        explanation="saliency",
        metric="rank_stability",
        meaning="least rank correlation",
        better="higher",
        mean=share(value, MEASURED),
        count=10,
    )


def of_kind(kind: str, *models: ModelResult, about: DataRecord | None = None) -> list[Finding]:
    return [f for f in find(models, about or data()) if f.kind == kind]


def only(kind: str, *models: ModelResult, about: DataRecord | None = None) -> Finding:
    (found,) = of_kind(kind, *models, about=about)
    return found


# How numbers are written


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.5, "50 %"),
        (0.7144, "71.4 %"),
        (0.034, "3.4 %"),
        (0.1, "10 %"),
        (0.9621, "96.2 %"),
        (0.9, "90 %"),
    ],
)
def test_shares_are_written_with_at_most_one_decimal(value: float, text: str) -> None:
    assert percent(value) == text


@pytest.mark.parametrize(
    ("value", "down", "up"),
    [
        (0.6964, "69.6 %", "69.7 %"),
        (0.1241, "12.4 %", "12.5 %"),
        (0.124, "12.4 %", "12.4 %"),
        (1 / 3, "33.3 %", "33.4 %"),
        (0.0001, "0 %", "0.1 %"),
        (0.0, "0 %", "0 %"),
        (1.0, "100 %", "100 %"),
    ],
)
def test_bounds_are_rounded_so_that_the_words_stay_true(value: float, down: str, up: str) -> None:
    assert at_least(value) == down
    assert at_most(value) == up


# Reliance on the region


def reliance(clean: float, blanked: float, inside: float) -> Finding:
    return only(
        "reliance_on_region",
        model(clean=clean, blanked_accuracy=share(blanked), region_share=share(inside, MEASURED)),
    )


def test_a_loss_with_attribution_in_the_region_is_an_alarm() -> None:
    found = reliance(0.96, 0.44, 0.71)
    assert found.severity == "alarm" and found.model == "net"
    assert found.record().sentence == (
        "`net` is right for the wrong reason: it puts 71 % of its attribution on the mark, which "
        "is 5 % of the input, and blanking that region costs 52 points of accuracy "
        "(96 % to 44 %)."
    )
    assert found.numbers["points"].value == pytest.approx(0.52)
    assert found.numbers["share"].evidence.kind == "heuristic"


@pytest.mark.parametrize(("drop", "severity"), [(0.1000001, "alarm"), (0.0999999, "good")])
def test_the_threshold_of_the_loss_is_ten_points(drop: float, severity: str) -> None:
    assert reliance(0.9, 0.9 - drop, 0.5).severity == severity


@pytest.mark.parametrize(("inside", "said"), [(0.1000001, "wrong reason"), (0.0999999, "though")])
def test_the_threshold_of_the_attribution_is_twice_the_area(inside: float, said: str) -> None:
    found = reliance(0.9, 0.5, inside)
    assert found.severity == "alarm"  # the loss alone is one; the attribution says why
    assert said in found.record().sentence


def test_a_gain_by_blanking_is_told_as_a_gain() -> None:
    found = reliance(0.6, 0.8, 0.3)
    assert found.severity == "warning"
    assert "blanking it raises accuracy from 60 % to 80 %" in found.record().sentence


def test_a_loss_without_attribution_there_is_told_as_such() -> None:
    found = reliance(0.9, 0.6, 0.02)
    assert found.severity == "alarm"
    assert "loses 30 points when the mark is blanked" in found.record().sentence
    assert "only 2 % of its attribution lies there" in found.record().sentence


def test_no_loss_is_good_news() -> None:
    found = reliance(0.9, 0.89, 0.08)
    assert found.severity == "good"
    assert "does not depend on the mark" in found.record().sentence


def test_without_a_region_nothing_is_said_of_reliance() -> None:
    assert not of_kind("reliance_on_region", model(), about=data(region=None, region_area=None))
    half = model(blanked_accuracy=share(0.2))  # explanations were not asked for
    assert not of_kind("reliance_on_region", half)


# Attack and certificate


@pytest.mark.parametrize(("upper", "severity"), [(0.44, "alarm"), (0.45, "note"), (0.9, "note")])
def test_half_of_what_is_right_is_the_threshold_of_fragility(upper: float, severity: str) -> None:
    found = only("attacked_accuracy", model(threats=(threat(upper),)))
    assert found.severity == severity and found.reference == "madry2018"
    assert found.record().sentence == (
        "The robust accuracy of `net` under linf changes of at most 0.05 is at most "
        f"{percent(upper)} (clean: 90 %)."
    )
    assert found.numbers["robust"].evidence.kind == "empirical"


@pytest.mark.parametrize(
    ("lower", "upper", "severity"),
    [(0.70, 0.85, "good"), (0.45, 0.66, "note"), (0.44, 0.5, "note"), (0.45, 0.64, "good")],
    ids=["tight", "loose", "little", "just"],
)
def test_a_certificate_is_good_if_it_proves_half_and_is_tight(
    lower: float, upper: float, severity: str
) -> None:
    found = only("certified_accuracy", model(threats=(threat(upper, lower),)))
    assert found.severity == severity
    sentence = found.record().sentence
    assert f"keeps at least {percent(lower)} under linf changes of at most 0.05" in sentence
    assert f"and at most {percent(upper)}: {100 * (upper - lower):.0f} points are open" in sentence
    assert found.numbers["certified"].evidence.kind == "certified"


def test_a_certificate_of_nothing_says_so() -> None:
    found = only("certified_accuracy", model(threats=(threat(0.6, 0.0),)))
    assert found.severity == "note"
    assert "its robust accuracy lies between 0 % and 60 %" in found.record().sentence


def test_no_certificate_gives_its_reason() -> None:
    bare = threat(0.6, certifier="none", note="no certificate: unknown layer {Strange}")
    found = only("certified_accuracy", model(threats=(bare,)))
    assert found.record().sentence == (
        "Nothing is proved of `net` under linf: no certificate: unknown layer {Strange}."
    )


def test_every_threat_has_its_own_findings() -> None:
    two = (threat(0.8), threat(0.2, threat="l2:0.5", norm="l2", eps=0.5))
    found = of_kind("attacked_accuracy", model(threats=two))
    assert [f.severity for f in found] == ["alarm", "note"]
    assert "under l2 changes of at most 0.5" in found[0].record().sentence


# Stability, notes, ranking


@pytest.mark.parametrize(("value", "severity"), [(0.49, "warning"), (0.5, "good")])
def test_half_a_rank_correlation_is_the_threshold_of_stability(value: float, severity: str) -> None:
    found = only("explanation_stability", model(scores=(stability(value),)))
    assert found.severity == severity and f"rank correlation {value:.3g}" in found.record().sentence
    assert not of_kind("explanation_stability", model())


def test_every_note_becomes_a_warning() -> None:
    found = of_kind("model_note", model(notes=("it was in training mode", "it {vanishes}")))
    assert [f.severity for f in found] == ["warning", "warning"]
    assert found[1].record().sentence == "`net`: it {vanishes}."
    assert not of_kind("model_note", model())


def liar(name: str = "liar") -> ModelResult:
    return model(name, 0.96, blanked_accuracy=share(0.4), region_share=share(0.7, MEASURED))


def test_accuracy_that_ranks_a_bad_model_first_is_an_alarm() -> None:
    found = only("misleading_ranking", liar(), model("honest", threats=(threat(0.8, 0.7),)))
    assert found.severity == "alarm" and found.model is None
    assert found.record().sentence == (
        "Accuracy on this data ranks `liar` first (96 %); the audit does not trust it. "
        "Of these models `honest` stands best."
    )


def test_the_ranking_is_no_finding_where_accuracy_is_right_or_alone() -> None:
    assert not of_kind("misleading_ranking", liar())
    best = model("best", 0.97, threats=(threat(0.9, 0.8),))
    assert not of_kind("misleading_ranking", liar(), best)
    tied = model("tied", 0.96, threats=(threat(0.9, 0.8),))
    assert not of_kind("misleading_ranking", liar(), tied)
    careful = model("careful", 0.97)  # first in accuracy, not first in standing, but not distrusted
    assert not of_kind("misleading_ranking", careful, model("proved", threats=(threat(0.8, 0.7),)))


def test_findings_come_worst_first() -> None:
    models = (
        model("a", threats=(threat(0.8, 0.7),)),
        model("b", notes=("odd",), scores=(stability(0.9),)),
        liar(),
    )
    order = ["alarm", "warning", "note", "good"]
    ranks = [order.index(f.severity) for f in find(models, data())]
    assert ranks == sorted(ranks) and set(ranks) == {0, 1, 2, 3}


@pytest.mark.parametrize("name", ["{clean}", "{0}", "a{b", "}{", "{model.__class__}", "%s"])
def test_names_with_braces_are_written_as_they_are(name: str) -> None:
    bad = liar(name).model_copy(update={"notes": (f"note of {name}",)})
    good = model(
        f"good {name}", threats=(threat(0.8, 0.7), threat(0.5, certifier="none", note=name))
    )
    found = find((bad, good), data(region=f"region {name}"))
    assert len({f.kind for f in found}) >= 5
    for finding in found:
        sentence = finding.record().sentence
        assert name in sentence, finding.kind
        assert "`good " in sentence or f"`{name}`" in sentence


def test_a_record_keeps_the_numbers_behind_the_sentence() -> None:
    found = reliance(0.96, 0.44, 0.71)
    made = found.record()
    assert made.numbers == found.numbers and made.kind == found.kind
    assert made.limits and made.method and made.reference == "sundararajan2017"


# Verdicts


@pytest.mark.parametrize(
    ("result", "verdict", "reason"),
    [
        (liar(), "do not trust", "blanking it costs 56 points"),
        (model(threats=(threat(0.44),)), "do not trust", "an attack leaves at most 44 %"),
        (model(threats=(threat(0.8, 0.45),)), "trust within limits", "at least 45 % proved"),
        (model(threats=(threat(0.8, 0.44),)), "with care", "attacks leave 80 %, 44 % is proved"),
        (
            model(notes=("its gradient vanishes on 5% of the examples",)),
            "do not trust",
            "its gradient vanishes",
        ),
    ],
    ids=["relies", "fragile", "proved", "open", "masked"],
)
def test_verdicts_follow_the_rules_and_give_the_reason(
    result: ModelResult, verdict: str, reason: str
) -> None:
    (standing,) = standings((result,))
    assert standing.verdict == verdict
    assert any(reason in given for given in standing.reasons)


def test_one_broken_threat_outweighs_a_proof_under_another() -> None:
    two = (threat(0.8, 0.7), threat(0.1, threat="l1:9", norm="l1"))
    (standing,) = standings((model(threats=two),))
    assert standing.verdict == "do not trust"
    assert standing.reasons == ("l1:9: an attack leaves at most 10 %",)


def test_standings_go_from_proved_to_open_to_distrusted_then_by_the_weakest_threat() -> None:
    models = (
        model("broken", 0.99, threats=(threat(0.1),)),
        model("open-weak", threats=(threat(0.7), threat(0.5))),
        model("proved", 0.8, threats=(threat(0.6, 0.5),)),
        model("open-strong", threats=(threat(0.6), threat(0.6))),
        model("broken-less", 0.99, threats=(threat(0.3),)),
    )
    assert [s.model for s in standings(models)] == [
        "proved",
        "open-strong",
        "open-weak",
        "broken-less",
        "broken",
    ]
