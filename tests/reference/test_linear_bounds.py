"""CROWN, local Lipschitz bounds, optimised slopes and branch and bound, against what is true.

Closed forms on linear models, references written from the papers row by row, and the exact minimum
over small networks: by enumerating the patterns of their ReLUs, one linear programme each.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from conftest import batch_of, biased, examples, linear, numbers, residual
from scipy.optimize import linprog
from torch import Tensor, nn

from conjoin.attacks import PGD
from conjoin.certification import (
    AlphaCrown,
    BranchAndBound,
    Crown,
    Interval,
    LocalLipschitz,
)
from conjoin.certification.bounded import Bounded
from conjoin.certification.box import Boxes
from conjoin.certification.concretise import Region
from conjoin.certification.relaxing import Relaxing
from conjoin.certification.tree import Tree
from conjoin.core.ball import L1, L2, Ball, Linf
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.evidence import Claim
from conjoin.core.linear import Convolution, Linear
from conjoin.core.quantity import Quantity, logit, margin
from conjoin.core.random import Streams
from conjoin.core.run import attack, certify, predict
from conjoin.errors import PlanError
from conjoin.models.torch import TorchModel
from conjoin.nn import MinMax
from conjoin.nn.initialise import initialise

KINDS: tuple[type[Ball], ...] = (Linf, L2, L1)
METHODS: tuple[Any, ...] = (
    Crown(),
    LocalLipschitz(),
    LocalLipschitz(tighten=True),
    AlphaCrown(8),
    BranchAndBound(splits=40),
)
OPEN = (-9.0, 9.0)


def dense(*sizes: int, seed: int = 0, act: Callable[[], nn.Module] = nn.ReLU) -> TorchModel:
    """A network in double precision with weights of gain about 1 and biases."""
    layers: list[nn.Module] = []
    for number, (m, n) in enumerate(itertools.pairwise(sizes)):
        layer = nn.Linear(m, n).double()
        with torch.no_grad():
            layer.weight.copy_(1.3 * numbers(n, m, seed=31 * seed + number).double() / math.sqrt(m))
            layer.bias.copy_(0.4 * numbers(n, seed=31 * seed + number + 500).double())
        layers += [layer, act()]
    return TorchModel(nn.Sequential(*layers[:-1]))


def answered(model: TorchModel, x: Tensor) -> Dataset:
    """Inputs labelled as the model answers."""
    data = Dataset(x, torch.zeros(len(x), dtype=torch.int64))
    return data.labelled(predict(model, data).argmax(1))


def uniform(count: int, *shape: int, seed: int = 3) -> Tensor:
    return Streams.of(seed, torch.arange(count)).uniform(*shape, dtype=torch.float64)


# -- closed forms ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_bounds_are_exact_on_linear_models(kind: type[Ball], method: Any) -> None:
    weight = numbers(4, 12, dtype=torch.float64)
    model = linear(weight, numbers(4, seed=2, dtype=torch.float64))
    data = answered(model, uniform(5, 12))
    outputs, eps = predict(model, data), 0.05
    lower = certify(model, data, method, kind(eps, OPEN)).lower
    rows = weight[data.y][:, None] - weight[None]
    dual = torch.linalg.vector_norm(rows, ord={Linf: 1, L2: 2, L1: math.inf}[kind], dim=2)
    gaps = outputs.gather(1, data.y[:, None]) - outputs - eps * dual
    expected = gaps.scatter(1, data.y[:, None], torch.inf).amin(1)
    assert torch.allclose(lower, expected, atol=1e-9)
    assert bool((lower <= expected + 1e-13).all())


def least_by_search(row: Tensor, x: Tensor, order: float, eps: float) -> float:
    """The least row · z over the ball cut by [0, 1], by bisection on the multiplier."""
    if order == 1:
        n = len(x)
        cost = np.concatenate([row.numpy(), -row.numpy()])
        limits = [(0, float(1 - v)) for v in x] + [(0, float(v)) for v in x]
        found = linprog(cost, A_ub=np.ones((1, 2 * n)), b_ub=[eps], bounds=limits)
        return float(row @ x) + float(found.fun)
    if math.isinf(order):
        low, high = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
        return float(torch.where(row > 0, row * low, row * high).sum())
    low, high = 1e-9, 1e9
    for _ in range(200):
        price = math.sqrt(low * high)
        z = (x - row / price).clamp(0, 1)
        low, high = (price, high) if float((z - x).norm()) > eps else (low, price)
    return float(row @ (x - row / high).clamp(0, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_ball_and_box_are_used_together(kind: type[Ball]) -> None:
    x, rows = uniform(6, 9), numbers(6, 4, 9, seed=5).double()
    x[0], x[1, :4], rows[2, 0, 3:] = 0.0, 1.0, 0.0
    for eps in (0.05, 0.6, 2.0, 40.0):
        threat = kind(eps)
        region = Region.of(threat.enclosure(x))
        found, points = region.least(rows), region.lowest(rows)
        for i, k in itertools.product(range(6), range(4)):
            expected = least_by_search(rows[i, k], x[i], threat.order, eps)
            assert float(found[i, k]) <= expected + 1e-12
            assert float(found[i, k]) == pytest.approx(expected, abs=2e-3 if kind is L2 else 1e-9)
            at = float(rows[i, k] @ points[i, k])  # a point that attains it, but for the search
            assert at == pytest.approx(expected, abs=1e-2 if kind is L2 else 1e-9)


def test_a_real_bound_is_below_the_exact_minimum_of_a_linear_model() -> None:
    """In rational arithmetic, on weights that cancel."""
    weight = numbers(3, 7, seed=8) * torch.tensor([1e6, 1.0, 1e-6, 3.0, 1e3, 1.0, 1e-3])
    x = uniform(4, 7).float()
    first, last = nn.Linear(7, 7, bias=False), nn.Linear(7, 3, bias=False)
    with torch.no_grad():
        first.weight.copy_(numbers(7, 7, seed=9))
        last.weight.copy_(weight)
    model = TorchModel(nn.Sequential(first, last))
    data, eps = answered(model, x), 2.0**-5
    for method in (Crown(Claim.SOUND_REAL), LocalLipschitz(claim=Claim.SOUND_REAL)):
        lower = certify(model, data, method, Linf(eps, OPEN)).lower
        a, b = (
            [[Fraction(v) for v in row] for row in w.tolist()]
            for w in (first.weight.detach().double(), last.weight.detach().double())
        )
        whole = [[sum((r[k] * a[k][j] for k in range(7)), Fraction()) for j in range(7)] for r in b]
        for i, y in enumerate(data.y.tolist()):
            at = [Fraction(v) for v in x[i].double().tolist()]
            least = min(
                sum(((whole[y][j] - row[j]) * at[j] for j in range(7)), Fraction())
                - Fraction(eps) * sum((abs(whole[y][j] - row[j]) for j in range(7)), Fraction())
                for c, row in enumerate(whole)
                if c != y
            )
            assert Fraction(float(lower[i])) <= least
            assert float(lower[i]) == pytest.approx(float(least), rel=1e-5)


@pytest.mark.parametrize("act", [nn.ReLU, MinMax, lambda: nn.LeakyReLU(0.3), nn.ReLU6])
def test_bounds_are_exact_where_the_network_is_linear_on_the_set(act: Any) -> None:
    """No kink within the set: f(x) - eps ‖∇‖ in the dual norm."""
    model = dense(6, 8, 8, 3, seed=9, act=act)
    data = answered(model, uniform(4, 6))
    for kind, dual in ((Linf, 1.0), (L2, 2.0), (L1, math.inf)):
        eps = 1e-5
        z = data.x.clone().requires_grad_()
        outputs = model.module(z)
        gaps = outputs.gather(1, data.y[:, None]) - outputs
        expected = torch.full((4, 3), math.inf, dtype=torch.float64)
        for c in range(3):
            (slope,) = torch.autograd.grad(gaps[:, c].sum(), z, retain_graph=True)
            fall = eps * torch.linalg.vector_norm(slope, ord=dual, dim=1)
            expected[:, c] = torch.where(data.y == c, math.inf, gaps[:, c].detach() - fall)
        for method in METHODS:
            lower = certify(model, data, method, kind(eps, OPEN)).lower
            assert torch.allclose(lower, expected.amin(1), atol=1e-10)


def test_a_deployed_bound_is_below_every_computed_value() -> None:
    """Logits of tens of thousands whose difference is left after they cancel, in single precision."""
    first, last = nn.Linear(4, 256), nn.Linear(256, 2)
    twin = torch.from_numpy(np.random.default_rng(1).permutation(128))
    weight, bias, row = 1e3 * numbers(128, 4, seed=1), 1e3 * numbers(128, seed=2), numbers(128)
    with torch.no_grad():  # each neuron twice, in another order; one logit of each of the two sets
        first.weight.copy_(torch.cat([weight, weight[twin]]))
        first.bias.copy_(torch.cat([bias, bias[twin]]))
        last.weight.zero_()
        last.weight[0, :128], last.weight[1, 128:] = row, row[twin]
        last.bias.copy_(torch.tensor([0.02, 0.0]))
    model = TorchModel(nn.Sequential(first, nn.ReLU(), last))
    x = uniform(1, 4).float()
    data, threat = Dataset(x, torch.zeros(1, dtype=torch.int64)), Linf(1e-6)
    near = x + 1e-6 * (2 * uniform(400, 4, seed=6).float() - 1)
    near = torch.cat([x, threat.project(near, x.expand_as(near))])
    values = torch.stack([margin(predict(model, Dataset(z[None], data.y)), data.y) for z in near])
    assert float(values.max() - values.min()) > 1e-3  # rounding alone
    for made in (Crown, AlphaCrown, LocalLipschitz):
        found = certify(model, data, made(claim=Claim.SOUND_DEPLOYED), threat)
        assert float(found.lower) <= float(values.min())


@pytest.mark.parametrize("backwards", [False, True])
def test_a_convolution_is_transposed_without_a_pass_forwards(backwards: bool) -> None:
    for stride, padding, dilation, groups, extra in (
        ((1, 1), (1, 0), (1, 1), 1, ()),
        ((2, 3), (1, 2), (2, 1), 2, (1, 0) if backwards else ()),
    ):
        weight = numbers(4, 4 // groups, 3, 2, seed=groups).double()
        map_ = Convolution(weight, (4, 7, 6), stride, padding, dilation, groups, backwards, extra)
        x, y = uniform(3, 4, 7, 6), uniform(3, *map_.target, seed=8)
        assert torch.allclose((map_(x) * y).sum(), (x * map_.transposed(y)).sum(), atol=1e-10)
        assert torch.allclose(map_.transposed(y), Linear.transposed(map_, y), atol=1e-12)


# -- references written from the papers --------------------------------------------------------


@dataclass
class Layers:
    """A dense ReLU network as lists."""

    weights: list[Tensor]
    biases: list[Tensor]

    @classmethod
    def of(cls, model: TorchModel) -> Layers:
        parts = [m for m in model.module.modules() if isinstance(m, nn.Linear)]
        return cls([p.weight.detach() for p in parts], [p.bias.detach() for p in parts])


def slow_row(
    net: Layers, depth: int, row: Tensor, bounds: list[tuple[Tensor, Tensor]], x: Tensor, eps: float
) -> float:
    """Bound row · (argument of layer ``depth``) from below over a cube, as the paper does."""
    a, c = row @ net.weights[depth], float(row @ net.biases[depth])
    for k in range(depth - 1, -1, -1):
        low, high = bounds[k]
        new = torch.zeros_like(a)
        for j in range(len(a)):
            coefficient, lo, up = float(a[j]), float(low[j]), float(high[j])
            if up <= 0:
                continue
            if lo >= 0:
                new[j] = coefficient
            elif coefficient >= 0:
                new[j] = coefficient * (1.0 if up + lo > 0 else 0.0)
            else:
                new[j] = coefficient * up / (up - lo)
                c += coefficient * (-up * lo / (up - lo))
        c += float(new @ net.biases[k])
        a = new @ net.weights[k]
    return c + float(a @ x) - eps * float(a.abs().sum())


def slow_crown(net: Layers, x: Tensor, y: int, eps: float) -> float:
    bounds: list[tuple[Tensor, Tensor]] = []
    box = (x - eps, x + eps)
    for k, (w, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        centre, radius = (box[0] + box[1]) / 2, (box[1] - box[0]) / 2
        low, high = w @ centre + b - w.abs() @ radius, w @ centre + b + w.abs() @ radius
        if k + 1 == len(net.weights):
            break
        for j in range(len(b)):
            if k and low[j] < 0 < high[j]:
                unit = torch.zeros(len(b), dtype=torch.float64)
                unit[j] = 1.0
                low[j] = max(float(low[j]), slow_row(net, k, unit, bounds, x, eps))
                high[j] = min(float(high[j]), -slow_row(net, k, -unit, bounds, x, eps))
        bounds.append((low, high))
        box = (low.clamp(min=0), high.clamp(min=0))
    rows = [r for c, r in enumerate(torch.eye(len(net.biases[-1])).double()) if c != y]
    own = torch.eye(len(net.biases[-1])).double()[y]
    depth = len(net.weights) - 1
    crown = [slow_row(net, depth, own - r, bounds, x, eps) for r in rows]
    centre, radius = (box[0] + box[1]) / 2, (box[1] - box[0]) / 2
    w, b = net.weights[-1], net.biases[-1]
    boxes = [float((own - r) @ (w @ centre + b) - ((own - r) @ w).abs() @ radius) for r in rows]
    return min(max(p) for p in zip(crown, boxes, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_crown_is_what_the_paper_says(seed: int) -> None:
    model = dense(6, 9, 8, 7, 3, seed=seed)
    data, net = answered(model, uniform(3, 6, seed=seed)), Layers.of(model)
    for eps in (0.02, 0.15):
        lower = certify(model, data, Crown(Claim.SOUND_REAL), Linf(eps, OPEN)).lower
        expected = [slow_crown(net, x, int(y), eps) for x, y in zip(data.x, data.y, strict=True)]
        assert lower.tolist() == pytest.approx(expected, abs=1e-10)


def slow_local(net: Layers, x: Tensor, y: int, eps: float, order: float) -> float:
    """FastLip from the paper on a network of one hidden layer, per pair, for a ball without a box."""
    (w0, w1), (b0, b1) = net.weights, net.biases
    dual = {1.0: math.inf, 2.0: 2.0, math.inf: 1.0}[order]
    reach = eps * torch.linalg.vector_norm(w0, ord=dual, dim=1)
    argument = w0 @ x + b0
    on, off = argument - reach >= 0, argument + reach <= 0
    z = w1 @ argument.clamp(min=0) + b1
    found = []
    for c in range(len(b1)):
        if c == y:
            continue
        row = w1[y] - w1[c]
        low = (row * on) @ w0 + torch.where(~on & ~off, 1.0, 0.0).double() @ (
            row[:, None] * w0
        ).clamp(max=0)
        high = (row * on) @ w0 + torch.where(~on & ~off, 1.0, 0.0).double() @ (
            row[:, None] * w0
        ).clamp(min=0)
        steepest = torch.maximum(low.abs(), high.abs())
        fall = eps * float(torch.linalg.vector_norm(steepest, ord=dual))
        found.append(float(z[y] - z[c]) - fall)
    return min(found)


@pytest.mark.parametrize("kind", KINDS)
def test_the_local_lipschitz_bound_is_at_least_the_papers(kind: type[Ball]) -> None:
    """Equal for cubes; of the others ours uses the boxes of the enclosure, too."""
    model = dense(5, 12, 3, seed=4)
    data, net = answered(model, uniform(4, 5, seed=4)), Layers.of(model)
    for eps in (0.03, 0.2):
        threat = kind(eps, OPEN)
        lower = certify(model, data, LocalLipschitz(), threat).lower
        expected = torch.tensor(
            [
                slow_local(net, x, int(y), eps, threat.order)
                for x, y in zip(data.x, data.y, strict=True)
            ]
        ).double()
        assert bool((lower >= expected - 1e-7).all())
        if kind is Linf:
            signed = slow_local(net, data.x[0], int(data.y[0]), eps, math.inf)
            assert float(lower[0]) == pytest.approx(signed, abs=1e-7)


# -- the exact minimum -------------------------------------------------------------------------


def exact_least(net: Layers, x: Tensor, row: Tensor, threat: Ball, eps: float) -> float:
    """The least row · f over a cube or an l1 ball in [0, 1], pattern by pattern."""
    least, n = math.inf, len(x)
    sizes = [len(b) for b in net.biases[:-1]]
    for bits in itertools.product((0.0, 1.0), repeat=sum(sizes)):
        on = list(torch.tensor(bits, dtype=torch.float64).split(sizes))
        a, c = torch.eye(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
        sides, right = [], []
        for w, b, s in zip(net.weights[:-1], net.biases[:-1], on, strict=True):
            a, c = w @ a, w @ c + b
            sign = 1 - 2 * s  # (A z + c) sign <= 0
            sides.append(sign[:, None] * a)
            right.append(-sign * c)
            a, c = s[:, None] * a, s * c
        cost, constant = (
            row @ net.weights[-1] @ a,
            float(row @ (net.weights[-1] @ c + net.biases[-1])),
        )
        upper, limit = torch.cat(sides).numpy(), torch.cat(right).numpy()
        if threat.order == 1:  # z = x + p - q
            spread = np.hstack([upper, -upper])
            rows = np.vstack([spread, np.ones((1, 2 * n))])
            limits = np.append(limit - upper @ x.numpy(), eps)
            box = [(0, float(1 - v)) for v in x] + [(0, float(v)) for v in x]
            found = linprog(
                np.concatenate([cost.numpy(), -cost.numpy()]), A_ub=rows, b_ub=limits, bounds=box
            )
            value = found.fun + float(cost @ x) if found.status == 0 else math.inf
        else:
            box = [(max(0.0, float(v) - eps), min(1.0, float(v) + eps)) for v in x]
            found = linprog(cost.numpy(), A_ub=upper, b_ub=limit, bounds=box)
            value = found.fun if found.status == 0 else math.inf
        least = min(least, value + constant)
    return least


@dataclass(frozen=True)
class Above:
    """The first output less the second; won at or below a goal."""

    goal: float

    def __call__(self, outputs: Tensor, aim: Tensor) -> Tensor:
        return outputs[:, 0] - outputs[:, 1]

    def rows(self, aim: Tensor, classes: int) -> Tensor:
        row = torch.zeros(len(aim), 1, classes, dtype=torch.float64)
        row[:, 0, 0], row[:, 0, 1] = 1.0, -1.0
        return row


@pytest.mark.parametrize("kind", [Linf, L1])
@pytest.mark.parametrize("seed", range(2))
def test_bounds_hold_and_branching_finds_the_exact_minimum(kind: type[Ball], seed: int) -> None:
    model = dense(3, 4, 3, 2, seed=seed + 20)
    net, x, eps = Layers.of(model), uniform(2, 3, seed=seed), 0.45
    data = Dataset(x, torch.zeros(2, dtype=torch.int64))
    row = torch.tensor([1.0, -1.0], dtype=torch.float64)
    for place in range(2):
        one, threat = data.select([place]), kind(eps)
        least = exact_least(net, x[place], row, threat, eps)
        for method in METHODS:
            lower = certify(model, one, method, threat, quantity=Above(-math.inf)).lower
            assert float(lower) <= least + 1e-9
        search = BranchAndBound(seconds=60.0)
        below, above = (
            certify(model, one, search, threat, quantity=Above(least + shift))
            for shift in (-2e-3, 2e-3)
        )
        assert bool(below.certified.all())
        assert not bool(above.certified.any())
        found = search(model, batch_of(one.x), threat, Above(least + 2e-3))
        assert found.upper is not None
        assert found.witness is not None
        assert float(found.upper) <= least + 2e-3
        assert bool(threat.contains(found.witness, one.x).all())


@pytest.mark.parametrize("seed", range(3))
def test_branching_is_complete_in_l2(seed: int) -> None:
    """Against a fine grid in two dimensions."""
    model = dense(2, 6, 6, 2, seed=seed + 40)
    x, eps = uniform(1, 2, seed=seed), 0.4
    side = torch.linspace(-eps, eps, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    grid = (x + grid[grid.norm(dim=1) <= eps]).clamp(0, 1)
    outputs = predict(model, Dataset(grid, torch.zeros(len(grid), dtype=torch.int64)))
    least = float((outputs[:, 0] - outputs[:, 1]).min())
    data = Dataset(x, torch.zeros(1, dtype=torch.int64))
    search, loose = BranchAndBound(seconds=60.0), 2e-2
    assert bool(certify(model, data, search, L2(eps), quantity=Above(least - loose)).certified)
    assert not bool(certify(model, data, search, L2(eps), quantity=Above(least)).certified)


def tree_of(model: TorchModel, x: Tensor, threat: Ball) -> Tree:
    """The search for one example, before its root, for the difference of two outputs."""
    network = Bounded.of(model, batch_of(x), Crown())
    domain = Boxes(threat.enclosure(x), None)
    known = network.relaxed(domain, model(batch_of(x)))
    rows = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    nothing = torch.full((1,), -math.inf, dtype=torch.float64)
    return Tree(Relaxing(network.steps, domain), known, rows, nothing, 0 * nothing.exp())


@torch.no_grad()
@pytest.mark.parametrize("seed", range(4))
def test_parts_are_bounded_by_any_multipliers_and_cover_the_set(seed: int) -> None:
    model, x, eps = dense(2, 5, 4, 2, seed=seed + 60), uniform(1, 2, seed=seed), 0.5
    tree = tree_of(model, x, Linf(eps))
    tree.root(3)
    for _ in range(3):
        tree.round(math.inf, 3)
    pool = tree.pool
    assert pool is not None
    assert len(pool) > 1
    side = torch.linspace(-eps, eps, 161, dtype=torch.float64)
    z = (x + torch.cartesian_prod(side, side)).clamp(0, 1)
    layers = list(model.module.children())
    first = layers[0](z)
    second = layers[2](first.clamp(min=0))
    out = layers[4](second.clamp(min=0))
    value, arguments = out[:, 0] - out[:, 1], (first, second)
    covered = torch.zeros(len(z), dtype=torch.bool)
    for number in range(len(pool)):
        one = pool.part(torch.tensor([number]))
        inside = torch.ones(len(z), dtype=torch.bool)
        for place, h in zip(tree.places, arguments, strict=True):
            inside &= (h * one.signs[place][0] >= 0).all(1)
        covered |= inside
        least = float(value[inside].min()) if bool(inside.any()) else math.inf
        assert float(one.bound[0]) <= least + 1e-9
        assert all(bool((price >= 0).all()) for price in one.prices.values())
        for factor in (0.3, 3.0):  # multipliers that nobody has chosen
            one.prices = {
                p: factor * numbers(*price.shape, seed=number + p).double().abs()
                for p, price in one.prices.items()
            }
            ascent, _ = tree._ascent(one)
            assert float(ascent.evaluate().bound) <= least + 1e-9
    assert bool(covered.all())


# -- networks of all kinds ---------------------------------------------------------------------


def convolutional(act: Callable[[], nn.Module], pool: nn.Module) -> TorchModel:
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), act(), pool, nn.Conv2d(4, 4, 3), act(), nn.Flatten(),
        nn.Linear(4 * 2 * 2, 6), act(), nn.Linear(6, 3),
    )  # fmt: skip
    initialise(module, 3)
    biased(module, 3)
    return TorchModel(module)


NETWORKS: dict[str, Callable[[], TorchModel]] = {
    "residual": residual,
    "average pool": lambda: convolutional(nn.ReLU, nn.AvgPool2d(2)),
    "max pool": lambda: convolutional(nn.ReLU, nn.MaxPool2d(2)),
    "overlapping max pool": lambda: convolutional(nn.Tanh, nn.MaxPool2d(5, 1)),
    "leaky": lambda: convolutional(lambda: nn.LeakyReLU(0.2), nn.AvgPool2d(2)),
    "steep": lambda: convolutional(lambda: nn.LeakyReLU(1.5), nn.AvgPool2d(2)),
    "sigmoid": lambda: convolutional(nn.Sigmoid, nn.AvgPool2d(2)),
    "gelu": lambda: convolutional(nn.GELU, nn.AvgPool2d(2)),
    "clipped": lambda: convolutional(nn.ReLU6, nn.AvgPool2d(2)),
    "sorted pairs": lambda: convolutional(MinMax, nn.AvgPool2d(2)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_no_bound_is_above_an_attack(name: str, kind: type[Ball]) -> None:
    model = NETWORKS[name]()
    x = examples(5).x if name == "residual" else uniform(5, 1, 8, 8, seed=12).float()
    data = answered(model, x)
    threat = kind({Linf: 0.05, L2: 0.3, L1: 1.0}[kind])
    hit = attack(model, data, PGD(steps=30), threat, seed=0)
    plain = certify(model, data, Interval(), threat)
    for method in METHODS:
        found = certify(model, data, method, threat)
        assert bool((found.lower <= hit.value).all())
        assert not bool((found.certified & hit.success).any())
        if not isinstance(method, LocalLipschitz):
            size = 1e-6 * (1 + plain.lower.abs())
            assert bool((found.lower >= plain.lower - size).all())


def test_optimised_slopes_and_branching_only_improve() -> None:
    model = dense(8, 24, 24, 4, seed=2)
    data, threat = answered(model, uniform(6, 8)), L2(0.3)
    crown, alpha, search = (
        certify(model, data, method, threat).lower
        for method in (Crown(), AlphaCrown(30), BranchAndBound(splits=200))
    )
    assert bool((alpha >= crown - 1e-9).all())
    assert bool((alpha > crown + 1e-3).any())
    assert bool((search >= crown - 1e-9).all())
    zero = certify(model, data, AlphaCrown(0), threat).lower
    assert torch.allclose(zero, crown, atol=1e-9)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_bounds_do_not_depend_on_the_batch(method: Any) -> None:
    model = residual()
    data = answered(model, examples(3).x)
    whole = certify(model, data, method, L2(0.2)).lower
    parts = certify(model, data, method, L2(0.2), run=Run(batch_size=1)).lower
    turned = certify(model, data.select([2, 0, 1]), method, L2(0.2)).lower
    assert torch.allclose(parts, whole, atol=1e-5)
    assert torch.allclose(turned, whole[[2, 0, 1]], atol=1e-5)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_set_of_one_point_gives_the_value_there(method: Any) -> None:
    model = residual()
    data = answered(model, examples(4).x)
    found = certify(model, data, method, Linf(0.0))
    assert torch.allclose(found.lower, found.clean, atol=2e-4)
    assert found.provenance.claim == Claim.SOUND_DEPLOYED


def test_a_real_claim_is_at_least_the_deployed_one() -> None:
    model = residual()
    data = answered(model, examples(4).x)
    for made in (Crown, AlphaCrown, LocalLipschitz):
        real, deployed = (
            certify(model, data, made(claim=claim), Linf(0.02))
            for claim in (Claim.SOUND_REAL, Claim.SOUND_DEPLOYED)
        )
        assert real.provenance.claim == Claim.SOUND_REAL
        assert deployed.provenance.claim == Claim.SOUND_DEPLOYED
        assert bool((real.lower > deployed.lower).all())


def test_an_unbounded_set_proves_nothing() -> None:
    model = residual()
    data = answered(model, examples(2).x)
    for method in METHODS[:4]:
        found = certify(model, data, method, L2(math.inf, (-math.inf, math.inf)))
        assert not bool(found.lower.isfinite().any())


def test_settings_are_looked_at() -> None:
    for wrong in (
        lambda: AlphaCrown(-1),
        lambda: BranchAndBound(seconds=0.0),
        lambda: BranchAndBound(splits=-1),
        lambda: BranchAndBound(iterations=0),
    ):
        with pytest.raises(PlanError):
            wrong()


def test_a_logit_is_bounded_too() -> None:
    model = dense(4, 8, 3)
    data = answered(model, uniform(3, 4))
    quantity: Quantity = logit
    found = certify(model, data, Crown(), Linf(0.1), quantity=quantity)
    hit = attack(model, data, PGD(steps=30), Linf(0.1), quantity=quantity, seed=0)
    assert bool((found.lower <= hit.value).all())
    assert margin is not quantity
