"""The plan: all that is said is written and read back, and what is wrong is said in one line."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from pydantic import BaseModel

from conjoin.attacks import PGD
from conjoin.audit.methods import Method, context_of
from conjoin.audit.plan import Plan, make_plan, read_plan
from conjoin.audit.schemas import plan_schema
from conjoin.audit.section import Chapter
from conjoin.audit.sections.accuracy import Accuracy
from conjoin.core.ball import L2, Linf
from conjoin.core.dataset import Dataset, Feature
from conjoin.core.protocols import Attack, Metric
from conjoin.errors import CapabilityError, PlanError


class Settings(BaseModel):
    reach: float = 2.0
    attack: Method[Attack] = Method.of(Attack, "PGD", steps=20)
    metrics: tuple[Method[Metric], ...] = ()
    region: str | None = None


class Pushing(Accuracy):
    name = "pushing"
    Settings: type[BaseModel] = Settings


CHAPTERS = [Chapter.of(Accuracy()), Chapter.of(Pushing())]


def made(**said: Any) -> Plan:
    return make_plan({"models": ["a"], "data": "d", **said}, CHAPTERS)


def test_everything_is_written_and_read_back() -> None:
    plan = made(
        threats=[
            "L2:0.5",
            {"name": "linf", "eps": "8/255", "fixed": ["age"]},
            Linf(0.3, (-1, 1)),
        ],
        pushing={"attack": {"name": "PGD", "restarts": 2}, "metrics": ["RankStability"]},
        rules={"proved_floor": 0.4},
    )
    text = plan.to_toml()
    again = make_plan(tomllib.loads(text), CHAPTERS)
    assert again == plan
    assert again.to_toml() == text
    assert again.fingerprint() == plan.fingerprint()
    told = tomllib.loads(text)
    assert told["threats"][0] == "l2:0.5"
    assert told["threats"][2] == {"name": "linf", "eps": 0.3, "bounds": [-1.0, 1.0]}
    assert told["pushing"]["attack"]["steps"] == PGD().steps  # defaults are written
    assert told["rules"]["least_examples"] == 100
    assert plan.of("pushing", Settings).attack.build() == PGD(restarts=2)


def test_what_nobody_said_is_a_table_s_where_the_data_are_one() -> None:
    x, y = torch.tensor([[0.2, 40.0], [0.4, 20.0]]), torch.tensor([0, 1])
    images = Dataset(x / 50, y)
    people = Dataset(x, y, features=(Feature("share"), Feature("age", high=100)))
    bare = made()
    assert bare.on(images) == bare
    told = bare.on(people)
    assert [str(t) for t in told.threats] == ["linf:0.05 of each spread", "l2:0.1 of each spread"]
    assert told.fingerprint() != bare.fingerprint()
    again = make_plan(tomllib.loads(told.to_toml()), CHAPTERS)
    assert again.on(people) == again and again.fingerprint() == told.fingerprint()
    assert made(threats=["l1:1"]).on(people).threats == ("l1:1",)
    with pytest.raises(CapabilityError, match="the data state none"):
        made(threats=["linf:0.1 of each spread"]).on(images)


@settings(deadline=None)
@given(
    limit=some.integers(0, 10**6),
    seed=some.integers(0, 2**31),
    alpha=some.floats(1e-6, 0.5),
    eps=some.floats(0, 100, exclude_min=True),
    floor=some.floats(0, 1),
)
def test_numbers_survive_the_file(
    limit: int, seed: int, alpha: float, eps: float, floor: float
) -> None:
    plan = made(
        limit=limit, seed=seed, alpha=alpha, threats=[L2(eps)], rules={"attacked_floor": floor}
    )
    again = make_plan(tomllib.loads(plan.to_toml()), CHAPTERS)
    assert again == plan
    (ball,) = again.balls().values()
    assert ball == L2(eps) or ball.eps == eps  # type: ignore[attr-defined]


def test_a_fingerprint_tells_plans_apart() -> None:
    prints = {
        made(**said).fingerprint()
        for said in (
            {},
            {"limit": 10},
            {"threats": ["linf:0.1"]},
            {"pushing": {"attack": {"name": "PGD", "steps": 21}}},
            {"rules": {"proved_floor": 0.4}},
        )
    }
    assert len(prints) == 5
    same = made(pushing={"attack": {"name": "PGD", "steps": 20}})  # the default, said
    assert same.fingerprint() == made().fingerprint()


def test_threats_by_their_text() -> None:
    plan = made(threats=["Linf:8/255", "l2: 0.5"], bounds=(-1, 1))
    assert list(plan.balls()) == ["linf:8/255", "l2:0.5"]
    assert all(ball.bounds == (-1.0, 1.0) for ball in plan.balls().values())  # type: ignore[attr-defined]
    own = made(threats=[Linf(0.1, (-1, 1))], bounds=(-1, 1))
    assert list(own.balls()) == ["linf:0.1"]  # its bounds are the plan's: a text says it
    context = context_of(plan, Dataset(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64)))
    assert str(context.threat) == "linf:0.0313725"
    assert context.bounds == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"limt": 3}, "the plan: no setting 'limt'; did you mean 'limit'"),
        ({"pushin": {}}, "did you mean 'pushing'"),
        ({"pushing": {"reech": 1}}, "the plan: pushing: no setting 'reech'; did you mean 'reach'"),
        ({"accuracy": {"x": 1}}, "the plan: accuracy: no setting 'x'; known: none"),
        (
            {"rules": {"proved": 1}},
            "rules.proved: no setting 'proved'; did you mean 'proved_floor'",
        ),
        ({"rules": {"proved_floor": 2}}, r"rules.proved_floor: .* less than or equal to 1; got 2"),
        ({"limit": -1}, r"the plan: limit: .*greater than or equal to 0; got -1$"),
        ({"limit": -1, "alpha": 2}, r"got -1 \(and 1 more\)"),
        ({"models": ["a", "a"]}, "models: they repeat themselves"),
        ({"bounds": (1, 0)}, r"bounds: expected \(lo, hi\) with lo < hi"),
        ({"shard": 10}, "shard: .* multiple of 4"),
        ({"threats": "linf:1"}, r"threats: expected a list, e.g. \['linf:8/255'\]; got 'linf:1'"),
        ({"threats": ["linf:1", "l3:1"]}, "threats.1: 'l3:1' is no threat"),
        ({"threats": [{"name": "l3", "eps": 1}]}, "threats.0: name: no norm 'l3'"),
        ({"threats": [{"name": "l2", "eps": 1, "scal": 2}]}, "did you mean 'scale'"),
        ({"threats": [{"name": "l2", "eps": -1}]}, "threats.0: eps: .* greater than or equal to 0"),
        ({"threats": ["linf:0.5", "Linf:1/2"]}, "threats: they repeat themselves"),
        ({"threats": ["linf:0.5", Linf(0.5)]}, "threats: they repeat themselves"),
        ({"pushing": {"attack": "PDG"}}, "pushing.attack: no attack 'PDG'; did you mean 'PGD'"),
        (
            {"pushing": {"attack": {"name": "WorstOf", "attacks": [{"name": "PGD", "stps": 3}]}}},
            "pushing.attack.attacks.0.stps: no parameter of PGD 'stps'; did you mean 'steps'",
        ),
        ({"pushing": {"metrics": ["Deletion", 3]}}, "pushing.metrics.1: a plan cannot say 3"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanError, match=words) as caught:
        made(**wrong)
    said = str(caught.value)
    assert "\n" not in said
    assert "Value error" not in said


def test_a_json_schema_describes_plans() -> None:
    schema = plan_schema(CHAPTERS)
    jsonschema.Draft202012Validator.check_schema(schema)
    plan = made(threats=["l2:0.5", {"name": "linf", "eps": 0.1, "fixed": ["age"]}])
    jsonschema.validate(json.loads(json.dumps(plan.told())), schema)
    assert list(schema["properties"])[-2:] == ["accuracy", "pushing"]
    assert list(plan_schema(CHAPTERS[::-1])["properties"])[-2:] == ["pushing", "accuracy"]
    for wrong in ({"limit": -1}, {"pushin": {}}, {"pushing": {"attack": "PDG"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"models": ["a"], "data": "d", **wrong}, schema)


def test_files_that_are_no_plan(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="expected a plan in TOML"):
        read_plan(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("limit = [")
    with pytest.raises(PlanError, match="no readable TOML"):
        read_plan(tmp_path / "bad.toml")
    (tmp_path / "good.toml").write_text("limit = 3")
    assert read_plan(tmp_path / "good.toml") == {"limit": 3}
