"""The audit from a plan to its folder: complete, consistent, and the same however it is run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jaxtyping
import jsonschema
import numpy as np
import pytest
import torch
from conftest import batch_of
from pyarrow import parquet
from safetensors.torch import load_file, save_file

from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Event
from conjoin.core.quantity import margin
from conjoin.core.result import Bounds, Claim
from conjoin.core.run import Run as RunOptions
from conjoin.core.run import predict
from conjoin.errors import SoundnessError
from conjoin.models.wrap import wrap
from conjoin.report import audit as audit_module
from conjoin.report.plan import AuditPlan, CertifySection, make_plan, read_plan
from conjoin.report.produce import FILES, audit
from conjoin.report.render import render_folder
from conjoin.report.schema import Run
from conjoin.report.sources import Subject, draw, load_data, load_subject
from conjoin.report.workspace import Workspace
from integration.conftest import SMALL, carded, results

EVIDENCE = {"certified", "statistical", "empirical", "heuristic"}


@pytest.fixture(scope="module")
def run(finished: Path) -> dict[str, Any]:
    return json.loads((finished / "run.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def rows(finished: Path) -> list[dict[str, Any]]:
    return parquet.read_table(finished / "rows" / "examples.parquet").to_pylist()


@pytest.fixture(scope="module")
def data(plan: AuditPlan) -> Dataset:
    return draw(load_data(plan.data), plan.limit, plan.seed)


@pytest.fixture(scope="module")
def subjects(plan: AuditPlan) -> dict[str, Subject]:
    return {s.name: s for s in map(load_subject, plan.models)}


def of(rows: list[dict[str, Any]], model: str, threat: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["model"] == model and row["threat"] == threat]


def combinations(run: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(m, t) for m in run["models"] for t in m["threats"]]


# The folder


def test_the_folder_holds_what_it_says_and_nothing_else(
    finished: Path, run: dict[str, Any]
) -> None:
    promised = {name.replace("MODEL", model) for name in FILES for model in ("plain", "ridge")}
    found = {p.relative_to(finished).as_posix() for p in finished.rglob("*") if p.is_file()}
    assert found == promised
    assert run["files"] == FILES


def test_the_record_follows_its_own_json_schema(run: dict[str, Any]) -> None:
    schema = Run.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(run, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**run, "more": 1}, schema)
    assert Run.model_validate(run).model_dump(mode="json") == run, "nothing is lost on the way"


def test_the_plan_in_the_folder_repeats_the_run(
    finished: Path, run: dict[str, Any], plan: AuditPlan
) -> None:
    written = make_plan(read_plan(finished / "plan.toml"))
    assert written == plan
    assert run["plan_sha256"] == plan.fingerprint() and run["plan"] == plan.model_dump(mode="json")


def test_the_report_is_small_and_can_be_made_again(finished: Path) -> None:
    text = (finished / "report.html").read_text(encoding="utf-8")
    assert len(text.encode()) < 5_000_000
    assert render_folder(finished) == text


def test_no_file_of_results_is_a_pickle(finished: Path) -> None:
    for path in finished.rglob("*"):
        if path.is_file():
            assert path.read_bytes()[:1] != b"\x80" and path.read_bytes()[:4] != b"PK\x03\x04"


# The numbers


def test_every_number_carries_its_class_of_evidence(run: dict[str, Any]) -> None:
    seen: Counter[str] = Counter()

    def walk(part: object, place: str) -> None:
        if isinstance(part, dict):
            if "value" in part:
                assert part["evidence"]["kind"] in EVIDENCE, place
                seen[part["evidence"]["kind"]] += 1
            for name, inner in part.items():
                walk(inner, f"{place}.{name}")
        elif isinstance(part, list):
            for k, inner in enumerate(part):
                walk(inner, f"{place}[{k}]")

    for name in ("models", "findings", "examples"):
        walk(run[name], name)
    assert set(seen) == EVIDENCE
    for model, threat in combinations(run):
        assert model["clean_accuracy"]["evidence"]["kind"] == "statistical"
        assert threat["robust_accuracy"]["evidence"]["kind"] == "empirical"
        assert threat["certified_accuracy"]["evidence"]["kind"] == "certified"
        assert threat["curve"]["attacked_evidence"]["kind"] == "empirical"
        assert threat["curve"]["certified_evidence"]["kind"] == "certified"


def test_bounds_are_never_mixed_up(run: dict[str, Any]) -> None:
    for model, threat in combinations(run):
        clean, upper = model["clean_accuracy"], threat["robust_accuracy"]
        lower = threat["certified_accuracy"]
        assert 0 <= lower["value"] <= upper["value"] <= clean["value"] <= 1
        for n in (clean, upper, lower):
            assert n["low"] <= n["value"] <= n["high"]
        curve = threat["curve"]
        for a, b in zip(curve["certified"], curve["attacked"], strict=True):
            assert a <= b


def test_the_small_run_shows_all_three_verdicts(rows: list[dict[str, Any]]) -> None:
    # Otherwise the tests below would hold for want of cases.
    counts = Counter(row["verdict"] for row in rows)
    assert set(counts) == {"certified", "falsified", "unknown"} and min(counts.values()) >= 3
    assert {row["model"] for row in rows if row["verdict"] == "certified"} == {"ridge"}


# The rows


def test_there_is_one_row_for_each_model_threat_and_example(
    rows: list[dict[str, Any]], data: Dataset, plan: AuditPlan
) -> None:
    assert len(rows) == 2 * 2 * 24
    keys = {(row["model"], row["threat"], row["id"]) for row in rows}
    assert keys == {(m, t, i) for m in ("plain", "ridge") for t in plan.threats for i in data.ids}
    known = dict(
        zip(data.ids, zip(data.positions.tolist(), data.y.tolist(), strict=True), strict=True)
    )
    assert all(known[row["id"]] == (row["index"], row["label"]) for row in rows)


def test_a_verdict_follows_from_its_row(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        right, eps = row["margin"] > 0, row["eps"]
        fell = row["distance_found"] is not None and row["distance_found"] <= eps * (1 + 1e-6)
        assert row["attacked"] == (not right or fell)
        assert (row["verdict"] == "falsified") == row["attacked"]
        proved = row["margin_lower_bound"] > 0
        assert not (proved and row["attacked"]), "no certified row is attacked"
        assert (row["verdict"] == "certified") == proved
        assert (row["prediction"] == row["label"]) or not right
        assert row["reason"]
        assert row["attacked_evidence"].startswith("empirical: ")
        assert "PGD(" in row["attacked_evidence"]
        assert row["certified_evidence"].startswith("certified: best of Lipschitz(), Interval()")


def test_certificate_attack_and_clean_value_are_in_order(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert row["margin_lower_bound"] <= row["margin"]
        assert 0 <= row["certified_radius"] <= 2 * row["eps"] * (1 + 1e-6)
        if row["distance_found"] is not None:
            assert row["certified_radius"] <= row["distance_found"] * (1 + 1e-5)
        if row["margin"] <= 0:
            assert row["certified_radius"] == 0 and row["distance_found"] == 0


def test_shares_and_counts_are_those_of_the_rows(
    run: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    for model, threat in combinations(run):
        part = of(rows, model["name"], threat["threat"])
        counts = Counter(row["verdict"] for row in part)
        assert [threat[v] for v in ("certified", "falsified", "unknown")] == [
            counts[v] for v in ("certified", "falsified", "unknown")
        ]
        assert model["clean_accuracy"]["value"] == sum(r["margin"] > 0 for r in part) / 24
        assert threat["robust_accuracy"]["value"] == sum(not r["attacked"] for r in part) / 24
        assert threat["certified_accuracy"]["value"] == counts["certified"] / 24


def test_scores_have_a_row_for_each_explained_example(finished: Path, run: dict[str, Any]) -> None:
    table = parquet.read_table(finished / "rows" / "scores.parquet").to_pylist()
    explained = len(load_file(finished / "tensors" / "examples.safetensors")["index"])
    metrics = {"deletion", "insertion", "rank_stability", "top_stability", "mass_in_region"}
    expected = {("saliency", m) for m in metrics} | {("integrated_gradients", m) for m in metrics}
    expected.add(("integrated_gradients", "completeness_gap"))
    for model in run["models"]:
        mine = [row for row in table if row["model"] == model["name"]]
        assert Counter((row["explanation"], row["metric"]) for row in mine) == dict.fromkeys(
            expected, explained
        )
        for score in model["scores"]:
            values = [
                row["value"]
                for row in mine
                if (row["explanation"], row["metric"]) == (score["explanation"], score["metric"])
            ]
            assert score["mean"]["value"] == pytest.approx(sum(values) / len(values), abs=1e-12)
            assert score["count"] == explained


# The tensors


def test_predictions_and_margins_are_the_models_own(
    rows: list[dict[str, Any]], data: Dataset, subjects: dict[str, Subject]
) -> None:
    for name, subject in subjects.items():
        outputs = predict(subject.model, data)
        values = margin(outputs, data.y).tolist()
        answers = outputs.argmax(1).tolist()
        for row in (r for r in rows if r["model"] == name):
            place = data.ids.index(row["id"])
            assert (row["prediction"], row["margin"]) == (answers[place], values[place])


def test_adversarial_inputs_lie_in_the_ball_and_fool_the_model(
    finished: Path,
    rows: list[dict[str, Any]],
    data: Dataset,
    plan: AuditPlan,
    subjects: dict[str, Subject],
) -> None:
    fooled = 0
    for name, subject in subjects.items():
        stored = load_file(finished / "tensors" / f"adversarial-{name}.safetensors")
        assert torch.equal(stored["index"], data.positions)
        for text, ball in plan.balls().items():
            z = stored[text]
            assert z.shape == data.x.shape and bool(((z >= 0) & (z <= 1)).all())
            assert bool(ball.at(ball.eps * plan.reach).contains(z, data.x).all())
            values = margin(predict(subject.model, Dataset(z, data.y)), data.y)
            distances = ball.distance(z, data.x)
            for row, value, distance in zip(of(rows, name, text), values, distances, strict=True):
                if row["distance_found"] is None:
                    assert distance == 0, "unchanged where nothing was found"
                    continue
                assert float(value) <= 0, "the model is fooled when asked again"
                assert float(distance) == pytest.approx(row["distance_found"], abs=1e-9)
                fooled += row["margin"] > 0
    assert fooled >= 20


def test_explanations_of_the_explained_inputs_can_be_recomputed(
    finished: Path, data: Dataset, subjects: dict[str, Subject], plan: AuditPlan
) -> None:
    examples = load_file(finished / "tensors" / "examples.safetensors")
    places = [data.positions.tolist().index(i) for i in examples["index"].tolist()]
    assert torch.equal(examples["x"], data.x[places]) and torch.equal(examples["y"], data.y[places])
    assert data.watched and torch.equal(examples["region"], data.region(data.watched))
    assert 5 <= len(places) <= 8 and len(set(places)) == len(places)
    for name, subject in subjects.items():
        maps = load_file(finished / "tensors" / f"attributions-{name}.safetensors")
        assert set(maps) == set(plan.explain.methods)
        x = examples["x"].clone().requires_grad_()
        out = subject.model(batch_of(x))
        chosen = out.argmax(1)
        picked = out.gather(1, chosen[:, None])[:, 0]
        (gradient,) = torch.autograd.grad(picked.sum(), x)
        torch.testing.assert_close(maps["saliency"], gradient, rtol=1e-4, atol=1e-6)
        black = subject.model(batch_of(torch.zeros_like(x))).gather(1, chosen[:, None])[:, 0]
        total = maps["integrated_gradients"].flatten(1).sum(1)
        # The secant panels sum to the change of the logit up to single-precision rounding.
        torch.testing.assert_close(total, (picked - black).detach(), rtol=1e-4, atol=1e-4)


def test_examples_shown_are_those_explained_first(finished: Path, run: dict[str, Any]) -> None:
    shown = [example["index"] for example in run["examples"]]
    stored = load_file(finished / "tensors" / "examples.safetensors")["index"].tolist()
    assert stored[: len(shown)] == shown and len(shown) == 3
    assert {e["chosen_for"] for e in run["examples"]} == {
        "all models are right",
        "a model is wrong",
        "near a decision boundary",
    }


# The same however it is run


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run at full speed, without the run-time type checks of the tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("case", ["convolutions", "linear"])
def test_results_are_the_same_for_any_batch_size(
    plan: AuditPlan, tmp_path: Path, case: str
) -> None:
    changes: dict[str, Any] = {"limit": 8, "models": plan.models[1:]}  # 8 = 7 + 1
    if case == "convolutions":
        changes |= {"models": plan.models[:1], "certify": CertifySection(methods=("interval",))}
    few = plan.model_copy(update=changes)
    for size in (128, 7, 1):
        folder = tmp_path / str(size)
        audit(few, Workspace.create(folder, few), batch_size=size)
    expected, files = results(tmp_path / "128")
    for size in (7, 1):
        record, content = results(tmp_path / str(size))
        assert record == expected, f"batches of {size}"
        assert sorted(content) == sorted(files)
        for name in files:
            assert content[name] == files[name], f"{name} in batches of {size}"


@pytest.fixture(scope="module")
def whole(ridge: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[AuditPlan, Path]:
    """A light plan of two models, and the folder of its uninterrupted run."""
    light = make_plan(
        {
            **SMALL,
            "models": ["plain", str(ridge)],
            "threats": ["linf:0.02", "l2:0.25"],
            "limit": 12,
            "certify": {"methods": ["interval"]},
        }
    )
    folder = tmp_path_factory.mktemp("whole") / "run"
    audit(light, Workspace.create(folder, light))
    return light, folder


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("events", [1, 5, 9])
def test_an_interrupted_run_goes_on_to_the_same_result(
    whole: tuple[AuditPlan, Path], tmp_path: Path, events: int
) -> None:
    plan, uninterrupted = whole
    seen: list[Event] = []

    def stop(event: Event) -> None:
        seen.append(event)
        if len(seen) == events:
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        audit(plan, Workspace.create(folder, plan), observe=stop)
    units = {p: p.stat().st_mtime_ns for p in (folder / "work").rglob("*.safetensors")}
    assert len(units) == events, "each finished unit is on disk"
    assert not (folder / "run.json").exists()

    kept: list[bool] = []

    def watch(event: Event) -> None:
        kept.append(all(p.stat().st_mtime_ns == time for p, time in units.items()))

    workspace, resumed = Workspace.resume(folder)
    assert resumed == plan
    audit(resumed, workspace, observe=watch)
    assert all(kept) and len(kept) == 10, "what was finished is not computed again"
    assert results(folder) == results(uninterrupted)


def test_progress_rises_to_its_end(plan: AuditPlan, tmp_path: Path) -> None:
    light = make_plan({**SMALL, "models": plan.models[1:], "threats": ["l2:0.1"], "limit": 130})
    events: list[Event] = []
    audit(light, Workspace.create(tmp_path / "run", light), observe=events.append)
    done = [event.done for event in events]
    assert done == sorted(done) and len(set(done)) == len(done)
    assert {event.total for event in events} == {done[-1]}
    assert len(events) == 2 * (1 + 1) + 2, "two shards of predictions and of attacks, two methods"


# Other shapes of input


def test_flat_data_without_a_region_or_explanations_can_be_audited(tmp_path: Path) -> None:
    x = torch.linspace(0, 1, 8 * 4).reshape(8, 4)
    np.savez(tmp_path / "d.npz", x=x.numpy(), y=np.array([0, 1] * 4))
    weights = {"0.weight": torch.eye(2, 4), "0.bias": torch.zeros(2)}
    save_file(weights, tmp_path / "flat.safetensors")
    card = carded(tmp_path, "flat", [{"kind": "linear", "inputs": 4, "outputs": 2}], (4,))
    none = {"methods": ["saliency"], "examples": 0, "scored": 0}
    for number, explain in enumerate((SMALL["explain"], none)):
        settings = {
            **SMALL,
            "models": [str(card)],
            "data": str(tmp_path / "d.npz"),
            "threats": ["l1:0.1", "linf:0"],
            "explain": explain,
        }
        plan = make_plan(settings)
        folder = tmp_path / f"run{number}"
        audit(plan, Workspace.create(folder, plan))
        record = json.loads((folder / "run.json").read_text())
        assert record["data"]["region"] is None and record["data"]["count"] == 8
        assert record["models"][0]["blanked_accuracy"] is None
        assert len(record["examples"]) == (3 if number == 0 else 0)
        assert len(parquet.read_table(folder / "rows" / "examples.parquet")) == 2 * 8
        assert "<img" not in (folder / "report.html").read_text()


def test_a_linear_model_is_proved_exactly_to_its_distance(
    finished: Path, rows: list[dict[str, Any]], subjects: dict[str, Subject], data: Dataset
) -> None:
    # In l2 without the box the distance to the boundary is the least margin over ‖w_y - w_k‖.
    layer = subjects["ridge"].model.module[1]  # type: ignore[attr-defined]
    weight = layer.weight.detach().double()
    outputs = predict(subjects["ridge"].model, data).double()
    for row in of(rows, "ridge", "l2:0.25"):
        if row["margin"] <= 0:
            continue
        place, y = data.ids.index(row["id"]), row["label"]
        gaps = outputs[place, y] - outputs[place]
        lengths = (weight[y] - weight).norm(dim=1)
        others = [k for k in range(10) if k != y]
        distance = float((gaps[others] / lengths[others]).min())
        step = 0.5 / 2**12  # the bisection's resolution
        # The rounding of both logits at x and at the worst point is covered: γ (‖w‖ ‖z‖), four times.
        both = (weight[y].norm() + weight.norm(dim=1)) * (data.x[place].double().norm() + 0.5)
        slack = float((2 * 790 * 2**-24 * both / lengths)[others].max())
        expected = min(distance, 0.5)
        assert expected - step - slack <= row["certified_radius"] <= expected
        if row["distance_found"] is not None:
            assert row["distance_found"] >= distance * (1 - 1e-4)


# What an attack says of a certificate


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., AuditPlan]:
    """Plans of a linear model on eight inputs of four numbers, each right by a margin of 0.2."""
    x = torch.full((8, 4), 0.5)
    x[::2, 0], x[1::2, 1] = 0.7, 0.7
    np.savez(tmp_path / "d.npz", x=x.numpy(), y=np.array([0, 1] * 4))
    weights = {"0.weight": torch.eye(2, 4), "0.bias": torch.zeros(2)}
    save_file(weights, tmp_path / "flat.safetensors")
    card = carded(tmp_path, "flat", [{"kind": "linear", "inputs": 4, "outputs": 2}], (4,))
    none = {"methods": ["saliency"], "examples": 0, "scored": 0}

    def make(threat: str, **changes: Any) -> AuditPlan:
        settings = {"models": [str(card)], "data": str(tmp_path / "d.npz"), "threats": [threat]}
        return make_plan({**SMALL, "explain": none, **settings, **changes})

    return make


class Claims:
    """A certifier that claims one bound and one radius (in closed form) for all examples."""

    def __init__(self, lower: float, radius: float | None, claim: Claim) -> None:
        self.lower, self.radius, self.claim = lower, radius, claim

    def __call__(self, model: object, batch: Any, *_: object) -> Bounds:
        def of_all(value: float) -> torch.Tensor:
            return torch.full((len(batch),), value)

        radius = None if self.radius is None else of_all(self.radius).double()
        return Bounds(of_all(self.lower), self.claim, radius=radius)


def measured(plan: AuditPlan, folder: Path) -> audit_module.Robustness:
    subjects, data = [load_subject(plan.models[0])], load_data(plan.data)
    found = audit_module.measure(plan, subjects, data, len(data), Workspace.create(folder, plan))
    (robustness,) = found.models["flat"].robustness.values()
    return robustness


# The true distance is 0.1: two numbers, 0.7 and 0.5, meet in the middle.
@pytest.mark.parametrize("claim", list(Claim))
@pytest.mark.parametrize(
    ("lower", "radius", "broken"),
    [
        (0.05, None, True),  # certified at 0.15, and an attack wins there
        (0.05, 0.0, True),  # ... also where it claims no radius
        (-1.0, 0.12, True),  # a radius beyond the distance found, and nothing claimed at 0.15
        (-1.0, 0.02, False),
        (-1.0, None, False),
    ],
)
def test_an_attack_that_contradicts_a_certificate_ends_the_audit(
    small: Callable[..., AuditPlan],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lower: float,
    radius: float | None,
    broken: bool,
    claim: Claim,
) -> None:
    monkeypatch.setitem(audit_module.CERTIFIERS, "interval", Claims(lower, radius, claim))  # type: ignore[arg-type]
    plan = small("linf:0.15", certify={"methods": ["interval"]})
    if broken:
        with pytest.raises(SoundnessError, match="succeeded inside a certified radius, at"):
            measured(plan, tmp_path / "run")
        return
    found = measured(plan, tmp_path / "run")
    assert bool((found.distance >= 0.1 - 1e-6).all()) and bool((found.distance <= 0.15).all())
    assert found.claim == claim and bool((found.deployed == (claim == Claim.SOUND_DEPLOYED)).all())


def test_a_certificate_that_is_tight_is_no_false_alarm(
    small: Callable[..., AuditPlan], tmp_path: Path
) -> None:
    # Both certifiers are exact up to rounding on a linear model, and the attack comes as near.
    for threat in ("linf:0.1", "l2:0.15"):
        folder = tmp_path / threat.replace(":", "-")
        found = measured(small(threat, rounds=6), folder)
        assert bool((found.radius <= found.distance).all())
        truth = 0.1 if threat.startswith("linf") else 0.02**0.5
        assert found.largest == pytest.approx(2 * found.threat.eps, rel=1e-6), "the plan's reach"
        expected = min(truth, found.largest)
        assert found.radius.tolist() == pytest.approx([expected] * 8, rel=1e-3)


def test_what_was_computed_for_one_model_is_not_kept_for_a_stranger() -> None:
    class Stranger:
        """A model that tells nothing of its weights."""

        device = torch.device("cpu")

        def __call__(self, batch: Any) -> torch.Tensor:
            return batch.x

    assert audit_module.identity(Stranger()) != audit_module.identity(Stranger())
    held = load_subject("plain").model
    assert audit_module.identity(held) == held.digest()  # type: ignore[attr-defined]


def test_a_gradient_that_vanishes_is_flagged_and_a_faint_one_is_not() -> None:
    x = torch.tensor([[0.1, 0.2], [0.8, 0.2], [0.3, 0.2]])
    subject = load_subject("plain")

    class Dead(torch.nn.Module):
        """max(x_0 - 1/2, 0) for one class, so that nothing moves where x_0 < 1/2."""

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            first = 1e-20 * torch.relu(z[:, 0] - 0.5)
            return torch.stack([first, torch.zeros_like(first)], 1)

    dead = replace(subject, model=wrap(Dead()))
    data = Dataset(x, torch.zeros(3, dtype=torch.int64))
    flags = audit_module.vanishing_gradient(dead, data, RunOptions())
    assert flags.tolist() == [True, False, True]
