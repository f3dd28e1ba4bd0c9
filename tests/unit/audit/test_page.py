"""The page: nothing from outside runs in it, and its order is that of the verdicts."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import audited
import pytest
import torch
from markupsafe import Markup

from conjoin.audit import AuditResult, audit
from conjoin.audit.finding import Bearing, Finding, Ruling, Verdict
from conjoin.audit.page import _grouped, bounded, code, interval
from conjoin.audit.schema import Bound, Number, Unit, number
from conjoin.audit.section import NoSettings
from conjoin.audit.sections.accuracy import Accuracy
from conjoin.audit.sections.region import Region
from conjoin.core.dataset import Dataset
from conjoin.core.evidence import Evidence
from conjoin.models.torch import TorchModel

HOSTILE = '"><script>alert(1)</script>{{ 7*7 }}'


class Tags(HTMLParser):
    """Which elements a page has, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


class Told:
    """A section whose findings are given; its models are judged by them."""

    name = "told"
    needs: tuple[type, ...] = ()
    Settings = NoSettings
    after = ("accuracy",)

    def __init__(self, *told: tuple[str, Verdict, Bearing]) -> None:
        self.told = told

    def tasks(self, plan: Any, subject: Any, shard: Any, /) -> tuple[()]:
        return ()

    def record(self, columns: Any, data: Any, /) -> NoSettings:
        return NoSettings()

    def findings(self, records: Any, /) -> list[Finding]:
        return [
            Finding(kind=f"kind {k}", model=model, ruling=Ruling(bearing, cap), text=f"Number {k}.")
            for k, (model, cap, bearing) in enumerate(self.told)
        ]

    def opening(self, records: Any, tensors: Any, /) -> str:
        return f"<p>first of all {', '.join(records)}</p>"

    def html(self, records: Any, tensors: Any, /) -> Markup:
        return Markup("<p>{}</p>").format(", ".join(records))


def page_of(folder: Path, models: dict[str, Any], *sections: Any) -> tuple[str, AuditResult]:
    plan = {**audited.PLAN, "rules": {"least_examples": 1, "required": []}}
    data = audited.data()
    data = data.labelled(audited.Net()(data.x).argmax(1))  # so that one network is right
    result = audit(models, data, plan, folder=folder, sections=[Accuracy(), *sections])
    return (folder / "report.html").read_text(), result


def test_what_comes_from_outside_is_escaped(tmp_path: Path) -> None:
    data = audited.data()
    named = Dataset(
        data.x,
        data.y,
        classes=(HOSTILE, "b", "c"),
        name=HOSTILE,
        regions={HOSTILE: torch.tensor([True] + [False] * 5)},
    )
    result = audit(
        {HOSTILE: audited.net(), "other": audited.net(1)},
        named,
        audited.PLAN,
        folder=tmp_path,
        sections=[Accuracy(), Region()],
    )
    assert result.run.complete
    page = (tmp_path / "report.html").read_text()
    tags = Tags(page)
    assert len(tags.of("script")) == 1
    assert "<script>alert" not in page and "alert(1)" in page
    assert "{{ 7*7 }}" in page
    for attributes in (a for _, a in tags.found):
        assert not any(name.startswith("on") for name in attributes)


def test_the_page_asks_nothing_of_any_network(tmp_path: Path) -> None:
    page, _ = page_of(tmp_path, {"m": audited.net()})
    tags = Tags(page)
    policy = next(m["content"] for m in tags.of("meta") if "http-equiv" in m)
    assert policy is not None and policy.startswith("default-src 'none'")
    for name, attributes in tags.found:
        for key in ("src", "href"):
            where = attributes.get(key)
            assert where is None or where.startswith(("#", "data:")), (name, where)


@pytest.mark.parametrize("count", [1, 3])
def test_one_model_is_asked_about_as_one(count: int, tmp_path: Path) -> None:
    models = {f"model {k}": audited.net(k) for k in range(count)}
    page, _ = page_of(tmp_path, models)
    title = "Do these models deserve trust?" if count > 1 else "Does this model deserve trust?"
    assert page.count(title) == 2
    assert ("Side by side" in page) == (count > 1)
    assert ('class="cards one"' in page) == (count == 1)
    assert f"{count} model{'s' if count > 1 else ''} on " in page


def test_everything_stands_best_first(tmp_path: Path) -> None:
    told = Told(
        ("bad", Verdict.DO_NOT_TRUST, Bearing.AGAINST),
        ("middle", Verdict.WITH_CARE, Bearing.OPEN),
        ("good", Verdict.TRUST, Bearing.FOR),
    )
    models = {name: TorchModel(audited.Net(0)) for name in ("bad", "good", "middle")}
    page, result = page_of(tmp_path, models, told)
    best = ["good", "middle", "bad"]
    assert [s.model for s in result.standings] == best
    assert [m.name for m in result.run.models] == best
    assert re.findall(r'<article class="card [a-z]+">\s*<h3>(\w+)</h3>', page) == best
    assert re.findall(r'<tr><th scope="row">(\w+)</th>', page)[:3] == best
    assert "<p>good, middle, bad</p>" in page
    assert "<p>first of all good, middle, bad</p>" in page
    findings = page[page.index('<section id="findings">') :]
    assert re.findall(r"<h3>(\w+) <span", findings) == best


def test_what_decided_stands_before_the_rest(tmp_path: Path) -> None:
    told = Told(
        ("m", Verdict.TRUST, Bearing.FOR),
        ("m", Verdict.WITH_CARE, Bearing.OPEN),
        ("m", Verdict.DO_NOT_TRUST, Bearing.AGAINST),
        ("m", Verdict.TRUST, Bearing.OPEN),
    )
    page, result = page_of(tmp_path, {"m": audited.net()}, told)
    (group,) = _grouped(result.run)
    assert [f.sentence for f in group.first if f.section == "told"] == ["Number 2."]
    kinds = [f.sentence for f in group.rest if f.section == "told"]
    assert kinds[0] == "Number 1." and set(kinds) == {"Number 0.", "Number 1.", "Number 3."}
    findings = page[page.index('<section id="findings">') :]
    assert (
        findings.index("Number 2.") < findings.index('class="rest"') < findings.index("Number 0.")
    )


def test_numbers_say_on_which_side_the_truth_lies() -> None:
    def some(bound: Bound, **interval_: float) -> Number:
        made = number(0.1234, Evidence.heuristic("x"), unit=Unit.SHARE, bound=bound)
        return made.model_copy(update=interval_)

    assert bounded(some(Bound.LOWER)) == "≥ 12.3 %"
    assert bounded(some(Bound.UPPER)) == "≤ 12.4 %"
    assert bounded(some(Bound.ESTIMATE)) == "12.3 %"
    assert "[10.0, 15.0]" in interval(some(Bound.LOWER, low=0.1, high=0.15))


def test_a_sentence_is_escaped_and_its_names_are_set_in_type() -> None:
    assert code("`<b>` is & was") == "<code>&lt;b&gt;</code> is &amp; was"


def test_an_auditor_finds_his_terms_where_there_is_evidence(tmp_path: Path) -> None:
    page, result = page_of(tmp_path / "with", {"m": audited.net()}, Told())
    (term,) = result.run.terms
    assert (term.section, term.standard) == ("accuracy", "NIST AI RMF")
    details = page[page.index('<section id="details">') :]
    assert "no statement of compliance" in details and '<th scope="row">MEASURE 2.5' in details
    page, result = page_of(tmp_path / "without", {"m": audited.net()}, Region())
    assert {t.section for t in result.run.terms} == {"accuracy"}, "there is no region"


def test_a_failed_section_says_so_once_for_all_that_failed_alike(tmp_path: Path) -> None:
    page, result = page_of(tmp_path, {"a": audited.net(), "b": audited.net(1)}, Region())
    assert set(result.run.sections["region"].lacks) == {"a", "b"}
    assert len(re.findall(r'class="lacks"><b>a, b</b>|class="lacks"><b>b, a</b>', page)) == 1
