"""A robust accuracy stands beside its verdict: in the audit, in an evaluation, in what is written."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import audited
import pytest
import torch
from conftest import examples, residual
from torch import Tensor, nn

from conjoin.attacks import FAB, PGD, HotFlip, RandomSearch, WorstOf
from conjoin.attacks.diagnosis import INDICATORS, Indicator, Level, diagnosed
from conjoin.audit import AuditResult, audit
from conjoin.audit.evaluation import compared, worst_case
from conjoin.audit.finding import Bearing, Verdict, written
from conjoin.audit.perform import page_again
from conjoin.audit.plan import make_plan
from conjoin.audit.rules import believed
from conjoin.audit.schema import Bound
from conjoin.audit.section import Chapter
from conjoin.audit.sections.accuracy import Accuracy
from conjoin.audit.sections.diagnosis import Diagnosis, Settings, _cross_check
from conjoin.audit.sections.diagnosis.task import AGAIN, STORY, Inquiry, examined, rival
from conjoin.audit.sections.robustness import Record as Swept
from conjoin.audit.sections.robustness import Robustness
from conjoin.audit.statistics import share
from conjoin.audit.store import Local
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard
from conjoin.core.ball import Linf
from conjoin.core.dataset import Dataset
from conjoin.core.evidence import NOT_DIAGNOSED, Evidence
from conjoin.core.passed_over import listening, pass_over
from conjoin.core.protocols import Batch
from conjoin.core.quantity import Asked, log_likelihood, predicted
from conjoin.core.result import AttackResult
from conjoin.core.run import attack, predict
from conjoin.errors import CapabilityError, DataError, PlanError, SoundnessError
from conjoin.models.torch import TorchModel

SECTIONS = (Accuracy(), Robustness(), Diagnosis())
WEAK = {"name": "PGD", "steps": 3, "step_size": 0.5}
FAINT = {"name": "PGD", "steps": 1, "step_size": 0.01}  # leaves what others break
STRONG = {"name": "PGD", "steps": 40, "step_size": 0.1}
SMALL: dict[str, Any] = {
    "limit": 0,
    "shown": 3,
    "threats": ["linf:0.05", "linf:0.2"],
    "robustness": {"rounds": 1, "attack": FAINT, "search": FAINT},
    "diagnosis": {
        "examples": 24,
        "again": STRONG,
        "skip": ["black box beats white box", "transfer"],
    },
}


SAID = {"linf:0.2": "red", "linf:0.05": "amber"}  # of the one threat, not of the other
OTHER = {"l2:9": "green"}


class Around(nn.Module):
    """A network with something round it."""

    def __init__(self, body: nn.Module, act: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.act = body, act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.body, x)


def rejecting(body: nn.Module, x: Tensor) -> Tensor:
    """A class more, for what is rougher than any example."""
    z = body(x)
    rough = (x[..., 1:] - x[..., :-1]).abs().mean((1, 2, 3))
    out = torch.cat([z, z.amin(1, keepdim=True) - 1], 1)
    away = torch.zeros_like(out)
    away[:, -1] = 100
    return torch.where(rough[:, None] > 0.15, away, out)


MASKED = {
    "healthy": ("green", set()),
    "loud": ("red", {"zero gradients of the cross-entropy", "saturated outputs"}),
    "rounded": ("red", {"zero gradients of the margin", "gradient against differences"}),
    "detector": ("red", {"black box beats white box"}),
    "trained": ("amber", {"training mode"}),
}
LOUD = {name for _, loud in MASKED.values() for name in loud} | {"random answers", "random points"}
QUIET = [name for name in INDICATORS if name not in LOUD]


@pytest.fixture(scope="module")
def masked(
    zoo: Callable[[str], TorchModel], sample: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[AuditResult, Path]:
    """Networks that hide something, and the same one as it is."""

    def around(act: Callable[[nn.Module, Tensor], Tensor]) -> nn.Module:
        return Around(copy.deepcopy(zoo("adversarial").module), act).eval()

    trained = nn.Sequential(nn.Dropout(0.2), copy.deepcopy(zoo("adversarial").module))
    trained.train()
    models = {
        "healthy": zoo("adversarial"),
        "loud": around(lambda body, x: 1000 * body(x)),
        "rounded": around(lambda body, x: body((16 * x).round() / 16)),
        "detector": around(rejecting),
        "trained": trained,
    }
    plan = {
        **SMALL,
        "threats": ["linf:0.1"],
        "robustness": {"rounds": 0},
        "diagnosis": {"examples": 50, "again": WEAK, "skip": QUIET},
    }
    folder = tmp_path_factory.mktemp("masked") / "run"
    data = sample.select(range(0, 1000, 18))
    return audit(models, data, plan, folder=folder, sections=SECTIONS), folder


@pytest.mark.parametrize("name", MASKED)
def test_what_hides_or_misleads_is_flagged_in_the_report(
    name: str, masked: tuple[AuditResult, Path]
) -> None:
    result, folder = masked
    verdict, loud = MASKED[name]
    (told,) = result.run.sections["diagnosis"].models[name]["threats"]
    (under,) = result.run.sections["robustness"].models[name]["threats"]
    assert told["verdict"] == under["verdict"] == under["robust"]["verdict"] == verdict
    assert loud <= {one["name"] for one in told["indicators"] if one["level"] != "green"}
    found = [f for f in result.findings if f.kind == "attacks_doubted" and f.model == name]
    assert len(found) == (verdict != "green")
    assert all(told["reasons"][0] in f.sentence for f in found)
    page = (folder / "report.html").read_text()
    assert f"({verdict})" in page
    assert all(f.bearing == ("against" if verdict == "red" else "open") for f in found)
    standing = next(s for s in result.standings if s.model == name)
    if verdict == "red":
        assert standing.verdict in {"do not trust", "too little evidence to say"}


def test_random_layers_are_refused_before_they_are_diagnosed(
    zoo: Callable[[str], TorchModel], sample: Dataset, tmp_path: Path
) -> None:
    noisy = Around(zoo("adversarial").module, lambda body, x: body(x + 0.1 * torch.randn_like(x)))
    with pytest.raises(Exception, match="is random"):
        audit({"noisy": noisy.eval()}, sample, SMALL, folder=tmp_path / "run", sections=SECTIONS)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[AuditResult, Path]:
    folder = tmp_path_factory.mktemp("doubted") / "run"
    models = {"m": audited.net(), "n": audited.net(3)}
    return audit(models, audited.data(), SMALL, folder=folder, sections=SECTIONS), folder


def test_the_record_says_what_the_rows_say(found: tuple[AuditResult, Path]) -> None:
    result, _ = found
    rows = result.table("diagnosis").to_pylist()
    swept = {(r["model"], r["key"], r["id"]): r for r in result.table("robustness").to_pylist()}
    more = 0
    for model, record in result.run.sections["diagnosis"].models.items():
        for told in record["threats"]:
            own = [r for r in rows if (r["model"], r["key"]) == (model, told["threat"])]
            assert len(own) == told["count"] == 24
            for one in told["indicators"]:
                assert one["points"] == [r["id"] for r in own if r[one["name"]]]
                assert (one["level"] == "green") or one["points"]
            audited_ = [swept[model, told["threat"], r["id"]] for r in own]
            stands = [s["verdict"] != "falsified" for s in audited_]
            assert told["reported"]["value"] == sum(stands) / 24
            left = sum(s and r["stands"] for s, r in zip(stands, own, strict=True))
            assert told["again"]["value"] == left / 24
            took = {again: 0 for again in (False, True)}
            for tier in told["tiers"]:
                took[tier["again"]] += tier["took"]
            stood = sum(r["stood"] for r in own)
            more += sum(stands) - left
            assert took[True] == stood - sum(r["stands"] for r in own)
            assert told["tiers"][0]["seen"] - took[False] == stood
            assert told["reported"]["verdict"] == told["verdict"]
            assert told["silent"].keys().isdisjoint(one["name"] for one in told["indicators"])
    assert more > 0, "the second attack breaks nothing, and this shows nothing"


def test_each_threat_has_its_own_verdict(found: tuple[AuditResult, Path]) -> None:
    result, _ = found
    for model, record in result.run.sections["diagnosis"].models.items():
        swept = result.run.sections["robustness"].models[model]["threats"]
        told = {t["threat"]: (t["verdict"], tuple(t["reasons"])) for t in record["threats"]}
        assert {u["threat"]: (u["verdict"], tuple(u["reasons"])) for u in swept} == told
    own = Swept.model_validate(result.run.sections["robustness"].models["m"])
    said = [SimpleNamespace(threat=t, verdict=v, reasons=(v,)) for t, v in (SAID | OTHER).items()]
    joined = Robustness().joined(own, {"diagnosis": SimpleNamespace(threats=said)})
    assert {u.threat: u.verdict for u in joined.threats} == SAID
    assert all(u.robust.verdict == u.verdict == u.reasons[0] for u in joined.threats)
    assert Robustness().joined(own, {}) == own


def test_the_sample_is_one_task_whatever_the_shards(
    found: tuple[AuditResult, Path], tmp_path: Path
) -> None:
    plan = {**SMALL, "shard": 8}
    models = {"m": audited.net()}
    other = audit(models, audited.data(), plan, folder=tmp_path / "run", sections=SECTIONS)
    told = [result.run.sections["diagnosis"].models["m"] for result in (other, found[0])]
    assert told[0] == told[1]
    rows = [
        [row for row in made.table("diagnosis").to_pylist() if row["model"] == "m"]
        for made in (other, found[0])
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("sections", [SECTIONS[:2], SECTIONS])
def test_a_report_that_diagnoses_nothing_says_so(sections: Any, tmp_path: Path) -> None:
    plan = {k: v for k, v in SMALL.items() if k != "diagnosis"}
    if len(sections) == 3:
        plan["diagnosis"] = {"examples": 0}
    folder = tmp_path / "run"
    result = audit({"m": audited.net()}, audited.data(), plan, folder=folder, sections=sections)
    assert result.run.complete
    for told in result.run.sections["robustness"].models["m"]["threats"]:
        assert told["verdict"] == told["robust"]["verdict"] == NOT_DIAGNOSED
    page = (folder / "report.html").read_text()
    assert page.count(f"({NOT_DIAGNOSED})") >= 4
    assert any(f"({NOT_DIAGNOSED})" in f.sentence for f in result.findings)
    if len(sections) == 3:
        assert "diagnosis.examples = 0" in result.run.sections["diagnosis"].lacks["m"]


def test_the_page_of_a_run_from_before_is_made_again(
    zoo: Callable[[str], TorchModel], tmp_path: Path
) -> None:
    plan = {**SMALL, "limit": 12, "threats": ["linf:0.1"], "diagnosis": {"examples": 0}}
    plan |= {"models": ["plain"], "data": "fashion_mnist"}
    from conjoin.audit.sources import load_data

    data, folder = load_data("fashion_mnist"), tmp_path / "run"
    audit({"plain": zoo("plain")}, data, plan, folder=folder, sections=SECTIONS)
    run = json.loads((folder / "run.json").read_text())
    run["schema_version"] = "2.0"
    run["plan"]["data"] = "fashion_mnist"
    run["sections"].pop("diagnosis")
    run["plan"].pop("diagnosis")
    for told in run["sections"]["robustness"]["models"]["plain"]["threats"]:
        for name in ("verdict", "reasons"):
            told.pop(name)
        told["robust"].pop("verdict")
    (folder / "run.json").write_text(json.dumps(run))
    page = page_again(Local(folder), [Chapter.of(section) for section in SECTIONS])
    assert 'id="robustness"' in page and 'id="diagnosis"' not in page


def test_what_stood_and_stands_no_more_is_told(found: tuple[AuditResult, Path]) -> None:
    before = torch.arange(41) != 5
    after = before & (torch.arange(41) > 3)
    assert rival(before, after).points == (0, 1, 2, 3) and rival(before, after).value == 0.1
    assert rival(before, after).level is Level.RED
    after[0] = True
    assert rival(before, after).level is Level.AMBER
    after[1] = True  # two may be chance
    assert rival(before, after).level is rival(before, before).level is Level.GREEN
    names = [
        one["name"]
        for record in found[0].run.sections["diagnosis"].models.values()
        for told in record["threats"]
        for one in told["indicators"]
    ]
    assert names.count(AGAIN) == 4


@dataclass(frozen=True)
class Closed:
    """A model that gives outputs and nothing else."""

    inner: TorchModel

    @property
    def device(self) -> torch.device:
        return self.inner.device

    def __call__(self, batch: Batch, /) -> Tensor:
        with torch.no_grad():
            return self.inner(batch).detach()


def test_without_a_gradient_what_applies_is_asked() -> None:
    inquiry = Inquiry(Linf(0.05), RandomSearch(5), PGD(3), tuple(INDICATORS), 0)
    subject = Subject("m", Closed(audited.net()))
    made = examined(subject, Shard(0, audited.data()), inquiry)
    story = json.loads(str(made[STORY]))
    assert {AGAIN, "zero gradients of the margin", "transfer"} <= set(story["silent"])
    asked = {one["name"] for one in story["indicators"]}
    assert {"random points", "random answers"} <= asked and not asked & set(story["silent"])
    assert torch.equal(made["stands"], made["stood"])


def test_red_is_no_evidence_and_amber_a_warning() -> None:
    red, amber, green = (believed(level) for level in (Level.RED, Level.AMBER, Level.GREEN))
    assert (red.bearing, red.cap) == (Bearing.AGAINST, Verdict.TOO_FEW)
    assert (amber.bearing, amber.cap) == (Bearing.OPEN, Verdict.WITH_CARE)
    assert (green.bearing, green.cap) == (Bearing.OPEN, Verdict.TRUST)


def test_a_second_attack_that_wins_where_a_certificate_holds_stops_the_audit() -> None:
    told = {"deployed": torch.tensor([True, False]), "lower": torch.tensor([0.1, 0.1])}
    _cross_check("m", "t", torch.tensor([math.inf, math.inf]).double(), told, 0.1)
    # Proved in real arithmetic only: at the very edge rounding may win.
    _cross_check("m", "t", torch.tensor([math.inf, 0.1], dtype=torch.float64), told, 0.1)
    with pytest.raises(SoundnessError, match="second attack"):
        _cross_check("m", "t", torch.tensor([0.1, math.inf], dtype=torch.float64), told, 0.1)
    told["lower"] = torch.tensor([-0.1, 0.1])
    _cross_check("m", "t", torch.tensor([0.05, math.inf]).double(), told, 0.1)


def test_a_plan_says_what_is_asked() -> None:
    chapters = [Chapter.of(section) for section in SECTIONS]
    said = {"models": ["m"], "data": "d"}
    usual = make_plan(said, chapters).of("diagnosis", Settings)
    assert set(usual.indicators) | set(usual.skip) == set(INDICATORS)
    every = make_plan({**said, "diagnosis": {"skip": []}}, chapters).of("diagnosis", Settings)
    assert every.indicators == tuple(INDICATORS)
    with pytest.raises(PlanError, match="no indicator 'more step'"):
        make_plan({**said, "diagnosis": {"skip": ["more step"]}}, chapters)
    assert make_plan(make_plan(said, chapters).told(), chapters) == make_plan(said, chapters)


def test_a_number_is_written_with_its_verdict() -> None:
    number = share(3, 4, 0.05, Evidence.empirical("PGD"), Bound.UPPER)
    assert written(number) == "75 %"
    assert written(number.model_copy(update={"verdict": "red"})) == "75 % (red)"


# An evaluation, and what the drivers return


def network(count: int = 24) -> tuple[TorchModel, Dataset]:
    model, data = residual(), examples(count)
    return model, replace(data, y=predict(model, data).argmax(1))


@dataclass(frozen=True, slots=True)
class Blind:
    """An attack that finds nothing."""

    reference: ClassVar[str] = "carlini2019"

    def __call__(self, model: Any, batch: Batch, threat: Any, quantity: Any) -> Tensor:
        return batch.x.clone()


def test_an_evaluation_is_not_diagnosed_until_somebody_asks(tmp_path: Path) -> None:
    model, data = network()
    for diagnose in (0, 16):
        found = worst_case(
            model, data, Linf(0.3), attack=Blind(), certifiers=(), seed=0, diagnose=diagnose
        )
        verdict = "red" if diagnose else NOT_DIAGNOSED
        assert found.verdict == verdict and f"({verdict};" in repr(found)
        assert found.numbers()["robust_accuracy"].verdict == verdict
        assert found.numbers()["clean_accuracy"].verdict is None
        assert (found.diagnosis is None) == (not diagnose)
        assert found.attacked().verdict == verdict and verdict in repr(found.attacked())
        found.save_robustbench(tmp_path / "entry.json", {})
        entry = json.loads((tmp_path / "entry.json").read_text())
        assert entry["unreliable"] == ("true" if diagnose else "unknown")
        assert f"Verdict on the number: {verdict}" in entry["footnote"]
        found.attacked().save(tmp_path / "found.safetensors")
        again = AttackResult.load(tmp_path / "found.safetensors")
        assert again.provenance == found.provenance
    assert found.diagnosis is not None
    assert all(f"red: {reason}" in str(found) for reason in found.provenance.reasons)
    assert found.diagnosis["random points"].level is Level.RED


def test_the_indicators_are_asked_about_the_evaluations_own_points() -> None:
    model, data = network()
    tiers = WorstOf((PGD(5), FAB(10)))
    found = worst_case(model, data, Linf(0.1), attack=tiers, certifiers=(), seed=0, diagnose=10)
    assert found.diagnosis is not None
    own = found.diagnosis.found
    assert len(own.clean) == 10
    places = [int((found.clean == value).nonzero()[0, 0]) for value in own.clean]
    assert places == sorted(places)
    assert torch.equal(own.success, ~found.standing[places])
    assert torch.equal(own.inputs, found.inputs[places])
    whole = worst_case(model, data, Linf(0.1), attack=tiers, certifiers=(), seed=0)
    assert torch.equal(whole.fell, found.fell)
    alone = attack(model, data, tiers, Linf(0.1), seed=0)
    assert torch.equal(alone.success, whole.attacked().success)
    assert torch.equal(alone.inputs[alone.success], whole.attacked().inputs[alone.success])
    assert alone.verdict == NOT_DIAGNOSED


def test_only_margins_of_labels_are_diagnosed() -> None:
    model, data = network(8)
    asked = Asked(log_likelihood, -1.0)
    for changed in ({"quantity": asked}, {"target": predicted}):
        with pytest.raises(PlanError, match="leave out diagnose"):
            worst_case(model, data, Linf(0.1), attack=PGD(3), seed=0, diagnose=4, **changed)
    for odd in (-1, True):
        with pytest.raises(PlanError, match="expected diagnose=64"):
            worst_case(model, data, Linf(0.1), attack=PGD(3), seed=0, diagnose=odd)


def test_a_model_that_is_never_right_has_nothing_to_diagnose() -> None:
    model, data = network(8)
    wrong = replace(data, y=(data.y + 1) % predict(model, data).shape[1])
    found = worst_case(model, wrong, Linf(0.1), attack=PGD(3), seed=0, diagnose=4)
    assert found.verdict == NOT_DIAGNOSED and "right on none of 4" in found.provenance.reasons[0]


def test_a_diagnosis_says_its_verdict_in_the_provenance_and_asks_what_it_is_told_to() -> None:
    model, data = network()
    told = diagnosed(
        model,
        data,
        Linf(0.3),
        seed=0,
        method=Blind(),
        indicators=("random points", "training mode"),
    )
    assert [one.name for one in told.indicators] == ["training mode", "random points"]
    assert told.found.verdict == told.verdict.word == "red"
    assert told.found.provenance.reasons == told.reasons
    with pytest.raises(PlanError, match="no indicator 'luck'"):
        diagnosed(model, data, Linf(0.3), seed=0, method=Blind(), indicators=("luck",))
    with pytest.raises(DataError, match="give those attacked"):
        diagnosed(model, data.select([0, 1]), Linf(0.3), seed=0, found=told.found)
    assert isinstance(told["random points"], Indicator)


def test_what_an_ensemble_passed_over_is_in_the_provenance() -> None:
    model, data = network(8)
    threat = Linf(0.05)  # no tokens: HotFlip does not apply
    found = attack(model, data, WorstOf((HotFlip(), PGD(3))), threat, seed=0)
    (said,) = found.provenance.passed_over
    assert said.startswith("HotFlip(") and "options(x)" in said
    assert attack(model, data, PGD(3), threat, seed=0).provenance.passed_over == ()
    inner = WorstOf((PGD(3), WorstOf((HotFlip(width=2), PGD(2)))))
    whole = worst_case(model, data, threat, attack=inner, certifiers=(), seed=0)
    assert len(whole.provenance.passed_over) == len(whole.refused) <= 1
    flat = worst_case(
        model, data, threat, attack=WorstOf((HotFlip(), PGD(3))), seed=0, certifiers=()
    )
    assert any(said.startswith("HotFlip(") for said in flat.provenance.passed_over)


def test_who_listens_outside_hears_what_is_said_within() -> None:
    assert pass_over("nobody listens", ValueError("so")) == "'nobody listens': so"
    with listening() as outer:
        with listening() as inner:
            pass_over("it", CapabilityError("is not there"))
            pass_over("it", CapabilityError("is not there"))
        pass_over("that", CapabilityError("neither"))
    assert list(inner) == ["'it': is not there"]
    assert list(outer) == ["'it': is not there", "'that': neither"]


def test_two_evaluations_that_aim_elsewhere_are_not_compared() -> None:
    model, data = network(8)
    shifted = replace(data, y=data.y.clone())
    own = worst_case(model, shifted, Linf(0.1), attack=PGD(3), certifiers=(), seed=0)

    def second(outputs: Tensor, labels: Tensor) -> Tensor:
        return torch.where(torch.arange(len(labels)) < 2, outputs.argsort(1)[:, -2], labels)

    other = worst_case(
        model, shifted, Linf(0.1), attack=PGD(3), certifiers=(), seed=0, target=second
    )
    same = worst_case(
        model, shifted, Linf(0.1), attack=PGD(3), certifiers=(), seed=0, target=predicted
    )
    with pytest.raises(DataError, match="aim at different classes at 2 of 8 points"):
        compared(own, other)
    assert compared(own, same).p_value == 1  # it is right everywhere: the aims are the labels
