"""Minimum-norm attacks against closed forms, slow references, and a peer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from conftest import batch_of, examples, linear, numbers, residual
from scipy.optimize import linprog, minimize
from torch import Tensor

from conjoin.attacks import DDN, FMN, PGD, CarliniWagner, DeepFool
from conjoin.attacks.carlini_wagner import Change, Descent
from conjoin.attacks.nearest import Nearest
from conjoin.core.ball import L1, L2, Ball, Linf
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.protocols import Attack, Batch
from conjoin.core.quantity import (
    Asked,
    Avoid,
    Contrast,
    Quantity,
    log_likelihood,
    logit,
    margin,
)
from conjoin.core.random import Streams
from conjoin.core.result import AttackResult
from conjoin.core.run import attack, predict
from conjoin.core.scaled import Scaled
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, PlanError
from conjoin.models.torch import TorchModel

KINDS = (L1, L2, Linf)
NAME = lambda method: type(method).__name__  # noqa: E731 - the ids of parameters
DUAL = {L1: math.inf, L2: 2, Linf: 1}
FREE, BOX = (-math.inf, math.inf), (0.0, 1.0)
FAR = 100.0  # beyond every boundary here


def many_classes(classes: int, size: int = 24) -> tuple[TorchModel, Dataset, Tensor]:
    """A linear model, inputs all over the box with the classes predicted, and the weights."""
    weight = numbers(classes, size, dtype=torch.float64)
    x = Streams.of(3, torch.arange(8)).uniform(size, dtype=torch.float64)
    model = linear(weight, -weight @ x.mean(0))
    data = Dataset(x, torch.zeros(8, dtype=torch.int64))
    return model, data.labelled(predict(model, data).argmax(1)), weight


def least_norm(order: float, g: Tensor, room: Tensor, gap: float) -> float:
    """The least ‖d‖_p of downhill moves 0 <= d <= room with Σ |g_i| d_i = gap."""
    slope = g.abs()
    if order == 1:  # the steepest elements first, each to its wall
        length, left = 0.0, gap
        for i in slope.argsort(descending=True).tolist():
            move = min(float(room[i]), left / float(slope[i]))
            length, left = length + move, left - move * float(slope[i])
        return length if left < 1e-12 else math.inf
    low, high = 0.0, 1e9
    move = room
    for _ in range(200):  # d = min(s |g|, room), or min(s, room)
        s = (low + high) / 2
        move = torch.minimum(s * slope if order == 2 else torch.full_like(room, s), room)
        low, high = (s, high) if float(slope @ move) < gap else (low, s)
    return float(torch.linalg.vector_norm(move, ord=order)) if high < 1e9 else math.inf


def exact(
    kind: type[Ball], weight: Tensor, data: Dataset, model: TorchModel, bounds: tuple[float, float]
) -> Tensor:
    """The distance of each input to the nearest class, by one closed form for each other class."""
    outputs, found = predict(model, data), []
    for x, y, z in zip(data.x, data.y.tolist(), outputs, strict=True):
        others = [k for k in range(len(weight)) if k != y]
        room = {k: torch.where(weight[y] > weight[k], x - bounds[0], bounds[1] - x) for k in others}
        order = kind(1.0).order
        norms = [
            least_norm(order, weight[y] - weight[k], room[k], float(z[y] - z[k])) for k in others
        ]
        found.append(min(norms))
    return torch.tensor(found, dtype=torch.float64)


def test_the_closed_form_is_what_solvers_find() -> None:
    model, data, weight = many_classes(2)
    for kind in KINDS:
        expected = exact(kind, weight, data, model, BOX)
        for i in range(3):
            y = int(data.y[i])
            g, x = (weight[y] - weight[1 - y]).numpy(), data.x[i].numpy()
            outputs = predict(model, data.select([i]))[0]
            gap, n = float(outputs[y] - outputs[1 - y]), len(x)
            walls = list(zip(-x, 1 - x, strict=True))
            if kind is L2:
                reach = {"type": "eq", "fun": lambda d, g=g, gap=gap: g @ d + gap}
                start = -g * gap / (g @ g)
                options = {"ftol": 1e-14, "maxiter": 500}
                solved = minimize(
                    lambda d: d @ d, start, bounds=walls, constraints=[reach], options=options
                )
                assert math.isclose(math.sqrt(solved.fun), float(expected[i]), rel_tol=1e-5)
                continue
            # d = up - down >= 0; l1 minimises their sum, l∞ a bound on each
            upper = [(0, 1 - v) for v in x] + [(0, v) for v in x]
            rows = [[*g, *-g]]
            if kind is L1:
                solved = linprog([1.0] * 2 * n, A_eq=rows, b_eq=[-gap], bounds=upper)
            else:
                caps = [[float(j == k) for k in range(2 * n)] + [-1.0] for j in range(2 * n)]
                solved = linprog(
                    [0.0] * 2 * n + [1.0],
                    A_ub=caps,
                    b_ub=[0.0] * 2 * n,
                    A_eq=[[*rows[0], 0.0]],
                    b_eq=[-gap],
                    bounds=[*upper, (0, None)],
                )
            assert math.isclose(solved.fun, float(expected[i]), rel_tol=1e-7)


# DDN's radius goes on by 5 % a step, so only Euclid's smooth ball brings it within 1e-4; tanh comes
# near a wall and never reaches it.
EXACT: tuple[tuple[Attack, Callable[[type[Ball], tuple[float, float]], float]], ...] = (
    (FMN(), lambda kind, bounds: 1e-4),
    (DeepFool(), lambda kind, bounds: 1e-4),
    (DDN(), lambda kind, bounds: 1e-4 if kind is L2 else 2e-3),
    (CarliniWagner(), lambda kind, bounds: 1e-4 if bounds == FREE else 5e-3),
)


@pytest.mark.parametrize("bounds", [FREE, BOX], ids=["free", "box"])
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_the_distance_of_a_linear_model_is_exact(
    kind: type[Ball], classes: int, bounds: tuple[float, float]
) -> None:
    model, data, weight = many_classes(classes)
    expected = exact(kind, weight, data, model, bounds)
    assert bool(expected.isfinite().all())
    free = exact(kind, weight, data, model, FREE)
    if classes == 2 and bounds == BOX:
        assert bool((expected > free * 1.0001).any())  # some wall is met
    for method, room in EXACT:
        if isinstance(method, CarliniWagner) and kind is not L2:
            continue
        found = attack(model, data, method, kind(FAR, bounds), seed=0)
        assert bool(found.success.all()), method
        error = found.distance / expected - 1
        assert float(error.max()) < room(kind, bounds), method
        assert float(error.min()) > -1e-6, method  # the layer computes in single precision


@pytest.mark.parametrize("kind", KINDS)
def test_beyond_the_radius_the_least_quantity_comes_back(kind: type[Ball]) -> None:
    model, data, weight = many_classes(2)
    # In the middle of the box, so that no wall is met: the least margin is clean - eps ‖g‖_*.
    data = replace(data, x=0.5 + 0.05 * (data.x - 0.5))
    clean = predict(model, data)
    data = data.labelled(clean.argmax(1))
    gap = margin(clean, data.y)
    steep = torch.linalg.vector_norm(weight[0] - weight[1], ord=DUAL[kind])
    eps = float((gap / steep).median()) * 1.001
    threat = kind(eps)
    for method in (FMN(), DDN(), DeepFool(), CarliniWagner()):
        if isinstance(method, CarliniWagner) and kind is not L2:
            continue
        found = attack(model, data, method, threat, seed=0)
        assert torch.equal(found.success, gap / steep < eps), method
        stood = ~found.success
        assert bool(stood.any()) and bool(found.success.any())
        least = (gap - eps * steep)[stood]
        # Adam and its projection see points of the whole path, not the end of it
        room = 0.2 if isinstance(method, CarliniWagner) else 1e-3
        assert bool((found.value[stood] <= least + room * eps * steep).all()), method
        assert bool((found.value[stood] >= least - 1e-5).all()), method


def test_eps_differs_by_example_and_the_mask_stands_still() -> None:
    model, data, weight = many_classes(2)
    mask = (torch.arange(24) % 2 == 0)[None]
    for kind in KINDS:
        open_ = Dataset(data.x[:, ::2], data.y)
        part = linear(weight[:, ::2], model.module[1].bias + data.x[0, 1::2] @ weight[:, 1::2].T)
        first = open_.select([0])
        expected = exact(kind, weight[:, ::2], first, part, BOX)
        if not bool(expected.isfinite().all()):
            continue
        eps = torch.full((8,), FAR).double()
        eps[1] = 1e-4
        for method in (FMN(), DeepFool()):
            found = attack(model, data, method, kind(eps, BOX, mask), seed=0)
            assert math.isclose(float(found.distance[0]), float(expected[0]), rel_tol=1e-4)
            assert not bool(found.success[1]) and float(found.distance[1]) <= 1e-4
            assert torch.equal(found.inputs[:, 1::2], data.x[:, 1::2])


@pytest.mark.parametrize("kind", KINDS)
def test_units_of_the_elements_do_not_matter(kind: type[Ball]) -> None:
    model, data, weight = many_classes(2)
    scale = 10 ** numbers(1, 24, seed=4, dtype=torch.float64)
    same = linear(weight / scale, model.module[1].bias)
    threat = Scaled(kind(FAR, FREE), scale)
    far = replace(data, x=data.x * scale)
    for method in (FMN(), DeepFool(), DDN()):
        found = attack(same, far, method, threat, seed=0)
        expected = exact(kind, weight, data, model, FREE)
        assert torch.allclose(found.distance, expected, rtol=2e-3 if type(method) is DDN else 1e-4)


def test_the_nearest_that_fell_and_the_least_are_kept() -> None:
    x = torch.zeros(2, 1)
    kept = Nearest.none(x, L2(1.0, FREE), 0.0)
    seen = (([0.5, 0.9], [-1.0, 0.3]), ([0.8, 0.2], [-2.0, 0.1]), ([0.7, 2.0], [-0.5, 0.05]))
    for z, value in seen:
        fell, distance = kept.see(torch.tensor(z)[:, None], torch.tensor(value))
        assert fell.tolist() == [True, False]
        assert torch.allclose(distance, torch.tensor(z).double())
    assert kept.distance.tolist() == [0.5, math.inf]
    assert kept.point.tolist() == [[0.5], [0.0]]
    assert torch.allclose(kept.worst, torch.tensor([[0.8], [0.2]]))  # within the radius
    kept.see(torch.tensor([[0.1]]), torch.tensor([-0.1]), torch.tensor([1]))
    assert torch.allclose(kept.distance, torch.tensor([0.5, 0.1]).double())


QUANTITIES: tuple[Quantity, ...] = (
    margin,
    Contrast(0),
    Avoid(2),
    Asked(log_likelihood, goal=-2.5),
)


@pytest.mark.parametrize("quantity", QUANTITIES, ids=repr)
@pytest.mark.parametrize(
    "method",
    [FMN(steps=30), DDN(steps=30), DeepFool(), CarliniWagner(steps=30, searches=4)],
    ids=NAME,
)
def test_what_falls_lies_on_the_boundary(method: Attack, quantity: Quantity) -> None:
    model, some = residual(), examples(8)
    data = some.labelled(predict(model, some).argmax(1))
    found = attack(model, data, method, L2(8.0), seed=0, quantity=quantity)
    moved = found.success & (found.clean > quantity.goal)
    assert int(moved.sum()) >= 4
    nearer = data.x + (1 - 1e-3) * (found.inputs - data.x)
    value = quantity(predict(model, replace(data, x=nearer)), data.y)
    assert bool((value > quantity.goal)[moved].all())


def sphere(z: Tensor, x: Tensor, eps: float) -> Tensor:
    """Project one point onto a Euclidean ball."""
    length = float((z - x).norm())
    return z if length <= eps else x + (z - x) * eps / length


def margin_at(model: TorchModel, z: Tensor, y: int) -> tuple[float, Tensor]:
    """The margin of one point and its gradient."""
    leaf = z.clone().requires_grad_()
    outputs = model.module(leaf[None])[0]
    others = [k for k in range(len(outputs)) if k != y]
    value = outputs[y] - outputs[others].max()
    (gradient,) = torch.autograd.grad(value, leaf)
    return float(value.detach()), gradient


def steps_to(model: TorchModel, z: Tensor, y: int) -> Tensor:
    """The shortest step of one point onto a linearised boundary, one class after another."""
    steps = []
    for k in range(5):
        if k != y:
            leaf = z.clone().requires_grad_()
            outputs = model.module(leaf[None])[0]
            (w,) = torch.autograd.grad(outputs[y] - outputs[k], leaf)
            gap = float((outputs[y] - outputs[k]).detach())
            steps.append(-gap * w / w.norm() ** 2)
    return min(steps, key=lambda step: float(step.norm()))


def slow_search(model: TorchModel, x: Tensor, y: int, method: FMN | DDN) -> float:
    """One example by the rules of the module's text, without box; the nearest distance seen."""
    move = 1.02 * steps_to(model, x, y)
    z, eps, best = x + move, float(move.norm()), math.inf
    for k in range(1, method.steps):
        value, g = margin_at(model, z, y)
        distance, half = float((z - x).norm()), (1 + math.cos(math.pi * k / method.steps)) / 2
        if value <= 0:
            best = min(best, distance)
        if isinstance(method, DDN):
            eps *= 1 - method.shrink if value <= 0 else 1 + method.shrink
        else:
            gamma = 0.001 + (method.shrink - 0.001) * half
            if value <= 0:
                eps = min(eps * (1 - gamma), best)
            elif best < math.inf:
                eps *= 1 + gamma
            else:
                eps = (distance + value / float(g.norm())) * (1 + gamma)
        alpha = method.last_step + (method.step_size - method.last_step) * half
        z = sphere(z - alpha * eps * g / g.norm(), x, eps)
    value, _ = margin_at(model, z, y)
    return min(best, float((z - x).norm())) if value <= 0 else best


@pytest.mark.parametrize("method", [FMN(steps=25), DDN(steps=25)], ids=NAME)
def test_the_search_is_that_of_the_text(method: FMN | DDN) -> None:
    model, some = residual(dtype=torch.float64), examples(6, dtype=torch.float64)
    data = some.labelled(predict(model, some).argmax(1))
    found = attack(model, data, method, L2(FAR, FREE), seed=0)
    for i in range(6):
        best = slow_search(model, data.x[i], int(data.y[i]), method)
        # bisected afterwards: not farther, and nearer by at most the last shrinkings
        assert found.distance[i] <= best * (1 + 1e-9)
        assert found.distance[i] >= best * 0.9
        assert bool(found.success[i]) == (best < math.inf)


def test_deepfool_is_that_of_the_paper() -> None:
    model, some = residual(dtype=torch.float64), examples(6, dtype=torch.float64)
    data = some.labelled(predict(model, some).argmax(1))
    found = attack(model, data, DeepFool(), L2(FAR, FREE), seed=0)
    for i in range(6):
        x, y = data.x[i], int(data.y[i])
        z, r = x, torch.zeros_like(x)
        while margin_at(model, z, y)[0] > 0:
            r = r + steps_to(model, z, y)
            z = x + 1.02 * r
        near, far = 0.0, 1.0  # back to the boundary
        for _ in range(40):
            middle = (near + far) / 2
            fell = margin_at(model, x + middle * (z - x), y)[0] <= 0
            near, far = (near, middle) if fell else (middle, far)
        share = float((found.inputs[i] - x).norm() / (z - x).norm())
        assert 0 <= share - far <= 2**-16
        assert torch.allclose(found.inputs[i], x + share * (z - x), atol=1e-12)


@pytest.mark.parametrize("bounds", [FREE, BOX], ids=["free", "box"])
def test_the_change_of_variables_is_that_of_the_paper(bounds: tuple[float, float]) -> None:
    x = Streams.of(5, torch.arange(3)).uniform(6, dtype=torch.float64)
    unit = torch.tensor([0.1, 1.0, 2.0]).double()
    mask = (torch.arange(6) > 0)[None]
    change = Change.of(x, L2(0.1, bounds, mask), unit)
    assert torch.allclose(change.point(change.start), x, atol=1e-12)
    w = (change.start + 0.3).requires_grad_()
    z = change.point(w)
    expected = (w.tanh() + 1) / 2 if bounds == BOX else x + unit[:, None] * w
    assert torch.allclose(z[:, 1:], expected[:, 1:])
    assert torch.equal(z[:, 0], x[:, 0])  # outside the mask
    (slope,) = torch.autograd.grad(z[:, 1:].sum(), w)
    assert torch.allclose(change.slope(w)[:, 1:], slope[:, 1:])


def test_the_weighted_sum_is_minimised_by_adam() -> None:
    x, unit = torch.zeros(2, 5).double(), torch.ones(2).double()
    aim = Streams.of(6, torch.arange(2)).normal(5, dtype=torch.float64)
    state = Descent.of(Change.of(x, L2(1.0, FREE), unit), unit, unit, 0.05)
    w = torch.zeros(2, 5).double().requires_grad_()
    peer = torch.optim.Adam([w], lr=0.05, betas=(0.5, 0.9), eps=1e-8)
    for step in range(30):
        assert torch.allclose(state.w, w)
        peer.zero_grad()
        ((w - aim) ** 4).sum().backward()
        peer.step()
        state.move(step, torch.zeros(2).double(), 4 * (state.w - aim) ** 3)


def test_carlini_and_wagner_agree_with_fmn(
    zoo: Callable[[str], TorchModel], sample: Dataset
) -> None:
    model, data = zoo("plain"), sample.select(range(12))
    ours = attack(model, data, FMN(), L2(5.0), seed=0)
    theirs = attack(model, data, CarliniWagner(steps=100, searches=5), L2(5.0), seed=0)
    assert bool(ours.success.all()) and bool(theirs.success.all())
    moved = ours.clean > 0
    ratio = (theirs.distance / ours.distance)[moved]
    assert float(ratio.median()) < 1.05
    assert float(ratio.min()) > 0.8  # each may end at another class


def stronger(ours: AttackResult, threat: Ball, theirs: Tensor, fooled: Tensor, x: Tensor) -> Tensor:
    """Accuracy that ours leaves less what a peer's points leave, in points, on a grid of eps."""
    distance = torch.where(fooled, threat.distance(theirs, x), torch.inf)
    most = float(distance[distance.isfinite()].max())
    grid = torch.linspace(0, most, 101, dtype=torch.float64)[1:].tolist()
    left = [float((distance > eps).double().mean()) for eps in grid]
    mine = [ours.robust_accuracy(eps) for eps in grid]
    return 100 * (torch.tensor(mine) - torch.tensor(left))


@pytest.mark.parametrize(
    ("name", "threat"),
    [
        ("plain", Linf(1.0)),
        ("adversarial", Linf(1.0)),
        pytest.param("adversarial", L2(28.0), marks=pytest.mark.slow),
        pytest.param("certified", Linf(1.0), marks=pytest.mark.slow),
        pytest.param("certified", L2(28.0), marks=pytest.mark.slow),
        pytest.param("plain", L2(28.0), marks=pytest.mark.slow),
        pytest.param("plain", L1(784.0), marks=pytest.mark.slow),
        pytest.param("adversarial", L1(784.0), marks=pytest.mark.slow),
        pytest.param("certified", L1(784.0), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_the_curve_is_nowhere_above_foolbox(
    zoo: Callable[[str], TorchModel], sample: Dataset, name: str, threat: Ball
) -> None:
    foolbox = pytest.importorskip("foolbox", reason="the peer is not installed")
    peer = {
        Linf: foolbox.attacks.LInfFMNAttack,
        L2: foolbox.attacks.L2FMNAttack,
        L1: foolbox.attacks.L1FMNAttack,
    }[type(threat)](steps=100)
    model, data = zoo(name), sample.select(range(200))
    wrapped = foolbox.PyTorchModel(model.module.eval(), bounds=(0, 1), device="cpu")
    _, points, fooled = peer(wrapped, data.x, data.y, epsilons=None)
    ours = attack(model, data, FMN(), threat, seed=0)
    assert ours.provenance.backward <= 108 * 200
    above = stronger(ours, threat, points, fooled, data.x)
    assert float(above.max()) <= 0.5 + 1e-6  # one point of 200
    assert float(above.mean()) < 0


@pytest.mark.parametrize(
    "method",
    [FMN(steps=12), DDN(steps=12), DeepFool(steps=5), CarliniWagner(steps=20, searches=3)],
    ids=NAME,
)
def test_company_does_not_change_a_search(method: Attack) -> None:
    some = examples(30)
    model = residual()
    data = some.labelled(predict(model, some).argmax(1))
    for threat in (Linf(0.03), L2(0.2), L1(0.8)):
        if isinstance(method, CarliniWagner) and not isinstance(threat, L2):
            continue
        whole = attack(model, data, method, threat, seed=0, run=Run(batch_size=128))
        assert 0 < float(whole.success.float().mean()) < 1
        parts = attack(model, data, method, threat, seed=0, run=Run(batch_size=4))
        assert torch.equal(parts.inputs, whole.inputs)


class Flat:
    """Two classes whose outputs do not change, although they could."""

    device = torch.device("cpu")

    def __call__(self, batch: Batch) -> Tensor:
        still = 0 * batch.x.flatten(1).sum(1)
        return torch.stack([still + 1, still], dim=1)


@pytest.mark.parametrize("eps", [0.5, math.inf])
@pytest.mark.parametrize("method", [FMN(), DDN(), DeepFool(), CarliniWagner()], ids=NAME)
def test_without_a_slope_x_comes_back(method: Attack, eps: float) -> None:
    batch = batch_of(torch.full((3, 4), 0.25))
    assert torch.equal(method(Flat(), batch, L2(eps), margin), batch.x)


@pytest.mark.parametrize("method", [FMN(), DDN(), DeepFool(), CarliniWagner()], ids=NAME)
def test_what_cannot_be_searched_is_refused(method: Attack) -> None:
    batch = batch_of(torch.full((2, 4), 0.75))
    with pytest.raises(
        CapabilityError, match=r"its goal; that of logit is -inf, expected a finite"
    ):
        method(Flat(), batch, L2(0.1), logit)

    class Drawn:
        def __init__(self, ball: Ball) -> None:
            for name in ("contains", "sample", "distance", "rows", "to", "check"):
                setattr(self, name, getattr(ball, name))

    stranger: Threat = Drawn(L2(0.1))  # type: ignore[assignment]
    with pytest.raises(CapabilityError, match="tells neither radius nor projection"):
        method(Flat(), batch, stranger, margin)
    tokens = Batch(torch.ones(2, 3, dtype=torch.int64), batch.aim, batch.rng)
    with pytest.raises(CapabilityError, match="tokens"):
        method(Flat(), tokens, L2(1.0, (0, 9)), margin)


@pytest.mark.parametrize("threat", [Linf(0.1), L1(1.0), Scaled(L2(0.1), 2.0)], ids=str)
def test_carlini_and_wagner_know_one_norm(threat: Threat) -> None:
    with pytest.raises(CapabilityError, match=r"expected a ball L2\(eps\), got .*; |FMN, DDN"):
        CarliniWagner()(Flat(), batch_of(torch.full((2, 4), 0.75)), threat, margin)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FMN(steps=0),
        lambda: FMN(candidates=0),
        lambda: FMN(step_size=0.001),
        lambda: FMN(last_step=0.0),
        lambda: FMN(shrink=1.0),
        lambda: DDN(shrink=0.0),
        lambda: DeepFool(steps=0),
        lambda: DeepFool(candidates=0),
        lambda: DeepFool(overshoot=-0.1),
        lambda: CarliniWagner(steps=0),
        lambda: CarliniWagner(searches=0),
        lambda: CarliniWagner(step_size=0.0),
        lambda: CarliniWagner(confidence=-1.0),
    ],
)
def test_an_empty_budget_is_refused(make: Callable[[], Attack]) -> None:
    with pytest.raises(PlanError, match="must be positive"):
        make()


def test_confidence_goes_below_the_goal_and_still_the_boundary_comes_back() -> None:
    model, data, _ = many_classes(2)
    sure = attack(model, data, CarliniWagner(confidence=1.0), L2(FAR, FREE), seed=0)
    plain = attack(model, data, CarliniWagner(), L2(FAR, FREE), seed=0)
    assert torch.allclose(sure.distance, plain.distance, rtol=1e-2)


def test_a_search_is_stronger_than_descent_at_every_radius(
    zoo: Callable[[str], TorchModel], sample: Dataset
) -> None:
    model, data = zoo("adversarial"), sample.select(range(60))
    whole = attack(model, data, FMN(), Linf(1.0), seed=0)
    for eps in (0.02, 0.05, 0.1, 0.15):
        one = attack(model, data, PGD(), Linf(eps), seed=0)
        assert whole.robust_accuracy(eps) <= one.robust_accuracy(eps) + 1 / 60 + 1e-9
