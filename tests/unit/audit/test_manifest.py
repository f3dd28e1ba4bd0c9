"""What is said of all models together, and of a model as it came."""

from __future__ import annotations

import audited
import pytest

from conjoin.audit import audit
from conjoin.audit.finding import Bearing, Finding, Ruling, Verdict
from conjoin.audit.manifest import ranking, stand
from conjoin.audit.plan import make_plan
from conjoin.audit.schema import Standing, number
from conjoin.audit.section import Records
from conjoin.audit.sections import installed
from conjoin.audit.sections.accuracy import Accuracy, Record
from conjoin.audit.statistics import share
from conjoin.core.evidence import Evidence

TRUST, DOUBT, CARE = "trust within limits", "do not trust", "with care"


def said(*told: tuple[str, int, str]) -> list[str]:
    """Rank models, best first, by name, right answers of a hundred and verdict."""
    evidence = Evidence.statistical(0.05)
    found = {
        name: Record.model_construct(accuracy=share(right, 100, 0.05, evidence))
        for name, right, _ in told
    }
    plan = make_plan({"models": ["m"], "data": "d"}, installed())
    records = {"accuracy": Records(plan, audited.data(), {}, found)}
    standings = [Standing(model=name, verdict=v, reasons=()) for name, _, v in told]
    return [finding.record("accuracy").sentence for _, finding in ranking(standings, records)]


def test_an_accuracy_that_ranks_a_doubted_model_first_is_said() -> None:
    (sentence,) = said(("honest", 80, TRUST), ("cheat {x}", 95, DOUBT))
    assert sentence == (
        "Accuracy on this data ranks `cheat {x}` first (95 %); its verdict is: do not trust. Of these "
        "models `honest` (80 %) stands best."
    )


@pytest.mark.parametrize(
    "told",
    [
        (("best", 95, TRUST), ("other", 80, DOUBT)),
        (("one", 80, DOUBT), ("other", 95, DOUBT)),
        (("one", 80, TRUST), ("other", 95, CARE)),
        (("one", 80, TRUST), ("other", 80, DOUBT)),
        (("only", 95, DOUBT),),
    ],
)
def test_a_ranking_that_misleads_nobody_is_not(told: tuple[tuple[str, int, str], ...]) -> None:
    assert said(*told) == []


def test_without_accuracies_nothing_is_ranked() -> None:
    assert list(ranking([Standing(model="m", verdict=DOUBT, reasons=())], {})) == []


def test_what_was_noticed_of_a_model_is_on_its_card_and_among_the_findings() -> None:
    from conjoin.audit.executor import Here
    from conjoin.audit.perform import perform
    from conjoin.audit.section import Chapter
    from conjoin.audit.store import Remote
    from conjoin.audit.subject import Subject

    chapters = [Chapter.of(Accuracy())]
    plan = make_plan({"models": ["m"], "data": "d", "limit": 0}, chapters)
    subject = Subject("m", audited.net(), notes=("it came {so} <b>",))
    store = Remote("memory://noted")
    result = perform(plan, chapters, [subject], audited.data(), store, Here())
    (finding,) = [f for f in result.findings if f.kind == "model_note"]
    assert finding.sentence == "`m`: it came {so} <b>." and finding.bearing == "open"
    page = store.read("report.html").decode()
    assert page.count("it came {so} &lt;b&gt;") >= 2 and "<b>.</" not in page


def models(**told: tuple[Verdict, tuple[float, ...], float]) -> list[str]:
    """Order models by verdict, what attacks leave under each threat, and accuracy."""
    found = []
    for name, (cap, left, right) in told.items():
        shares = [("accuracy", right), *(("attacked_accuracy", share) for share in left)]
        for kind, value in shares:
            one = number(value, Evidence.heuristic("x"))
            ruling = Ruling(Bearing.FOR, cap)
            found.append(
                ("", Finding(kind=kind, model=name, ruling=ruling, text="", numbers={"n": one}))
            )
    plan = make_plan({"models": ["m"], "data": "d", "rules": {"required": []}}, installed())
    return [standing.model for standing in stand(told, found, plan)]


def test_of_equal_verdicts_the_smallest_share_under_attack_decides_then_accuracy() -> None:
    no, yes = Verdict.DO_NOT_TRUST, Verdict.WITH_CARE
    assert models(a=(no, (0.9,), 0.9), b=(yes, (0.1,), 0.1)) == ["b", "a"], "the verdict first"
    assert models(a=(yes, (0.9, 0.1), 0.9), b=(yes, (0.2, 0.2), 0.5)) == ["b", "a"]
    assert models(a=(yes, (0.2,), 0.8), b=(yes, (0.2, 0.3), 0.9)) == ["b", "a"], "then accuracy"
    assert models(b=(yes, (0.2,), 0.8), a=(yes, (0.2,), 0.8)) == ["b", "a"], "as they came"
    assert models(a=(yes, (), 0.99), b=(yes, (0.0,), 0.1)) == ["b", "a"], (
        "one that was not attacked"
    )


def test_what_is_said_of_a_trusted_model_speaks_for_it() -> None:
    def reasons(least: Verdict) -> tuple[str, ...]:
        told = (
            (Bearing.OPEN, Verdict.TRUST, "it withstands"),
            (Bearing.FOR, Verdict.TRUST, "it is right"),
            (Bearing.OPEN, least, "something"),
        )
        found = [
            ("", Finding(kind=text, model="m", ruling=Ruling(bearing, cap), text=text))
            for bearing, cap, text in told
        ]
        plan = make_plan({"models": ["m"], "data": "d", "rules": {"required": []}}, installed())
        (standing,) = stand(["m"], found, plan)
        return standing.reasons

    assert reasons(Verdict.TRUST) == ("it is right",)
    assert reasons(Verdict.WITH_CARE) == ("something",)


def test_a_model_that_only_lacks_a_required_finding_has_that_for_a_reason() -> None:
    def stands(required: list[str], *kinds: str) -> tuple[str, tuple[str, ...]]:
        good = Ruling(Bearing.FOR, Verdict.TRUST)
        found = [("", Finding(kind=kind, model="m", ruling=good, text="good")) for kind in kinds]
        said = {"models": ["m"], "data": "d", "rules": {"required": required}}
        (standing,) = stand(["m"], found, make_plan(said, installed()))
        return standing.verdict, standing.reasons

    usual = ["accuracy", "certified_accuracy"]
    verdict, (reason,) = stands(usual, "accuracy")
    assert verdict == "with care"
    assert "nothing speaks for it as to certified accuracy, which a model needs" in reason
    assert stands(usual, *usual) == ("trust within limits", ("good", "good"))
    verdict, (reason,) = stands(usual)
    assert verdict == "too little evidence to say" and "accuracy and certified accuracy" in reason
    assert stands([])[1] == (
        "Nothing was found against `m`, and the plan asks for nothing that speaks for it.",
    )


def test_notes_do_not_change_a_verdict() -> None:
    plain = audit({"m": audited.net()}, audited.data(), {"limit": 0}, sections=[Accuracy()])
    assert plain.standings[0].verdict
    assert not [f for f in plain.findings if f.kind == "model_note"]
