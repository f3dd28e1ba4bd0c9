"""Attacks on whole levels: what comes back can be stored in 8 bits, and lies in the set."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from conftest import batch_of, examples, linear, numbers, residual
from torch import Tensor

from conjoin.attacks import PGD, OnGrid
from conjoin.attacks.quantised import _kept, _nearest, _next, _towards
from conjoin.core.ball import L1, L2, Ball, Linf
from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.protocols import Batch, Model
from conjoin.core.quantity import Quantity, margin
from conjoin.core.random import Streams
from conjoin.core.run import attack, predict
from conjoin.core.threat import Threat
from conjoin.errors import PlanError
from conjoin.models.torch import TorchModel

LEVELS = torch.arange(256) / 255  # as 8-bit images come: a quotient of single precision


def on_levels(data: Dataset) -> Dataset:
    return replace(data, x=(data.x * 255).round() / 255)


def stored(z: Tensor) -> Tensor:
    return torch.isin(z, LEVELS)


@dataclass(frozen=True)
class Given:
    """An attack that returns what it was given."""

    z: Tensor

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        return self.z


@pytest.mark.parametrize("threat", [Linf(8.5 / 255), Linf(0.0317), L2(0.6), L1(4.0)], ids=str)
@pytest.mark.parametrize("quantised", [True, False])
def test_what_differs_from_x_can_be_stored(threat: Ball, quantised: bool) -> None:
    data = on_levels(examples(20)) if quantised else examples(20)
    model = residual()
    data = data.labelled(predict(model, data).argmax(1))
    method = OnGrid(PGD(steps=10, step_size=0.2))
    found = attack(model, data, method, threat, seed=0)
    assert bool((stored(found.inputs) | (found.inputs == data.x)).all())
    assert bool(threat.contains(found.inputs, data.x).all())
    assert bool(stored(found.inputs).all()) or not quantised
    for size in (1, 7):
        assert torch.equal(
            attack(model, data, method, threat, seed=0, run=Run(size)).inputs, found.inputs
        )


def test_other_levels_and_spans() -> None:
    data = Dataset(2 * examples(20).x - 1, torch.zeros(20, dtype=torch.int64))
    model = residual()
    data = data.labelled(predict(model, data).argmax(1))
    method = OnGrid(PGD(steps=10), levels=9, low=-1.0)
    found = attack(model, data, method, Linf(0.4, bounds=(-1, 1)), seed=0)
    levels = torch.arange(-4, 5) / 4
    assert bool((torch.isin(found.inputs, levels) | (found.inputs == data.x)).all())
    assert bool(found.success.any())


def test_levels_are_told_as_by_a_slow_search() -> None:
    levels = LEVELS.double()
    z = Streams.of(0, torch.arange(1)).uniform(400, dtype=torch.float64)[0]
    x = Streams.of(1, torch.arange(1)).uniform(400, dtype=torch.float64)[0]
    z[:50], x[50:100] = levels[40:90], levels[40:90]
    z[100:110] = x[100:110]
    x[110:130] = z[110:130] + 1e-4 * torch.linspace(-1, 1, 20).double()
    table = levels.tolist()
    for a, b, near, inner, up, down in zip(
        *(value.tolist() for value in (z, x, _nearest(levels, z), _towards(levels, z, x))),
        *(_next(levels, z, torch.full_like(z, sign)).tolist() for sign in (1.0, -1.0)),
        strict=True,
    ):
        assert abs(near - a) == min(abs(level - a) for level in table)
        between = [level for level in table if min(a, b) <= level <= max(a, b) and level != b]
        assert inner == min(between, key=lambda level: abs(level - a), default=b)
        assert up == min((level for level in table if level > a), default=a)
        assert down == max((level for level in table if level < a), default=a)
    assert torch.equal(_next(levels, z, torch.zeros_like(z)), z)


def test_eight_levels_of_a_linear_model() -> None:
    """Each element moves by 8 levels downhill, or as far as the box lets it: the exact optimum."""
    weight = numbers(2, 30, dtype=torch.float64)
    g = weight[0] - weight[1]
    levels = torch.arange(256).double() / 255
    k = (Streams.of(3, torch.arange(60)).uniform(30) * 256).long()
    k[:, :5], k[:, 5:10] = k[:, :5] % 8, 255 - k[:, 5:10] % 8
    x = levels[k]
    exact = (g * levels[(k - 8 * g.sign().long()).clamp(0, 255)]).sum(1)
    shift = 0.01 - exact.median()
    data = Dataset(x, torch.zeros(60, dtype=torch.int64))
    model = linear(weight, torch.stack([shift, 0 * shift]))
    data = data.select(margin(predict(model, data), data.y) > 0)
    keep = torch.isin(torch.arange(60), data.positions)
    found = attack(model, data, OnGrid(PGD(steps=40)), Linf(8.5 / 255), seed=0)
    least = (exact + shift)[keep]
    assert torch.equal(found.success, least <= 1e-12)
    assert 0 < int(found.success.sum()) < len(data)


def test_rounding_leaves_no_set() -> None:
    x = torch.tensor([[100.0, 100.0, 100.0]]).double() / 255
    z = x + torch.tensor([[2.6, -2.6, 0.3]]).double() / 255
    levels = torch.arange(256).double() / 255
    for threat, expected in (
        (Linf(2.7 / 255), [102.0, 98.0, 100.0]),  # 103 and 97 are outside
        (Linf(3.1 / 255), [103.0, 97.0, 100.0]),
        (L2(3.7 / 255), [102.0, 98.0, 100.0]),  # 3, -3, 0 is longer than that
        (L2(4.3 / 255), [103.0, 97.0, 100.0]),
        (L1(5.5 / 255), [102.0, 98.0, 100.0]),
    ):
        assert bool(threat.contains(z, x).all())
        inner = _towards(levels, z, x)
        kept = _kept(threat, _nearest(levels, z), inner, x)
        assert (kept * 255).round().tolist() == [expected]
        assert bool(threat.contains(kept, x).all())
    # In a box each element is by itself: one is rounded towards x, the other away from it.
    z = x + torch.tensor([[2.6, -1.6, 0.3]]).double() / 255
    kept = _kept(Linf(2.7 / 255), _nearest(levels, z), _towards(levels, z, x), x)
    assert (kept * 255).round().tolist() == [[102.0, 98.0, 100.0]]


def test_the_search_wins_again_what_rounding_lost() -> None:
    """Three elements at half a level more than their step: rounded down, and one up again."""
    weight = torch.tensor([[3.0, 2.0, 1.0], [0.0, 0.0, 0.0]]).double()
    x = torch.tensor([[10.0, 10.0, 10.0]]).double() / 255
    z = x - torch.tensor([[0.4, 0.4, 0.4]]).double() / 255
    bias = torch.tensor([-(weight[0] * z).sum(), 0.0]).double()  # the margin is 0 at z
    data = Dataset(x, torch.zeros(1, dtype=torch.int64))
    threat = Linf(1.2 / 255)
    lost = attack(linear(weight, bias), data, OnGrid(Given(z), rounds=0), threat, seed=0)
    assert not bool(lost.success.any()) and torch.equal(lost.inputs, x)
    found = attack(linear(weight, bias), data, OnGrid(Given(z)), threat, seed=0)
    # One level of the steepest element is enough, 3 >= 0.4 · (3 + 2 + 1); three lower it most.
    assert bool(found.success.all()) and (found.inputs * 255).round().tolist() == [[9.0, 9.0, 9.0]]
    # In a ball that holds one step of one element, the steepest takes it.
    small = attack(linear(weight, bias), data, OnGrid(Given(z)), L1(1.25 / 255), seed=0)
    assert bool(small.success.all()) and (small.inputs * 255).round().tolist() == [
        [9.0, 10.0, 10.0]
    ]


def test_rounding_undoes_attacks_on_real_clothes_and_the_search_wins_them_again(
    zoo: Callable[[str], TorchModel], sample: Dataset
) -> None:
    model, data = zoo("plain"), sample.select(range(150))
    fell = {
        eps: int(attack(model, data, PGD(steps=20), Linf(eps / 255), seed=0).success.sum())
        for eps in (4.0, 4.5)
    }
    rounded, searched = (
        attack(model, data, OnGrid(PGD(steps=20), rounds=rounds), Linf(4.5 / 255), seed=0)
        for rounds in (0, 10)
    )
    assert bool(stored(searched.inputs).all())
    assert int(rounded.success.sum()) < 0.75 * fell[4.0]
    # Whole levels within 4.5 are those within 4: as many fall as under the ball of 4.
    assert abs(int(searched.success.sum()) - fell[4.0]) <= 3
    assert bool((searched.success | ~rounded.success).all())
    # Stored and read again it is the same picture.
    pixels = (searched.inputs * 255).round().to(torch.uint8).numpy()
    again = torch.from_numpy(pixels.astype(np.float32) / 255)
    assert torch.equal(again, searched.inputs)


def test_what_makes_no_grid_is_refused() -> None:
    for bad in ({"levels": 1}, {"rounds": -1}, {"low": 1.0}, {"high": math.nan}):
        with pytest.raises(PlanError, match="two levels"):
            OnGrid(PGD(), **bad)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="an attack"):
        OnGrid(PGD)  # type: ignore[arg-type]
    batch = batch_of(examples(2).x)
    assert torch.equal(OnGrid(Given(batch.x))(residual(), batch, Linf(0.1), margin), batch.x)
