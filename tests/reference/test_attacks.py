"""Attacks against closed forms and a peer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from conftest import batch_of, examples, linear, numbers, residual
from torch import Tensor

from conjoin.attacks import PGD, Closest, WorstOf, fgsm
from conjoin.core.ball import L1, L2, Ball, Linf
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.protocols import Batch
from conjoin.core.quantity import Asked, log_likelihood, logit, margin
from conjoin.core.random import Streams
from conjoin.core.run import attack, predict
from conjoin.errors import CapabilityError, PlanError
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
    assert float((found.value - expected).abs().max()) < 1e-6
    assert bool((found.value >= expected - 1e-12).all())  # the exact minimum is a floor


def least_in_a_box(kind: type[Ball], g: Tensor, x: Tensor, eps: float) -> Tensor:
    """The minimum of g · (z - x) over the ball and the box [0, 1] (for l1: over the ball)."""
    room = torch.where(g > 0, x, 1 - x)  # how far each element goes downhill
    if kind is Linf:
        return -(g.abs() * room.clamp(max=eps)).sum(1)
    if kind is L2:  # d = min(s |g|, room) with the s that spends the radius
        low, high = torch.zeros(len(x), 1).double(), torch.full((len(x), 1), 1e6).double()
        for _ in range(200):
            s = (low + high) / 2
            over = torch.minimum(s * g.abs(), room).norm(dim=1, keepdim=True) > eps
            low, high = torch.where(over, low, s), torch.where(over, s, high)
        return -(g.abs() * torch.minimum(low * g.abs(), room)).sum(1)
    return -eps * g.abs().amax() * torch.ones(len(x)).double()  # no wall within reach


@pytest.mark.parametrize(("kind", "eps"), [(Linf, 0.3), (L2, 1.2), (L1, 0.05)])
def test_a_logit_is_minimised_to_the_end(kind: type[Ball], eps: float) -> None:
    weight = numbers(2, 12, dtype=torch.float64)
    x = Streams.of(3, torch.arange(8)).uniform(12, dtype=torch.float64)
    x = x if kind is not L1 else 0.25 + x / 2
    data = Dataset(x, torch.zeros(8, dtype=torch.int64))
    exact = x @ weight[0] + least_in_a_box(kind, weight[0], x, eps)
    found = attack(linear(weight), data, PGD(steps=400), kind(eps), seed=0, quantity=logit)
    assert float((found.value - exact).abs().max()) < 1e-4
    assert bool((found.value >= exact - 1e-12).all())
    assert not bool(found.success.any())  # no goal, no success


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


# The steepest way leaves the box at x_0 = 0; what is left of the ball goes to x_1.
@pytest.mark.parametrize(("kind", "left"), [(L2, math.sqrt(0.25 - 0.05**2)), (L1, 0.5 - 0.05)])
def test_the_box_binds_the_attack(kind: type[Ball], left: float) -> None:
    weight = torch.tensor([[4.0, 1.0], [0.0, 0.0]])
    data = Dataset(torch.tensor([[0.05, 0.9]]), torch.tensor([0]))
    found = attack(linear(weight), data, PGD(steps=200), kind(0.5), seed=0)
    assert torch.allclose(found.inputs, torch.tensor([[0.0, 0.9 - left]]), atol=2e-5)


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


class Ramp:
    """Two classes of a number x: the margin is max(x - 1/2, 0), a tie from 1/2 downwards."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, batch: Batch) -> Tensor:
        self.seen.append(batch.x.detach().clone())
        return torch.cat([batch.x.clamp(min=0.5), torch.full_like(batch.x, 0.5)], dim=1)


def test_a_tie_is_a_success() -> None:
    batch = batch_of(torch.tensor([[0.75], [0.625]]))
    model, method = Ramp(), PGD(steps=40, step_size=0.25, random_start=False, restarts=3)
    z = method(model, batch, Linf(0.5), margin)
    assert z.tolist() == [[0.5], [0.5]]
    assert len(model.seen) == 3  # x, one step each, and the second for the first alone
    z = WorstOf((method, PGD(steps=7)))(model := Ramp(), batch, Linf(0.5), margin)
    assert len(model.seen) == 4  # the first attack, its value, and nothing of the second
    # The nearest tie lies at 1/2; what was found is beyond it.
    deep = PGD(steps=1, step_size=1.0, random_start=False)
    near = Closest(deep, steps=20)(Ramp(), batch, Linf(0.5), margin)
    assert bool((near <= 0.5).all()) and float((near - 0.5).abs().max()) < 1e-5


class Waves:
    """A logit with many minima: where a descent ends depends on where it starts."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []

    def __call__(self, batch: Batch) -> Tensor:
        value = (batch.x * 37).sin().sum(1) + (batch.x * 11).cos().sum(1)
        self.seen.append((batch.rng.key, value.detach()))
        return torch.stack([value, -value], dim=1)


@pytest.mark.parametrize("restarts", [1, 4])
@pytest.mark.parametrize("quantity", [logit, Asked(lambda z, aim: z[:, 0], goal=-3.2)])
def test_the_best_point_seen_is_what_comes_back(restarts: int, quantity: Asked) -> None:
    batch = batch_of(Streams.of(5, torch.arange(30)).uniform(3, dtype=torch.float64))
    model = Waves()
    method = PGD(steps=9, step_size=0.3, restarts=restarts)
    found = method(model, batch, Linf(0.4), quantity)
    least: dict[int, float] = {}
    for keys, value in model.seen:  # their streams tell which examples took part
        for key, v in zip(keys.tolist(), value.tolist(), strict=True):
            known = least.get(key, math.inf)
            least[key] = known if known <= quantity.goal else min(known, v)
    value = Waves()(batch.at(found))[:, 0]
    assert value.tolist() == [least[key] for key in batch.rng.key.tolist()]


def test_more_restarts_find_no_less_of_a_logit() -> None:
    batch = batch_of(Streams.of(5, torch.arange(30)).uniform(3, dtype=torch.float64))
    values = [
        Waves()(batch.at(PGD(steps=5, restarts=k)(Waves(), batch, L2(0.4), logit)))[:, 0]
        for k in (1, 2, 4)
    ]
    assert bool((values[1] <= values[0]).all()) and bool((values[2] <= values[1]).all())
    assert bool((values[2] < values[0]).any())


def test_attacks_in_turn_keep_the_worst() -> None:
    batch = batch_of(Streams.of(5, torch.arange(30)).uniform(3, dtype=torch.float64))
    attacks = (PGD(steps=5), fgsm(logit), PGD(steps=3, step_size=0.5))
    together = Waves()(batch.at(WorstOf(attacks)(Waves(), batch, Linf(0.4), logit)))[:, 0]
    alone = [
        Waves()(batch.at(WorstOf(attacks[: k + 1])(Waves(), batch, Linf(0.4), logit)))[:, 0]
        for k in range(3)
    ]
    assert torch.equal(together, alone[2])
    assert bool((alone[1] <= alone[0]).all() and (alone[2] <= alone[1]).all())


@pytest.mark.parametrize("threat", [Linf(0.15), L2(0.9), L1(5.0)], ids=str)
def test_company_does_not_change_an_attack(threat: Ball) -> None:
    some = examples(40)
    model = residual()
    data = some.labelled(predict(model, some).argmax(1))
    method = PGD(steps=15, restarts=2)
    whole = attack(model, data, method, threat, seed=0)
    assert 0 < float(whole.success.float().mean()) < 1  # points leave at different times
    for size in (1, 7):
        parts = attack(model, data, method, threat, seed=0, run=Run(batch_size=size))
        assert torch.equal(parts.inputs, whole.inputs)


def test_tokens_infinite_radii_and_sets_without_projection_are_refused() -> None:
    tokens = Batch(torch.ones(2, 3, dtype=torch.int64), *_aim_and_streams(2))
    with pytest.raises(CapabilityError, match="tokens"):
        PGD()(Ramp(), tokens, Linf(1.0, (0, 9)), margin)
    batch = batch_of(torch.full((2, 1), 0.75))
    with pytest.raises(CapabilityError, match="radius, which is infinite"):
        PGD()(Ramp(), batch, Linf(math.inf), margin)

    class Drawn:
        def __init__(self, ball: Ball) -> None:
            for name in ("contains", "sample", "distance", "rows", "to", "check"):
                setattr(self, name, getattr(ball, name))

    with pytest.raises(CapabilityError, match="tells neither"):
        PGD()(Ramp(), batch, Drawn(Linf(0.1)), margin)  # type: ignore[arg-type]


def _aim_and_streams(count: int) -> tuple[Tensor, Streams]:
    return torch.zeros(count, dtype=torch.int64), Streams.of(0, torch.arange(count))


@pytest.mark.parametrize("bad", [{"steps": 0}, {"restarts": 0}, {"step_size": 0.0}])
def test_an_empty_budget_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(PlanError, match="must be positive"):
        PGD(**bad)  # type: ignore[arg-type]


class _Notes:
    """An attack that does nothing, and notes whose random numbers it was given."""

    def __init__(self) -> None:
        self.keys = torch.empty(0)

    def __call__(self, model: object, batch: Batch, *_: object) -> Tensor:
        self.keys = batch.rng.key
        return batch.x


def test_attacks_in_turn_do_not_share_their_random_numbers() -> None:
    batch, notes = batch_of(torch.full((3, 1), 0.75)), (_Notes(), _Notes())
    WorstOf(notes)(Ramp(), batch, Linf(0.1), margin)  # type: ignore[arg-type]
    keys = torch.cat([batch.rng.key, *(note.keys for note in notes)])
    assert len(keys.unique()) == 9
