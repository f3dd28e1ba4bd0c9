"""Plans: strings become values here, wrong settings are named, a fingerprint tells plans apart."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest

from conjoin.core.ball import L1, L2, Linf
from conjoin.errors import PlanError
from conjoin.report.plan import AuditPlan, make_plan, parse_number, parse_threat, read_plan

OTHER: dict[str, Any] = {
    "models": ["plain"],
    "data": "fashion_mnist",
    "threats": ["linf:8/255"],
    "bounds": [-1.0, 1.0],
    "limit": 7,
    "seed": 3,
    "reach": 1.5,
    "rounds": 2,
    "alpha": 0.1,
    "attack": {"steps": 9, "restarts": 2, "step_size": 0.37},
    "certify": {"methods": ["interval"]},
    "explain": {
        "methods": ["saliency"],
        "nodes": 5,
        "draws": 3,
        "baseline": 0.5,
        "examples": 4,
        "scored": 6,
        "stability_share": 0.5,
        "stability_draws": 2,
    },
}


def single_changes() -> list[tuple[str, dict[str, Any]]]:
    """Plans that differ from the default in one setting each."""
    out = []
    for name, value in OTHER.items():
        if isinstance(value, dict):
            out += [(f"{name}.{key}", {name: {key: v}}) for key, v in value.items()]
        else:
            out.append((name, {name: value}))
    return out


@pytest.mark.parametrize(
    ("text", "value"),
    [("8/255", 8 / 255), ("0.1", 0.1), ("1e-3", 0.001), ("0", 0.0), ("2", 2.0), ("-1/4", -0.25)],
)
def test_numbers_and_fractions_are_read_exactly(text: str, value: float) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize("text", ["", "eight", "1/0", "8/255/2", "0.1x", "1 2", "8/"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match=r"is no number; expected e\.g\. 0\.1 or 8/255"):
        parse_number(text)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999"])
def test_numbers_that_are_not_finite_are_refused(text: str) -> None:
    with pytest.raises(PlanError, match="not finite"):
        parse_number(text)


@pytest.mark.parametrize(
    ("text", "kind", "eps"),
    [
        ("linf:8/255", Linf, 8 / 255),
        ("l2:0.5", L2, 0.5),
        ("l1:10", L1, 10),
        ("L2:0.5", L2, 0.5),
        ("Linf:1E-3", Linf, 0.001),
    ],
)
def test_a_threat_is_norm_and_radius(text: str, kind: type, eps: float) -> None:
    found = parse_threat(text, (-1.0, 2.0))
    assert type(found) is kind and found.eps == eps and found.bounds == (-1.0, 2.0)


@pytest.mark.parametrize("text", ["linf", "0.1", "l3:0.1", "l2 0.5", "", ":0.1"])
def test_a_threat_that_is_not_understood_names_what_is(text: str) -> None:
    with pytest.raises(PlanError, match="linf:8/255"):
        parse_threat(text)


def test_a_threat_in_capitals_is_the_same_threat() -> None:
    assert make_plan({"threats": ["L2:0.5"]}) == make_plan({"threats": ["l2:0.5"]})
    with pytest.raises(PlanError, match="threats repeat themselves"):
        make_plan({"threats": ["L2:0.5", "l2:0.5"]})


@pytest.mark.parametrize(
    "settings", [{"threats": ["l3:1"]}, {"bounds": [1.0, 0.0]}, {"models": ["plain", "plain"]}]
)
def test_our_own_words_come_without_a_prefix(settings: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match=r"^the plan: (threats: '|plan: bounds|plan: models)"):
        make_plan(settings)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("linf:-0.1", "eps must be >= 0"),
        ("linf:nan", "not finite"),
        ("l2:inf", "not finite"),
        ("l2:much", "is no number"),
    ],
)
def test_a_plan_refuses_bad_radii(text: str, words: str) -> None:
    with pytest.raises(PlanError, match=rf"threats: .*{words}"):
        make_plan({"threats": [text]})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": ["plain"]}, "the plan: model: Extra inputs are not permitted"),
        ({"attack": {"step": 3}}, r"attack\.step: Extra inputs"),
        ({"models": []}, "models: .*at least 1 item"),
        ({"threats": []}, "threats: .*at least 1 item"),
        ({"models": ["plain", "plain"]}, "models repeat themselves"),
        ({"threats": ["l2:0.5", "l2:0.5"]}, "threats repeat themselves"),
        ({"limit": -1}, "limit: .*greater than or equal to 0; got -1"),
        ({"limit": "many"}, "limit: .*integer.*; got 'many'"),
        ({"reach": 0.5}, "reach: .*; got 0.5"),
        ({"alpha": 0}, "alpha: .*; got 0"),
        ({"alpha": 1}, "alpha: .*; got 1"),
        ({"attack": {"steps": 0}}, r"attack\.steps: .*; got 0"),
        ({"explain": {"nodes": 1}}, r"explain\.nodes: .*; got 1"),
        ({"explain": {"methods": ["lime"]}}, r"explain\.methods\.0: .*; got 'lime'"),
        ({"certify": {"methods": ["guess"]}}, r"certify\.methods\.0: .*; got 'guess'"),
        ({"bounds": [1.0, 0.0]}, "bounds must be"),
        ({"bounds": [0.0]}, "bounds"),
        ({"plan_schema": 2}, "plan_schema: .*; got 2"),
        ({"reach": math.inf}, "reach: .*finite number; got inf"),
        ({"bounds": [-math.inf, math.inf]}, r"bounds\.0: .*finite"),
        ({"explain": {"baseline": math.nan}}, r"explain\.baseline: .*finite"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_setting_is_named_with_what_came(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        make_plan(settings)


def test_the_origin_and_the_number_of_further_problems_are_told() -> None:
    with pytest.raises(PlanError, match=r"^mine\.toml: limit: .*\(and 1 more\)$"):
        make_plan({"limit": -1, "rounds": -1}, "mine.toml")


@pytest.mark.parametrize("settings", [{}, OTHER], ids=["default", "other"])
def test_a_plan_comes_back_from_its_toml(settings: dict[str, Any], tmp_path: Path) -> None:
    plan = make_plan(settings)
    (tmp_path / "plan.toml").write_text(plan.to_toml())
    again = make_plan(read_plan(tmp_path / "plan.toml"))
    assert again == plan and again.fingerprint() == plan.fingerprint()


def test_the_toml_says_every_setting() -> None:
    written = tomllib.loads(AuditPlan().to_toml())
    assert set(written) == set(AuditPlan.model_fields)
    assert set(written["explain"]) == set(OTHER["explain"])
    assert set(written["attack"]) == set(OTHER["attack"])


def test_the_other_plan_of_these_tests_changes_every_setting() -> None:
    changed = {name for name, _ in single_changes()}
    known = set()
    for name, value in AuditPlan().model_dump().items():
        known |= {f"{name}.{key}" for key in value} if isinstance(value, dict) else {name}
    assert changed == known - {"plan_schema"}


@pytest.mark.parametrize(
    ("name", "settings"), single_changes(), ids=lambda v: v if isinstance(v, str) else ""
)
def test_the_fingerprint_depends_on_every_setting(name: str, settings: dict[str, Any]) -> None:
    assert make_plan(settings).fingerprint() != AuditPlan().fingerprint(), name


def test_the_fingerprint_is_stable_and_the_batch_size_is_not_in_it() -> None:
    assert make_plan({}).fingerprint() == AuditPlan().fingerprint()
    assert make_plan({"limit": 500}).fingerprint() == AuditPlan().fingerprint()
    assert "batch_size" not in AuditPlan().to_toml()
    with pytest.raises(PlanError, match="batch_size: Extra inputs"):
        make_plan({"batch_size": 7})


def test_threats_keep_their_text_and_their_order() -> None:
    plan = make_plan({"threats": ["l2:0.5", "linf:8/255"], "bounds": [0.0, 2.0]})
    balls = plan.balls()
    assert list(balls) == ["l2:0.5", "linf:8/255"]
    assert all(ball.bounds == (0.0, 2.0) for ball in balls.values())


def test_missing_and_broken_plan_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"no file .*p\.toml; expected a plan in TOML"):
        read_plan(tmp_path / "p.toml")
    (tmp_path / "p.toml").write_text("limit = ")
    with pytest.raises(PlanError, match=r"p\.toml is no readable TOML"):
        read_plan(tmp_path / "p.toml")
    (tmp_path / "p.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match=r"p\.toml is no readable TOML"):
        read_plan(tmp_path / "p.toml")
    with pytest.raises(PlanError, match="is no readable TOML"):
        read_plan(tmp_path)
