"""The exact boundary: closed forms, exhaustive enumeration of regions, and what others got wrong."""

from __future__ import annotations

import itertools
import math
import threading
from fractions import Fraction

import numpy as np
import pytest
import torch
from conftest import linear, numbers
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, nnls
from torch import Tensor, nn

from conjoin import Dataset, Linf, attack, certify, predict, wrap
from conjoin.attacks import FMN, nearest_boundary
from conjoin.certification import ExactBoundary, Polyhedral, certified_radius, exact_boundary
from conjoin.certification.caps import Cap, Problem
from conjoin.certification.exact import measured
from conjoin.certification.program import Polyhedron
from conjoin.certification.relaxed import Kinked
from conjoin.core.ball import L1, L2, Ball
from conjoin.core.drive import Run
from conjoin.core.quantity import Contrast, logit, margin
from conjoin.core.random import Streams
from conjoin.core.substitution import Substitution
from conjoin.errors import CapabilityError, PlanError

DOUBLE = torch.float64
OPEN = (-math.inf, math.inf)
TIGHT = Polyhedral(cells=5000, gap=1e-7)


def network(seed: int, *widths: int, kink: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """A dense network of double precision with generic weights."""
    layers: list[nn.Module] = []
    for place, (a, b) in enumerate(itertools.pairwise(widths)):
        layer = nn.Linear(a, b).double()
        drawn = numbers(b, a + 1, seed=100 * seed + place, dtype=DOUBLE)
        layer.weight.data, layer.bias.data = drawn[:, :a] / math.sqrt(a), drawn[:, a] / 2
        layers += [layer, kink()]
    return nn.Sequential(*layers[:-1])


def shortest(rows: np.ndarray, right: np.ndarray, order: float) -> float:
    """The least ‖d‖ over rows d >= right, by least squares without signs or a linear program."""
    n = rows.shape[1]
    if order == 1:  # d = p - q
        both = np.hstack([-rows, rows])
        found = linprog(np.ones(2 * n), both, -right, bounds=(0, None), method="highs")
        return math.inf if found.x is None else float(found.fun)
    if order == 2:  # the least-distance problem as one of non-negative least squares
        stacked = np.vstack([rows.T, right[None]])
        target = np.eye(n + 1)[n]
        u, _ = nnls(stacked, target, maxiter=10_000)
        rest = stacked @ u - target
        if np.linalg.norm(rest) < 1e-9:
            return math.inf
        return float(np.linalg.norm(rest[:n] / rest[n]))
    upper = np.vstack([np.hstack([-rows, np.zeros((len(rows), 1))])])
    eye, one = np.eye(n), -np.ones((n, 1))
    upper = np.vstack([upper, np.hstack([eye, one]), np.hstack([-eye, one])])
    bound = [(None, None)] * n + [(0, None)]
    right = np.concatenate([-right, np.zeros(2 * n)])
    found = linprog(np.eye(n + 1)[n], upper, right, bounds=bound, method="highs")
    return math.inf if found.x is None else float(found.fun)


def enumerated(net: nn.Sequential, x: Tensor, order: float, box: tuple[float, float]) -> float:
    """The distance of the nearest boundary by all regions: every pattern of signs, one program each."""
    layers = [m for m in net if isinstance(m, nn.Linear)]
    slope = next((m.negative_slope for m in net if isinstance(m, nn.LeakyReLU)), 0.0)
    hidden, n, best = sum(m.out_features for m in layers[:-1]), x.numel(), math.inf
    top = int(net(x[None]).argmax())
    for signs in itertools.product((1.0, -1.0), repeat=hidden):
        a, c, used, rows, right = np.eye(n), x.numpy().copy(), 0, [], []
        for layer in layers:
            w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
            a, c = w @ a, w @ c + b
            if layer is not layers[-1]:
                s = np.array(signs[used : used + len(c)])
                used += len(c)
                rows.append(s[:, None] * a)
                right.append(-s * c)
                share = np.where(s > 0, 1.0, slope)
                a, c = share[:, None] * a, share * c
        for end, sign in zip(box, (1.0, -1.0), strict=True):
            if math.isfinite(end):
                rows.append(sign * np.eye(n))
                right.append(sign * (end - x.numpy()))
        for other in set(range(len(c))) - {top}:
            g, h = a[top] - a[other], c[top] - c[other]
            all_rows, all_right = np.vstack([*rows, -g[None]]), np.concatenate([*right, [h]])
            best = min(best, shortest(all_rows, all_right, order))
    return best


def at(x: Tensor) -> Dataset:
    return Dataset(x, torch.zeros(len(x), dtype=torch.int64))


def points(count: int, width: int, seed: int = 3) -> Tensor:
    return numbers(count, width, seed=seed, dtype=DOUBLE).sigmoid()


@pytest.mark.parametrize("order", [1, 2, math.inf])
@pytest.mark.parametrize("box", [OPEN, (0.0, 1.0)])
@pytest.mark.parametrize("widths", [(3, 5, 3), (3, 3, 2, 3)])
def test_it_is_the_minimum_over_all_regions(
    order: float, box: tuple[float, float], widths: tuple[int, ...]
) -> None:
    x = points(2, widths[0])
    ball = {1: L1, 2: L2, math.inf: Linf}[order]
    for seed in range(2):
        net = network(seed, *widths)
        found = exact_boundary(wrap(net), at(x), ball(4.0, box), method=TIGHT)
        for place, one in enumerate(x):
            true = enumerated(net, one, order, box)
            assert float(found.lower[place]) <= true * (1 + 1e-9)
            if true < 3.9:
                assert bool(found.exact[place])
                assert float(found.distance[place]) == pytest.approx(true, rel=2e-6)
            else:
                assert math.isinf(float(found.distance[place]))


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([nn.ReLU, nn.LeakyReLU]))
def test_bounds_hold_on_any_network_and_any_budget(seed: int, kink: type[nn.Module]) -> None:
    net, x = network(seed, 3, 4, 2, 3, kink=kink), points(1, 3, seed)
    true = enumerated(net, x[0], 2, OPEN)
    for cells in (1, 4, 5000):
        method = Polyhedral(cells=cells, gap=1e-7)
        found = exact_boundary(wrap(net), at(x), L2(8.0, OPEN), method=method)
        assert float(found.lower[0]) <= true * (1 + 1e-9)
        assert float(found.distance[0]) >= true * (1 - 1e-9)
    if true < 7:
        assert bool(found.exact[0])


def test_a_point_on_an_edge_is_met_from_inside() -> None:
    net, x = network(258, 3, 4, 2, 3), points(1, 3, 258)
    found = exact_boundary(wrap(net), at(x), L2(8.0, OPEN), method=TIGHT)
    assert float(found.distance[0]) == pytest.approx(enumerated(net, x[0], 2, OPEN), rel=1e-6)
    assert bool(found.exact[0])


@pytest.mark.parametrize(("ball", "dual"), [(L1, math.inf), (L2, 2.0), (Linf, 1.0)])
def test_of_a_linear_model_it_is_the_closed_form(ball: type[Ball], dual: float) -> None:
    weight = numbers(5, 12, dtype=DOUBLE)
    model, data = linear(weight), at(numbers(6, 12, seed=4, dtype=DOUBLE))
    found = exact_boundary(model, data, ball(50.0, OPEN))
    z = predict(model, data)
    top = z.argmax(1)
    gap = z.gather(1, top[:, None]) - z
    norm = torch.linalg.vector_norm(weight[top][:, None] - weight, ord=dual, dim=2)
    far = torch.where(norm > 0, gap / norm, math.inf)
    assert bool(found.exact.all())
    assert torch.allclose(found.lower, far.amin(1), rtol=2e-4)
    assert bool((found.lower <= far.amin(1)).all())
    assert torch.equal(found.competitor, far.argmin(1))
    way = weight[top] - weight[found.competitor]
    assert torch.allclose(found.normal, way / way.norm(dim=1, keepdim=True))


def test_of_a_linear_model_in_a_box_the_sum_is_spent_where_it_moves_most() -> None:
    weight, bias = numbers(2, 6, dtype=DOUBLE), numbers(2, seed=1, dtype=DOUBLE)
    x = numbers(8, 6, seed=2, dtype=DOUBLE).sigmoid()
    met = 0
    for place, one in enumerate(x):
        gap = (weight[0] - weight[1]) @ one + bias[0] - bias[1]
        row = (weight[0] - weight[1]) * gap.sign()
        room = torch.where(row > 0, one, 1 - one)
        rest, far = gap.abs(), torch.zeros((), dtype=DOUBLE)
        for k in row.abs().argsort(descending=True).tolist():
            step = torch.minimum(room[k], rest / row[k].abs())
            rest, far = rest - step * row[k].abs(), far + step
        found = exact_boundary(
            linear(weight, bias), at(x[place : place + 1]), L1(6.0), method=TIGHT
        )
        if float(rest) > 1e-9:
            assert math.isinf(float(found.distance[0]))
            continue
        met += 1
        assert float(found.lower[0]) <= float(far) * (1 + 1e-12)
        assert float(found.distance[0]) == pytest.approx(float(far), rel=1e-6)
        assert int((found.inputs[0] != one).sum()) <= 6
    assert met > 2


def test_no_attack_comes_nearer_and_radii_are_the_distances() -> None:
    net, x = network(1, 6, 12, 8, 4), points(6, 6)
    data = at(x).labelled(net(x).argmax(1))
    found = exact_boundary(wrap(net), data, L2(3.0), method=TIGHT)
    for result in (
        attack(wrap(net), data, FMN(steps=40), L2(3.0), seed=0).distance,
        nearest_boundary(wrap(net), data, L2(3.0), seed=0).distance,
    ):
        assert bool((result >= found.lower * (1 - 1e-9)).logical_or(result == 0).all())
    radius = certified_radius(wrap(net), data, TIGHT, L2(0.1), largest=3.0)
    assert torch.allclose(radius, found.lower.clamp(max=3.0), rtol=1e-5)
    near = nearest_boundary(wrap(net), data, L2(3.0), seed=0).inputs
    told = exact_boundary(wrap(net), data, L2(3.0), method=TIGHT, near=near)
    assert torch.allclose(told.lower, found.lower, rtol=1e-6)


def test_certified_exactly_below_the_distance() -> None:
    net, x = network(2, 4, 6, 3), points(5, 4)
    data = at(x).labelled(net(x).argmax(1))
    far = exact_boundary(wrap(net), data, L2(5.0, OPEN), method=TIGHT).distance
    for share, held in ((0.999, True), (1.001, False)):
        proof = certify(wrap(net), data, TIGHT, L2(far * share, OPEN))
        assert proof.certified.tolist() == [held] * 5


def test_other_kinks_sums_and_convolutions() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 2).double()
            self.head = nn.Linear(8, 3).double()
            for k, p in enumerate(self.parameters()):
                p.data = numbers(*p.shape, seed=k, dtype=DOUBLE) / 2

        def forward(self, x: Tensor) -> Tensor:
            h: Tensor = self.conv(x)
            out: Tensor = self.head((h.abs() + nn.functional.leaky_relu(h, 0.2) - h).flatten(1))
            return out

    net, x = Odd(), points(4, 9).reshape(4, 1, 3, 3)
    found = exact_boundary(wrap(net), at(x), L2(5.0, OPEN), method=TIGHT)
    met = nearest_boundary(wrap(net), at(x), L2(5.0, OPEN), seed=0)
    assert bool(found.exact.all()) and bool(met.found.all())
    assert bool((found.lower <= met.distance * (1 + 1e-9)).all())
    # nothing of a dense sample of the ball of that radius flips
    top = net(x).argmax(1)
    for place in range(4):
        draws = Streams.of(0, torch.arange(4000)).normal(9, dtype=DOUBLE)
        draws = draws / draws.norm(dim=1, keepdim=True) * found.lower[place]
        z = x[place : place + 1] + draws.reshape(-1, 1, 3, 3)
        assert bool((net(z).argmax(1) == top[place]).all())


def test_neurons_that_share_a_hyperplane_and_an_example_that_lies_on_it() -> None:
    net = network(3, 3, 4, 2)
    net[0].weight.data[1], net[0].bias.data[1] = net[0].weight.data[0], net[0].bias.data[0]
    x = points(1, 3)
    w, b = net[0].weight.data[0], net[0].bias.data[0]
    x = x - (x @ w + b)[:, None] * w / (w @ w)
    found = exact_boundary(wrap(net), at(x), L2(9.0, OPEN), method=TIGHT)
    assert float(found.distance[0]) == pytest.approx(enumerated(net, x[0], 2, OPEN), rel=1e-5)


# What the published code of fast geometric projections gets wrong, one by one.


def test_a_heap_of_equal_keys_is_walked() -> None:
    net = network(0, 2, 4, 2)
    first, last = net[0], net[2]
    first.weight.data = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]], dtype=DOUBLE)
    first.bias.data.fill_(-1.0)
    last.weight.data = torch.tensor([[-1.0] * 4, [0.0] * 4], dtype=DOUBLE)
    last.bias.data = torch.tensor([1.0, 0.0], dtype=DOUBLE)
    found = exact_boundary(wrap(net), at(torch.zeros(1, 2, dtype=DOUBLE)), L2(9.0, OPEN))
    # relu(|x1| - 1) + relu(|x2| - 1) = 1: along a diagonal, at (1.5, 1.5), or on an axis, at 2
    assert float(found.distance[0]) == pytest.approx(2.0, rel=1e-4)


def test_a_point_of_linf_is_the_nearest_in_linf() -> None:
    weight = torch.tensor([[1.0, 0.1], [0.0, 0.0]], dtype=DOUBLE)
    found = exact_boundary(
        linear(weight), at(torch.tensor([[0.11, 0.0]], dtype=DOUBLE)), Linf(9.0, OPEN)
    )
    assert float(found.distance[0]) == pytest.approx(0.1, rel=1e-4)  # the l2 point lies at 0.109


def test_a_tie_is_no_witness_unless_the_model_flips() -> None:
    weight = torch.tensor([[1.0, 0.0], [1.0 - 1e-4, 0.0]], dtype=DOUBLE)
    bias = torch.tensor(
        [1e-5, 0.0], dtype=DOUBLE
    )  # nearly equal everywhere; the boundary is at -0.1
    data = at(torch.tensor([[0.5, 0.5]], dtype=DOUBLE))
    inside = exact_boundary(linear(weight, bias), data, L2(0.5, OPEN))
    assert math.isinf(float(inside.distance[0])) and float(inside.lower[0]) >= 0.5
    beyond = exact_boundary(linear(weight, bias), data, L2(0.7, OPEN))
    assert float(beyond.distance[0]) == pytest.approx(0.6, rel=1e-4)


def test_lower_bounds_hold_in_rational_arithmetic() -> None:
    for seed in range(20):
        weight = numbers(2, 7, seed=seed)  # single precision
        x = numbers(1, 7, seed=seed + 50)
        data = Dataset(x, torch.zeros(1, dtype=torch.int64))
        found = exact_boundary(linear(weight), data, L2(100.0, OPEN), method=TIGHT)
        row = [Fraction(a) - Fraction(b) for a, b in zip(*weight.tolist(), strict=True)]
        value = sum(w * Fraction(z) for w, z in zip(row, x[0].tolist(), strict=True))
        square = value * value / sum(w * w for w in row)
        assert Fraction(float(found.lower[0])) ** 2 <= square


def test_points_outside_the_box_are_none() -> None:
    weight, bias = torch.eye(2, dtype=DOUBLE), torch.tensor([0.0, -0.2], dtype=DOUBLE)
    x = torch.tensor([[0.9, 0.95]], dtype=DOUBLE)
    free = exact_boundary(linear(weight, bias), at(x), L2(9.0, OPEN))
    held = exact_boundary(linear(weight, bias), at(x), L2(9.0))
    assert float(free.distance[0]) == pytest.approx(0.15 / math.sqrt(2), rel=1e-4)
    assert float(held.distance[0]) == pytest.approx(math.hypot(0.05, 0.1), rel=1e-4)
    assert float(held.inputs.max()) <= 1
    shut = exact_boundary(linear(weight, bias - torch.tensor([0.0, 5.0])), at(x), L2(9.0))
    assert math.isinf(float(shut.distance[0]))  # no class but the first inside the box


def test_a_deadline_ends_it_in_any_thread_with_bounds_that_hold() -> None:
    net, x = network(5, 8, 30, 30, 4), points(2, 8)
    data, results = at(x), []

    def work() -> None:
        method = Polyhedral(seconds=1e-6)
        results.append(exact_boundary(wrap(net), data, L2(9.0, OPEN), method=method))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    full = exact_boundary(wrap(net), data, L2(9.0, OPEN), method=Polyhedral(cells=3000))
    assert bool((results[0].lower <= full.distance).all())
    assert bool((results[0].distance >= full.lower).all())


# The parts.


def test_any_multipliers_prove_a_bound() -> None:
    w, r = numbers(3, 5, dtype=DOUBLE), numbers(3, seed=1, dtype=DOUBLE).abs()
    low, high = torch.full((5,), -0.9, dtype=DOUBLE), torch.full((5,), 0.8, dtype=DOUBLE)
    for order in (1.0, 2.0, math.inf):
        rows = Polyhedron(w, r, low, high, order, False)
        lam, d = rows.nearest(r.new_zeros(3), 1e9)
        best = rows.proved(lam)
        far = float(torch.linalg.vector_norm(d, ord=order))
        assert best == pytest.approx(far, rel=1e-6) and bool((w @ d + r <= 1e-7).all())
        for seed in range(20):
            assert rows.proved(numbers(3, seed=seed, dtype=DOUBLE).exp()) <= best * (1 + 1e-9)
        # what is proved impossible is impossible: no corner of the box meets the row
        apart = Polyhedron(w[:1], w[:1].abs().sum(1) + 1, low, high, order, False)
        assert apart.proved(r.new_ones(1) * 1e6) > 1e2


@pytest.mark.parametrize("order", [1, 2, math.inf])
def test_caps_bound_linear_functions_and_closely(order: float) -> None:
    x = points(1, 4)
    net = Kinked.of(wrap(network(0, 4, 3, 2)).steps(_batch(x)), "test")
    low, high = torch.zeros_like(x), torch.ones_like(x)
    problem = Problem(net, x, low, high, order, torch.eye(2, dtype=DOUBLE), 0.0)
    w, a = numbers(4, seed=2, dtype=DOUBLE), numbers(6, 4, seed=3, dtype=DOUBLE)
    cap = Cap(w, 0.15, 0.15, 0.4, problem)
    least = cap.least(a, torch.zeros(6, dtype=DOUBLE))
    grid = torch.cartesian_prod(*[torch.linspace(-0.4, 0.4, 33, dtype=DOUBLE)] * 4)
    inside = (grid @ w + 0.15 <= 0) & (torch.linalg.vector_norm(grid, ord=order, dim=1) <= 0.4)
    inside &= ((x + grid >= 0) & (x + grid <= 1)).all(1)
    seen = (grid[inside] @ a.mT).amin(0)
    assert bool((least <= seen + 1e-12).all())
    loose = Cap(w, 0.0, 0.0, 0.4, problem).least(a, torch.zeros(6, dtype=DOUBLE))
    assert bool((least >= loose).all()) and float((least - loose).max()) > 0.01
    if order != 2:  # one multiplier is the whole dual of a linear program
        assert torch.allclose(least, seen, atol=0.06)


def _batch(x: Tensor) -> object:
    from conjoin.core.drive import batch_of

    return batch_of(at(x), slice(0, len(x)), x.device, 0)


def test_neither_batch_nor_order_matter_and_it_is_saved(tmp_path: object) -> None:
    net, x = network(4, 5, 10, 3), points(7, 5)
    whole = exact_boundary(wrap(net), at(x), L2(2.0))
    some = exact_boundary(wrap(net), at(x).select([4, 1]), L2(2.0), run=Run(batch_size=1))
    for name in ("lower", "distance", "inputs", "competitor", "cells"):
        assert torch.equal(getattr(whole, name)[[4, 1]], getattr(some, name))
    whole.save(f"{tmp_path}/exact.safetensors")
    again = ExactBoundary.load(f"{tmp_path}/exact.safetensors")
    assert torch.equal(again.lower, whole.lower) and again.evidence.kind == "certified"


def test_what_it_does_not_know_is_refused() -> None:
    x = points(2, 4)
    for net in (
        nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(4, 4), nn.ReLU6(), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2)),
    ):
        with pytest.raises(CapabilityError, match="one kink"):
            exact_boundary(wrap(net.double()), at(x), L2(1.0))
    net = network(0, 4, 3, 2)
    with pytest.raises(CapabilityError, match="l1, l2 or linf"):
        measured(Polyhedral(), Substitution(torch.zeros(4, 1, dtype=torch.int64), 1), margin)
    with pytest.raises(CapabilityError, match="goal"):
        exact_boundary(wrap(net), at(x), L2(1.0), quantity=logit)
    with pytest.raises(PlanError, match="cells"):
        Polyhedral(cells=0)
    unbounded = exact_boundary(wrap(net), at(x), L2(math.inf, OPEN), quantity=Contrast(1))
    assert bool((unbounded.lower >= 0).all())
