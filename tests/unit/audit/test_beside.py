"""Which models behave alike: each two once, and the nearest of all is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import audited
import pytest
import torch
from audited import Net, data
from torch import Tensor, nn

from conjoin.audit import AuditResult, audit
from conjoin.audit.sections.accuracy import Accuracy
from conjoin.audit.sections.resemblance import Resemblance
from conjoin.audit.sections.robustness import Robustness
from conjoin.core.run import predict
from conjoin.metrics.resemblance import error_consistency
from conjoin.models.torch import TorchModel

WEAK = {"name": "PGD", "steps": 3, "step_size": 0.5}
SMALL: dict[str, Any] = {**audited.PLAN, "threats": ["linf:0.05"], "resemblance": {"examples": 24}}
PLAN = {**SMALL, "robustness": {"rounds": 0, "attack": WEAK, "search": WEAK}}


MODELS = {"one": Net(0), "copy": Net(0), "other": Net(3)}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[AuditResult, Path]:
    folder = tmp_path_factory.mktemp("beside") / "run"
    sections = (Accuracy(), Robustness(), Resemblance())
    return audit(MODELS, data(), PLAN, folder=folder, sections=sections), folder


def pairs(result: AuditResult) -> dict[frozenset[str], dict[str, Any]]:
    told = result.run.sections["resemblance"].models
    return {frozenset((m, p["other"])): p for m, r in told.items() for p in r["pairs"]}


def test_each_two_are_compared_once(found: tuple[AuditResult, Path]) -> None:
    told = found[0].run.sections["resemblance"]
    assert not told.failed and not told.lacks
    count = sum(len(record["pairs"]) for record in told.models.values())
    assert count == len(pairs(found[0])) == 3


def test_a_copy_is_alike_in_everything(found: tuple[AuditResult, Path]) -> None:
    pair = pairs(found[0])[frozenset(("one", "copy"))]
    for name in ("errors", "attacked", "explanations", "features"):
        assert pair[name]["value"] == pytest.approx(1, abs=1e-5), name


def test_the_nearest_model_is_named(found: tuple[AuditResult, Path]) -> None:
    said = {f.model: f.sentence for f in found[0].run.findings if f.kind == "resembles"}
    assert set(said) == set(MODELS)
    assert "most like `copy`" in said["one"] and "most like `one`" in said["copy"]


def test_the_numbers_are_those_of_the_models(found: tuple[AuditResult, Path]) -> None:
    pair = pairs(found[0])[frozenset(("one", "other"))]
    right = [predict(TorchModel(MODELS[m]), data()).argmax(1) == data().y for m in ("one", "other")]
    assert pair["errors"]["value"] == pytest.approx(error_consistency(*right))
    assert pair["explanations"]["value"] < 0.99 and pair["features"]["value"] < 0.99
    page = (found[1] / "report.html").read_text()
    assert f"<td>{pair['features']['value']:.2f}</td>" in page


def test_what_the_last_layer_gets_is_compared_and_not_the_input(tmp_path: Path) -> None:
    class Wide(nn.Module):
        def __init__(self, keep: int) -> None:
            super().__init__()
            self.keep, self.out = keep, nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(x[:, self.keep : self.keep + 3])

    models = {"low": Wide(0), "high": Wide(3)}
    with torch.no_grad():
        for net in models.values():
            net.out.weight.copy_(torch.eye(3))
            net.out.bias.zero_()
    result = audit(models, data(), SMALL, folder=tmp_path, sections=(Accuracy(), Resemblance()))
    (pair,) = pairs(result).values()
    assert abs(pair["features"]["value"]) < 0.4  # of independent inputs
    assert pair["attacked"] is None  # nothing was attacked
    assert not [f for f in result.run.findings if f.kind == "resembles"]  # of two, nothing to say


def test_no_examples_are_compared_if_the_plan_says_so(tmp_path: Path) -> None:
    plan = {**SMALL, "resemblance": {"examples": 0}}
    result = audit(MODELS, data(), plan, folder=tmp_path, sections=(Accuracy(), Resemblance()))
    assert not pairs(result)
    assert 'id="resemblance"' not in (tmp_path / "report.html").read_text()
