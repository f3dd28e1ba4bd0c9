"""Attacked explanations in the audit: what moves, what cannot, what is proved, and what is said."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import audited
import pytest
import torch
from audited import Net, data
from torch import Tensor, nn

from conjoin.attribution import saliency
from conjoin.audit import AuditResult, audit
from conjoin.audit.finding import Bearing, Finding, Verdict
from conjoin.audit.rules import Rules, unmovable
from conjoin.audit.schema import Unit, number
from conjoin.audit.sections.accuracy import Accuracy
from conjoin.audit.sections.boundary import Boundary
from conjoin.audit.sections.boundary import task as tasks
from conjoin.audit.sections.boundary.findings import movable
from conjoin.audit.sections.boundary.record import Moved, Record
from conjoin.audit.sections.boundary.task import Question, attacked, imagined, located, proved
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard
from conjoin.core.ball import L2, Linf
from conjoin.core.dataset import Dataset, Feature
from conjoin.core.evidence import Evidence
from conjoin.core.random import Streams
from conjoin.core.run import predict
from conjoin.errors import CapabilityError, SoundnessError
from conjoin.metrics.certified import Smoothing
from conjoin.models.torch import TorchModel

PLAN: dict[str, Any] = {
    **audited.PLAN,
    "threats": ["linf:0.2", "l2:0.2"],
    "boundary": {"examples": 10, "draws": 4000, "scale": 2.0},
}


def straight() -> nn.Linear:
    """A network without a kink: its gradient is the same everywhere."""
    net = nn.Linear(6, 3)
    net.weight.data, net.bias.data = torch.eye(3, 6) + 0.1, torch.zeros(3)
    return net


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[AuditResult, Path]:
    folder = tmp_path_factory.mktemp("withstood") / "run"
    models = {"kinked": Net(0), "straight": straight()}
    return audit(models, data(), PLAN, folder=folder, sections=(Accuracy(), Boundary())), folder


def told(found: tuple[AuditResult, Path], model: str) -> dict[str, Any]:
    section = found[0].run.sections["boundary"]
    assert not section.failed and not section.lacks
    return section.models[model]


def test_of_a_straight_network_nothing_moves(found: tuple[AuditResult, Path]) -> None:
    record = told(found, "straight")
    assert [one["threat"] for one in record["moved"]] == ["linf:0.2", "l2:0.2"]
    for one in record["moved"]:
        assert one["cosine"]["value"] == pytest.approx(1, abs=1e-5)
        assert one["top"]["value"] == 1 and one["kept"] == one["count"] > 0
    assert record["geometry"]["normal"]["value"] == pytest.approx(1, abs=1e-5)
    assert record["geometry"]["found"] == record["geometry"]["count"]


def test_the_map_of_a_kinked_network_moves(found: tuple[AuditResult, Path]) -> None:
    first = told(found, "kinked")["moved"][0]
    assert first["cosine"]["value"] < 0.99
    assert first["cosine"]["bound"] == "upper" and first["shift"]["bound"] == "lower"
    assert first["cosine"]["evidence"]["kind"] == "empirical"


def test_shown_examples_count_in_no_mean(found: tuple[AuditResult, Path]) -> None:
    rows = [r for r in found[0].table("boundary").to_pylist() if r["key"].startswith("attacked")]
    own = [r["cosine"] for r in rows if r["model"] == "kinked" and "linf" in r["key"]]
    mean = [
        r["cosine"]
        for r in rows
        if r["model"] == "kinked" and "linf" in r["key"] and not r["shown"]
    ]
    assert len(own) > len(mean) > 0
    first = told(found, "kinked")["moved"][0]
    assert first["count"] == len(mean)
    assert first["cosine"]["value"] == pytest.approx(sum(mean) / len(mean), abs=1e-6)


def test_the_certificate_stands_below_the_attack(found: tuple[AuditResult, Path]) -> None:
    (proof,) = told(found, "straight")["proved"]
    assert 0 < proof["cosine"]["value"] <= proof["attacked"]["value"] <= 1
    assert proof["threat"] == "l2:0.2" and proof["joint"]["bound"] == "lower"
    said = [f.sentence for f in found[0].run.findings if f.kind == "explanation_certified"]
    assert len(said) >= 1 and "`straight`" in " ".join(said)


def test_a_smaller_share_is_said(tmp_path: Path) -> None:
    plan = {**PLAN, "threats": ["linf:0.2"], "boundary": {"examples": 10, "share": 0.25}}
    models = {"straight": straight()}
    result = audit(models, data(), plan, folder=tmp_path, sections=(Accuracy(), Boundary()))
    (one,) = result.run.sections["boundary"].models["straight"]["moved"]
    assert one["eps"] == pytest.approx(0.05) and one["part"] == 0.25
    (said,) = (f.sentence for f in result.run.findings if f.kind == "explanation_attacked")
    assert "within linf:0.2 (eps 0.05)" in said
    assert "within 25" not in said and "25 % of" in (tmp_path / "report.html").read_text()


def moved(top: float) -> Moved:
    made = number(top, Evidence.empirical("an attack"), unit=Unit.SHARE)
    return Moved(
        explanation="saliency", threat="linf:0.1", part=1.0, eps=0.1, cosine=made, top=made,
        rank=made, shift=made, kept=9, count=9,
    )  # fmt: skip


def findings(**tops: float) -> dict[str | None, Finding]:
    records = {
        name: Record(geometry=None, moved=(moved(top),), proved=(), refused={})
        for name, top in tops.items()
    }
    return {f.model: f for f in movable(records, Rules(), {"saliency": "saliency"})}


def test_where_the_same_method_holds_elsewhere_the_model_is_at_fault() -> None:
    both = findings(bad=0.2, good=0.9)
    assert "evidence about the model, not about the method" in both["bad"].text
    assert "`good`" in both["bad"].text and both["bad"].numbers["other"].value == 0.9
    assert "evidence" not in both["good"].text
    alone = findings(bad=0.2, worse=0.1)
    assert not any("evidence" in f.text for f in alone.values())


@pytest.mark.parametrize(("top", "bearing"), [(0.5, Bearing.FOR), (0.49, Bearing.OPEN)])
def test_the_rule_caps_nothing(top: float, bearing: Bearing) -> None:
    ruling = unmovable(top, Rules())
    assert ruling.bearing is bearing and ruling.cap is Verdict.TRUST


def shard(x: Dataset) -> Shard:
    return Shard(0, x)


def test_a_table_has_no_angles() -> None:
    some = data().select(range(6))
    table = Dataset(some.x, some.y, features=tuple(Feature(f"c{i}") for i in range(6)))
    with pytest.raises(CapabilityError, match="units of their own"):
        located(Subject("m", TorchModel(Net())), shard(table), (0.0, 1.0), 0)


def test_a_smooth_network_is_attacked_itself() -> None:
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
    subject = Subject("smooth", TorchModel(net))
    made = attacked(subject, shard(data()), saliency(), Question(Linf(0.3), 0))
    assert float(made["cosine"].mean()) < 0.9999 and bool(made["kept"].all())


def test_a_certificate_that_an_attack_refutes_ends_the_audit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject, some = Subject("m", TorchModel(Net(0))), shard(data().select(range(8)))
    told = tasks.certified_explanation

    def boasting(*args: Any, **named: Any) -> Any:
        found = told(*args, **named)
        return SimpleNamespace(
            cosine=torch.ones_like(found.cosine), joint=found.joint, values=found.values,
            drift=torch.zeros_like(found.drift), error=torch.zeros_like(found.error),
        )  # fmt: skip

    monkeypatch.setattr(tasks, "_hopeless", lambda *args: False)
    monkeypatch.setattr(tasks, "certified_explanation", boasting)
    with pytest.raises(SoundnessError, match="SmoothGrad further than"):
        proved(subject, some, Question(L2(0.3), 0), 0.3, Smoothing(0.5, 50, 0.001))


def test_what_is_hopeless_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **named: Any) -> Tensor:
        raise AssertionError("drawn in vain")

    monkeypatch.setattr(tasks, "certified_explanation", never)
    subject = Subject("m", TorchModel(Net(0)))
    made = proved(subject, shard(data()), Question(L2(3.0), 0), 3.0, Smoothing(0.1, 100, 0.001))
    assert bool((made["proved"] == -1).all()) and not bool(made["joint"].any())


def test_no_examples_are_attacked_if_the_plan_says_so(tmp_path: Path) -> None:
    plan = {**PLAN, "boundary": {"examples": 0}}
    result = audit({"m": Net(0)}, data(), plan, folder=tmp_path, sections=(Accuracy(), Boundary()))
    assert "boundary.examples = 0" in result.run.sections["boundary"].lacks["m"]


def images(count: int = 9) -> Dataset:
    x = Streams.of(5, torch.arange(count)).uniform(1, 6, 6)
    return Dataset(x, torch.arange(count) % 3)


def looking() -> TorchModel:
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    for place, value in enumerate(net.parameters()):  # steep enough to outweigh the roughness
        value.data = 50 * Streams.of(4, torch.arange(1)).fold(place).normal(*value.shape)[0]
    return TorchModel(net)


def test_a_picture_raises_the_class_of_the_label_and_keeps_to_the_range() -> None:
    model, data = looking(), images()
    some = Shard(0, data, (1, 4, 5))
    made = imagined(Subject("m", model), some, (0.0, 1.0), 40, 0)["imagined"]
    assert made.shape == (3, 1, 6, 6)
    assert float(made.min()) >= 0 and float(made.max()) <= 1
    even = Dataset(torch.full((3, 1, 6, 6), float(data.x.mean())), data.y[[1, 4, 5]])
    before, after = (predict(model, Dataset(x, even.y)) for x in (even.x, made))
    rows = torch.arange(3)
    assert bool((after[rows, even.y] > before[rows, even.y]).all())
    assert torch.allclose(made[0], made[1], atol=0.15)  # of one class, but for the attack's start


def test_pictures_are_of_images() -> None:
    with pytest.raises(CapabilityError, match="drawn of images"):
        imagined(Subject("m", TorchModel(Net())), Shard(0, data(), (0,)), (0.0, 1.0), 5, 0)


def test_units_are_attacked_if_the_plan_asks_for_it(tmp_path: Path) -> None:
    plan = {**PLAN, "threats": ["linf:0.2"], "boundary": {"examples": 10, "useful": 3}}
    models = {"deep": Net(0)}
    result = audit(models, data(), plan, folder=tmp_path, sections=(Accuracy(), Boundary()))
    (one,) = result.run.sections["boundary"].models["deep"]["useful"]
    assert one["units"] == 16 and 0 <= one["robust"] <= one["useful"] <= 16
    assert one["left"]["value"] < one["mean"]["value"] and one["left"]["bound"] == "upper"
    assert "robustly useful" in (tmp_path / "report.html").read_text()


def test_no_unit_is_attacked_by_default(found: tuple[AuditResult, Path]) -> None:
    assert told(found, "kinked")["useful"] == []


def test_maps_of_zeros_say_nothing(tmp_path: Path) -> None:
    flat = Net(0)
    flat.hidden.weight.data.zero_()
    models = {"flat": flat, "deep": Net(0)}
    plan = {**PLAN, "threats": ["linf:0.2"]}
    result = audit(models, data(), plan, folder=tmp_path, sections=(Accuracy(), Boundary()))
    assert result.run.sections["boundary"].models["flat"]["moved"] == []
    said = [f.sentence for f in result.run.findings if f.kind == "explanation_attacked"]
    assert len(said) == 1 and "flat" not in said[0]


def test_a_page_is_made_of_a_model_that_has_no_maps(tmp_path: Path) -> None:
    model = looking()
    model.module[1].weight.data.zero_()
    plan = {**PLAN, "shown": 3, "threats": ["linf:0.2"]}
    result = audit({"m": model}, images(), plan, folder=tmp_path, sections=(Accuracy(), Boundary()))
    assert result.run.sections["boundary"].models["m"]["moved"] == []
    page = (tmp_path / "report.html").read_text()
    assert "Side by side" in page and "before and after an attack" not in page
