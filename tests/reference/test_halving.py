"""Boxes of few inputs that are halved: against all pieces, a fine grid, and backward bounds."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from conjoin import L1, L2, Dataset, Linf, certify, predict, wrap
from conjoin.certification import BranchAndBound, Crown, Interval
from conjoin.certification.bounded import Bounded
from conjoin.certification.box import Boxes
from conjoin.certification.forms import Forms
from conjoin.certification.halving import Halving, few
from conjoin.certification.rounding import Rounding
from conjoin.certification.sides import chosen
from conjoin.core.ball import Ball
from conjoin.core.operator import evaluate
from conjoin.core.protocols import Batch
from conjoin.core.random import Streams
from conjoin.models.torch import TorchModel

ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.LeakyReLU)


class Branched(nn.Module):
    """Sums, joined halves, a maximum: what affine forms follow, and what they do not."""

    def __init__(self, inputs: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, 6)
        self.inner = nn.Linear(6, 6)
        self.last = nn.Linear(12, 3)
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.first(x))
        g = h - self.act(self.inner(h))
        low, high = g.chunk(2, 1)
        return self.last(torch.cat([g, self.act(torch.maximum(low, high)), self.act(low)], 1))


class Double(nn.Module):
    """A module of double precision without parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("one", torch.ones((), dtype=torch.float64))


def drawn(module: nn.Module, seed: int) -> TorchModel:
    with torch.no_grad():
        for k, value in enumerate(module.parameters()):
            stream = Streams.of(seed, torch.arange(1)).fold(str(k))
            value.copy_(stream.normal(*value.shape, dtype=torch.float64)[0] * 0.7)
    return wrap(module.double())


def dense(seed: int, inputs: int, activation: type[nn.Module] = nn.ReLU) -> TorchModel:
    sizes = [inputs, 8, 8, 3]
    layers: list[nn.Module] = []
    for one, other in itertools.pairwise(sizes):
        layers += [nn.Linear(one, other), activation()]
    return drawn(nn.Sequential(*layers[:-1]), seed)


def batch_of(x: Tensor) -> Batch:
    return Batch(x, torch.zeros(len(x), dtype=torch.int64), Streams.of(0, torch.arange(len(x))))


def points(threat: Ball, x: Tensor, count: int, seed: int = 0) -> Tensor:
    """Points of each set, ``(count, batch, *shape)``: drawn, and its corners where there are."""
    many = x.repeat(count, *[1] * (x.ndim - 1))
    drawn_ = threat.sample(many, Streams.of(seed, torch.arange(len(many))))
    return drawn_.reshape(count, *x.shape)


@dataclass(frozen=True)
class First:
    """The first output."""

    goal: float

    def __call__(self, outputs: Tensor, aim: Tensor) -> Tensor:
        return outputs[:, 0]

    def rows(self, aim: Tensor, classes: int) -> Tensor:
        return torch.eye(classes, dtype=torch.float64)[:1].expand(len(aim), 1, classes)


@pytest.mark.parametrize("deployed", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    eps=st.floats(0.0, 1.0),
    branched=st.booleans(),
    most=st.sampled_from((2048, 5)),  # shares that are followed: of all functions, or of hardly any
)
def test_affine_forms_hold_every_activation(
    activation: type[nn.Module], deployed: bool, seed: int, eps: float, branched: bool, most: int
) -> None:
    model = drawn(Branched(3, activation), seed) if branched else dense(seed, 3, activation)
    x = Streams.of(seed, torch.arange(2)).uniform(3, dtype=torch.float64)
    threat = Linf(eps, bounds=(-1.0, 2.0))
    steps = model.steps(batch_of(x))
    rounding = Rounding.of(torch.float64) if deployed else None
    forms = Forms(steps, Boxes(threat.enclosure(x), rounding))
    with torch.no_grad():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("conjoin.certification.forms.MOST", most)
            known = forms()
        for z in (*points(threat, x, 20), x - eps, x + eps):
            values = evaluate(steps, z.clamp(-1, 2))
            for place, value in enumerate(values):
                box = known.boxes[place]
                assert bool(((box.low <= value) & (value <= box.high)).all()), steps[place]


@torch.no_grad()
def test_affine_forms_cancel_what_boxes_do_not() -> None:
    """h - h is 0, and x + (1 - x) is 1, whatever x is."""

    class Same(Double):
        def forward(self, x: Tensor) -> Tensor:
            h = (2 * x + 1).tanh()
            return torch.cat([h - h, x + (1 - x)], 1)

    model = wrap(Same())
    x = torch.tensor([[0.2, -0.4]], dtype=torch.float64)
    steps = model.steps(batch_of(x))
    known = Forms(steps, Boxes(Linf(0.5, bounds=(-1.0, 1.0)).enclosure(x), None))()
    box = known.boxes[len(steps) - 1]
    wanted = torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    assert torch.allclose(box.low, wanted, atol=1e-12)
    assert torch.allclose(box.high, wanted, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("kind", [Linf, L2, L1])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_least_value_is_found_from_both_sides(
    activation: type[nn.Module], kind: type[Ball]
) -> None:
    """Against a fine grid of two inputs: just below its minimum is proved, its minimum is not."""
    model = dense(3, 2, activation)
    x, eps = torch.tensor([[0.4, 0.6]], dtype=torch.float64), 0.3
    side = torch.linspace(-eps, eps, 241, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    grid = (x + grid[torch.linalg.vector_norm(grid, ord=kind(eps).order, dim=1) <= eps]).clamp(0, 1)
    outputs = predict(model, Dataset(grid, torch.zeros(len(grid), dtype=torch.int64)))
    least, spread = float(outputs[:, 0].min()), float(outputs[:, 0].max() - outputs[:, 0].min())
    assert spread > 0.05
    data = Dataset(x, torch.zeros(1, dtype=torch.int64))
    search = BranchAndBound(seconds=60.0)
    below = certify(model, data, search, kind(eps), quantity=First(least - 0.02 * spread))
    above = certify(model, data, search, kind(eps), quantity=First(least + 1e-4 * spread))
    assert bool(below.certified.all())
    assert not bool(above.certified.any())
    found = search(model, batch_of(x), kind(eps), First(least + 0.05 * spread))
    assert found.witness is not None
    assert bool(kind(eps).contains(found.witness, x).all())
    assert float(model(batch_of(found.witness))[0, 0]) <= least + 0.05 * spread


@torch.no_grad()
def test_examples_are_searched_together_as_they_are_alone() -> None:
    model = dense(5, 4)
    x = Streams.of(1, torch.arange(6)).uniform(4, dtype=torch.float64)
    y = predict(model, Dataset(x, torch.zeros(6, dtype=torch.int64))).argmax(1)
    data, threat = Dataset(x, y), Linf(0.2)
    search = BranchAndBound(seconds=math.inf, splits=60)
    whole = certify(model, data, search, threat)
    for row in range(6):
        alone = certify(model, data.select([row]), search, threat)
        assert float(alone.lower) == pytest.approx(float(whole.lower[row]), abs=1e-9)
    crown = certify(model, data, Crown(), threat).lower
    assert bool((whole.lower >= crown - 1e-9).all())
    assert bool(whole.certified.sum() > certify(model, data, Interval(), threat).certified.sum())


@torch.no_grad()
def test_examples_of_few_and_of_many_sides_keep_their_places() -> None:
    model = dense(7, 14)
    x = Streams.of(2, torch.arange(4)).uniform(14, dtype=torch.float64)
    eps = torch.tensor([0.05, 0.05, 0.05, 0.05], dtype=torch.float64)
    mask = torch.ones(4, 14, dtype=torch.bool)
    mask[1, 3:], mask[2, 3:] = False, False
    threat = Linf(eps, mask=mask)
    assert few(threat.enclosure(x)).tolist() == [False, True, True, False]
    y = predict(model, Dataset(x, torch.zeros(4, dtype=torch.int64))).argmax(1)
    search = BranchAndBound(seconds=math.inf, splits=20)
    data = Dataset(x, y)
    found = certify(model, data, search, threat)
    for row in range(4):
        one = threat.rows(torch.tensor([row]))
        alone = certify(model, data.select([row]), search, one)
        assert float(alone.lower) == pytest.approx(float(found.lower[row]), abs=1e-9)


def searching(model: TorchModel, x: Tensor, threat: Ball, goal: float) -> Halving:
    network = Bounded.of(model, batch_of(x), Crown())
    rows = torch.eye(3, dtype=torch.float64)[None, :2].expand(len(x), -1, -1)
    nothing = torch.full((len(x),), -math.inf, dtype=torch.float64)
    return Halving(network, threat.enclosure(x), rows, nothing, goal)


@torch.no_grad()
@pytest.mark.parametrize("kind", [Linf, L2, L1])
def test_the_parts_cover_the_set_and_each_is_bounded(kind: type[Ball]) -> None:
    model = dense(11, 3)
    x = Streams.of(3, torch.arange(2)).uniform(3, dtype=torch.float64)
    threat = kind(0.35)
    search = searching(model, x, threat, math.inf)
    for _ in range(5):
        before = search.lower.clone()
        search.round()
        assert bool((search.lower >= before).all())
    assert search.made.tolist() == [62, 62]
    z = points(threat, x, 300)
    low, high = search.open.low, search.open.high
    for row in range(2):
        own = search.open.owner == row
        inside = (low[own] <= z[:, row, None]) & (z[:, row, None] <= high[own])
        inside = inside.all(2)
        assert bool(inside.any(1).all())
        value = model(batch_of(z[:, row]))[:, :2].amin(1)
        bound = torch.where(inside, search.open.bound[own], -math.inf).amax(1)
        assert bool((bound <= value + 1e-9).all())
        assert float(search.lower[row]) <= float(value.min())


@torch.no_grad()
def test_a_part_that_cannot_be_halved_ends_the_search_of_its_example_alone() -> None:
    """|x - c| at its own minimum 0 is never above 0, and halving ends where numbers do."""

    class Two(Double):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([(x - 0.3).abs(), x + 2, x], 1)

    model = wrap(Two())
    x = torch.tensor([[0.3], [0.8]], dtype=torch.float64)
    search = searching(model, x, Linf(0.2), 0.0)
    for _ in range(200):
        if not bool(search.undecided.any()):
            break
        search.round()
    assert search.stuck.tolist() == [True, False]
    assert not bool(search.undecided.any())
    assert float(search.lower[0]) <= 0 < float(search.lower[1])


@torch.no_grad()
@pytest.mark.parametrize("bent", [0, 1, 2])
def test_the_side_is_halved_that_relaxations_owe_to(bent: int) -> None:
    """y = 10 (x_0 + x_1 + x_2) + |x_k - 0.4|: all but one is linear, and steep."""

    class Bent(Double):
        def forward(self, x: Tensor) -> Tensor:
            y = 10 * x.sum(1) + (x[:, bent] - 0.4).abs()
            return torch.stack([y, x[:, 0] + 99, x[:, 1]], 1)

    x = torch.full((1, 3), 0.5, dtype=torch.float64)
    search = searching(wrap(Bent()), x, Linf(0.3), math.inf)
    assert search.open.side.tolist() == [bent]


def test_a_side_that_was_halved_far_more_often_waits() -> None:
    whole = torch.ones(3, 2, dtype=torch.float64)
    width = torch.tensor([[1.0, 2.0**-4], [1.0, 2.0**-6], [1.0, 0.5]], dtype=torch.float64)
    cost = torch.tensor([[0.1, 1.0], [0.1, 1.0], [0.0, 0.0]], dtype=torch.float64)
    assert chosen(cost, width, whole).tolist() == [1, 0, 0]
    assert chosen(cost, width, whole * torch.tensor([0.0, 1.0])).tolist() == [1, 1, 1]


@torch.no_grad()
def test_a_network_of_five_inputs_and_six_layers_takes_few_parts() -> None:
    """Just below the least value that is seen, on a box that is wide in some inputs."""
    sizes = [5, *[50] * 6, 3]
    layers: list[nn.Module] = []
    for one, other in itertools.pairwise(sizes):
        layers += [nn.Linear(one, other), nn.ReLU()]
    module = nn.Sequential(*layers[:-1]).double()
    for k, value in enumerate(module.parameters()):
        stream = Streams.of(4, torch.arange(1)).fold(str(k))
        scale = (2 / value.shape[-1]) ** 0.5 if value.ndim == 2 else 0.3
        value.copy_(stream.normal(*value.shape, dtype=torch.float64)[0] * scale)
    model = wrap(module)
    x = torch.tensor([[0.64, 0.0, 0.0, 0.475, -0.475]], dtype=torch.float64)
    half = torch.tensor([[0.04, 0.5, 0.5, 0.025, 0.025]], dtype=torch.float64)
    threat = Linf(math.inf, bounds=(x - half, x + half))
    seen = predict(
        model, Dataset(points(threat, x, 4000)[:, 0], torch.zeros(4000, dtype=torch.int64))
    )[:, 0]
    goal = float(seen.min() - 0.1 * (seen.max() - seen.min()))
    search = Halving(
        *(Bounded.of(model, batch_of(x), Crown()), threat.enclosure(x)),
        *(torch.eye(3, dtype=torch.float64)[None, :1], torch.full((1,), -math.inf).double(), goal),
    )
    while bool(search.undecided.any()) and int(search.made) < 3000:
        search.round()
    assert float(search.lower) > goal
