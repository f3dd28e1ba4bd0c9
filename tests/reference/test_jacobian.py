"""Gradients of maxima and sorts over a set: no sampled one lies outside, and single windows are met."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from conftest import numbers
from torch import Tensor, nn

from conjoin import Dataset, certify, predict, wrap
from conjoin.certification import LocalLipschitz
from conjoin.certification.box import Box
from conjoin.certification.jacobian import _largest, _paired, _sorted
from conjoin.core.ball import L2, Linf
from conjoin.core.evidence import Claim
from conjoin.core.operator import MaxWindows, Sort, SortPairs
from conjoin.core.random import Streams
from conjoin.nn import GroupSort

DOUBLE = torch.float64


def lines(kernel: int, stride: int, padding: int = 0, dilation: int = 1) -> MaxWindows:
    def act(x: Tensor) -> Tensor:
        return torch.max_pool1d(x, kernel, stride, padding, dilation)

    return MaxWindows("max_pool", act, -(-kernel // stride))


OPERATORS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "single": (lines(3, 3), (2, 6)),
    "overlapping": (lines(3, 1), (2, 6)),
    "padded": (lines(3, 2, 1), (2, 7)),
    "dilated": (lines(2, 1, 0, 2), (2, 6)),
    "pairs": (SortPairs(1), (4, 2)),
    "sorted": (Sort(2), (2, 4)),
    "sorted places": (Sort(1), (3, 2)),
}


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0, 9.0])
@pytest.mark.parametrize("name", OPERATORS)
def test_no_gradient_lies_outside_and_those_of_disjoint_groups_are_reached(
    name: str, spread: float
) -> None:
    op, shape = OPERATORS[name]
    centre = numbers(1, *shape, seed=4, dtype=DOUBLE)
    half = spread * numbers(1, *shape, seed=5, dtype=DOUBLE).abs()
    box = Box(centre - half, centre + half)
    out = op(centre)
    rows = numbers(1, 3, *out.shape[1:], seed=6, dtype=DOUBLE)
    if isinstance(op, MaxWindows):
        low, high = _largest(op, box, tuple(out.shape[1:]), (rows, rows))
    else:
        low, high = (_paired if isinstance(op, SortPairs) else _sorted)(op, box, (rows, rows))
    draws = 2 * Streams.of(0, torch.arange(3000)).uniform(*shape, dtype=DOUBLE) - 1
    z = (centre + half * draws).requires_grad_()
    seen = torch.stack(
        [torch.autograd.grad(op(z), z, row.expand(3000, *row.shape))[0] for row in rows[0]]
    )
    assert bool((low[0] <= seen.amin(1) + 1e-12).all())
    assert bool((seen.amax(1) <= high[0] + 1e-12).all())
    if name in {"single", "pairs"} or name.startswith("sorted"):
        assert torch.allclose(low[0], seen.amin(1), rtol=0, atol=1e-12)
        assert torch.allclose(high[0], seen.amax(1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", OPERATORS)
def test_intervals_of_rows_hold_all_rows_in_them(name: str) -> None:
    op, shape = OPERATORS[name]
    centre = numbers(1, *shape, seed=4, dtype=DOUBLE)
    half = 0.4 * numbers(1, *shape, seed=5, dtype=DOUBLE).abs()
    box, out = Box(centre - half, centre + half), op(centre)
    ends = numbers(2, 1, 1, *out.shape[1:], seed=6, dtype=DOUBLE).sort(0).values
    value = ends[0], ends[1]
    if isinstance(op, MaxWindows):
        low, high = _largest(op, box, tuple(out.shape[1:]), value)
    else:
        low, high = (_paired if isinstance(op, SortPairs) else _sorted)(op, box, value)
    streams = Streams.of(1, torch.arange(2000))
    z = (centre + half * (2 * streams.fold("z").uniform(*shape, dtype=DOUBLE) - 1)).requires_grad_()
    mix = streams.fold("row").uniform(*out.shape[1:], dtype=DOUBLE).round()
    seen = torch.autograd.grad(op(z), z, ends[0, 0] + mix * (ends[1, 0] - ends[0, 0]))[0]
    assert bool((low[0, 0] <= seen + 1e-12).all()) and bool((seen <= high[0, 0] + 1e-12).all())


def pooled(seed: int, layer: nn.Module, width: int) -> nn.Sequential:
    net = nn.Sequential(
        nn.Linear(4, 9), nn.Unflatten(1, (1, 9)), layer, nn.Flatten(), nn.Linear(width, 3)
    ).double()
    for place, one in enumerate(net.parameters()):
        one.data = numbers(*one.shape, seed=50 * seed + place, dtype=DOUBLE) / 2
    return net


@pytest.mark.parametrize("kind", [Linf, L2])
def test_bounds_are_exact_where_one_element_wins_and_hold_on_a_dense_sample(kind: Any) -> None:
    for seed, (layer, width) in itertools.product(
        range(3), ((nn.MaxPool1d(3, 1), 7), (nn.MaxPool1d(3, 2, 1), 5), (GroupSortLine(), 9))
    ):
        net = pooled(seed, layer, width)
        x = numbers(2, 4, seed=seed, dtype=DOUBLE).sigmoid()
        data = Dataset(x, net(x).argmax(1))
        leaf = x.clone().requires_grad_()
        top = net(leaf).topk(2).values
        (slope,) = torch.autograd.grad((top[:, 0] - top[:, 1]).sum(), leaf)
        tiny = kind(1e-7, (-9.0, 9.0))
        length = slope.abs().sum(1) if kind is Linf else slope.norm(dim=1)
        found = certify(wrap(net), data, LocalLipschitz(claim=Claim.SOUND_REAL), tiny).lower
        assert torch.allclose(found, (top[:, 0] - top[:, 1] - 1e-7 * length).detach(), atol=1e-12)
        for eps in (0.05, 0.3):
            threat = kind(eps, (-9.0, 9.0))
            found = certify(wrap(net), data, LocalLipschitz(), threat).lower
            for place, one in enumerate(x):
                many = one.expand(2000, 4)
                z = threat.sample(many, Streams.of(seed, torch.arange(2000)))
                values = predict(wrap(net), Dataset(z, data.y[place].expand(2000)))
                own = values[:, data.y[place]]
                rest = values.scatter(1, data.y[place].expand(2000, 1), -torch.inf).amax(1)
                assert float(found[place]) <= float((own - rest).min())


class GroupSortLine(nn.Module):
    """Sorts groups of three along a line."""

    def forward(self, x: Tensor) -> Tensor:
        return GroupSort(3)(x.flatten(1))
