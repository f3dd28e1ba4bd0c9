"""What is said of all models together, and of a model as it came."""

from __future__ import annotations

import audited
import pytest

from conjoin.audit import audit
from conjoin.audit.manifest import ranking
from conjoin.audit.plan import make_plan
from conjoin.audit.schema import Standing
from conjoin.audit.section import Records
from conjoin.audit.sections import installed
from conjoin.audit.sections.accuracy import Accuracy, Record
from conjoin.audit.statistics import share
from conjoin.core.result import Evidence

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


def test_notes_do_not_change_a_verdict() -> None:
    plain = audit({"m": audited.net()}, audited.data(), {"limit": 0}, sections=[Accuracy()])
    assert plain.standings[0].verdict
    assert not [f for f in plain.findings if f.kind == "model_note"]
