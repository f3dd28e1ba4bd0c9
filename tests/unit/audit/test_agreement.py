"""Methods are compared with each other and with themselves once the weights are gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from audited import Echo, contents, data, net
from scipy import stats

from conjoin.attribution import integrated_gradients, saliency
from conjoin.audit import AuditResult, Pool, audit
from conjoin.audit.finding import Bearing, Verdict
from conjoin.audit.rules import Rules, disagree, unmoved
from conjoin.audit.sections.accuracy import Accuracy
from conjoin.audit.sections.explain import Explain, compared
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard
from conjoin.core.quantity import predicted
from conjoin.core.run import attribute
from conjoin.errors import CapabilityError

SECTIONS = (Accuracy(), Explain())
METRICS = ["RankStability", "ModelRandomisation", "RandomLogit"]


def plan(*methods: Any, **settings: Any) -> dict[str, Any]:
    own = {"methods": list(methods), "metrics": METRICS, **settings}
    return {"limit": 0, "shown": 4, "scored": 20, "explain": own}


def found(folder: Path, *methods: Any, **more: Any) -> AuditResult:
    return audit({"m": net()}, data(), plan(*methods), folder=folder, sections=SECTIONS, **more)


def test_two_methods_are_compared_by_the_ranks_of_their_maps() -> None:
    methods = {"a": saliency(), "b": integrated_gradients(), "c": Echo()}
    made = compared(Subject("m", net()), Shard(0, data(9), (1,)), methods, 3)
    assert sorted(made) == ["a and b", "a and c", "b and c", "shown"]
    one, other = (
        attribute(net(), data(9), method, seed=3, target=predicted).values
        for method in (saliency(), integrated_gradients())
    )
    wanted = [stats.spearmanr(p, q).statistic for p, q in zip(one, other, strict=True)]
    assert made["a and b"].tolist() == pytest.approx(wanted, abs=1e-6)


def test_what_does_not_apply_is_left_out_and_one_alone_is_not_compared() -> None:
    from conjoin.attribution import gradcam

    subject, shard = Subject("m", net()), Shard(0, data(9))
    methods = {"a": saliency(), "b": gradcam(), "c": Echo()}
    assert set(compared(subject, shard, methods, 0)) == {"shown", "a and c"}
    with pytest.raises(CapabilityError, match="no two of the methods apply"):
        compared(subject, shard, {"a": saliency(), "b": gradcam()}, 0)


def test_the_mean_agreement_leaves_out_what_is_shown(tmp_path: Path) -> None:
    result = found(tmp_path, "saliency", "integrated_gradients")
    (told,) = result.run.sections["explain"].models["m"]["agreements"]
    rows = [r for r in result.table("explain").to_pylist() if r["key"] == "methods compared"]
    own = [r["saliency and integrated_gradients"] for r in rows if not r["shown"]]
    assert told["count"] == len(own) < len(rows)
    assert told["correlation"]["value"] == pytest.approx(sum(own) / len(own), rel=1e-12)
    low, high = told["correlation"]["low"], told["correlation"]["high"]
    assert -1 <= low < told["correlation"]["value"] < high <= 1
    assert told["correlation"]["evidence"]["kind"] == "statistical"


def test_methods_that_disagree_are_a_finding_that_caps_nothing(tmp_path: Path) -> None:
    result = found(tmp_path, Echo(), Echo(-1.0), "saliency")
    (told,) = [f for f in result.findings if f.kind == "explanations_disagree"]
    assert told.numbers["correlation"].value == pytest.approx(-1)
    assert "audited:Echo factor=1.0 and audited:Echo factor=-1.0 disagree" in told.sentence
    assert (told.bearing, told.cap) == (Bearing.OPEN, Verdict.TRUST.words)
    assert "the lowest of 2 such pairs" in told.sentence
    assert sorted(told.references) == ["adebayo2018", "krishna2024"]
    page = (tmp_path / "report.html").read_text()
    assert "Do the methods agree?" in page and "-1.000" in page


def test_a_method_that_does_not_notice_is_a_finding_against_it(tmp_path: Path) -> None:
    result = found(tmp_path, "saliency", Echo())
    kinds = {f.kind: f for f in result.findings if f.kind.endswith("unnoticed")}
    assert sorted(kinds) == ["class_unnoticed", "weights_unnoticed"]
    for told in kinds.values():
        assert told.sentence.startswith("Echo ") and "`m`" in told.sentence
        assert told.numbers["correlation"].value == pytest.approx(1)
        assert (told.bearing, told.cap) == (Bearing.OPEN, Verdict.TRUST.words)
        assert "against the method" in told.limits and "adebayo2018" in told.references


def test_a_method_that_notices_is_none(tmp_path: Path) -> None:
    result = found(tmp_path, "saliency")
    assert not [f for f in result.findings if f.kind.endswith("unnoticed")]
    scores = result.run.sections["explain"].models["m"]["scores"]
    assert {score["metric"] for score in scores} == {
        *("RankStability", "ModelRandomisation", "RandomLogit")
    }
    assert result.run.sections["explain"].models["m"]["agreements"] == []


def test_the_thresholds_are_rules_of_the_plan() -> None:
    rules = Rules()
    assert disagree(rules.agreement_floor, rules) is None
    assert disagree(rules.agreement_floor - 1e-9, rules) is not None
    assert unmoved(rules.sanity_ceiling, rules) is not None
    assert unmoved(rules.sanity_ceiling - 1e-9, rules) is None
    strict = Rules(agreement_floor=0.9, sanity_ceiling=0.1)
    assert disagree(0.8, strict) is not None and unmoved(0.2, strict) is not None


def test_every_executor_gives_the_same_bytes(tmp_path: Path) -> None:
    methods = ("saliency", "integrated_gradients", {"name": "smoothgrad", "draws": 3})
    layers = plan(*methods, layers=["hidden", "out"])
    for name, executor in {"here": None, "pool": Pool(2)}.items():
        audit(
            {"m": net()},
            data(),
            layers,
            folder=tmp_path / name,
            sections=SECTIONS,
            executor=executor,
        )
    assert contents(tmp_path / "here") == contents(tmp_path / "pool")
