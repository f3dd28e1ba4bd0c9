"""No bound that goes backwards is above what a search finds, on random networks of all operators."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from cases import ACTIVATIONS
from graphs import random_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from search import against
from torch import Tensor, nn

from conjoin import L1, L2, Dataset, Linf, certify, wrap
from conjoin.certification import (
    AlphaCrown,
    BranchAndBound,
    Crown,
    Interval,
    Lipschitz,
    LocalLipschitz,
)
from conjoin.certification.lines import lines, offsets, slope_range
from conjoin.core.operator import Elementwise
from conjoin.core.random import Streams
from conjoin.models.activations import ACTIVATIONS as TABLE
from conjoin.models.activations import leaky, per_channel, relu, softsign, tanhshrink
from conjoin.training import gloro

KINDS: dict[float, Any] = {math.inf: Linf, 2.0: L2, 1.0: L1}
EPS = {math.inf: 0.05, 2.0: 0.2, 1.0: 0.5}
METHODS: tuple[Any, ...] = (
    Crown(),
    LocalLipschitz(),
    LocalLipschitz(tighten=True),
    AlphaCrown(3),
    BranchAndBound(splits=8),
)
BUDGET = {"steps": 5, "starts": 2, "draws": 3}


@pytest.mark.parametrize("seed", range(12))
def test_no_bound_on_a_random_network_is_contradicted(seed: int) -> None:
    graph, shape = random_graph(90_000 + seed)
    twin = copy.deepcopy(graph).double()
    x = Streams.of(seed, torch.arange(3)).uniform(*shape)
    with torch.no_grad():
        data = Dataset(x, twin(x.double()).argmax(1))
    order = (math.inf, 2.0, 1.0)[seed % 3]
    for method in METHODS:
        found = certify(wrap(graph), data, method, KINDS[order](EPS[order]))
        result = against(found, twin, data.x, data.y, order, EPS[order], **BUDGET)
        assert not result.contradictions, f"{method!r}: {result.contradictions[0]}"


def functions() -> list[Elementwise]:
    """Every function of one number that is known, with its usual arguments."""
    given_: dict[str, dict[str, Any]] = {
        "leaky_relu": {"negative_slope": -0.3},
        "hardtanh": {"min_val": -0.4, "max_val": 0.7},
        "clamp_min": {"min": 0.3},
        "clamp_max": {"max": -0.2},
        "elu": {"alpha": 1.3, "scale": 1.0, "input_scale": 1.0},
        "celu": {"alpha": 0.7},
        "softplus": {"beta": 2.0, "threshold": 1.0},
        "softshrink": {"lambd": 0.2},
        "gelu": {"approximate": "none"},
        "pow": {"exponent": 2},
    }
    names = [n for n in TABLE if n not in {"rrelu_with_noise", "clamp"}]
    found = [TABLE[n](given_.get(n, {})) for n in names]
    weight = torch.tensor([0.3], dtype=torch.float64)
    return [*found, relu(), leaky(0.1), leaky(1.5), per_channel(weight), softsign(), tanhshrink()]


@given(
    low=st.floats(-6, 6), width=st.floats(1e-9, 8), share=st.floats(0, 1), slope=st.floats(-2, 2)
)
@settings(max_examples=15, deadline=None)
def test_lines_hold_functions_over_intervals(
    low: float, width: float, share: float, slope: float
) -> None:
    a = torch.tensor([[low]], dtype=torch.float64)
    b = a + width
    points = torch.cat([a + (b - a) * t for t in (0.0, share, 0.5, 1.0)])
    for op in functions():
        values = op(points)
        ends = torch.full_like(a, -1e9), torch.full_like(a, 1e9)
        pair = lines(op, a, b, ends)
        slack = 1e-13 * (1 + values.abs()) + op.jump
        assert bool((pair.below * points + pair.under <= values + slack).all()), op
        assert bool((pair.above * points + pair.over >= values - slack).all()), op
        least, most = offsets(op, torch.full_like(a, slope), a, b)
        if bool(least.isfinite().all()):
            rest = values - slope * points
            assert bool((least <= rest + slack).all()), op
            assert bool((most >= rest - slack).all()), op
        falls, rises = slope_range(op, a, b)
        steps = points[:-1] - points[1:]
        rise = values[:-1] - values[1:]
        room = slack.max() + 1e-12 * (1 + points.abs().max())
        low_, high_ = (
            torch.minimum(falls * steps, rises * steps),
            torch.maximum(falls * steps, rises * steps),
        )
        if bool(low_.isfinite().all() and high_.isfinite().all()):
            assert bool(((rise >= low_ - room) & (rise <= high_ + room)).all()), op


@given(low=st.floats(-3, 2.9), width=st.floats(0.01, 3))
@settings(max_examples=12, deadline=None)
def test_lines_of_smooth_functions_are_tight(low: float, width: float) -> None:
    """Within a constant times the square of the width, as tangents and chords are."""
    a = torch.tensor([[low]], dtype=torch.float64)
    b = a + width
    for name in ("sigmoid", "tanh", "atan", "exp", "square"):
        op = TABLE[name]({})
        pair = lines(op, a, b, (torch.full_like(a, -1e9), torch.full_like(a, 1e9)))
        middle = (a + b) / 2
        gap = (pair.above - pair.below) * middle + pair.over - pair.under
        curve = 2.0 if name == "square" else math.exp(float(b)) if name == "exp" else 1.0
        assert float(gap) <= curve * width**2 / 2 + 1e-9


@pytest.mark.parametrize("name", ["relu", "gelu", "leaky relu, turned", "tanh", "hardswish"])
def test_crown_holds_where_an_activation_turns(name: str) -> None:
    """A scalar network that dwells on the turning points."""
    x = torch.linspace(0.0, 1.0, 41)[:, None]
    first, last = nn.Linear(1, 1), nn.Linear(1, 2)
    with torch.no_grad():
        first.weight.fill_(8.0)
        first.bias.fill_(-5.0)
        last.weight.copy_(torch.tensor([[3.0], [0.0]]))
        last.bias.copy_(torch.tensor([0.6, 0.0]))
    act = ACTIVATIONS[name]() if name in ACTIVATIONS else nn.Tanh()
    module = nn.Sequential(first, act, last)
    twin = copy.deepcopy(module).double()

    def truth(z: Tensor) -> Tensor:
        out: Tensor = twin(z)
        return out

    with torch.no_grad():
        data = Dataset(x, module(x).argmax(1))
    for eps in (0.003, 0.1, 1.0):
        for method in (Crown(), LocalLipschitz(), AlphaCrown(3)):
            found = certify(wrap(module), data, method, Linf(eps))
            result = against(found, truth, data.x, data.y, math.inf, eps, **BUDGET)
            assert not result.contradictions, result.contradictions[0]


class Summed(nn.Module):
    """An affine map of the sum of all elements, a single number per example."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(1, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return three outputs."""
        out: Tensor = self.fc(x.sum((1, 2, 3))[:, None])
        return out


class Stacked(nn.Module):
    """Single numbers per example go through activations, are scaled, shifted, added and stacked."""

    def __init__(self, act: nn.Module, wide: float = 3.0) -> None:
        super().__init__()
        self.first, self.last, self.act = nn.Linear(4, 6), nn.Linear(6, 3), act
        with torch.no_grad():
            for value in self.parameters():
                value.mul_(wide)

    def forward(self, x: Tensor) -> Tensor:
        """Return three outputs."""
        h = self.first(x)
        one = self.act(self.last(self.act(h))[:, 0])
        two = self.last(h)[:, 0]
        return torch.stack([two, one, 0.5 * one + 0.25 - self.act(two)], 1)


@pytest.mark.parametrize("order", sorted(KINDS))
@pytest.mark.parametrize("method", [Interval(), Lipschitz(), *METHODS], ids=repr)
def test_the_bound_of_a_sum_is_its_closed_form(method: Any, order: float) -> None:
    """z_y - z_k = (w_y - w_k) s + b_y - b_k, and s moves by eps times the dual norm of ones."""
    if isinstance(method, Lipschitz) and order != 2:
        pytest.skip("of l2 alone")
    torch.manual_seed(3)
    module, x, eps = Summed().double(), torch.rand(4, 1, 3, 3, dtype=torch.float64), 0.05
    with torch.no_grad():
        z = module(x)
        y = z.argmax(1)
        w = module.fc.weight[:, 0]
    reach = eps * {math.inf: 9.0, 2.0: 3.0, 1.0: 1.0}[order]
    apart = z.gather(1, y[:, None]) - z - reach * (w[y][:, None] - w).abs()
    true = apart.scatter(1, y[:, None], math.inf).amin(1)
    found = certify(wrap(module), Dataset(x, y), method, KINDS[order](eps, bounds=(-9.0, 9.0)))
    assert bool((found.lower <= true + 1e-12).all())
    assert torch.allclose(found.lower.double(), true, atol=1e-6)


def test_the_radius_of_a_sum_is_its_closed_form() -> None:
    torch.manual_seed(3)
    module, x = Summed(), torch.rand(4, 1, 3, 3)
    with torch.no_grad():
        found = gloro(module, eps=0.05, example=x[:1]).radius(x)
        z, w = module(x).double(), module.fc.weight[:, 0].double()
    y = z.argmax(1, keepdim=True)
    each = (z.gather(1, y) - z) / (3 * (w[y] - w).abs())
    true = each.scatter(1, y, math.inf).amin(1)
    assert bool((found <= true * (1 + 1e-6)).all()) and torch.allclose(found, true, rtol=1e-2)


@pytest.mark.parametrize("act", ["leaky relu, turned", "relu", "tanh", "gelu"])
@pytest.mark.parametrize("order", sorted(KINDS))
def test_single_numbers_per_example_are_bounded(act: str, order: float) -> None:
    made = ACTIVATIONS.get(act, nn.Tanh)
    for seed in range(2):
        torch.manual_seed(seed)
        module = Stacked(made())
        twin, x = copy.deepcopy(module).double(), torch.rand(3, 4)
        with torch.no_grad():
            data = Dataset(x, twin(x.double()).argmax(1))
        for method in (Interval(), *METHODS):
            eps = 2 * EPS[order]
            found = certify(wrap(module), data, method, KINDS[order](eps))
            result = against(found, twin, data.x, data.y, order, eps, **BUDGET)
            assert not result.contradictions, f"{method!r}: {result.contradictions[0]}"
            assert bool(found.lower.isfinite().all())


class Kinked(nn.Module):
    """z_0 - z_1 = |s| + 0.5 - s of s = Σ x_i."""

    def forward(self, x: Tensor) -> Tensor:
        """Return two outputs."""
        s = x.sum(1)
        return torch.stack([torch.relu(s) + torch.relu(-s) + 0.5, s], 1)


def test_dividing_at_a_single_number_closes_the_gap() -> None:
    """Over the box the one kink is that of a number per example: with its two sides all is linear."""
    module = Kinked()
    # So many inputs that the kink is divided, and not the box.
    data = Dataset(torch.tensor([[0.25, -0.25] * 8]), torch.tensor([0]))
    threat = Linf(1.0, bounds=(-9.0, 9.0))
    whole = certify(wrap(module), data, Crown(), threat)
    parts = certify(wrap(module), data, BranchAndBound(splits=20), threat)
    # |s| + 0.5 - s over s in [-16, 16], least at any s >= 0
    assert float(whole.lower) < 0.4
    # Sums of 16 numbers below 16 in single precision: some 20 · 16 · 2^-24 is left for rounding.
    assert float(parts.lower) == pytest.approx(0.5, abs=4e-5) and float(parts.lower) <= 0.5
