"""The chapters are sections: each in one place, none in another's way, in whatever order."""

from __future__ import annotations

import itertools
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from conjoin.audit import AuditResult, Pool, audit
from conjoin.audit.schemas import plan_schema, run_schema
from conjoin.audit.section import Chapter, Section
from conjoin.audit.sections import SECTIONS, installed
from conjoin.audit.sections.accuracy import Accuracy
from conjoin.audit.sections.explain import Explain
from conjoin.audit.sections.region import Region
from conjoin.audit.sections.robustness import Robustness
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.evidence import Bounds, Claim
from conjoin.core.protocols import Batch
from conjoin.core.quantity import Quantity, margin
from conjoin.core.random import Streams
from conjoin.core.run import predict
from conjoin.core.threat import Threat
from conjoin.errors import PlanError, SoundnessError
from conjoin.models.torch import TorchModel
from integration.classwise import Classwise, Settings, Shares

# Few steps and nodes: what is tested here is the path, not the strength of the methods.
PGD = {"name": "PGD", "steps": 3, "step_size": 0.5}
PATH = {
    "name": "integrated_gradients",
    "baseline": 0.0,
    "quadrature": {"name": "Panels", "nodes": 4},
}
PLAN: dict[str, Any] = {
    "threats": ["linf:0.1", "l2:0.4"],
    "limit": 0,
    "shown": 3,
    "scored": 6,
    "robustness": {
        "rounds": 1,
        "attack": {
            "name": "WorstOf",
            "attacks": [{**PGD, "surrogate": "log_likelihood"}, PGD],
        },
        "search": PGD,
    },
    "diagnosis": {"examples": 8, "again": PGD},
    "boundary": {"examples": 6, "draws": 100},
    "resemblance": {"examples": 8},
    "explain": {"methods": [PATH, "saliency"]},
}


def pictures(count: int = 24) -> Dataset:
    """Pictures of three kinds, by where they are bright; a corner is marked."""
    index = torch.arange(count)
    y = index % 3
    x = 0.3 * Streams.of(5, index).uniform(1, 6, 6)
    for i in range(count):
        x[i, 0, 2 * y[i] : 2 * y[i] + 2] += 0.3
    corner = torch.zeros(1, 6, 6, dtype=torch.bool)
    corner[0, :2, :2] = True
    return Dataset(
        x, y, classes=("low", "middle", "high"), name="bands", regions={"corner": corner}
    )


class Bands(nn.Module):
    """Says which band is brightest, and a bit of what a dense layer says."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.flat, self.dense = nn.Flatten(), nn.Linear(36, 3)
        bands = torch.zeros(3, 6, 6)
        for k in range(3):
            bands[k, 2 * k : 2 * k + 2] = 1.0
        noise = Streams.of(seed, torch.arange(3)).normal(36)
        self.dense.weight.data = bands.flatten(1) + 0.3 * noise
        self.dense.bias.data = torch.zeros(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.flat(x))


def bands(seed: int = 1) -> TorchModel:
    return TorchModel(nn.Sequential(*Bands(seed).children()))


@dataclass(frozen=True)
class Outputs:
    """A model that gives outputs and nothing else."""

    inner: TorchModel

    @property
    def device(self) -> torch.device:
        return self.inner.device

    def __call__(self, batch: Batch, /) -> Tensor:
        with torch.no_grad():
            return self.inner(batch).detach()


@dataclass(frozen=True)
class Trusting:
    """A certifier that proves whatever is asked of it."""

    reference: ClassVar[str] = "gowal2018"

    def __call__(self, model: Any, batch: Batch, threat: Threat, quantity: Quantity, /) -> Bounds:
        value = quantity(model(batch), batch.aim).detach()
        return Bounds(value, Claim.SOUND_DEPLOYED, radius=torch.full_like(value, math.inf))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[AuditResult, Path]:
    folder = tmp_path_factory.mktemp("sections")
    models = {"first": bands(), "second": bands(2)}
    return audit(models, pictures(), PLAN, folder=folder / "run"), folder / "run"


def test_the_present_chapters_are_sections(found: tuple[AuditResult, Path]) -> None:
    result, folder = found
    names = [section.name for section in SECTIONS]
    first = ["accuracy", "robustness", "diagnosis", "certificates", "region", "explain"]
    assert names == [*first, "boundary", "resemblance"]
    assert list(result.run.sections) == names
    assert result.run.complete
    for name in names:
        record = result.run.sections[name]
        assert set(record.models) == {"first", "second"}, (name, record.failed, record.lacks)
        kind = Chapter.of(next(s for s in SECTIONS if s.name == name)).Record
        for told in record.models.values():
            assert kind.model_validate(told).model_dump(mode="json") == told
    page = (folder / "report.html").read_text()
    places = [page.index(f'<section id="{name}"') for name in names[1:]]
    assert places == sorted(places)


def test_a_pool_gives_the_same_rows(found: tuple[AuditResult, Path], tmp_path: Path) -> None:
    models = {"first": bands(), "second": bands(2)}
    result = audit(models, pictures(), PLAN, folder=tmp_path, executor=Pool(2))
    for section in SECTIONS:
        assert result.table(section.name).equals(found[0].table(section.name)), section.name
    told = [json.loads(r.run.model_dump_json())["sections"] for r in (result, found[0])]
    assert told[0] == told[1]


def test_every_number_of_a_section_carries_its_evidence(found: tuple[AuditResult, Path]) -> None:
    result, _ = found
    seen = []

    def look(part: object, where: str) -> None:
        if isinstance(part, dict):
            if "evidence" in part:
                assert part["evidence"]["kind"] and part["evidence"]["detail"], where
                seen.append(part["evidence"]["kind"])
            for key, value in part.items():
                look(value, f"{where}.{key}")
        elif isinstance(part, list):
            for value in part:
                look(value, where)

    look(json.loads(result.run.model_dump_json())["sections"], "")
    assert set(seen) == {"certified", "empirical", "statistical", "heuristic"}


def test_rows_tell_each_examples_verdict_and_why(found: tuple[AuditResult, Path]) -> None:
    result, _ = found
    rows = [row for row in result.table("robustness").to_pylist() if row["verdict"]]
    assert len(rows) == 2 * 2 * 24
    right = {
        (row["model"], row["id"]): row["margin"] > 0 for row in result.table("accuracy").to_pylist()
    }
    for row in rows:
        ok = right[row["model"], row["id"]]
        fell = not ok or row["distance"] <= row["eps"] * (1 + 1e-6)
        proved = row["lower"] > 0
        assert row["verdict"] == ("falsified" if fell else "certified" if proved else "unknown")
        assert row["reason"] and row["attacked_evidence"].startswith("empirical: WorstOf")
        assert row["certified_evidence"] == "certified: best of Lipschitz, Interval"
        assert row["radius"] <= row["distance"] * (1 + 1e-6)
    for model, record in result.run.sections["robustness"].models.items():
        for under in record["threats"]:
            own = [r["verdict"] for r in rows if (r["model"], r["key"]) == (model, under["threat"])]
            assert own.count("certified") == under["proved"]
            assert own.count("falsified") == under["falsified"] == 24 - under["standing"]
            assert under["robust"]["value"] == under["standing"] / 24


def test_scores_are_columns_by_method_and_leave_out_what_was_chosen_for_show(
    found: tuple[AuditResult, Path],
) -> None:
    result, _ = found
    table = result.table("explain")
    keys = sorted(set(table["key"].to_pylist()))
    assert [key.split()[0] for key in keys] == ["integrated_gradients", "methods", "saliency"]
    rows = [row for row in table.to_pylist() if row["key"] != "methods compared"]
    assert sum(row["shown"] for row in rows) == 2 * 2 * len(result.run.examples) > 0
    for score in result.run.sections["explain"].models["first"]["scores"]:
        own = [
            row[score["metric"]]
            for row in rows
            if (row["model"], row["key"]) == ("first", score["explanation"]) and not row["shown"]
        ]
        assert score["count"] == len(own)
        # The mean of a few numbers in single precision, taken in double.
        assert score["mean"]["value"] == pytest.approx(sum(own) / len(own), rel=1e-12)


OTHERS = ("robustness", "diagnosis", "explain", "boundary", "resemblance")
SMALL = {key: value for key, value in PLAN.items() if key not in OTHERS}


def test_a_new_section_is_one_short_file(tmp_path: Path) -> None:
    file = Path(__file__).parent / "classwise.py"
    assert len(file.read_text().splitlines()) <= 80
    data = pictures()
    plan = {**SMALL, "classwise": {"floor": 1.0}}
    result = audit({"m": bands()}, data, plan, folder=tmp_path, sections=[Accuracy(), Classwise()])
    made = result.run.sections["classwise"].models["m"]["classes"]
    assert set(made) == set(data.classes)
    outputs = predict(bands(), data, run=Run())
    for label, name in enumerate(data.classes):
        right = (margin(outputs, data.y) > 0)[data.y == label]
        assert made[name]["value"] == pytest.approx(float(right.double().mean()), abs=1e-12)
    assert 'href="#classwise">Class by class</a>' in (tmp_path / "report.html").read_text()
    weak = [f for f in result.findings if f.section == "classwise"]
    assert bool(weak) == any(value["value"] < 1 for value in made.values())
    assert any("few examples has a wide interval" in limit for limit in result.run.limits)


def test_a_new_section_comes_by_an_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "classwise-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: classwise\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[conjoin.sections]\nclasswise = integration.classwise:Classwise\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert [chapter.name for chapter in installed()][-1] == "classwise"
    plan = {**PLAN, "shown": 0, "scored": 0, "threats": ["linf:0.1"]}
    result = audit({"m": bands()}, pictures(), plan, folder=tmp_path / "run")
    assert list(result.run.sections) == [*(s.name for s in SECTIONS), "classwise"]
    assert result.run.plan["classwise"] == {"floor": 0.5}
    (info / "entry_points.txt").write_text("[conjoin.sections]\nclasswise = nowhere:Classwise\n")
    with pytest.raises(PlanError, match="'classwise' of nowhere:Classwise cannot be loaded"):
        installed()


ORDERS = [
    (Accuracy(), Classwise(), Region()),
    (Region(), Classwise(), Accuracy()),
    (Classwise(), Accuracy(), Region()),
]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: " ".join(s.name for s in order))
def test_all_that_follows_from_the_list_of_sections_follows_it(
    order: tuple[Section, ...], tmp_path: Path
) -> None:
    names = [section.name for section in order]
    result = audit({"m": bands()}, pictures(), SMALL, folder=tmp_path, sections=order)
    assert list(result.run.sections) == names
    assert [key for key in result.run.plan if key in names] == names
    page = (tmp_path / "report.html").read_text()
    assert re.findall(r"<nav.*?</nav>", page, re.S)[0].count("<a ") == 4 + len(names) - 1
    for place in (r'<a href="#(\w+)">', r'<section id="(\w+)">'):
        listed = [name for name in re.findall(place, page) if name in names]
        assert list(dict.fromkeys(listed)) == [n for n in names if n != "accuracy"]
    chapters = [Chapter.of(section) for section in order]
    assert [key for key in plan_schema(chapters)["properties"] if key in names] == names
    assert list(run_schema(chapters)["properties"]["sections"]["properties"]) == names
    # What was computed does not depend on where it stands.
    shares = Shares.model_validate(result.run.sections["classwise"].models["m"])
    assert [n.value for n in shares.classes.values()] == [
        n.value for n in _classwise().classes.values()
    ]


def _classwise() -> Shares:
    result = audit({"m": bands()}, pictures(), SMALL, sections=[Accuracy(), Classwise()])
    return Shares.model_validate(result.run.sections["classwise"].models["m"])


def test_schemas_of_all_sections_hold_together() -> None:
    chapters = [Chapter.of(section) for section in (*SECTIONS, Classwise())]
    for schema in (plan_schema(chapters), run_schema(chapters)):
        refs = set(re.findall(r'"#/\$defs/([^"]+)"', json.dumps(schema)))
        assert refs <= set(schema["$defs"])
    assert "floor" in json.dumps(plan_schema(chapters)) and Settings().floor == 0.5


def test_an_output_only_model_is_audited_as_far_as_it_goes(tmp_path: Path) -> None:
    models = {"open": bands(), "closed": Outputs(bands())}
    result = audit(models, pictures(), PLAN, folder=tmp_path)
    assert result.run.complete
    sections = result.run.sections
    assert set(sections["accuracy"].models) == set(sections["region"].models) == set(models)
    for name in ("robustness", "diagnosis"):  # by queries alone
        assert set(sections[name].models) == set(models)
    assert sections["robustness"].models["closed"]["queried"]
    assert not sections["robustness"].models["open"]["queried"]
    for name in ("certificates", "explain", "boundary"):
        assert set(sections[name].models) == {"open"}
        assert set(sections[name].lacks) == {"closed"}
        assert not sections[name].failed
        assert len(sections[name].lacks["closed"]) > 20, "it says what is missing"
    accuracy = sections["accuracy"].models
    assert accuracy["open"] == accuracy["closed"]
    page = (tmp_path / "report.html").read_text()
    assert page.count('class="lacks"') == 3
    standing = next(s for s in result.standings if s.model == "closed")
    assert standing.verdict != "trust within limits", "nothing was proved of it"


def test_data_without_a_region_say_so_once(tmp_path: Path) -> None:
    data = pictures()
    bare = Dataset(data.x, data.y, classes=data.classes, name="bare")
    models = {"first": bands(), "second": bands(2)}
    sections = [Accuracy(), Region(), Explain()]
    result = audit(
        models, bare, {**SMALL, "explain": PLAN["explain"]}, folder=tmp_path, sections=sections
    )
    assert set(result.run.sections["region"].lacks) == set(models)
    page = (tmp_path / "report.html").read_text()
    assert page.count("this data has no marked region") == 1
    metrics = {s["metric"] for s in result.run.sections["explain"].models["first"]["scores"]}
    assert not any("MassInside" in metric for metric in metrics) and len(metrics) == 6


class Constant(nn.Module):
    """Whatever it sees, it answers the same."""

    def forward(self, x: Tensor) -> Tensor:
        return 0 * x.flatten(1)[:, :3] + torch.tensor([0.0, 1.0, 0.0])


def test_maps_that_are_nothing_neither_change_nor_disagree(tmp_path: Path) -> None:
    plan = {**SMALL, "explain": {**PLAN["explain"], "metrics": ["RankStability"]}}
    models, sections = {"constant": Constant()}, [Accuracy(), Explain()]
    result = audit(models, pictures(), plan, folder=tmp_path, sections=sections)
    record = result.run.sections["explain"].models["constant"]
    assert record["scores"] and record["agreements"], "there is something to say nothing about"
    kinds = {finding.kind for finding in result.findings}
    assert not kinds & {"explanation_stability", "explanations_disagree"}


class Odd(nn.Module):
    """An activation that no certifier knows."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.erfinv(0.5 * torch.tanh(x))


def test_a_certifier_that_does_not_apply_is_said_and_the_rest_goes_on(tmp_path: Path) -> None:
    odd = TorchModel(nn.Sequential(*Bands(1).children(), Odd()))
    plan = {key: value for key, value in PLAN.items() if key not in OTHERS[1:]}
    result = audit(
        {"odd": odd, "plain": bands()},
        pictures(),
        plan,
        folder=tmp_path,
        sections=[Accuracy(), Robustness()],
    )
    told = result.run.sections["robustness"].models
    assert told["odd"]["certifiers"] == [] and set(told["odd"]["refused"]) == {
        "Lipschitz",
        "Interval",
    }
    assert told["plain"]["certifiers"] == ["Lipschitz", "Interval"] and not told["plain"]["refused"]
    assert all(under["proved"] == 0 for under in told["odd"]["threats"])
    nothing = [f for f in result.findings if f.kind == "certified_accuracy" and f.model == "odd"]
    assert len(nothing) == 2
    for finding in nothing:
        assert finding.sentence.startswith("Nothing is proved") and finding.bearing == "open"
        assert finding.references == ()


def test_findings_cite_what_was_used(found: tuple[AuditResult, Path]) -> None:
    result, _ = found
    by_kind: dict[str, set[tuple[str, ...]]] = {}
    for finding in result.findings:
        by_kind.setdefault(finding.kind, set()).add(finding.references)
    assert by_kind["certified_accuracy"] == {("leino2021", "gowal2018")}
    assert by_kind["attacked_accuracy"] == {("brendel2018", "croce2020", "madry2018")}


def test_only_the_best_threat_decides_whether_enough_is_proved(
    found: tuple[AuditResult, Path],
) -> None:
    result, _ = found
    for model, record in result.run.sections["robustness"].models.items():
        most = max(under["proved"] for under in record["threats"])
        caps = [
            f.cap for f in result.findings if f.kind == "certified_accuracy" and f.model == model
        ]
        assert caps.count("trust within limits") >= len(record["threats"]) - 1
        assert most >= 0


def test_a_certificate_that_an_attack_contradicts_stops_the_audit(tmp_path: Path) -> None:
    trusting = {**PLAN["robustness"], "certify": [f"{__name__}:Trusting"]}
    plan = {**PLAN, "threats": ["linf:0.3"], "robustness": trusting}
    with pytest.raises(SoundnessError, match="an attack succeeded inside a certified radius"):
        audit({"m": bands()}, pictures(), plan, folder=tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_every_fragment_renders_where_nothing_is_shown(tmp_path: Path) -> None:
    for shown, scored in itertools.product((0, 2), (0, 4)):
        plan = {**PLAN, "shown": shown, "scored": scored, "threats": ["linf:0.1"]}
        folder = tmp_path / f"{shown} {scored}"
        result = audit({"m": bands()}, pictures(8), plan, folder=folder)
        assert result.run.complete, {n: s.failed for n, s in result.run.sections.items()}
        assert (folder / "report.html").read_text().count("<img") >= (2 if shown else 0)
