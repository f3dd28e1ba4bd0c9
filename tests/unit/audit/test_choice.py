"""The choice of examples is that of a slow rule, however the answers come in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
import torch
from audited import data
from torch import Tensor

from conjoin.audit import choice
from conjoin.audit.choice import CHOICES, choose, explained
from conjoin.core.random import Streams

COUNT = 50
examples = data(COUNT)


def model(number: int) -> dict[str, Tensor]:
    drawn = Streams.of(9, torch.arange(COUNT)).fold(number).uniform(2)
    return {"margin": drawn[:, 0] - 0.2, "nearness": (drawn[:, 1] * 8).round()}  # many are equal


def shards(told: Mapping[str, Tensor], size: int) -> Iterator[dict[str, Tensor]]:
    for first in range(0, COUNT, size):
        yield {name: value[first : first + size] for name, value in told.items()}


def slowly(told: list[dict[str, Tensor]], count: int) -> dict[int, str]:
    chance = Streams.of(3, examples.positions).fold("shown").uniform(1)[:, 0].tolist()
    right = [all(float(m["margin"][i]) > 0 for m in told) for i in range(COUNT)]
    near = [min(float(m["nearness"][i]) for m in told) for i in range(COUNT)]
    orders = (
        sorted((chance[i], i) for i in range(COUNT) if right[i]),
        sorted((chance[i], i) for i in range(COUNT) if not right[i]),
        sorted((near[i], i) for i in range(COUNT)),
    )
    chosen: dict[int, str] = {}
    for why, order in zip(CHOICES, orders, strict=True):
        room = min(-(-count // 3), count - len(chosen))
        chosen |= dict.fromkeys([i for _, i in order if i not in chosen][:room], why)
    return chosen


@pytest.mark.parametrize("size", [4, 12, COUNT])
@pytest.mark.parametrize("count", [1, 6, 31, 80])
def test_it_is_that_of_a_slow_rule_whatever_the_shards(size: int, count: int) -> None:
    told = [model(0), model(1)]
    found = choose(examples, [shards(m, size) for m in told], count, seed=3)
    assert found == slowly(told, count) and list(found) == list(slowly(told, count))


@pytest.mark.parametrize("piece", [7, 4096])
def test_without_answers_and_for_the_scores_a_seeded_sample(
    monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(choice, "PIECE", piece)
    chance = Streams.of(3, examples.positions).fold("shown").uniform(1)[:, 0]
    assert list(choose(examples, [], 9, seed=3)) == chance.argsort()[:9].tolist()
    chance = Streams.of(3, examples.positions).fold("scored").uniform(1)[:, 0]
    sample = chance.argsort()[:9].sort().values.tolist()
    first = [sample[4], *(i for i in range(COUNT) if i not in sample)][:3]
    assert explained(examples, first, 9, seed=3) == [
        *first,
        *(i for i in sample if i not in first),
    ]
