"""Maxima, sorts and joins as ReLUs: equal to what they replace; exact boundaries by enumeration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import numbers
from scipy.optimize import linprog, nnls
from torch import Tensor, nn

from conjoin import Dataset, certify, wrap
from conjoin.attacks import nearest_boundary
from conjoin.certification import Polyhedral, exact_boundary
from conjoin.certification.rectified import Rectified, merging
from conjoin.certification.relaxed import Kinked
from conjoin.core.ball import L1, L2, Ball, Linf
from conjoin.core.drive import batch_of
from conjoin.core.operator import Concat, MaxWindows, Sort, SortPairs, Step, evaluate
from conjoin.errors import CapabilityError
from conjoin.models.entries import windows
from conjoin.nn import GroupSort, MinMax

DOUBLE = torch.float64
OPEN = (-math.inf, math.inf)
TIGHT = Polyhedral(cells=5000, gap=1e-7)
BALLS: tuple[type[Ball], ...] = (L1, L2, Linf)


class Both(nn.Module):
    """The maximum over an axis, the larger and the smaller of two values, joined."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.flatten(1).chunk(2, 1)
        some = [torch.maximum(a, b), torch.minimum(a, b), x.flatten(1).amax(1, keepdim=True)]
        return torch.cat(some, 1)


OPERATORS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "overlapping": (lambda: nn.MaxPool2d(3, 1), (2, 5, 4)),
    "padded": (lambda: nn.MaxPool2d(3, 2, 1), (2, 5, 5)),
    "dilated": (lambda: nn.MaxPool2d((2, 3), (1, 2), (1, 1), (2, 1)), (1, 6, 5)),
    "ceiled": (lambda: nn.MaxPool2d(2, 2, ceil_mode=True), (1, 5, 5)),
    "of lines": (lambda: nn.MaxPool1d(5, 2, 2), (2, 9)),
    "of a volume": (lambda: nn.MaxPool3d(2, 1), (1, 3, 3, 3)),
    "adaptive": (lambda: nn.AdaptiveMaxPool2d((2, 3)), (1, 5, 4)),
    "joined": (Both, (2, 4)),
    "pairs": (MinMax, (6, 2)),
    "groups": (lambda: GroupSort(5), (10, 2)),
    "whole": (lambda: GroupSort(13), (13,)),
}


def steps_of(layer: nn.Module, x: Tensor) -> tuple[Step, ...]:
    return wrap(nn.Sequential(layer, nn.Flatten())).steps(example(x))


def example(x: Tensor) -> Any:
    x = x.float()  # as modules without parameters have it
    return batch_of(
        Dataset(x, torch.zeros(len(x), dtype=torch.int64)), slice(0, len(x)), x.device, 0
    )


@pytest.mark.parametrize("name", OPERATORS)
def test_it_is_the_same_function_without_what_it_replaces(name: str) -> None:
    made, shape = OPERATORS[name]
    x = numbers(40, *shape, seed=1, dtype=DOUBLE)
    x[:10] = x[:10].round()  # ties
    steps = steps_of(made(), x)
    new = Rectified.of(steps)
    assert not any(isinstance(s.op, MaxWindows | SortPairs | Sort | Concat) for s in new.steps)
    kinked = Kinked.of(new.steps, "test")
    values, others = evaluate(steps, x), evaluate(new.steps, x)
    for value, place in zip(values, new.places, strict=True):
        assert torch.allclose(others[place], value, rtol=0, atol=1e-13)
    room = [kinked.room(size) for size in kinked.magnitudes(x.abs())]
    new.check(steps, x, room)
    assert max(float(one.max()) for one in room) < 1e-7
    for step, value in zip(new.steps, others, strict=True):
        assert value.shape[1:] == step.shape


@pytest.mark.parametrize(
    "name", [name for name in OPERATORS if name not in {"pairs", "groups", "whole"}]
)
def test_the_numbers_of_a_pool_tell_the_windows_that_unit_vectors_tell(name: str) -> None:
    made, shape = OPERATORS[name]
    steps = steps_of(made(), numbers(2, *shape))
    for step in (step for step in steps if isinstance(step.op, MaxWindows)):
        source, rows = steps[step.sources[0]].shape, math.prod(step.shape)
        assert isinstance(step.op, MaxWindows)
        seen = windows(replace(step.op, pool=None), source, rows)
        assert np.array_equal(windows(step.op, source, rows), seen)


def test_windows_of_a_large_image_are_read() -> None:
    pool = MaxWindows(
        "max_pool", lambda x: torch.max_pool2d(x, 3, 2, 1), 4, ((3, 3), (2, 2), (1, 1), (1, 1))
    )
    x = numbers(1, 32, 56, 56)
    out = pool(x)
    places = windows(pool, tuple(x.shape[1:]), out.numel())
    found = np.where(places >= 0, x.numpy().ravel()[places], -np.inf).max(1)
    assert np.array_equal(found, out.numpy().ravel())


def test_windows_that_overlap_share_their_pairs_and_need_no_more() -> None:
    pool = steps_of(nn.MaxPool1d(2, 1), numbers(2, 1, 9))
    assert Kinked.of(Rectified.of(pool).steps, "test").neurons == 8
    pool = steps_of(nn.MaxPool1d(4, 2), numbers(2, 1, 10))
    # 5 pairs of neighbours, of which 4 windows take two each
    assert Kinked.of(Rectified.of(pool).steps, "test").neurons == 5 + 4


@pytest.mark.parametrize("count", range(1, 11))
def test_the_network_sorts_all_zeros_and_ones_and_so_everything(count: int) -> None:
    for bits in itertools.product((0, 1), repeat=count):
        some = list(bits)
        for pairs in merging(count):
            assert len({wire for pair in pairs for wire in pair}) == 2 * len(pairs)
            for i, j in pairs:
                some[i], some[j] = min(some[i], some[j]), max(some[i], some[j])
        assert some == sorted(bits)


def test_a_network_that_is_another_is_refused() -> None:
    x = numbers(5, 1, 9, dtype=DOUBLE)
    steps = steps_of(nn.MaxPool1d(3, 1), x)
    new = Rectified.of(steps)
    kinked = Kinked.of(new.steps, "test")
    room = [kinked.room(size) for size in kinked.magnitudes(x.abs())]
    least = MaxWindows("least", lambda v: -torch.max_pool2d(-v, (1, 3), 1), 3)
    wrong = [replace(s, op=least) if isinstance(s.op, MaxWindows) else s for s in steps]
    with pytest.raises(CapabilityError, match="differs"):
        new.check(wrong, x, room)
    with pytest.raises(CapabilityError, match="sorts 17"):
        Rectified.of(steps_of(GroupSort(17), numbers(2, 17)))


# -- the exact boundary, by every choice of every maximum --------------------------------------

Choice = tuple[np.ndarray, np.ndarray]  # what is copied, and the rows that are then not negative


def choices(layer: nn.Module, width: int) -> Iterator[Choice]:
    """Every linear piece of a layer on ``width`` numbers: its matrix, and where it holds."""
    eye = np.eye(width)
    if isinstance(layer, nn.MaxPool1d):
        k, s, p, d = layer.kernel_size, layer.stride, layer.padding, layer.dilation
        starts = range(-p, width + p - d * (k - 1), s)
        spans = [[i for i in range(a, a + d * k, d) if 0 <= i < width] for a in starts]
        for winners in itertools.product(*spans):
            rows = [eye[w] - eye[i] for w, span in zip(winners, spans, strict=True)
                    for i in span if i != w]  # fmt: skip
            yield eye[list(winners)], np.array(rows).reshape(-1, width)
    elif isinstance(layer, nn.ReLU):
        for on in itertools.product((1.0, 0.0), repeat=width):
            yield np.diag(on), np.diag(2 * np.array(on) - 1)
    else:
        size = layer.size if isinstance(layer, GroupSort) else 2
        groups = [range(g, width, width // size) for g in range(width // size)]
        for orders in itertools.product(*(itertools.permutations(group) for group in groups)):
            matrix, rows = np.zeros((width, width)), []
            for group, order in zip(groups, orders, strict=True):
                matrix[list(group)] = eye[list(order)]
                rows += [eye[b] - eye[a] for a, b in itertools.pairwise(order)]
            yield matrix, np.array(rows)


def shortest(rows: np.ndarray, right: np.ndarray, order: float) -> float:
    """The least ‖d‖ over rows d >= right."""
    n = rows.shape[1]
    if order == 2:
        stacked, target = np.vstack([rows.T, right[None]]), np.eye(n + 1)[n]
        u, _ = nnls(stacked, target, maxiter=10_000)
        rest = stacked @ u - target
        return math.inf if np.linalg.norm(rest) < 1e-9 else float(
            np.linalg.norm(rest[:n] / rest[n]))  # fmt: skip
    eye, m = np.eye(n), n if order == 1 else 1
    one = eye if order == 1 else np.ones((n, 1))
    upper = np.block([[-rows, np.zeros((len(rows), m))], [eye, -one], [-eye, -one]])
    found = linprog(
        np.r_[np.zeros(n), np.ones(m)], upper, np.r_[-right, np.zeros(2 * n)],
        bounds=[(None, None)] * n + [(0, None)] * m, method="highs",
    )  # fmt: skip
    return math.inf if found.x is None else float(found.fun)


def enumerated(net: nn.Sequential, x: Tensor, order: float, box: tuple[float, float]) -> float:
    """The distance of the nearest boundary over all pieces, one program for each and each class."""
    top, best, n = int(net(x[None]).argmax()), math.inf, x.numel()
    layers = [m for m in net if not isinstance(m, nn.Flatten | nn.Unflatten)]
    sides = [(sign * np.eye(n), sign * (end - x.flatten().numpy()))
             for end, sign in zip(box, (1.0, -1.0), strict=True) if math.isfinite(end)]  # fmt: skip

    def walk(rest: list[nn.Module], a: np.ndarray, c: np.ndarray, held: list[Choice]) -> None:
        nonlocal best
        if not rest:
            for other in set(range(len(c))) - {top}:
                g, h = a[top] - a[other], c[top] - c[other]
                whole = [*held, (-g[None], np.array([h]))]
                best = min(
                    best, shortest(*(np.concatenate(p) for p in zip(*whole, strict=True)), order)
                )
            return
        if isinstance(rest[0], nn.Linear):
            w, b = (p.detach().numpy() for p in (rest[0].weight, rest[0].bias))
            walk(rest[1:], w @ a, w @ c + b, held)
            return
        for matrix, rows in choices(rest[0], len(c)):
            walk(rest[1:], matrix @ a, matrix @ c, [*held, (rows @ a, -rows @ c)])

    walk(layers, np.eye(n), x.flatten().numpy().copy(), sides)
    return best


def pooled(seed: int, pool: nn.Module, *widths: int) -> nn.Sequential:
    """Dense, a pool of its outputs in a line, dense, MinMax, dense."""
    a, b, c, d, e = widths
    net = nn.Sequential(
        nn.Linear(a, b), nn.Unflatten(1, (1, b)), pool, nn.Flatten(), nn.Linear(c, d), MinMax(),
        nn.Linear(d, e),
    ).double()  # fmt: skip
    return seeded(net, seed)


def seeded(net: nn.Sequential, seed: int) -> nn.Sequential:
    for place, layer in enumerate(m for m in net.modules() if isinstance(m, nn.Linear)):
        drawn = numbers(
            layer.out_features, layer.in_features + 1, seed=90 * seed + place, dtype=DOUBLE
        )
        layer.weight.data, layer.bias.data = (
            1.2 * drawn[:, :-1] / math.sqrt(layer.in_features),
            drawn[:, -1] / 3,
        )
    return net


NETWORKS: dict[str, Callable[[int], nn.Sequential]] = {
    "overlapping": lambda seed: pooled(seed, nn.MaxPool1d(3, 1), 3, 5, 3, 4, 3),
    "padded": lambda seed: pooled(seed, nn.MaxPool1d(3, 2, 1), 3, 5, 3, 4, 3),
    "dilated": lambda seed: pooled(seed, nn.MaxPool1d(2, 1, 0, 2), 2, 5, 3, 2, 2),
    "sorted": lambda seed: seeded(nn.Sequential(
        nn.Linear(3, 6), GroupSort(3), nn.Linear(6, 4), MinMax(), nn.Linear(4, 3)).double(), seed),
    "rectified, then pooled": lambda seed: seeded(nn.Sequential(
        nn.Linear(2, 4), nn.ReLU(), nn.Unflatten(1, (1, 4)), nn.MaxPool1d(2, 1), nn.Flatten(),
        nn.Linear(3, 3)).double(), seed),
}  # fmt: skip


SLOW = {"sorted": pytest.mark.slow}  # 36 orders of each of two groups


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("name", [pytest.param(n, marks=SLOW.get(n, ())) for n in NETWORKS])
def test_the_exact_boundary_is_the_least_of_all_pieces(name: str, ball: type[Ball]) -> None:
    for seed, box in enumerate((OPEN, (0.0, 1.0))):
        net = NETWORKS[name](seed)
        x = numbers(1, net[0].in_features, seed=seed + 3, dtype=DOUBLE).sigmoid()
        true = enumerated(net, x[0], ball(1.0).order, box)
        found = exact_boundary(wrap(net), at(x), ball(4.0, box), method=TIGHT)
        assert float(found.lower[0]) <= true * (1 + 1e-9)
        if true < 3.9:
            assert bool(found.exact[0])
            assert float(found.distance[0]) == pytest.approx(true, rel=2e-6)
        else:
            assert math.isinf(float(found.distance[0]))
            assert box != OPEN


def at(x: Tensor) -> Dataset:
    return Dataset(x, torch.zeros(len(x), dtype=torch.int64))


def test_a_padded_pool_of_an_image_and_no_attack_comes_nearer() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 1, 2), nn.MaxPool2d(2, 2, 1), nn.Flatten(), nn.Linear(4, 2),
    ).double()  # fmt: skip
    for place, one in enumerate(net.parameters()):
        one.data = numbers(*one.shape, seed=place, dtype=DOUBLE) / 2
    x = numbers(2, 1, 4, 4, seed=8, dtype=DOUBLE).sigmoid()
    data = at(x).labelled(net(x).argmax(1))
    for ball in (L1, L2):
        found = exact_boundary(wrap(net), data, ball(8.0, OPEN))
        hit = nearest_boundary(wrap(net), data, ball(8.0, OPEN), seed=0)
        assert bool(found.exact.all()) and bool(hit.found.any())
        assert bool((found.lower <= hit.distance * (1 + 1e-9)).all())
        assert bool((found.distance <= hit.distance * (1 + 1e-3)).all())


def test_certified_exactly_below_the_distance() -> None:
    net = NETWORKS["padded"](0)
    x = numbers(1, 3, seed=3, dtype=DOUBLE).sigmoid()
    far = exact_boundary(wrap(net), at(x), L1(4.0, OPEN), method=TIGHT).distance
    data = at(x).labelled(net(x).argmax(1))
    for share, held in ((0.999, True), (1.001, False)):
        proof = certify(wrap(net), data, TIGHT, L1(far * share, OPEN))
        assert proof.certified.tolist() == [held]
