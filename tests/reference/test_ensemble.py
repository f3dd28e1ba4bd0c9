"""The stronger attacks: against closed forms, a slow reference, traps of known shape, and a peer."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import batch_of, examples, numbers, residual
from test_attacks import two_classes
from torch import Tensor, nn

from conjoin.attacks import (
    APGD,
    FAB,
    PGD,
    EachTarget,
    Homotopy,
    HotFlip,
    Square,
    WorstOf,
    quick,
    standard,
    thorough,
)
from conjoin.attacks.descent import descended
from conjoin.attacks.targets import misled
from conjoin.core.ball import L1, L2, Ball, Linf
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.protocols import Attack, Batch
from conjoin.core.quantity import (
    Avoid,
    Contrast,
    log_likelihood,
    logit,
    logit_ratio,
    margin,
)
from conjoin.core.random import Streams
from conjoin.core.run import attack, predict
from conjoin.errors import CapabilityError, PlanError
from conjoin.models.torch import TorchModel

DUAL = {Linf: 1, L2: 2, L1: math.inf}
SIDE = 6


# --- closed forms -------------------------------------------------------------------------------


@pytest.mark.parametrize("surrogate", [None, log_likelihood, logit_ratio])
@pytest.mark.parametrize("kind", [Linf, L2])
def test_descent_reaches_the_least_margin_of_a_linear_model(
    kind: type[Ball], surrogate: Any
) -> None:
    model, data, difference = two_classes()
    clean = margin(predict(model, data), data.y)
    dual = torch.linalg.vector_norm(difference, ord=DUAL[kind])
    eps = float(clean.min() / dual) * 0.9
    found = attack(model, data, APGD(steps=100, surrogate=surrogate), kind(eps), seed=0)
    expected = clean - eps * dual
    assert float((found.value - expected).abs().max()) < 1e-6
    assert bool((found.value >= expected - 1e-12).all())


@pytest.mark.parametrize("kind", DUAL)
@pytest.mark.parametrize("walls", [False, True])
def test_the_boundary_of_a_linear_model_is_met_where_it_is(kind: type[Ball], walls: bool) -> None:
    model, data, difference = two_classes()
    clean = margin(predict(model, data), data.y)
    x = data.x
    if walls:  # a box that stops the largest steps of the free solution
        reach = clean / torch.linalg.vector_norm(difference, ord=DUAL[kind])
        side = 0.6 * float(reach.min()) / (1 if kind is Linf else 4)
        side = 1.2 * float(reach.max()) if kind is Linf else side
        bounds: Any = (float(x.min()) - side, float(x.max()) + side)
    else:
        bounds = (-50.0, 50.0)
    exact = nearest_in_a_box(kind, difference, clean, (x - bounds[0], bounds[1] - x))
    reachable = exact.isfinite()
    assert bool(reachable.any())
    for factor, expected in ((1 + 1e-4, True), (1 - 1e-4, False)):
        some = data.select(reachable)
        threat = kind(exact[reachable] * factor, bounds=bounds)
        found = attack(model, some, FAB(steps=40), threat, seed=0)
        assert bool((found.success == expected).all())


def nearest_in_a_box(
    kind: type[Ball], w: Tensor, change: Tensor, room: tuple[Tensor, Tensor]
) -> Tensor:
    """The least norm of a d with -w · d >= change and -room <= d <= room, by bisection."""
    reach = torch.where(w > 0, *room)

    def most(radius: Tensor) -> Tensor:
        if kind is Linf:
            return (w.abs() * torch.minimum(reach, radius[:, None])).sum(1)
        if kind is L1:
            order = w.abs().argsort(descending=True)
            spent = reach[:, order].cumsum(1).clamp(max=radius[:, None])
            return (w.abs()[order] * spent.diff(dim=1, prepend=torch.zeros_like(spent[:, :1]))).sum(
                1
            )
        low, high = torch.zeros_like(radius), torch.full_like(radius, 1e6)
        for _ in range(100):
            t = (low + high) / 2
            over = torch.minimum(t[:, None] * w.abs(), reach).norm(dim=1) > radius
            low, high = torch.where(over, low, t), torch.where(over, t, high)
        return (w.abs() * torch.minimum(low[:, None] * w.abs(), reach)).sum(1)

    low, high = torch.zeros_like(change), torch.full_like(change, 1e3)
    far = most(high) < change
    for _ in range(100):
        radius = (low + high) / 2
        short = most(radius) < change
        low, high = torch.where(short, radius, low), torch.where(short, high, radius)
    return torch.where(far, math.inf, high)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [(Linf, (12,)), (Linf, (3, 4, 8)), (L2, (1, 6, 6)), (L2, (2, 9)), (L1, (12,)), (L1, (1, 6, 6))],
)
def test_random_search_comes_near_the_least_margin(
    kind: type[Ball], shape: tuple[int, ...]
) -> None:
    size = math.prod(shape)
    weight = numbers(2, size, dtype=torch.float64)
    module = nn.Sequential(nn.Flatten(), nn.Linear(size, 2, dtype=torch.float64))
    module[1].weight.data, module[1].bias.data = weight, torch.tensor([9.0, 0.0]).double()
    x = 0.3 + 0.4 * Streams.of(5, torch.arange(6)).uniform(*shape, dtype=torch.float64)
    data = Dataset(x, torch.zeros(6, dtype=torch.int64))
    model, difference = TorchModel(module), weight[0] - weight[1]
    eps = {Linf: 0.05, L2: 0.2, L1: 0.25}[kind]
    clean = margin(predict(model, data), data.y)
    least = clean - eps * torch.linalg.vector_norm(difference, ord=DUAL[kind])
    found = attack(model, data, Square(queries=600), kind(eps), seed=0)
    won = (clean - found.value) / (clean - least)
    assert bool((won <= 1 + 1e-9).all())
    assert float(won.mean()) > {Linf: 0.8, L2: 0.6, L1: 0.45}[kind]
    one = attack(model, data, Square(queries=1), kind(eps), seed=0)
    assert bool((found.value < one.value).all())


# --- the loss -----------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 4, 10])
def test_the_logit_ratio_is_the_papers(classes: int) -> None:
    outputs = numbers(20, classes, dtype=torch.float64)
    own = torch.arange(20) % classes
    other = (own + 1) % classes
    for row in range(20):
        z = outputs[row].tolist()
        top = sorted(z, reverse=True)
        ahead = z[int(own[row])] - max(z[: int(own[row])] + z[int(own[row]) + 1 :])
        headed = z[int(own[row])] - z[int(other[row])]
        if classes == 2:
            expected = ahead, headed
        elif classes == 3:
            expected = ahead / (top[0] - top[2]), headed / (top[0] - top[2])
        else:
            below = (top[2] + top[3]) / 2
            expected = ahead / (top[0] - top[2]), headed / (top[0] - below)
        found = (
            logit_ratio(outputs, own)[row],
            logit_ratio(outputs, torch.stack([own, other], 1))[row],
        )
        assert [float(value) for value in found] == pytest.approx(expected, abs=1e-9)
    if classes > 2:
        assert torch.allclose(logit_ratio(1000 * outputs, own), logit_ratio(outputs, own))


def test_outputs_that_are_all_equal_have_no_slope_and_no_nan() -> None:
    outputs = torch.ones(2, 5, requires_grad=True)
    logit_ratio(outputs, torch.tensor([0, 3])).sum().backward()
    assert outputs.grad is not None
    assert bool(outputs.grad.isfinite().all())


# --- the paper's algorithm, slowly --------------------------------------------------------------


def slow_apgd(
    model: TorchModel, start: Tensor, about: tuple[Tensor, int, float], steps: int, question: Any
) -> Tensor:
    """Algorithm 1 of the paper for one example under Linf, in plain words; it minimises a question."""
    x, label, eps = about

    def look(z: Tensor) -> tuple[float, Tensor]:
        z = z.clone().requires_grad_()
        loss = -question(model(batch_of(z[None], torch.tensor([label]))), torch.tensor([label]))[0]
        (slope,) = torch.autograd.grad(loss, z)
        return float(loss.detach()), slope

    def into(z: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(z, x - eps), x + eps).clamp(0, 1)

    periods = [max(round(0.22 * steps), 1)]
    while periods[-1] > max(round(0.06 * steps), 1):
        periods.append(max(periods[-1] - max(round(0.03 * steps), 1), round(0.06 * steps), 1))
    z = before = start
    loss, slope = look(z)
    best, best_loss, best_slope, last_best = z, loss, slope, loss
    eta, rises, since, halved = 2 * eps, 0, 0, True
    for k in range(steps):
        ahead = into(z + eta * slope.sign())
        a = 1.0 if k == 0 else 0.75
        new = into(z + a * (ahead - z) + (1 - a) * (z - before))
        before, old, z = z, loss, new
        loss, slope = look(z)
        rises += loss > old
        if loss > best_loss:
            best, best_loss, best_slope = z, loss, slope
        since += 1
        if since == periods[0]:
            halve = rises <= 0.75 * since or (not halved and best_loss <= last_best)
            if halve:
                eta, z, slope, loss = eta / 2, best, best_slope, best_loss
            halved, last_best, since, rises = halve, best_loss, 0, 0
            periods = periods[1:] or periods
    return best


@pytest.mark.parametrize("eps", [0.05, 0.2, 0.5])
def test_apgd_takes_the_steps_of_the_paper(eps: float) -> None:
    model, data = residual(dtype=torch.float64), examples(6, dtype=torch.float64)
    threat = Linf(eps)
    method = APGD(steps=60, surrogate=None)  # of a quantity without a goal: it runs to its end
    found = attack(model, data, method, threat, seed=3, quantity=logit)
    for i in range(len(data)):
        rng = Streams.of(3, torch.tensor([i])).fold("restart").fold(0)
        start = threat.sample(data.x[i : i + 1], rng)[0]
        slow = slow_apgd(model, start, (data.x[i], int(data.y[i]), eps), 60, logit)
        assert float((found.inputs[i] - slow).abs().max()) < 1e-9


# --- targets and quantities ---------------------------------------------------------------------


def test_each_of_the_likeliest_classes_is_headed_for_and_never_the_right_one() -> None:
    model, data = residual(), examples(9)
    data = replace(data, y=predict(model, data).argmax(1))
    seen: list[Tensor] = []

    def spy(model: Any, batch: Batch, threat: Any, quantity: Any) -> Tensor:
        assert quantity is misled
        seen.append(batch.aim)
        return batch.x

    attack(model, data, EachTarget(spy, 2), Linf(0.01), seed=0)
    order = predict(model, data).argsort(1, descending=True)
    for number, aim in enumerate(seen):
        assert torch.equal(aim, order[:, [0, number + 1]])
    assert len(seen) == 2
    seen.clear()
    attack(model, data, EachTarget(spy, 99), Linf(0.01), seed=0)
    assert len(seen) == order.shape[1] - 1


@pytest.mark.parametrize(
    "method", [APGD(20), Homotopy(steps=5), quick(), PGD(20, surrogate=log_likelihood)]
)
def test_a_class_to_be_reached_is_approached_not_fled(method: Attack) -> None:
    model, data = residual(), examples(12)
    aim = predict(model, data).argsort(1)[:, 0]
    data = replace(data, y=aim)
    plain = attack(model, data, PGD(100), Linf(0.05), seed=0, quantity=Avoid())
    found = attack(model, data, method, Linf(0.05), seed=0, quantity=Avoid())
    assert float((found.value - plain.value).mean()) < 0.05 * float(
        (plain.clean - plain.value).mean()
    )


def test_surrogates_of_the_margin_stand_for_it_alone() -> None:
    def own(outputs: Tensor, aim: Tensor) -> Tensor:
        return outputs[:, 0]

    assert descended(log_likelihood, margin) is log_likelihood
    assert descended(logit_ratio, misled) is logit_ratio
    assert descended(None, margin) is margin
    assert descended(own, logit) is own
    for quantity in (logit, Avoid(), Contrast()):
        assert descended(log_likelihood, quantity) is quantity
        assert descended(logit_ratio, quantity) is quantity


# --- traps --------------------------------------------------------------------------------------


class Dead(nn.Module):
    """Right by 1 where relu(Σx - s) is flat; wrong beyond: no gradient, until x has crossed s."""

    def __init__(self, size: int, start: float) -> None:
        super().__init__()
        self.first = nn.Linear(size, 2)
        self.first.weight.data[0], self.first.weight.data[1] = 1.0, -1.0
        self.first.bias.data = torch.tensor([-start, start - 2.0])
        self.last = nn.Linear(2, 2)
        self.last.weight.data = torch.tensor([[-10.0, 0.0], [0.0, 0.0]])
        self.last.bias.data = torch.tensor([1.0, 0.0])

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu())


def test_twins_lead_out_of_a_flat_place() -> None:
    model = TorchModel(Dead(8, 4.6))
    data = Dataset(torch.full((4, 8), 0.5), torch.zeros(4, dtype=torch.int64))
    threat = Linf(0.1)
    for method in (APGD(100), PGD(100), FAB(100)):
        assert not bool(attack(model, data, method, threat, seed=0).success.any())
    assert bool(attack(model, data, Homotopy(), threat, seed=0).success.all())


class Rounded(nn.Module):
    """A linear model of inputs rounded to tenths: its gradient is zero wherever there is one."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body((10 * x).round() / 10)


def test_random_search_needs_no_gradient() -> None:
    weight = numbers(2, SIDE * SIDE)
    body = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 2))
    body[1].weight.data, body[1].bias.data = weight, torch.zeros(2)
    x = Streams.of(5, torch.arange(8)).uniform(1, SIDE, SIDE)
    model = TorchModel(Rounded(body))
    data = Dataset(x, predict(model, Dataset(x, torch.zeros(8).long())).argmax(1))
    blind = attack(model, data, APGD(50), Linf(0.3), seed=0)
    seeing = attack(model, data, Square(500), Linf(0.3), seed=0)
    assert int(seeing.success.sum()) == 8 > int(blind.success.sum())


def test_what_does_not_apply_is_passed_over_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    model, data = residual(), examples(8)
    data = replace(data, y=predict(model, data).argmax(1))
    threat = Linf(0.05)  # no tokens
    both = WorstOf((HotFlip(tries=7), PGD(3)))
    with caplog.at_level(logging.WARNING):
        found = attack(model, data, both, threat, seed=0, run=Run(batch_size=2))
    assert [r.getMessage() for r in caplog.records if "passed over" in r.getMessage()] == [
        r.getMessage() for r in caplog.records
    ][:1]
    alone = attack(model, data, PGD(3), threat, seed=0)
    assert bool((found.value <= found.clean).all())
    assert float((found.value - alone.value).abs().max()) < 1  # a start of its own
    with pytest.raises(CapabilityError, match="no options"):
        attack(model, data, WorstOf((HotFlip(tries=7), HotFlip(tries=3))), threat, seed=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: APGD(steps=0),
        lambda: APGD(restarts=0),
        lambda: FAB(steps=0),
        lambda: Square(queries=0),
        lambda: Square(share=1.5),
        lambda: Homotopy(sharpness=()),
        lambda: Homotopy(sharpness=(0.0,)),
        lambda: EachTarget(APGD(), 0),
    ],
)
def test_senseless_parameters_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(PlanError):
        make()


def test_what_cannot_be_asked_is_refused_with_what_can() -> None:
    model, data = residual(), examples(4)
    data = replace(data, y=predict(model, data).argmax(1))
    with pytest.raises(CapabilityError, match="boundary"):
        attack(model, data, FAB(), Linf(0.1), seed=0, quantity=logit)
    with pytest.raises(CapabilityError, match="attack it directly"):
        attack(model, data, EachTarget(APGD(5)), Linf(0.1), seed=0, quantity=Avoid(1))
    smooth = TorchModel(
        nn.Sequential(nn.Flatten(), nn.Linear(data.x[0].numel(), 5), nn.Tanh(), nn.Linear(5, 3))
    )
    right = replace(data, y=predict(smooth, data).argmax(1))
    with pytest.raises(CapabilityError, match="rounded off"):
        attack(smooth, right, Homotopy(), Linf(0.1), seed=0)
    for method in (APGD(), Homotopy(), Square()):
        with pytest.raises(CapabilityError):
            attack(model, data, method, Linf(math.inf), seed=0)


# --- a peer -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "threat"),
    [("adversarial", Linf(0.1)), ("adversarial", L2(1.0)), ("plain", Linf(0.02))],
)
def test_nothing_that_the_peer_breaks_is_left_standing(
    name: str, threat: Ball, zoo: Callable[[str], TorchModel], sample: Dataset
) -> None:
    tool = pytest.importorskip("pyautoattack")
    model, data = zoo(name), sample.select(range(50))
    norm = {"linf": "Linf", "l2": "L2"}[threat.name]
    peer = tool.AutoAttack(model.module.eval(), norm=norm, eps=float(threat.eps), seed=0)
    out = peer.run_standard_evaluation(data.x, data.y, batch_size=50)
    z = threat.project((out[0] if isinstance(out, tuple) else out).detach(), data.x)
    left = int((margin(predict(model, Dataset(z, data.y)), data.y) > 0).sum())
    found = attack(model, data, standard(), threat, seed=0)
    assert int((~found.success).sum()) <= left
    assert found.provenance.forward + found.provenance.backward < 2_000 * len(data)


@pytest.mark.slow
def test_more_budget_leaves_no_more_standing(
    zoo: Callable[[str], TorchModel], sample: Dataset
) -> None:
    model, data = zoo("adversarial"), sample.select(range(30))
    left = [
        int((~attack(model, data, make(), Linf(0.1), seed=0).success).sum())
        for make in (quick, standard, thorough)
    ]
    assert left == sorted(left, reverse=True)
