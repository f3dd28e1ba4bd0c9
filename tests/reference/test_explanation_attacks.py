"""Attacks on explanations: closed forms, slow definitions, an unchanged prediction, the judge."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import Residual, biased, examples, numbers, residual, sequential
from torch import Tensor, nn

from conjoin.attacks import APGD, PGD, Homotopy, RandomSearch, Square
from conjoin.attribution import (
    gradient_times_input,
    integrated_gradients,
    occlusion,
    saliency,
    smoothgrad,
)
from conjoin.attribution.compared import LOST, Similar, compared, standing
from conjoin.attribution.similarity import (
    AwayFrom,
    CentreNearness,
    Cosine,
    TopMass,
    centre,
    mass,
    shares,
)
from conjoin.certification.drift import least_cosine
from conjoin.core.ball import L2, Linf
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.evidence import EvidenceClass
from conjoin.core.protocols import Batch
from conjoin.core.quantity import Contrast, RunnerUp
from conjoin.core.random import Streams
from conjoin.core.run import attribute, predict, score
from conjoin.errors import CapabilityError, DataError, PlanError
from conjoin.metrics import AttackedStability, attack_explanation
from conjoin.models.smoothed import smoothed
from conjoin.models.torch import TorchModel
from conjoin.nn.initialise import initialise

DOUBLE = torch.float64
OPEN = (-torch.inf, torch.inf)
QUICK = Homotopy(sharpness=(4.0,), steps=8)


def maps(seed: int, *shape: int) -> Tensor:
    return numbers(*shape, seed=seed, dtype=DOUBLE)


def test_similarities_by_their_definitions() -> None:
    now, before = maps(1, 5, 3, 4, 6), maps(2, 5, 3, 4, 6)
    target = maps(3, 1, 3, 4, 6)
    for k in range(5):
        a, b, t = now[k], before[k], target[0]
        cos = float((a * b).sum() / (a.norm() * b.norm()))
        assert float(Cosine()(now, before)[k]) == pytest.approx(cos, abs=1e-12)
        away = 1 - float((a * t).sum() / (a.norm() * t.norm()))
        assert float(AwayFrom(target)(now, before)[k]) == pytest.approx(away, abs=1e-12)
        size, old = a.abs().sum(0), b.abs().sum(0)
        best = sorted(range(24), key=lambda p, old=old: -float(old.flatten()[p]))[:6]
        share = sum(float(size.flatten()[p]) for p in best) / float(size.sum())
        assert float(TopMass(0.25)(now, before)[k]) == pytest.approx(share, abs=1e-12)
        where = []
        for m in (size, old):
            total, c = float(m.sum()), [0.0, 0.0]
            for i in range(4):
                for j in range(6):
                    c[0] += float(m[i, j]) * i / 3 / total
                    c[1] += float(m[i, j]) * j / 5 / total
            where.append(c)
        assert centre(now)[k].tolist() == pytest.approx(where[0], abs=1e-12)
        far = sum((p - q) ** 2 for p, q in zip(*where, strict=True)) / 2
        assert float(CentreNearness()(now, before)[k]) == pytest.approx(1 - far, abs=1e-12)
    for similarity in (Cosine(), TopMass(), CentreNearness()):
        assert bool((similarity(before, before) >= similarity(now, before) - 1).all())
    nothing = torch.zeros_like(now)
    assert float(Cosine()(nothing, before).abs().max()) == 0
    assert float(shares(nothing).abs().max()) == 0 and mass(now).shape == (5, 24)
    assert torch.allclose(shares(now).sum(1), torch.ones(5, dtype=DOUBLE))
    rows = maps(4, 5, 7)
    assert centre(rows).shape == (5, 1) and mass(rows).shape == (5, 7)


def test_a_target_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="target map"):
        AwayFrom(maps(0, 1, 3))(maps(1, 2, 4), maps(2, 2, 4))
    with pytest.raises(PlanError, match="share"):
        TopMass(0.0)


def signed() -> tuple[TorchModel, Dataset]:
    """A linear model with weights ±1, whose answer nothing near changes: its maps are ±z."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).double()
    module[1].weight.data = numbers(2, 64, dtype=DOUBLE).sign()
    module[1].bias.data = torch.tensor([999.0, 0.0], dtype=DOUBLE)
    data = examples(6, dtype=DOUBLE)
    return TorchModel(module), Dataset(data.x, torch.zeros_like(data.y))


@pytest.mark.parametrize(
    "method", [APGD(steps=120, surrogate=None), PGD(steps=150, step_size=0.05)]
)
def test_of_a_linear_model_the_least_cosine_is_its_closed_form(method: object) -> None:
    # cos(z, x) over ‖z - x‖ <= r is least on the tangent: √(1 - (r/‖x‖)²).
    model, data = signed()
    found = attack_explanation(
        model,
        data,
        gradient_times_input(),
        L2(1.5, OPEN),
        seed=0,
        method=method,  # type: ignore[arg-type]
    )
    length = data.x.flatten(1).norm(dim=1)
    expected = (1 - (1.5 / length).square()).sqrt()
    assert torch.allclose(found.similarity.double(), expected, atol=2e-4)
    assert bool((found.similarity >= expected - 1e-9).all()) and bool(found.kept.all())
    proved = least_cosine(found.before, torch.full((6,), 1.5, dtype=DOUBLE))
    assert torch.allclose(proved, expected, atol=1e-9)
    still = attack_explanation(model, data, saliency(), L2(1.5, OPEN), seed=0, method=PGD(steps=5))
    assert torch.equal(still.before, still.after)
    assert torch.allclose(still.cosine, torch.ones(6, dtype=DOUBLE))
    assert torch.equal(still.inputs, data.x)


@pytest.mark.parametrize("similarity", [Cosine(), TopMass(), CentreNearness()])
def test_the_prediction_stays_and_the_map_moves(similarity: object) -> None:
    model, data, threat = residual(), examples(8), Linf(0.2)
    answer = predict(model, data).argmax(1)
    strong = Homotopy(sharpness=(2.0, 8.0), steps=15)
    found = attack_explanation(
        model,
        data,
        saliency(),
        threat,
        seed=0,
        method=strong,
        similarity=similarity,  # type: ignore[arg-type]
    )
    assert torch.equal(predict(model, Dataset(found.inputs, data.y)).argmax(1), answer)
    assert bool(found.kept.all()) and bool(threat.contains(found.inputs, data.x).all())
    own = similarity(found.before, found.before)  # type: ignore[operator]
    assert bool((found.similarity < own - 1e-3).all())
    again = similarity(found.after, found.before)  # type: ignore[operator]
    assert torch.allclose(again, found.similarity, atol=1e-6)
    assert found.evidence.kind is EvidenceClass.EMPIRICAL


def test_without_the_guard_predictions_would_have_changed() -> None:
    model, data = residual(), examples(8)
    before = attribute(model, data, saliency(), seed=0)
    context = standing({}, before.values, before.target, predict(model, data))
    batch = Batch(data.x, torch.zeros(8, dtype=torch.int64), Streams.of(0, data.positions), context)
    both = compared(model, saliency())
    far = both(batch.at(1 - data.x))
    flipped = predict(model, Dataset(1 - data.x, data.y)).argmax(1) != before.target
    assert bool(flipped.any()) and not bool(flipped.all())
    assert torch.equal(far[:, 1] < 0, flipped)
    value = Similar()(far, batch.aim)
    assert bool((value[flipped] > LOST).all()) and bool((value[~flipped] <= 1).all())
    outputs = predict(model, Dataset(1 - data.x, data.y))
    own = outputs.gather(1, before.target[:, None])[:, 0]
    missing = own - outputs.scatter(1, before.target[:, None], -torch.inf).amax(1)
    assert torch.allclose(far[:, 1], missing)
    # The way back: what is missing falls along the gradient.
    x = (1 - data.x).requires_grad_()
    Similar()(both(batch.at(x)), batch.aim)[flipped].sum().backward()
    assert x.grad is not None and bool((x.grad[flipped].flatten(1).norm(dim=1) > 0).all())


def test_at_a_tie_the_first_class_is_the_answer() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    module[1].weight.data = torch.zeros(2, 64)
    module[1].bias.data = torch.zeros(2)
    both, x = compared(TorchModel(module), saliency()), examples(2).x
    for answer, kept in ((0, True), (1, False)):
        outputs = torch.nn.functional.one_hot(torch.tensor([answer] * 2), 2).float()
        context = standing({}, torch.zeros_like(x), torch.zeros(2, dtype=torch.int64), outputs)
        batch = Batch(x, torch.zeros(2, dtype=torch.int64), Streams.of(0, torch.arange(2)), context)
        assert bool(((both(batch)[:, 1] >= 0) == kept).all())


def behind(model: TorchModel, data: Dataset) -> Batch:
    """A batch with explanations behind it that are not quite its own."""
    before = attribute(model, data, saliency(), seed=0)
    context = standing({}, before.values + 0.3, before.target, predict(model, data))
    aim = torch.zeros(len(data), dtype=torch.int64)
    return Batch(data.x, aim, Streams.of(0, data.positions), context)


def test_gradients_are_second_derivatives() -> None:
    module = Residual(nn.Tanh)
    initialise(module, 0)
    biased(module, 0)
    model, data = TorchModel(module.double()), examples(3, dtype=DOUBLE)
    batch, both = behind(model, data), compared(model, saliency())
    x = data.x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(both(batch.at(x))[:, 0].sum(), x)
    way, step = numbers(3, 1, 8, 8, dtype=DOUBLE), 1e-5
    ahead, back = (both(batch.at(data.x + sign * step * way))[:, 0] for sign in (1, -1))
    told = (slope * way).flatten(1).sum(1)
    assert torch.allclose((ahead - back) / (2 * step), told, rtol=1e-5, atol=1e-8)
    assert float(told.abs().min()) > 1e-3


def test_the_map_of_a_kinked_network_stands_still_and_that_of_its_twin_does_not() -> None:
    model, data = residual(dtype=DOUBLE), examples(3, dtype=DOUBLE)
    batch, both = behind(model, data), compared(model, saliency())
    x = data.x.clone().requires_grad_()
    own, twin = (
        torch.autograd.grad(f(batch.at(x))[:, 0].sum(), x, allow_unused=True)[0]
        for f in (both, smoothed(both, 4.0))
    )
    assert own is None or float(own.abs().max()) == 0
    assert bool((twin.flatten(1).norm(dim=1) > 0.01).all())


def test_the_twin_finds_what_gradients_of_the_network_do_not() -> None:
    model, data = residual(), examples(12)
    by = {
        "twin": Homotopy(sharpness=(2.0, 4.0), steps=15),
        "network": APGD(steps=30, surrogate=None),
        "chance": RandomSearch(30),
    }
    found = {
        name: attack_explanation(model, data, saliency(), Linf(0.1), seed=0, method=method)
        for name, method in by.items()
    }
    low = {name: float(one.cosine.median()) for name, one in found.items()}
    assert low["twin"] < min(low["network"], low["chance"]) - 0.02


def test_a_target_map_is_neared() -> None:
    model, data = residual(), examples(6)
    target = torch.zeros(1, 1, 8, 8)
    target[..., :4, :4] = 1.0
    found = attack_explanation(
        model,
        data,
        integrated_gradients(nodes=4),
        Linf(0.2),
        seed=0,
        method=QUICK,
        similarity=AwayFrom(target),
    )
    at_x = AwayFrom(target)(found.before, found.before)
    assert bool((found.similarity < at_x).all()) and bool(found.kept.all())


@pytest.mark.parametrize("explanation", [occlusion(4), smoothgrad(draws=6)])
def test_any_explanation_by_an_attack_that_asks_for_no_gradient(explanation: object) -> None:
    model, data = sequential(), examples(4)
    found = attack_explanation(
        model,
        data,
        explanation,
        Linf(0.1),
        seed=0,
        method=Square(queries=25),  # type: ignore[arg-type]
    )
    assert bool(found.kept.all()) and float(found.similarity.max()) < 1
    assert bool((found.top <= 1).all()) and bool((found.shift >= 0).all())


def test_nothing_depends_on_the_batch_size() -> None:
    model, data = residual(), examples(8)
    whole, parts = (
        attack_explanation(
            model, data, smoothgrad(draws=3), Linf(0.1), seed=2, method=QUICK, run=Run(batch_size=n)
        )
        for n in (8, 4)
    )
    assert torch.allclose(whole.inputs, parts.inputs, atol=1e-6)
    assert torch.allclose(whole.cosine, parts.cosine, atol=1e-4)


def test_the_score_is_what_the_attack_finds() -> None:
    model, data, threat = residual(), examples(8), Linf(0.1)
    told = score(model, data, saliency(), AttackedStability(threat, QUICK), seed=0).values
    found = attack_explanation(model, data, saliency(), threat, seed=0, method=QUICK)
    assert torch.allclose(told, found.similarity, atol=1e-5)
    assert bool((told < 1 - 1e-3).all()) and not math.isnan(float(told.sum()))


def test_without_what_stands_behind_it_says_so() -> None:
    batch = Batch(examples(2).x, torch.zeros(2, dtype=torch.int64), Streams.of(0, torch.arange(2)))
    with pytest.raises(DataError, match="standing"):
        compared(residual(), saliency())(batch)


def test_a_smooth_network_is_descended_itself() -> None:
    module = Residual(nn.Tanh)
    initialise(module, 0)
    biased(module, 0)
    model, data = TorchModel(module), examples(6)
    with pytest.raises(CapabilityError, match="rounded off"):
        attack_explanation(model, data, saliency(), Linf(0.1), seed=0)
    method = APGD(steps=25, surrogate=None)
    found = attack_explanation(model, data, saliency(), Linf(0.1), seed=0, method=method)
    chance = attack_explanation(model, data, saliency(), Linf(0.1), seed=0, method=RandomSearch(25))
    assert bool((found.cosine < chance.cosine).all()) and bool(found.kept.all())


def test_pairs_of_classes_are_for_the_score() -> None:
    model, data, threat = residual(), examples(4), Linf(0.1)
    method = saliency(Contrast())
    stable = AttackedStability(threat, QUICK)
    told = score(model, data, method, stable, seed=0, target=RunnerUp()).values
    assert bool((told < 1).all())
    with pytest.raises(PlanError, match="one class"):
        attack_explanation(model, data, method, threat, seed=0, target=RunnerUp())
