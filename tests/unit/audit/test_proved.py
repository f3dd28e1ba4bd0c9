"""Constants, radii by class and tightness in the audit."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import audited
import pytest
import torch
from audited import Net, data
from torch import nn

from conjoin.audit import AuditResult, audit
from conjoin.audit.sections.accuracy import Accuracy
from conjoin.audit.sections.certificates import Certificates
from conjoin.audit.sections.certificates.task import constants
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard
from conjoin.core.run import predict
from conjoin.errors import CapabilityError, SoundnessError
from conjoin.models.torch import TorchModel

SECTIONS = (Accuracy(), Certificates())
LAYER = torch.tensor(
    [[1.0, 0, 0, 0, 0, 0], [0, 2.0, 0, 0, 0, 0], [0, 0, 2.0, 0, 0, 0]], dtype=torch.float32
)


def linear() -> nn.Linear:
    net = nn.Linear(6, 3)
    net.weight.data, net.bias.data = LAYER.clone(), torch.tensor([0.4, 0.0, 0.0])
    return net


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[AuditResult, Path]:
    folder = tmp_path_factory.mktemp("proved") / "run"
    models = {"linear": linear(), "deep": Net(0)}
    return audit(models, data(), audited.PLAN, folder=folder, sections=SECTIONS), folder


def record(found: tuple[AuditResult, Path], model: str) -> dict[str, Any]:
    section = found[0].run.sections["certificates"]
    assert not section.failed and not section.lacks
    return section.models[model]


def test_of_a_linear_network_the_constants_are_exact(found: tuple[AuditResult, Path]) -> None:
    told = record(found, "linear")
    apart = [[0, math.sqrt(5), math.sqrt(5)], [math.sqrt(5), 0, math.sqrt(8)]]
    assert told["pairs"][0] == pytest.approx(apart[0], rel=1e-9)
    assert told["pairs"][1] == pytest.approx(apart[1], rel=1e-9)
    assert told["tightness"]["value"] == pytest.approx(1, abs=1e-5)
    assert told["inner"]["value"] == 1 and told["inner"]["bound"] == "upper"


def test_radii_are_the_distances_to_the_planes(found: tuple[AuditResult, Path]) -> None:
    told = {one["label"]: one for one in record(found, "linear")["classes"]}
    some, net = data(), linear()
    with torch.no_grad():
        outputs = predict(TorchModel(net), some).double()
    apart = (LAYER[:, None] - LAYER[None]).double().norm(dim=2)
    answer = outputs.argmax(1)
    away = (outputs.gather(1, answer[:, None]) - outputs) / apart[answer]
    away = away.scatter(1, answer[:, None], math.inf)
    for label, one in told.items():
        good = (some.y == label) & (answer == label)
        assert one["right"] == int(good.sum()) and one["count"] == int((some.y == label).sum())
        if one["right"]:
            radii = away[good].amin(1)
            assert one["radius"]["value"] == pytest.approx(float(radii.median()), rel=1e-3)
            counts = away[good].argmin(1).bincount(minlength=3)
            assert counts[one["competitor"]] == counts.max()
            assert one["share"] == pytest.approx(float(counts.max() / good.sum()))
        else:
            assert one["radius"]["value"] == 0 and one["competitor"] is None


def test_a_deep_network_is_less_steep_than_its_constant(found: tuple[AuditResult, Path]) -> None:
    told = record(found, "deep")
    assert 0 < told["tightness"]["value"] < 1
    assert told["tightness"]["bound"] == "lower"
    assert {layer["name"].split(".")[0] for layer in told["layers"]} >= {"hidden", "out"}
    page = (found[1] / "report.html").read_text()
    assert "What is proved, class by class" in page and "--share: 1.000" in page
    (said,) = (
        f.sentence for f in found[0].run.findings if f.model == "deep" and f.kind == "tightness"
    )
    assert f"{told['tightness']['value']:.3g} of what" in said


def test_a_gradient_beyond_the_constant_ends_the_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    from conjoin.audit.sections.certificates import task

    def steeper(*args: Any, **named: Any) -> Any:
        return SimpleNamespace(values=attribute(*args, **named).values * 3)

    attribute = task.attribute
    monkeypatch.setattr(task, "attribute", steeper)
    with pytest.raises(SoundnessError, match="times as steep"):
        constants(Subject("m", TorchModel(linear())), Shard(0, data()))


def test_an_unknown_layer_is_refused() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = linear()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(x * x.sum(1, keepdim=True))

    with pytest.raises(CapabilityError):
        constants(Subject("m", TorchModel(Odd())), Shard(0, data()))


def test_no_examples_if_the_plan_says_so(tmp_path: Path) -> None:
    plan = {**audited.PLAN, "certificates": {"examples": 0}}
    result = audit({"m": Net(0)}, data(), plan, folder=tmp_path, sections=SECTIONS)
    assert "certificates.examples = 0" in result.run.sections["certificates"].lacks["m"]


def test_of_one_class_none_is_least(tmp_path: Path) -> None:
    some = data()
    some = some.select((some.y == 1).nonzero()[:, 0])
    result = audit({"m": Net(0)}, some, audited.PLAN, folder=tmp_path, sections=SECTIONS)
    (said,) = (f.sentence for f in result.run.findings if f.kind == "tightness")
    assert "least" not in said and said.endswith("constant allows.")
