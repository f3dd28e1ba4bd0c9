"""Attacks against closed forms and a peer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from conftest import linear, numbers

from conjoin.attacks import PGD, Closest, fgsm
from conjoin.core.dataset import Dataset
from conjoin.core.quantity import log_likelihood, margin
from conjoin.core.random import Streams
from conjoin.core.run import attack, predict
from conjoin.core.threat import L1, L2, Ball, Linf
from conjoin.errors import PlanError
from conjoin.models.torch import TorchModel

DUAL = {Linf: 1, L2: 2, L1: math.inf}


def two_classes(size: int = 40) -> tuple[TorchModel, Dataset, torch.Tensor]:
    """A linear model of two classes with all inputs right, far from the box, and w_0 - w_1."""
    weight = numbers(2, size, dtype=torch.float64)
    difference = weight[0] - weight[1]
    x = 0.5 + 0.01 * Streams.of(3, torch.arange(8)).normal(size, dtype=torch.float64)
    bias = torch.tensor([0.5, 0.0]).double() - torch.stack([x.mean(0) @ w for w in weight])
    model = linear(weight, bias)
    data = Dataset(x, torch.zeros(8, dtype=torch.int64))
    return model, data.select(margin(predict(model, data), data.y) > 0.05), difference


@pytest.mark.parametrize("kind", DUAL)
def test_the_least_margin_of_a_linear_model_is_reached(kind: type[Ball]) -> None:
    model, data, difference = two_classes()
    clean = margin(predict(model, data), data.y)
    dual = torch.linalg.vector_norm(difference, ord=DUAL[kind])
    eps = float(clean.min() / dual) * 0.9  # nothing falls, so the attack runs to its end
    found = attack(model, data, PGD(steps=300, step_size=0.1), kind(eps), seed=0)
    expected = clean - eps * dual
    # The l1 step spreads over the top share of elements, so it ends near the vertex, not at it.
    tolerance = 1e-4 if kind is not L1 else 0.02 * float(eps * dual)
    assert float((found.value - expected).abs().max()) < tolerance
    assert bool((found.value >= expected - 1e-9).all())  # the exact minimum is a floor


@pytest.mark.parametrize("kind", [Linf, L2])
def test_closest_finds_the_exact_distance_of_a_linear_model(kind: type[Ball]) -> None:
    model, data, difference = two_classes()
    clean = margin(predict(model, data), data.y)
    exact = clean / torch.linalg.vector_norm(difference, ord=DUAL[kind])
    method = Closest(PGD(steps=1, step_size=1.0, random_start=False), steps=20)
    found = attack(model, data, method, kind(float(exact.max()) * 1.5), seed=0)
    assert bool(found.success.all())
    assert torch.allclose(found.distance, exact, rtol=1e-4)
    assert bool((found.distance >= exact * (1 - 1e-9)).all())


def test_fgsm_is_one_signed_step_of_the_cross_entropy() -> None:
    model, data, difference = two_classes()
    small = 1e-3
    found = attack(model, data, fgsm(), Linf(small), seed=0)
    assert torch.allclose(found.inputs, data.x - small * difference.sign(), atol=1e-12)


def test_the_box_binds_the_attack() -> None:
    weight = torch.tensor([[4.0, 1.0], [0.0, 0.0]])
    data = Dataset(torch.tensor([[0.05, 0.9]]), torch.tensor([0]))
    found = attack(linear(weight), data, PGD(steps=200), L2(0.5), seed=0)
    # The steepest way leaves the box at x_0 = 0; what is left of the ball goes to x_1.
    expected = torch.tensor([[0.0, 0.9 - math.sqrt(0.25 - 0.05**2)]])
    assert torch.allclose(found.inputs, expected, atol=1e-3)


def test_restarts_never_hurt_and_success_is_judged_by_the_quantity(
    zoo: Callable[[str], TorchModel], sample: Dataset
) -> None:
    model, data = zoo("plain"), sample.select(range(60))
    one = attack(model, data, PGD(steps=8), Linf(0.02), seed=0)
    three = attack(model, data, PGD(steps=8, restarts=3), Linf(0.02), seed=0)
    assert bool((three.success | ~one.success).all())
    cross = PGD(steps=8, surrogate=log_likelihood)
    found = attack(model, data, cross, Linf(0.02), seed=0)
    fresh = margin(predict(model, replace(data, x=found.inputs)), data.y)
    assert torch.equal(found.success, fresh <= 0)
    assert abs(int(found.success.sum()) - int(one.success.sum())) <= 3


def test_fooled_points_leave_the_batch(zoo: Callable[[str], TorchModel], sample: Dataset) -> None:
    model, data = zoo("plain"), sample.select(range(60))
    found = attack(model, data, PGD(steps=40), Linf(0.1), seed=0)
    assert float(found.success.float().mean()) > 0.9
    assert found.provenance.backward < 60 * 40 / 4


def test_as_strong_as_foolbox_at_equal_budget(
    zoo: Callable[[str], TorchModel], sample: Dataset
) -> None:
    foolbox = pytest.importorskip("foolbox", reason="the peer is not installed")
    data = sample.select(range(200))
    for name in ("plain", "adversarial"):
        model = zoo(name)
        peer = foolbox.PyTorchModel(model.module.eval(), bounds=(0, 1), device="cpu")
        for threat, theirs in (
            (Linf(0.05), foolbox.attacks.LinfPGD(rel_stepsize=0.1, steps=40)),
            (L2(0.5), foolbox.attacks.L2PGD(rel_stepsize=0.1, steps=40)),
        ):
            torch.manual_seed(0)  # the peer draws from the global generator
            _, _, fooled = theirs(peer, data.x, data.y, epsilons=threat.eps)
            ours = attack(model, data, PGD(steps=40, step_size=0.1), threat, seed=0).success
            # Both are upper bounds; starts are random, so allow three points of 200.
            assert int(ours.sum()) >= int(fooled.sum()) - 3


@pytest.mark.parametrize("bad", [{"steps": 0}, {"restarts": 0}, {"step_size": 0.0}])
def test_an_empty_budget_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(PlanError, match="must be positive"):
        PGD(**bad)  # type: ignore[arg-type]
