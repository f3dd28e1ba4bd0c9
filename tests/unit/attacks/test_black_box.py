"""Attacks by queries alone: what they ask, where they apply, and that a search in units is exact."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from conjoin import L2, Dataset, Linf, Scaled, attack, wrap
from conjoin.attacks import FAB, BlackBox, HopSkipJump, Square
from conjoin.attacks.diagnosis import diagnosed
from conjoin.audit import audit
from conjoin.audit.sections.accuracy import Accuracy
from conjoin.audit.sections.diagnosis import Diagnosis
from conjoin.audit.sections.robustness import Robustness
from conjoin.core.protocols import Batch
from conjoin.core.quantity import margin
from conjoin.core.random import Streams
from conjoin.errors import CapabilityError, PlanError


@dataclass(frozen=True)
class Closed:
    """A linear model of two classes that shows outputs, or labels, and no gradient."""

    weight: Tensor
    offset: float
    labels: bool = False

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return torch.device("cpu")

    def __call__(self, batch: Batch) -> Tensor:
        """Answer."""
        with torch.no_grad():
            value = batch.x.detach() @ self.weight + self.offset
            both = torch.stack([value, -value], 1)
            return nn.functional.one_hot(both.argmax(1), 2).float() if self.labels else both


WEIGHT = torch.tensor([2.0, -1.0, 0.5, 1.0])
SCALE = torch.tensor([[4.0, 0.5, 1.0, 2.0]])
ASKED = ("no gradients", "random points")
X = torch.full((4, 4), 0.5)
DATA = Dataset(X, torch.zeros(4, dtype=torch.int64))


def test_units_hold_the_exact_threshold() -> None:
    # ‖(z - x) / s‖∞ <= eps moves w·x by eps Σ |w_i s_i| = eps · 11: the margin is 2 (w·x + b).
    assert float((WEIGHT.abs() * SCALE).sum()) == 11.0
    for offset, falls in ((0.10, True), (0.12, False)):
        model = Closed(WEIGHT, offset - float(X[0] @ WEIGHT))
        threat = Scaled(Linf(0.01, (-10.0, 10.0)), SCALE)
        found = attack(model, DATA, Square(600), threat, seed=0)
        assert bool((found.success == falls).all())
        assert bool(threat.contains(found.inputs, X).all())
        if not falls:
            assert torch.allclose(found.value, torch.full((4,), 0.02), atol=1e-4)


def test_units_lead_a_search_for_the_boundary_to_it() -> None:
    # In L2 units the distance of the boundary is (w·x + b) / ‖w s‖₂.
    net = nn.Linear(4, 2)
    net.weight.data = torch.stack([WEIGHT, -WEIGHT])
    net.bias.data = torch.tensor([1.0, -1.0]) * (0.3 - float(X[0] @ WEIGHT))
    length = 0.3 / float((WEIGHT * SCALE).norm())
    for share, falls in ((1.001, True), (0.999, False)):
        threat = Scaled(L2(length * share, (-10.0, 10.0)), SCALE)
        found = attack(wrap(net), DATA, FAB(20), threat, seed=0)
        assert bool((found.success == falls).all())


def test_what_a_mask_holds_is_not_searched() -> None:
    mask = torch.tensor([[True, False, False, True]])
    wide = torch.zeros(4, 200)
    wide[:, :4] = X
    weight = torch.zeros(200)
    weight[:4] = WEIGHT
    still = torch.zeros(1, 200, dtype=torch.bool)
    still[:, :4] = mask
    model = Closed(weight, 0.28 - float(wide[0] @ weight))  # 0.1 · (2 + 1) is more
    threat = Linf(0.1, (-10.0, 10.0), still)
    found = attack(model, Dataset(wide, DATA.y), Square(30), threat, seed=0)
    assert bool(found.success.all())
    assert bool((found.inputs == wide)[:, ~still[0]].all())


def test_nothing_moves_where_a_mask_holds_everything() -> None:
    threat = Linf(0.1, (-10.0, 10.0), torch.zeros(1, 4, dtype=torch.bool))
    found = attack(Closed(WEIGHT, 9.0), DATA, Square(5), threat, seed=0)
    assert torch.equal(found.inputs, X)


@pytest.mark.parametrize("labels", [False, True])
def test_black_box_breaks_what_a_linear_model_lets_it(labels: bool) -> None:
    model = Closed(WEIGHT, 0.2 - float(X[0] @ WEIGHT), labels)
    found = attack(model, DATA, BlackBox(200, samples=4), Linf(0.06, (-10.0, 10.0)), seed=0)
    assert bool(found.success.all())  # 0.06 · 4.5 = 0.27 is enough, and no random point of four is
    found = attack(model, DATA, BlackBox(200, samples=4), Linf(0.04, (-10.0, 10.0)), seed=0)
    assert not bool(found.success.any())


def test_black_box_asks_by_decisions_only_where_scores_stand_still() -> None:
    threat = Linf(0.01, (-10.0, 10.0))
    few = BlackBox(7, rounds=1, directions=2, samples=3)
    scores, labels = (
        attack(Closed(WEIGHT, 9.0, kind), DATA, few, threat, seed=0).provenance.forward / 4
        for kind in (False, True)
    )
    by_decisions = attack(
        Closed(WEIGHT, 9.0, True), DATA, HopSkipJump(1, 2), threat, seed=0
    ).provenance.forward
    assert scores <= 2 + 3 + 1 + 7 + 2  # clean, probes, Square, and what the driver asks again
    assert labels > by_decisions / 4


def test_black_box_refuses_an_infinite_radius_and_bad_numbers() -> None:
    with pytest.raises(CapabilityError, match="finite radius"):
        attack(Closed(WEIGHT, 9.0), DATA, BlackBox(), Linf(float("inf")), seed=0)
    with pytest.raises(PlanError, match="positive"):
        BlackBox(queries=0)
    with pytest.raises(PlanError, match="directions"):
        BlackBox(directions=1)


def test_a_diagnosis_without_gradients_is_amber_and_says_why() -> None:
    told = diagnosed(Closed(WEIGHT, 9.0), DATA, Linf(0.01, (-10.0, 10.0)), seed=0, indicators=ASKED)
    assert "BlackBox" in told.found.provenance.method
    assert told["no gradients"].level.word == told.verdict.word == "amber"
    assert "queries alone" in " ".join(told.reasons)
    net = nn.Linear(4, 2)
    net.weight.data, net.bias.data = torch.stack([WEIGHT, -WEIGHT]), torch.tensor([9.0, -9.0])
    told = diagnosed(wrap(net), DATA, Linf(0.01, (-10.0, 10.0)), seed=0, indicators=ASKED)
    assert told["no gradients"].value == 0


def test_an_audit_of_models_with_and_without_gradients_goes_through() -> None:
    x = torch.rand(12, 4, generator=torch.Generator().manual_seed(0))
    y = (x @ WEIGHT < float((x @ WEIGHT).median())).long()
    middle = float((x @ WEIGHT).median())
    net = nn.Linear(4, 2)
    net.weight.data = torch.stack([WEIGHT, -WEIGHT])
    net.bias.data = torch.tensor([-middle, middle])
    models = {
        "net": net,
        "closed": Closed(WEIGHT, -middle),
        "labels": Closed(WEIGHT, -middle, True),
    }
    sections = (Accuracy(), Robustness(), Diagnosis())
    plan = {
        "threats": ["linf:0.02"],
        "robustness": {"queried": {"name": "BlackBox", "queries": 60}, "rounds": 2},
        "diagnosis": {"examples": 6, "queried_again": {"name": "BlackBox", "queries": 60}},
    }
    run = audit(models, Dataset(x, y), plan, sections=sections).run
    told = run.sections["robustness"].models
    assert {name: (one["queried"], one["labelled"]) for name, one in told.items()} == {
        "net": (False, False),
        "closed": (True, False),
        "labels": (True, True),
    }
    left = {name: one["threats"][0]["standing"] for name, one in told.items()}
    assert left["net"] <= left["closed"] <= 12 and left["net"] <= left["labels"]
    verdicts = {n: o["threats"][0]["verdict"] for n, o in run.sections["diagnosis"].models.items()}
    assert verdicts == {"net": "green", "closed": "amber", "labels": "amber"}
    assert told["closed"]["attack"].startswith("by queries alone: BlackBox queries=60")
    assert told["closed"]["vanishing"] is None and told["net"]["vanishing"] is not None
    said = next(f for f in run.findings if f.model == "labels" and f.kind == "attacked_accuracy")
    assert "labels and no gradient" in said.sentence and "weaker" in said.limits


def test_outputs_that_move_at_any_draw_are_searched_by_them() -> None:
    """A step that some draws cross and others do not, each example at its own draws."""

    @dataclass(frozen=True)
    class Step(Closed):
        def __call__(self, batch: Batch) -> Tensor:
            up = (batch.x[:, 0] > 0.7).float()
            return torch.stack([1 + up, -up], 1)

    rng = Streams.of(0, torch.arange(4))
    batch, threat = Batch(X, DATA.y, rng), Linf(0.25)
    _, moves = BlackBox(samples=6)._probed(Step(WEIGHT, 0.0), batch, threat, margin)
    draws = [threat.sample(X, rng.fold("probe").fold(k))[:, 0] > 0.7 for k in range(6)]
    crossed = torch.stack(draws)
    assert moves.equal(crossed.any(0))
    assert bool(crossed.any()) and not bool(crossed[-1].equal(moves)), "the last draw is not all"
