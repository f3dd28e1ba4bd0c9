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
from conjoin.certification import AlphaCrown, BranchAndBound, Crown, LocalLipschitz
from conjoin.certification.lines import lines, offsets, slope_range
from conjoin.core.operator import Elementwise
from conjoin.core.random import Streams
from conjoin.errors import CapabilityError
from conjoin.models.activations import ACTIVATIONS as TABLE
from conjoin.models.activations import leaky, per_channel, relu, softsign, tanhshrink

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
        try:
            found = certify(wrap(graph), data, method, KINDS[order](EPS[order]))
        except CapabilityError as error:
            if isinstance(method, LocalLipschitz) and "gradients" in str(error):  # of maxima
                continue
            raise
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
