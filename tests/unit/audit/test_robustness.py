"""Verdicts, curves and claims of a sweep follow its columns, and the words follow the numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from audited import Net
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from conjoin.attacks import PGD
from conjoin.audit.finding import Bearing, Verdict
from conjoin.audit.plan import Plan
from conjoin.audit.rules import Rules
from conjoin.audit.schema import Bound
from conjoin.audit.sections.robustness import attacked
from conjoin.audit.sections.robustness.claims import Papers, findings, terms
from conjoin.audit.sections.robustness.record import Found, Record, Size, under
from conjoin.audit.sections.robustness.sweep import (
    Sweep,
    applies,
    best,
    gradient,
    nearest,
    robustness,
)
from conjoin.audit.statistics import share
from conjoin.audit.subject import Subject
from conjoin.audit.task import Shard
from conjoin.certification import Interval, Lipschitz
from conjoin.core.ball import L2, Linf
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.evidence import Bounds, Claim, Evidence
from conjoin.core.evidence import Verdict as Known
from conjoin.core.random import Streams
from conjoin.core.run import certify
from conjoin.errors import CapabilityError, SoundnessError
from conjoin.models.torch import TorchModel

INF = math.inf


def columns(**changed: list[Any]) -> Found:
    """Five examples: proved, open, fallen at the radius, wrong, fallen beyond."""
    told = {
        "right": [True, True, True, False, True],
        "distance": [INF, INF, 0.1, 0.0, 0.15],
        "radius": [0.12, 0.05, 0.02, 0.0, 0.09],
        "lower": [0.5, -1.0, -2.0, -INF, -0.1],
        "deployed": [True] * 5,
        **changed,
    }
    made = {name: torch.tensor(values) for name, values in told.items()}
    return Found.read(made, Size("linf", 0.1, 0.2))


def test_verdicts_follow_the_columns() -> None:
    wanted = [Known.CERTIFIED, Known.UNKNOWN, Known.FALSIFIED, Known.FALSIFIED, Known.UNKNOWN]
    found = columns()
    assert found.verdicts() == wanted
    rows = found.rows("the attack", ["one", "two"])
    assert rows["verdict"] == [verdict.value for verdict in wanted]
    assert rows["reason"] == [
        "the margin is proved to stay above 0.5",
        "the attack found nothing; the bound is -1",
        "an adversarial input was found",
        "wrong without any change",
        "the attack found nothing; the bound is -0.1",
    ]
    assert set(rows["certified_evidence"]) == {"certified: best of one, two"}
    assert {len(column) for column in rows.values()} == {5}


def test_a_summary_counts_what_the_columns_say() -> None:
    told = under("linf:0.1", columns(), "the attack", ("one",), 0.05)
    assert (told.proved, told.falsified, told.unknown, told.standing) == (1, 2, 2, 3)
    assert told.robust.value == 3 / 5 and told.robust.bound is Bound.UPPER
    assert told.certified.value == 1 / 5 and told.certified.bound is Bound.LOWER
    assert told.gap.value == pytest.approx(2 / 5, abs=1e-15)
    assert told.robust.evidence.kind == "empirical" and told.certified.evidence.kind == "certified"
    # Over the four that are right: distances 0.1, 0.15, inf, inf; radii 0.02, 0.05, 0.09, 0.12.
    assert told.median_distance is not None
    assert told.median_distance.value == pytest.approx(0.15, abs=1e-7)  # kept in single precision
    assert told.median_radius.value == pytest.approx(0.05, abs=1e-7)
    assert told.claim == "sound-deployed"
    assert (
        under("x", columns(deployed=[True] * 4 + [False]), "a", ("one",), 0.05).claim
        == "sound-real"
    )
    assert under("x", columns(), "a", (), 0.05).claim == ""


def test_nothing_right_has_no_median() -> None:
    told = under("x", columns(right=[False] * 5, lower=[-1.0] * 5), "a", (), 0.05)
    assert told.median_distance is None and told.median_radius.value == 0.0
    assert told.standing == told.proved == 0


SOME = st.lists(
    st.tuples(st.booleans(), st.floats(0, 0.3), st.floats(0, 0.2)), min_size=1, max_size=12
)


@given(SOME)
def test_curves_fall_and_what_is_proved_is_left_standing(
    told: list[tuple[bool, float, float]],
) -> None:
    right = [ok for ok, _, _ in told]
    radius = [r if ok else 0.0 for ok, _, r in told]
    # No attack succeeds inside a certified radius: a sweep refuses that.
    distance = [max(d, r * (1 + 1e-5)) if ok else 0.0 for ok, d, r in told]
    found = columns(
        right=right,
        distance=distance,
        radius=radius,
        lower=[-1.0] * len(told),
        deployed=[True] * len(told),
    )
    curve = under("x", replace(found, distance=found.distance.double()), "a", ("c",), 0.05).curve
    assert list(curve.attacked) == sorted(curve.attacked, reverse=True)
    assert list(curve.certified) == sorted(curve.certified, reverse=True)
    assert curve.attacked[0] <= sum(right) / len(right)
    for above, below in zip(curve.attacked[1:], curve.certified[1:], strict=True):
        assert below <= above


def record(*unders: Any, blind: int = 0, certifiers: tuple[str, ...] = ("one",)) -> Record:
    return Record(
        threats=unders,
        vanishing=share(blind, 5, 0.05, Evidence.statistical(0.05)),
        blind=blind,
        count=5,
        attack="the attack",
        certifiers=certifiers,
        refused={} if certifiers else {"one": "no rule for {Odd}"},
    )


PAPERS = Papers(("madry2018",), {"one": ("leino2021",), "two": ("gowal2018",)}, "simonyan2014")
PLAN = Plan(models=("m",), data="d", rules=Rules(least_examples=1))


def test_claims_cite_those_that_were_used_and_no_other() -> None:
    told = under("x", columns(), "the attack", ("one",), 0.05)
    made = list(findings("m", record(told), PLAN, PAPERS))
    assert {f.kind: f.references for f in made} == {
        "attacked_accuracy": ("madry2018",),
        "certified_accuracy": ("leino2021",),
    }
    both = list(findings("m", record(told, certifiers=("one", "two")), PLAN, PAPERS))
    assert both[-1].references == ("leino2021", "gowal2018")


def test_nothing_proved_is_never_for_a_model() -> None:
    told = under("x", columns(lower=[-1.0] * 5), "the attack", (), 0.05)
    for certifiers in ((), ("one",)):
        made = list(findings("m", record(told, certifiers=certifiers), PLAN, PAPERS))
        (proved,) = [f for f in made if f.kind == "certified_accuracy"]
        assert proved.ruling.bearing is Bearing.OPEN and proved.ruling.cap <= Verdict.WITH_CARE
        assert proved.record("robustness").sentence.startswith("Nothing is proved of `m`")
    assert "no rule for {Odd}" in made[-1].record("x").sentence or certifiers


def test_a_blind_attack_is_a_finding_and_one_that_sees_is_none() -> None:
    told = under("x", columns(), "the attack", ("one",), 0.05)
    assert all(f.kind != "vanishing_gradient" for f in findings("m", record(told), PLAN, PAPERS))
    made = list(findings("m", record(told, blind=5), PLAN, PAPERS))
    (found,) = [f for f in made if f.kind == "vanishing_gradient"]
    assert found.ruling.bearing is Bearing.AGAINST and found.ruling.cap is Verdict.DO_NOT_TRUST
    assert found.references == ("simonyan2014",)
    gone = under("x", columns(distance=[0.0] * 5), "the attack", ("one",), 0.05)
    assert gone.standing == 0
    made = list(findings("m", record(gone, blind=5), PLAN, PAPERS))
    assert all(f.kind != "vanishing_gradient" for f in made), "nothing stands that may be too much"


@pytest.mark.parametrize("certifiers", [(), ("one",)])
@pytest.mark.parametrize("distance", [math.inf, 0.1])
def test_terms_are_those_that_there_is_evidence_towards(
    certifiers: tuple[str, ...], distance: float
) -> None:
    found = under("x", columns(distance=[distance] * 5), "the attack", certifiers, 0.05)
    told = {t.term: t.evidence for t in terms([record(found, certifiers=certifiers)])}
    assert ("reachability" in told) == bool(certifiers)
    assert ("certified" in told["stability"]) == bool(certifiers)
    sizes = told.get("sensitivity", "")
    assert ("adversarial distance" in sizes) == math.isfinite(distance)
    assert ("certified radius" in sizes) == bool(certifiers)


def test_the_threat_under_which_most_is_proved_decides() -> None:
    weak = under("weak", columns(lower=[-1.0] * 5), "a", ("one",), 0.05)
    strong = under("strong", columns(), "a", ("one",), 0.05)
    made = list(findings("m", record(weak, strong), PLAN, PAPERS))
    caps = [f.ruling.cap for f in made if f.kind == "certified_accuracy"]
    assert caps[0] is Verdict.TRUST, "it neither helps nor harms"
    assert caps[1] < Verdict.TRUST


def data(count: int = 8) -> Dataset:
    """Inputs with the answers of the network as labels, but for the first."""
    x = Streams.of(3, torch.arange(count)).uniform(6)
    y = Net()(x).argmax(1)
    y[0] = (y[0] + 1) % 3
    return Dataset(x, y, name="numbers")


def sweep(**changed: Any) -> Sweep:
    told: dict[str, Any] = {
        "name": "linf:0.1",
        "threat": Linf(0.1),
        "first": PGD(3, 0.5),
        "search": PGD(3, 0.5),
        "certifiers": (Interval(),),
        "reach": 2.0,
        "rounds": 2,
        "seed": 0,
    }
    return Sweep(**{**told, **changed})


def test_a_sweep_gives_columns_for_all_and_rows_for_the_shown() -> None:
    model = TorchModel(Net())
    made = robustness(Subject("m", model), Shard(0, data(), (1, 4)), sweep())
    for name, value in made.items():
        assert len(value) == (8 if value.ndim == 1 else 2), name
    assert torch.equal(made["apart"][:, 0], made["distance"][[1, 4]])
    fell = made["distance"].isfinite() & (made["distance"] > 0)
    assert torch.equal(made["after"].argmax(1), made["answer"][[1, 4]])
    assert bool((made["answer"] != data().y)[fell].all())
    assert made["right"].tolist() == [False, *[True] * 7]
    assert float(made["distance"][0]) == 0.0, "wrong without any change"


@pytest.mark.parametrize("threat", [Linf(0.6), L2(0.6)], ids=str)
def test_more_rounds_find_nearer_inputs(threat: Any) -> None:
    model = TorchModel(Net())
    found = [
        nearest(model, data(), sweep(threat=threat, rounds=rounds), Run())["distance"]
        for rounds in (0, 4)
    ]
    assert bool((found[1] <= found[0]).all()) and bool((found[1] < found[0]).any())
    largest = float(torch.tensor(2 * threat.eps))
    assert bool((found[1][found[1].isfinite()] <= largest * (1 + 1e-6)).all())


def test_the_strong_attack_is_tried_at_the_largest_radius_too_and_the_other_looks_for_nearer() -> (
    None
):
    def idle(model: Any, batch: Any, threat: Any, quantity: Any) -> torch.Tensor:
        return batch.x

    model, told = TorchModel(Net()), {"rounds": 1, "threat": Linf(0.05), "reach": 8.0}
    strong, weak = (
        nearest(model, data(), sweep(first=first, search=search, **told), Run())["distance"]
        for first, search in ((PGD(20, 0.2), idle), (idle, PGD(20, 0.2)))
    )
    beyond = strong.isfinite() & (strong > 0.05)
    assert bool(beyond.any()), "what stands at the radius falls at the largest"
    assert bool((strong[beyond] <= 0.4).all())
    assert bool(weak[weak > 0].isinf().all()), "where nothing was found there is nothing nearer"


def test_a_certifier_that_does_not_apply_is_left_out_and_says_why() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.erfinv(0.5 * torch.tanh(x))

    odd = TorchModel(nn.Sequential(nn.Linear(6, 3), Odd()))
    known = TorchModel(Net())
    certifiers = (Lipschitz(), Interval())
    assert best(odd, data(), certifiers, Linf(0.1)) is None
    assert best(known, data(), certifiers, Linf(0.1)) is not None
    with pytest.raises(CapabilityError):
        applies(Subject("odd", odd), Shard(0, data()), Interval(), Linf(0.1))
    assert applies(Subject("known", known), Shard(0, data()), Interval(), Linf(0.1)) == {}


def test_a_prepared_certifier_belongs_to_its_weights() -> None:
    one, other = TorchModel(Net(0)), TorchModel(Net(1))
    made = best(one, data(), (Interval(),), Linf(0.1))
    assert best(one, data(), (Interval(),), Linf(0.1)) is made, "prepared once"
    assert best(other, data(), (Interval(),), Linf(0.1)) is not made


class Alike:
    """A certifier that does not print all that it is made of."""

    def __init__(self, lower: float) -> None:
        self.lower = lower

    def __repr__(self) -> str:
        return "Alike()"

    def __call__(self, model: object, batch: Any, *_: object) -> Bounds:
        return Bounds(torch.full((len(batch),), self.lower), Claim.SOUND_REAL)


KNOWN = TorchModel(Net())


def bound(certifier: object, threat: Linf | L2 = Linf(0.1)) -> float:  # noqa: B008 - frozen
    found = best(KNOWN, data(), (certifier,), threat)  # type: ignore[arg-type]
    assert found is not None
    return float(certify(KNOWN, data(), found, threat).lower[0])


def test_certifiers_that_look_alike_are_not_mixed() -> None:
    def function(lower: float) -> Any:
        def claim(*told: Any) -> Bounds:
            return Alike(lower)(*told)

        return claim

    assert [bound(Alike(-10.0)), bound(Alike(-20.0))] == [-10.0, -20.0]
    assert [bound(function(-30.0)), bound(function(-40.0))] == [-30.0, -40.0]

    def made(lower: float) -> type:
        class Again:  # as a notebook defines a class twice: another one of the same name
            def __call__(self, model: object, batch: Any, *_: object) -> Bounds:
                return Alike(lower)(model, batch)

        return Again

    assert [bound(made(-50.0)()), bound(made(-60.0)())] == [-50.0, -60.0]


def test_a_prepared_certifier_belongs_to_its_threat() -> None:
    both = (Interval(), Lipschitz())
    linf, l2 = (best(KNOWN, data(), both, threat) for threat in (Linf(0.1), L2(0.1)))
    assert linf is not None and l2 is not None and linf is not l2
    assert best(KNOWN, data(), (Interval(), Lipschitz()), Linf(0.1)) is linf, "prepared once"


class Claims:
    """A certifier that claims one bound and one radius (in closed form) for all examples."""

    def __init__(self, lower: float, radius: float | None, claim: Claim) -> None:
        self.lower, self.radius, self.claim = lower, radius, claim

    def __call__(self, model: object, batch: Any, *_: object) -> Bounds:
        def of_all(value: float) -> torch.Tensor:
            return torch.full((len(batch),), value)

        radius = None if self.radius is None else of_all(self.radius).double()
        return Bounds(of_all(self.lower), self.claim, radius=radius)


def narrow() -> tuple[Subject, Shard]:
    """A linear model on eight inputs of four numbers, each right by a margin of 0.2."""
    x = torch.full((8, 4), 0.5)
    x[::2, 0], x[1::2, 1] = 0.7, 0.7
    layer = nn.Linear(4, 2)
    layer.weight.data, layer.bias.data = torch.eye(2, 4), torch.zeros(2)
    return Subject("flat", TorchModel(layer)), Shard(0, Dataset(x, torch.tensor([0, 1] * 4)))


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
def test_an_attack_that_contradicts_a_certificate_is_an_alarm(
    lower: float, radius: float | None, broken: bool, claim: Claim
) -> None:
    asked = sweep(threat=Linf(0.15), certifiers=(Claims(lower, radius, claim),))
    if broken:
        with pytest.raises(SoundnessError, match="succeeded inside a certified radius, at"):
            robustness(*narrow(), asked)
        return
    made = robustness(*narrow(), asked)
    assert bool((made["distance"] >= 0.1 - 1e-6).all() & (made["distance"] <= 0.15).all())
    assert made["deployed"].tolist() == [claim == Claim.SOUND_DEPLOYED] * 8


@pytest.mark.parametrize(("threat", "truth"), [(Linf(0.1), 0.1), (L2(0.15), 0.02**0.5)], ids=str)
def test_a_certificate_that_is_tight_is_no_false_alarm(threat: Any, truth: float) -> None:
    # Both certifiers are exact up to rounding on a linear model, and the attack comes as near.
    asked = sweep(threat=threat, certifiers=(Lipschitz(), Interval()), rounds=6)
    subject, shard = narrow()
    made = robustness(subject, shard, asked)
    assert bool((made["radius"] <= made["distance"]).all())
    largest = asked.largest(shard.data)
    assert largest == pytest.approx(2 * threat.eps, rel=1e-6), "the plan's reach"
    assert made["radius"].tolist() == pytest.approx([min(truth, largest)] * 8, rel=1e-3)


def test_a_gradient_that_vanishes_is_flagged_and_a_faint_one_is_not() -> None:
    class Dead(nn.Module):
        """max(x_0 - 1/2, 0) for one class, so that nothing moves where x_0 < 1/2."""

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            first = 1e-20 * torch.relu(z[:, 0] - 0.5)
            return torch.stack([first, torch.zeros_like(first)], 1)

    x = torch.tensor([[0.1, 0.2], [0.8, 0.2], [0.3, 0.2]])
    shard = Shard(0, Dataset(x, torch.zeros(3, dtype=torch.int64)))
    made = gradient(Subject("dead", TorchModel(Dead())), shard)
    assert made["vanishing"].tolist() == [True, False, True]


def test_a_flat_gradient_is_seen() -> None:
    class Flat(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.where(x[:, :1] > 0.5, x, x.detach())
            return x[:, :3] * 1.0

    values = data()
    made = gradient(Subject("flat", TorchModel(Flat())), Shard(0, values))["vanishing"]
    assert torch.equal(made, values.x[:, 0] <= 0.5)


def test_words_of_a_row_say_where_an_attack_lies() -> None:
    told = under("linf:0.1", columns(), "a", ("one",), 0.05)
    say = attacked._distance
    assert say(told, 0.05, right=True) == "linf distance 0.05, within the audited 0.1"
    assert say(told, 0.1, right=True) == "linf distance 0.1, within the audited 0.1"
    assert say(told, 0.15, right=True) == "linf distance 0.15, beyond the audited 0.1"
    assert say(told, INF, right=True) == "nothing found up to linf distance 0.2"
    assert say(told, 0.0, right=False) == "wrong already, without any change"
