"""Methods in plans: every parameter of every method can be said, and is read back as it was."""

from __future__ import annotations

import pickle
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tomli_w
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conjoin import attacks, attribution, certification, metrics
from conjoin.attribution.composites import Composite
from conjoin.attribution.relevance import Flat, Gamma, ZBox
from conjoin.audit.methods import Context, Method, schema_of
from conjoin.audit.parameters import Record, Tables, choices, parameters_of
from conjoin.audit.readers import AnyOf, Baselines, Many, OneOf, Reader, Regions, Scalar, Threats
from conjoin.audit.reading import MisreadError
from conjoin.core.ball import L2, Linf
from conjoin.core.dataset import Dataset
from conjoin.core.distribution import Constant, Trapezoid
from conjoin.core.distribution import Path as Line
from conjoin.core.protocols import Attack, Attributor, Certifier, Metric
from conjoin.core.quantity import Contrast, log_likelihood, margin
from conjoin.core.slice import Cut, Side, Slice
from conjoin.errors import CapabilityError, PlanError

KINDS = (Attack, Certifier, Attributor, Metric)
DATA = Dataset(
    torch.zeros(3, 1, 4, 4), torch.tensor([0, 1, 0]), regions={"mark": torch.eye(4).bool()[None]}
)
CONTEXT = Context(DATA, Linf(0.2), (0.0, 1.0))
NEEDED: Mapping[str, dict[str, Any]] = {
    "Closest": {"attack": "PGD"},
    "EachTarget": {"attack": "PGD"},
    "OnGrid": {"attack": "PGD"},
    "Pressed": {"first": ["fgsm"], "then": ["PGD"]},
    "Unguided": {"attacks": ["BlackBox"]},
    "WorstOf": {"attacks": ["fgsm", "PGD"]},
    "BestOf": {"certifiers": ["Interval"]},
    "Influence": {"distribution": "Point"},
    "conductance": {"cuts": "input"},
    "internal_influence": {"cuts": "input"},
    "layer_integrated_gradients": {"cut": "input"},
    "Mixture": {"parts": ["Point"]},
    "Units": {"units": [0]},
    "Threshold": {"threshold": 0.5},
    "Constant": {"value": 0.5},
}


def another(reader: Reader, than: Any) -> Any:
    """Return a canonical form that is not ``than``."""
    match reader:
        case Scalar(kind):
            spare = {int: [3, 5], float: [0.25, 0.5], bool: [True, False], str: ["a", "b"]}[kind]
        case OneOf(values):
            spare = list(values)
        case Many(kinds, repeated):
            spare = [[another(kind, None) for kind in kinds] * (2 if repeated else 1)]
        case AnyOf(kinds):
            spare = [another(kinds[0], than)]
        case Tables() as tables:
            spare = [_sayable(tables, name) for name in tables.choices()]
            spare = [one for one in spare if one is not None]
        case Record(kind) if kind is Composite:
            spare = [reader.read(Composite(Flat(), Gamma(0.5), ZBox(-1.0, 2.0)))]
        case Record(kind):
            spare = [reader.read(Slice(Cut("a.b", Side.IN)) if kind is Slice else Cut("a.b"))]
        case Baselines(named):
            spare = [another(named, than)]
        case Threats():
            spare = ["l2:0.5"]
        case Regions():
            spare = ["mark"]
        case _:
            raise AssertionError(f"no spare value for {reader}")
    return next(one for one in spare if one != than)


def _sayable(tables: Tables, name: str) -> Any:
    try:
        return tables.read({"name": name, **NEEDED.get(name, {})})
    except MisreadError:
        return None  # it insists on a parameter


def every_parameter() -> list[Any]:
    return [
        pytest.param(kind, name, parameter, id=f"{name}-{parameter}")
        for kind in KINDS
        for name, make in choices(kind).items()
        for parameter in parameters_of(make)
    ]


@pytest.mark.parametrize(("kind", "name", "parameter"), every_parameter())
def test_every_parameter_of_every_method_survives_a_plan(
    kind: type, name: str, parameter: str
) -> None:
    usual = Method.of(kind, {"name": name, **NEEDED.get(name, {})})
    value = another(
        parameters_of(choices(kind)[name])[parameter].reader, usual.table.get(parameter)
    )
    said = {"name": name, **NEEDED.get(name, {}), parameter: value}
    method = Method.of(kind, said)
    text = tomli_w.dumps({"m": dict(method.table)})
    again = Method.of(kind, tomllib.loads(text)["m"])
    assert again == method
    assert tomli_w.dumps({"m": dict(again.table)}) == text
    assert parameter in method.table  # what is said is written
    assert method != usual
    assert repr(made := again.build(CONTEXT)) == repr(method.build(CONTEXT))
    if parameter not in {"reference", "title", "meaning"}:  # words about it, not shown
        assert repr(made) != repr(usual.build(CONTEXT)) or parameter == "region"


def test_each_kind_of_method_is_read_off_its_package() -> None:
    offered = {kind: set(choices(kind)) for kind in KINDS}
    functions = {"NearestBoundary", "nearest_boundary", "nearest_boundaries", "universal"}
    functions |= {"FeatureSet", "d_det", "d_rand", "feature_set"}
    assert offered[Attack] == set(attacks.__all__) - functions
    functions = {
        "Constants",
        "certified_radius",
        "ladder",
        "radii",
        "ExactBoundary",
        "exact_boundary",
    }
    assert offered[Certifier] == set(certification.__all__) - functions
    # A background is data, which a plan has no words for.
    assert offered[Attributor] == set(attribution.__all__) - {"explained", "expected_gradients"}
    functions = {"AttackedExplanation", "attack_explanation", "mean_corruption_error"}
    functions |= {"CertifiedExplanation", "certified_explanation", "Usefulness", "usefulness"}
    assert offered[Metric] == set(metrics.__all__) - functions


def test_a_method_that_a_package_adds_is_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(steps: int = 2) -> attacks.PGD:
        return attacks.PGD(steps)

    monkeypatch.setattr(attacks, "hasty", hasty, raising=False)
    monkeypatch.setattr(attacks, "__all__", [*attacks.__all__, "hasty"])
    assert Method.of(Attack, "hasty", steps=3).build() == attacks.PGD(3)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Attack, attacks.WorstOf((attacks.fgsm(), attacks.PGD(4, surrogate=margin)))),
        (Attack, attacks.Closest(attacks.PGD(random_start=False), steps=3)),
        (Certifier, certification.BestOf((certification.Interval(), certification.Lipschitz()))),
        (Attributor, attribution.saliency(Contrast(2), Slice(Cut("1", call=0)))),
        (Attributor, attribution.integrated_gradients(Constant(0.5), Trapezoid(7))),
        (Attributor, attribution.smoothgrad(0.2, 4)),
        (Metric, metrics.Deletion(steps=3, baseline=0.5)),
        (Metric, metrics.CompletenessGap()),
    ],
    ids=repr,
)
def test_a_method_itself_can_be_said(kind: type, value: object) -> None:
    said = Method.of(kind, value)
    assert said.build() == value
    assert Method.of(kind, tomllib.loads(tomli_w.dumps(dict(said.table)))).build() == value


def test_a_plan_says_a_nested_table() -> None:
    table = tomllib.loads(
        """
        name = "integrated_gradients"
        baseline = 0.5
        quadrature = {name = "Trapezoid", nodes = 7}
        quantity = {name = "Contrast", against = 3}
        where = "features.3:in"
        """
    )
    method = Method.of(Attributor, table).build()
    assert method.distribution == Line(Constant(0.5), Trapezoid(7))
    assert method.quantity == Contrast(3)
    assert method.where == Slice(Cut("features.3", Side.IN))
    layer = Method.of(Attributor, "saliency", where={"start": "input", "stop": "features.3"})
    assert layer.build().where == Slice(stop=Cut("features.3"))
    assert Method.of(Attack, "PGD", surrogate="log_likelihood").build() == attacks.PGD(
        surrogate=log_likelihood
    )


def test_nodes_stand_for_those_of_the_quadrature() -> None:
    issue = Method.of(Attributor, {"name": "integrated_gradients", "nodes": 50}).build()
    assert issue == attribution.integrated_gradients()
    coarse = Method.of(Attributor, "integrated_gradients", nodes=7, quadrature="Trapezoid").build()
    assert coarse.distribution == Line(quadrature=Trapezoid(7))
    with pytest.raises(MisreadError, match="at least 2 nodes; got 1"):
        Method.of(Attributor, "integrated_gradients", nodes=1)


def test_all_is_written_and_only_what_differs_is_shown() -> None:
    method = Method.of(Attributor, "smoothgrad", draws=4)
    assert method.table == {
        "name": "smoothgrad",
        "scale": 0.15,
        "draws": 4,
        "relative": True,
        "quantity": "logit",
        "where": "input",
    }
    assert str(method) == "smoothgrad draws=4"
    assert str(Method.of(Attack, "WorstOf", attacks=["fgsm"])) == (
        "WorstOf attacks=[fgsm(surrogate=log_likelihood)]"
    )


@pytest.mark.parametrize(
    ("kind", "said", "path", "words"),
    [
        (
            Attributor,
            "integrated_gradient",
            "",
            "no attributor .*did you mean 'integrated_gradients'",
        ),
        (Attack, "pgd", "", "did you mean 'PGD'"),
        (Attack, "xyz", "", "known: APGD, "),
        (Attack, {"steps": 3}, "", 'expected a table with name = "..."'),
        (Attack, 3, "", "a plan cannot say 3"),
        (Attributor, {"name": "smoothgrad", "drws": 3}, "drws", "did you mean 'draws'"),
        (Attack, {"name": "PGD", "steps": "x"}, "steps", "expected a whole number; got 'x'"),
        (Attack, {"name": "PGD", "steps": True}, "steps", "expected a whole number; got True"),
        (Attack, {"name": "PGD", "steps": 1.0}, "steps", "expected a whole number; got 1.0"),
        (Attack, {"name": "PGD", "random_start": 1}, "random_start", "expected true or false"),
        (Attack, {"name": "PGD", "step_size": "a"}, "step_size", "'a' is no number"),
        (Attack, {"name": "PGD", "step_size": True}, "step_size", "expected a number"),
        (Attack, {"name": "PGD", "surrogate": "loss"}, "surrogate", "no quantity 'loss'"),
        (Attack, {"name": "PGD", "surrogate": "predicted"}, "surrogate", "no quantity"),
        (Attack, {"name": "PGD", "steps": -3}, "", "must be positive"),
        (Attack, {"name": "Closest"}, "attack", "Closest needs it"),
        (Attack, {"name": "WorstOf", "attacks": "PGD"}, "attacks", "expected a list"),
        (
            Attack,
            {"name": "WorstOf", "attacks": ["PGD", {"name": "PGD", "steps": 0}]},
            "attacks.1",
            "positive",
        ),
        (Certifier, {"name": "Interval", "claim": "sound"}, "claim", "Known: sound-real"),
        (
            Attributor,
            {"name": "integrated_gradients", "quadrature": {"name": "Trapezoid", "nodes": 1}},
            "quadrature",
            "at least 2 nodes; got 1",
        ),
        (Attributor, {"name": "saliency", "where": 3}, "where", "expected a table of start, stop"),
        (Metric, {"name": "RankStability", "threat": "l3:1"}, "threat", "'0.25 of eps'"),
        (
            Metric,
            {"name": "MassInside", "region": torch.eye(2).bool()},
            "region",
            "name of a region",
        ),
        (Attack, "nowhere:x", "", "cannot be imported: ModuleNotFoundError"),
        (Attack, "conjoin.attacks:Nothing", "", "cannot be imported: AttributeError"),
        (Attack, attacks.PGD(surrogate=lambda z, y: z.sum(1)), "surrogate", "a plan cannot say"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(
    kind: type, said: object, path: str, words: str
) -> None:
    with pytest.raises(MisreadError, match=words) as caught:
        Method.of(kind, said)
    assert ".".join(caught.value.path) == path


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    attack: Method[Attack] = Method.of(Attack, "PGD", steps=20)
    methods: tuple[Method[Attributor], ...] = Field(
        ("saliency", {"name": "smoothgrad", "draws": 4}), validate_default=True
    )
    metrics: tuple[Method[Metric], ...] = ()


def test_settings_hold_methods() -> None:
    settings = Settings.model_validate({"attack": attacks.PGD(3), "metrics": ["RankStability"]})
    told = settings.model_dump(mode="json")
    assert Settings.model_validate(tomllib.loads(tomli_w.dumps(told))) == settings
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - our own
    assert settings.attack.build() == attacks.PGD(3)
    assert len({*settings.methods, *settings.methods}) == 2
    with pytest.raises(ValidationError, match="did you mean 'PGD'"):
        Settings.model_validate({"attack": "PDG"})


def test_a_json_schema_describes_them() -> None:
    schema = Settings.model_json_schema()
    told = Settings().model_dump(mode="json")
    jsonschema.validate(told, schema)
    jsonschema.validate({"attack": "PGD", "methods": ["my.module:mine"]}, schema)
    for wrong in ({"attack": "PDG"}, {"attack": {"name": "PGD", "stps": 3}}, {"attack": {}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
    for kind in KINDS:
        jsonschema.Draft202012Validator.check_schema(schema_of(kind))


def test_threats_and_regions_are_those_of_the_data() -> None:
    stability = Method.of(Metric, "RankStability")
    assert str(stability.build(CONTEXT).threat) == "linf:0.05"  # a quarter of the first
    small = Method.of(Metric, "RankStability", threat="1/2 of eps").build(CONTEXT)
    assert small.threat.eps == 0.1
    wide = Context(DATA, Linf(0.2), (-1.0, 1.0))
    own = Method.of(Metric, "RankStability", threat="l2:0.5").build(wide).threat
    assert isinstance(own, L2)
    assert own.bounds == (-1.0, 1.0)
    inside = Method.of(Metric, "MassInside")
    assert torch.equal(inside.build(CONTEXT).region, DATA.region("mark"))
    with pytest.raises(CapabilityError, match="no region 'sky' in the data; known: mark"):
        Method.of(Metric, "MassInside", region="sky").build(CONTEXT)
    bare = Dataset(DATA.x, DATA.y)
    with pytest.raises(CapabilityError, match="no region in the data; known: none"):
        inside.build(Context(bare, Linf(0.2)))
    with pytest.raises(CapabilityError, match="has no eps to share"):
        stability.build(Context(DATA, None))


STRANGER = """
from __future__ import annotations
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, Literal
import torch

class Mood(Enum):
    CALM = "calm"
    WILD = "wild"

@dataclass(frozen=True)
class Part:
    weights: tuple[float, float] = (0.5, 0.5)

@dataclass(frozen=True)
class Nudge:
    reference: ClassVar[str] = "nobody2025"
    size: float
    mood: Mood = Mood.CALM
    way: Literal["up", "down"] = "up"
    part: Part = field(default_factory=Part)
    names: list[str] = field(default_factory=list)
    key: int | str = 0
    secret: Callable[[int], int] = abs
    loose = None

    def __call__(self, model, batch, threat, quantity, /):
        return batch.x

def nudges(size=0.5, *rest, **more) -> Nudge:
    return Nudge(size)

def odd(call: Callable[[int], int]) -> Nudge:
    return Nudge(1.0)

def number(size: int = 1) -> int:
    return size

def breaks(size: int = 1) -> Nudge:
    raise KeyError("size")

def worst(outputs: torch.Tensor, aim: torch.Tensor) -> torch.Tensor:
    return outputs.amin(1)
"""


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"stranger_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(STRANGER)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_stranger_s_method_takes_its_parameters_from_a_plan(stranger: str) -> None:
    said = {
        "name": f"{stranger}:Nudge",
        "size": 1,
        "mood": "wild",
        "way": "down",
        "part": {"weights": [1, "1/4"]},
        "names": ["a"],
        "key": "k",
    }
    method = Method.of(Attack, said)
    made: Any = method.build()
    assert (made.size, made.mood.name, made.way, made.key) == (1.0, "WILD", "down", "k")
    assert made.part.weights == (1.0, 0.25)
    assert made.names == ["a"]
    assert Method.of(Attack, made) == method
    assert str(method).startswith(f"{stranger}:Nudge size=1.0 mood=wild")
    assert Method.of(Attack, f"{stranger}:nudges", size=0.25).build().size == 0.25  # untyped
    quantity = Method.of(Attack, "PGD", surrogate=f"{stranger}:worst")
    assert quantity.build().surrogate.__name__ == "worst"
    assert Method.of(Attack, quantity.build()) == quantity


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("Nudge", {"size": 1.0, "part": {"weights": [1.0]}}, "expected 2 values"),
        ("Nudge", {"size": 1.0, "secret": 3}, "no parameter of Nudge 'secret'"),
        ("Nudge", {"size": 1.0, "key": 0.5}, "expected a whole number; .*or expected a word"),
        ("odd", {}, "cannot say odd, nor its parameter 'call': TOML has no way to say Callable"),
        ("number", {}, "makes no attack: expected .* got 1"),
        ("breaks", {}, "breaks: KeyError: 'size'"),
        ("worst", {}, "makes no attack: expected .* four arguments"),
    ],
)
def test_a_stranger_s_fault_is_said(
    stranger: str, name: str, more: dict[str, object], words: str
) -> None:
    with pytest.raises(MisreadError, match=words):
        Method.of(Attack, {"name": f"{stranger}:{name}", **more})


def test_a_method_is_refused_late_with_its_name() -> None:
    class Slippery(Dataset):
        """Its region is no mask."""

        def region(self, name: str) -> Any:
            raise CapabilityError("gone")

    data = Slippery(DATA.x, DATA.y, regions=DATA.regions)
    with pytest.raises(CapabilityError, match="gone"):
        Method.of(Metric, "MassInside").build(Context(data, Linf(0.1)))
    broken = Method(Attack, {"name": "PGD", "steps": 0})  # not read: made by hand
    with pytest.raises(PlanError, match="PGD: steps, restarts and step_size must be positive"):
        broken.build()
