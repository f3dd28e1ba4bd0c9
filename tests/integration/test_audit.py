"""The audit from a plan to its folder: complete, consistent, and the same however it is run."""

from __future__ import annotations

import json
from collections import Counter
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

from conjoin.audit.perform import draw, page_again
from conjoin.audit.plan import Plan, make_plan, read_plan
from conjoin.audit.schema import Run
from conjoin.audit.schemas import run_schema
from conjoin.audit.sections import installed
from conjoin.audit.sources import load_data, load_subject
from conjoin.audit.store import Local
from conjoin.audit.subject import Subject
from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Event
from conjoin.core.quantity import margin
from conjoin.core.run import predict
from conjoin.errors import DataError
from integration.conftest import SMALL, carded, carry_out, planned, results

REACH = 2.0  # of the curves, by default


@pytest.fixture(scope="module")
def run(finished: Path) -> dict[str, Any]:
    return json.loads((finished / "run.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def rows(finished: Path) -> list[dict[str, Any]]:
    found = parquet.read_table(finished / "rows" / "robustness.parquet").to_pylist()
    return [row for row in found if row["verdict"]]


@pytest.fixture(scope="module")
def data(plan: Plan) -> Dataset:
    return draw(load_data(plan.data), plan.limit, plan.seed)


@pytest.fixture(scope="module")
def subjects(plan: Plan) -> dict[str, Subject]:
    return {s.name: s for s in map(load_subject, plan.models)}


def of(rows: list[dict[str, Any]], model: str, threat: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["model"] == model and row["key"] == threat]


# The folder


def test_the_folder_holds_its_parts_and_nothing_else(finished: Path) -> None:
    first = ("accuracy", "robustness", "diagnosis", "region", "explain")
    rows = {f"rows/{name}.parquet" for name in (*first, "certificates", "boundary", "resemblance")}
    tensors = {
        f"tensors/{part}/{model}.safetensors"
        for part in ("robustness", "explain", "boundary")
        for model in ("plain", "ridge")
    }
    found = {p.relative_to(finished).as_posix() for p in finished.rglob("*") if p.is_file()}
    assert found == {"plan.toml", "run.json", "report.html"} | rows | tensors


def test_the_record_follows_its_own_json_schema(run: dict[str, Any]) -> None:
    schema = run_schema(installed())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(run, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**run, "findings": 1}, schema)
    assert Run.model_validate(run).model_dump(mode="json") == run, "nothing is lost on the way"


def test_the_plan_in_the_folder_repeats_the_run(
    finished: Path, run: dict[str, Any], plan: Plan
) -> None:
    written = make_plan(read_plan(finished / "plan.toml"), installed())
    assert written.fingerprint() == plan.fingerprint() == run["plan_sha256"]
    assert run["plan"] == json.loads(json.dumps(plan.told()))


def test_the_report_is_small_and_can_be_made_again(finished: Path, tmp_path: Path) -> None:
    text = (finished / "report.html").read_text(encoding="utf-8")
    assert len(text.encode()) < 5_000_000
    assert page_again(Local(finished), installed()) == text
    changed = json.loads((finished / "run.json").read_text())
    changed["data"]["sha256"] = "0"
    (tmp_path / "run.json").write_text(json.dumps(changed))
    with pytest.raises(DataError, match="marked_fashion_mnist is not what it was"):
        page_again(Local(tmp_path), installed())


def test_no_file_of_results_is_a_pickle(finished: Path) -> None:
    for path in finished.rglob("*"):
        if path.is_file():
            assert path.read_bytes()[:1] != b"\x80" and path.read_bytes()[:4] != b"PK\x03\x04"


# The rows


def test_the_small_run_shows_all_three_verdicts(rows: list[dict[str, Any]]) -> None:
    # Otherwise the tests below would hold for want of cases.
    counts = Counter(row["verdict"] for row in rows)
    assert set(counts) == {"certified", "falsified", "unknown"} and min(counts.values()) >= 3
    assert {row["model"] for row in rows if row["verdict"] == "certified"} == {"ridge"}


def test_there_is_one_row_for_each_model_threat_and_example(
    rows: list[dict[str, Any]], data: Dataset, plan: Plan
) -> None:
    assert len(rows) == 2 * 2 * 24
    keys = {(row["model"], row["key"], row["id"]) for row in rows}
    assert keys == {(m, t, i) for m in ("plain", "ridge") for t in plan.threats for i in data.ids}


def test_certificate_attack_and_clean_value_are_in_order(
    finished: Path, rows: list[dict[str, Any]]
) -> None:
    accuracy = parquet.read_table(finished / "rows" / "accuracy.parquet").to_pylist()
    clean = {(row["model"], row["id"]): row["margin"] for row in accuracy}
    for row in rows:
        value = clean[row["model"], row["id"]]
        assert row["lower"] <= value
        assert 0 <= row["radius"] <= REACH * row["eps"] * (1 + 1e-6)
        assert row["radius"] <= row["distance"] * (1 + 1e-5)
        if value <= 0:
            assert row["radius"] == 0 and row["distance"] == 0


def test_bounds_are_never_mixed_up(run: dict[str, Any]) -> None:
    for model, record in run["sections"]["robustness"]["models"].items():
        clean = run["sections"]["accuracy"]["models"][model]["accuracy"]
        for under in record["threats"]:
            lower, upper = under["certified"], under["robust"]
            assert 0 <= lower["value"] <= upper["value"] <= clean["value"] <= 1
            assert (lower["bound"], upper["bound"]) == ("lower", "upper")
            for n in (clean, upper, lower):
                assert n["low"] <= n["value"] <= n["high"]
            curve = under["curve"]
            for a, b in zip(curve["certified"], curve["attacked"], strict=True):
                assert a <= b


def test_predictions_and_margins_are_the_models_own(
    finished: Path, data: Dataset, subjects: dict[str, Subject]
) -> None:
    rows = parquet.read_table(finished / "rows" / "accuracy.parquet").to_pylist()
    for name, subject in subjects.items():
        outputs = predict(subject.model, data)
        values = margin(outputs, data.y)
        for row in (r for r in rows if r["model"] == name):
            place = data.ids.index(row["id"])
            assert row["prediction"] == int(outputs[place].argmax())
            assert row["margin"] == pytest.approx(float(values[place]), abs=1e-5)


# The tensors


def test_adversarial_inputs_lie_in_the_ball_and_fool_the_model(
    finished: Path,
    rows: list[dict[str, Any]],
    data: Dataset,
    plan: Plan,
    subjects: dict[str, Subject],
) -> None:
    fooled = 0
    for name, subject in subjects.items():
        stored = load_file(finished / "tensors" / "robustness" / f"{name}.safetensors")
        for text, ball in plan.balls(data).items():
            z, index = stored[f"inputs, {text}"], stored[f"index of inputs, {text}"]
            places = [data.positions.tolist().index(i) for i in index.tolist()]
            x, y = data.x[places], data.y[places]
            assert z.shape == x.shape and bool(((z >= 0) & (z <= 1)).all())
            assert bool(ball.at(ball.eps * REACH).contains(z, x).all())  # type: ignore[attr-defined]
            values = margin(predict(subject.model, Dataset(z, y)), y)
            distances = ball.distance(z, x)  # type: ignore[attr-defined]
            told = {row["id"]: row for row in of(rows, name, text)}
            for place, value, distance in zip(places, values, distances, strict=True):
                row = told[data.ids[place]]
                if row["distance"] == float("inf"):
                    assert distance == 0, "unchanged where nothing was found"
                    continue
                assert float(value) <= 0, "the model is fooled when asked again"
                assert float(distance) == pytest.approx(row["distance"], abs=1e-6)
                fooled += float(distance) > 0
    assert fooled >= 4


def test_explanations_of_the_shown_inputs_can_be_recomputed(
    finished: Path, data: Dataset, subjects: dict[str, Subject]
) -> None:
    for name, subject in subjects.items():
        stored = load_file(finished / "tensors" / "explain" / f"{name}.safetensors")
        (gradients,) = (key for key in stored if key.startswith("values, saliency"))
        (path,) = (key for key in stored if key.startswith("values, integrated_gradients"))
        index = stored[f"index of {gradients}"]
        places = [data.positions.tolist().index(i) for i in index.tolist()]
        assert len(set(places)) == 3
        x = data.x[places].clone().requires_grad_()
        out = subject.model(batch_of(x))
        chosen = out.argmax(1)
        picked = out.gather(1, chosen[:, None])[:, 0]
        (gradient,) = torch.autograd.grad(picked.sum(), x)
        torch.testing.assert_close(stored[gradients], gradient, rtol=1e-4, atol=1e-6)
        black = subject.model(batch_of(torch.zeros_like(x))).gather(1, chosen[:, None])[:, 0]
        total = stored[path].flatten(1).sum(1)
        # The secant panels sum to the change of the logit up to single-precision rounding.
        torch.testing.assert_close(total, (picked - black).detach(), rtol=1e-4, atol=1e-4)


# The same however it is run


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run at full speed, without the run-time type checks of the tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("case", ["convolutions", "linear"])
def test_results_are_the_same_for_any_batch_size(plan: Plan, tmp_path: Path, case: str) -> None:
    changes: dict[str, Any] = {"limit": 4, "models": plan.models[1:], "threats": plan.threats}
    if case == "convolutions":
        changes["models"] = plan.models[:1]
        changes["robustness"] = {**SMALL["robustness"], "certify": ["Interval"]}
    few = planned(**changes)  # 4 = 3 + 1
    for size in (128, 3, 1):
        carry_out(few, tmp_path / str(size), batch_size=size)
    expected, files = results(tmp_path / "128")
    for size in (3, 1):
        record, content = results(tmp_path / str(size))
        assert record == expected, f"batches of {size}"
        assert sorted(content) == sorted(files)
        for name in files:
            assert content[name] == files[name], f"{name} in batches of {size}"


@pytest.fixture(scope="module")
def whole(ridge: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """A light plan of two models, and the folder of its uninterrupted run."""
    light = planned(
        models=["plain", str(ridge)],
        threats=["l2:0.25"],
        limit=12,
        robustness={**SMALL["robustness"], "certify": ["Interval"]},
    )
    folder = tmp_path_factory.mktemp("whole") / "run"
    carry_out(light, folder)
    return light, folder


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("tasks", [1, 5, 9])
def test_an_interrupted_run_goes_on_to_the_same_result(
    whole: tuple[Plan, Path], tmp_path: Path, tasks: int
) -> None:
    plan, uninterrupted = whole
    seen: list[Event] = []

    def stop(event: Event) -> None:
        seen.append(event)
        if len(seen) == 2 * tasks:  # each begins and ends
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        carry_out(plan, folder, observe=stop)
    units = {p: p.stat().st_mtime_ns for p in (folder / "work").rglob("*.safetensors")}
    assert len(units) == tasks, "each finished task is on disk"
    assert not (folder / "run.json").exists()

    kept: list[bool] = []

    def watch(event: Event) -> None:
        kept.append(all(p.stat().st_mtime_ns == time for p, time in units.items()))

    resumed = make_plan(read_plan(folder / "plan.toml"), installed())
    assert resumed.fingerprint() == plan.fingerprint()
    carry_out(resumed, folder, observe=watch)
    assert kept and all(kept), "what was finished is not computed again"
    assert results(folder) == results(uninterrupted)


def test_progress_rises_to_its_end(whole: tuple[Plan, Path], tmp_path: Path) -> None:
    events: list[Event] = []
    carry_out(whole[0], tmp_path / "run", observe=events.append)
    done = [event.done for event in events]
    assert done == sorted(done) and done[0] < events[0].total // 2, "no level starts anew"
    assert done[-1] == events[-1].total == events[0].total


# Other shapes of input


def test_flat_data_without_a_region_or_explanations_can_be_audited(tmp_path: Path) -> None:
    x = torch.linspace(0, 1, 8 * 4).reshape(8, 4)
    np.savez(tmp_path / "d.npz", x=x.numpy(), y=np.array([0, 1] * 4))
    weights = {"0.weight": torch.eye(2, 4), "0.bias": torch.zeros(2)}
    save_file(weights, tmp_path / "flat.safetensors")
    card = carded(tmp_path, "flat", [{"kind": "linear", "inputs": 4, "outputs": 2}], (4,))
    for number, none in enumerate(({}, {"shown": 0, "scored": 0})):
        plan = planned(
            models=[str(card)],
            data=str(tmp_path / "d.npz"),
            threats=["l1:0.1", "linf:0.001"],
            **none,
        )
        folder = tmp_path / f"run{number}"
        result = carry_out(plan, folder)
        assert result.run.complete and result.run.data.count == 8
        assert set(result.run.sections["region"].lacks) == {"flat"}
        assert len(result.run.examples) == (3 if number == 0 else 0)
        rows = [row for row in result.table("robustness").to_pylist() if row["verdict"]]
        assert len(rows) == 2 * 8
        assert "<img" not in (folder / "report.html").read_text()


def test_a_linear_model_is_proved_exactly_to_its_distance(
    rows: list[dict[str, Any]], subjects: dict[str, Subject], data: Dataset
) -> None:
    # In l2 without the box the distance to the boundary is the least margin over ‖w_y - w_k‖.
    layer = subjects["ridge"].model.module[1]  # type: ignore[attr-defined]
    weight = layer.weight.detach().double()
    outputs = predict(subjects["ridge"].model, data).double()
    exact = 0
    for row in of(rows, "ridge", "l2:0.25"):
        place = data.ids.index(row["id"])
        y = int(data.y[place])
        gaps = outputs[place, y] - outputs[place]
        if row["distance"] == 0:
            continue
        lengths = (weight[y] - weight).norm(dim=1)
        others = [k for k in range(10) if k != y]
        distance = float((gaps[others] / lengths[others]).min())
        step = 0.5 / 2**12  # the bisection's resolution
        # The rounding of both logits at x and at the worst point is covered: γ (‖w‖ ‖z‖), four times.
        both = (weight[y].norm() + weight.norm(dim=1)) * (data.x[place].double().norm() + 0.5)
        slack = float((2 * 790 * 2**-24 * both / lengths)[others].max())
        expected = min(distance, 0.5)
        assert expected - step - slack <= row["radius"] <= expected
        assert row["distance"] >= distance * (1 - 1e-4)
        exact += 1
    assert exact >= 10
