"""What a witness keeps of an attack: a slow reference, shipped attacks undisturbed, twins untold."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from conftest import batch_of, examples, linear, numbers, residual
from torch import Tensor

from conjoin import L2, Dataset, Linf, Run, attack, predict
from conjoin.attacks import (
    APGD,
    DDN,
    FAB,
    FMN,
    PGD,
    EachTarget,
    Homotopy,
    HopSkipJump,
    RandomSearch,
    Square,
    WorstOf,
)
from conjoin.core.protocols import Batch
from conjoin.core.quantity import logit_ratio, margin
from conjoin.core.random import Streams
from conjoin.core.scaled import Scaled
from conjoin.core.threat import Threat
from conjoin.core.trace import CHECKPOINTS, NEVER, Trace
from conjoin.core.witness import MARK

WEIGHT = numbers(2, 6, dtype=torch.float64)
MODEL = linear(WEIGHT, torch.tensor([3.0, 0.0]).double())
DATA = Dataset(0.5 + numbers(5, 6, dtype=torch.float64) / 8, torch.zeros(5).long())
THREAT = L2(2.0)
POINTS = (
    DATA.x + numbers(40, 5, 6, dtype=torch.float64) * torch.linspace(0.1, 1.6, 40)[:, None, None]
)


@dataclass(frozen=True, slots=True)
class Scripted:
    """Looks at given points, in passes that leave out, reorder and repeat examples."""

    def __call__(self, model: Any, batch: Batch, threat: Threat, quantity: Any) -> Tensor:
        for number in range(0, 36, 4):
            some = torch.randperm(5, generator=torch.Generator().manual_seed(number))[
                : 1 + number % 5
            ]
            x = torch.cat([POINTS[number + k][some] for k in range(4)])
            model(batch.rows(some).repeated(4).at(x))
        return batch.x


def reference() -> tuple[list[int], list[int], list[list[float]]]:
    """Return passes, first and least of the script, one example and one pass after another."""
    passes, first, least = [0] * 5, [NEVER] * 5, [[math.inf] * CHECKPOINTS for _ in range(5)]
    for number in range(0, 36, 4):
        some = torch.randperm(5, generator=torch.Generator().manual_seed(number))[: 1 + number % 5]
        for k in range(4):
            for i in some.tolist():
                passes[i] += 1
                z, difference = POINTS[number + k][i], WEIGHT[0] - WEIGHT[1]
                value = sum(float(a) * float(b) for a, b in zip(difference, z, strict=True)) + 3.0
                apart = math.dist(z.tolist(), DATA.x[i].tolist())
                if apart > 2.0:
                    continue
                if value <= 0:
                    first[i] = min(first[i], passes[i])
                for checkpoint in range(CHECKPOINTS):
                    if passes[i] <= 2**checkpoint:
                        least[i][checkpoint] = min(least[i][checkpoint], value)
    return passes, first, least


def traced(model: Any, data: Dataset, method: Any, threat: Any, **run: Any) -> tuple[Any, Trace]:
    trace = Trace.of(model, data.x, data.y, threat, margin)
    return attack(model, data, method, threat, seed=0, run=Run(witness=trace, **run)), trace


def test_passes_first_and_least_are_those_of_a_slow_reference() -> None:
    _, trace = traced(MODEL, DATA, Scripted(), THREAT)
    passes, first, least = reference()
    assert trace.passes.tolist() == passes
    assert trace.first.tolist() == first
    assert 0 < sum(n < NEVER for n in first) < 5, "some fall and some do not"
    expected = torch.tensor(least, dtype=torch.float64)
    assert torch.allclose(trace.least, expected, rtol=1e-12, atol=1e-12)
    everywhere = (POINTS - DATA.x).square().sum(2).sqrt()
    assert bool((everywhere > 2.0).any()) and bool((everywhere < 2.0).any())


METHODS = (
    PGD(steps=6, restarts=2),
    APGD(steps=8),
    EachTarget(APGD(steps=4, surrogate=logit_ratio), targets=2),
    FAB(steps=6),
    FMN(steps=12),
    DDN(steps=8),
    Square(queries=40),
    RandomSearch(samples=20),
    HopSkipJump(rounds=2, probes=8),
    WorstOf((PGD(steps=2), Homotopy(sharpness=(2.0,), steps=3), APGD(steps=4))),
)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_a_witness_changes_nothing_and_sees_every_success(method: Any) -> None:
    model, data = residual(), examples(9)
    data = replace(data, y=predict(model, data).argmax(1))
    threat = Linf(0.06)
    plain = attack(model, data, method, threat, seed=0)
    seen, trace = traced(model, data, method, threat)
    assert torch.equal(seen.inputs, plain.inputs)
    assert torch.equal(trace.first < NEVER, plain.success), (
        "whatever won was seen to win, in the set"
    )
    assert seen.provenance.forward == plain.provenance.forward
    if not isinstance(method, WorstOf):  # twins are passes of another function
        own = len(data) * 2  # the driver's: at x, and at what was found
        assert int(trace.passes.sum()) == plain.provenance.forward - own
    reached = trace.least[:, -1] <= 0
    assert torch.equal(reached, plain.success)
    if not isinstance(method, HopSkipJump):  # which passes a batch until each has a start
        *_, other = traced(model, data, method, threat, batch_size=4)
        assert torch.equal(other.first, trace.first)


def test_twins_are_another_function() -> None:
    model, data = residual(), examples(4)
    data = replace(data, y=predict(model, data).argmax(1))
    result, trace = traced(model, data, Homotopy(sharpness=(0.1,), steps=5), Linf(1e-4))
    assert not bool(result.success.any())
    own = 2 * 6 * 4  # of the network: after each pass of the twin, and its own descent
    assert int(trace.passes.sum()) <= own < result.provenance.forward
    drift = (trace.least[:, -1] - result.clean).abs()
    assert bool((drift < 0.05 * result.clean.abs()).all()), "a twin so soft is far off"


def test_the_model_and_the_method_meet_no_witness_where_none_is_asked() -> None:
    met = []

    def meeting(model: Any, batch: Batch, threat: Any, quantity: Any) -> Tensor:
        met.append(MARK in batch.context)
        return batch.x

    attack(MODEL, DATA, meeting, THREAT, seed=0)
    traced(MODEL, DATA, meeting, THREAT)
    assert met == [False, True]


def test_a_set_without_a_radius_says_itself_what_lies_in_it() -> None:
    @dataclass(frozen=True, slots=True)
    class Halves:
        """Whatever has a first number of one half at most."""

        def contains(self, z: Tensor, x: Tensor) -> Tensor:
            return z[:, 0] <= 0.5

        def sample(self, x: Tensor, rng: Any) -> Tensor:
            return x

        def distance(self, z: Tensor, x: Tensor) -> Tensor:
            return (z - x).abs().sum(1).double()

        def rows(self, keep: Any) -> Halves:
            return self

        def to(self, device: Any) -> Halves:
            return self

        def check(self, x: Tensor) -> None:
            pass

    trace = Trace.of(MODEL, DATA.x, DATA.y, Halves(), margin)
    z = DATA.x.clone()
    z[:3, 0], z[3:, 0] = 0.4, 0.6
    batch = Batch(z, DATA.y, Streams.of(0, torch.arange(5)))
    trace(torch.arange(5), batch, MODEL(batch))
    assert trace.least[:, 0].isfinite().tolist() == [True] * 3 + [False] * 2


def test_a_pass_that_lowers_nothing_counts_whatever_the_units() -> None:
    threat = Scaled(L2(0.1), torch.full((1, 6), 2.0, dtype=torch.float64))
    trace = Trace.of(MODEL, DATA.x, DATA.y, threat, margin)
    batch, rows = batch_of(DATA.x, DATA.y), torch.arange(5)
    outputs = MODEL(batch)
    for _ in range(
        4
    ):  # the fourth is before the checkpoint of the third: no point of it is measured
        trace(rows, batch, outputs)
    assert trace.passes.tolist() == [4] * 5
    torch.testing.assert_close(trace.least[:, -1], margin(outputs, DATA.y))


def test_no_example_has_no_distance() -> None:
    for threat in (L2(1.0), Linf(1.0), Scaled(L2(1.0), torch.ones(1, 6))):
        assert threat.distance(numbers(1, 6)[:0], numbers(1, 6)[:0]).shape == (0,)
