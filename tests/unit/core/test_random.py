"""Random numbers: a pure function of seed, example, draw and element."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from conjoin.core.random import Streams


def splitmix(state: int) -> int:
    """The reference finaliser, in Python integers."""
    mask = (1 << 64) - 1
    z = state & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_uniform_equals_a_reference_in_python_integers() -> None:
    gamma, seed, index = 0x9E3779B97F4A7C15, 5, 3
    key = splitmix(splitmix(seed + gamma) + index * gamma)
    expected = [((splitmix(key + e * gamma) >> 12) + 0.5) * 2.0**-52 for e in (1, 2, 3)]
    got = Streams.of(seed, torch.tensor([index])).uniform(3, dtype=torch.float64)[0]
    assert got.tolist() == expected


@given(st.integers(-(2**40), 2**40), st.permutations(range(9)), st.integers(0, 1000))
def test_an_examples_numbers_do_not_depend_on_its_batch(
    seed: int, order: list[int], draw: int
) -> None:
    whole = Streams.of(seed, torch.arange(9)).fold(draw)
    mixed = Streams.of(seed, torch.tensor(order)).fold(draw)
    assert torch.equal(whole.uniform(2, 3)[order], mixed.uniform(2, 3))
    assert torch.equal(whole.rows(torch.tensor(order)).normal(4), mixed.normal(4))


def test_uniform_has_the_moments_of_the_uniform_and_stays_open() -> None:
    u = Streams.of(0, torch.arange(200)).uniform(1000, dtype=torch.float64)
    n = u.numel()
    assert float(u.min()) > 0 and float(u.max()) < 1
    assert abs(float(u.mean()) - 1 / 2) < 5 * math.sqrt(1 / 12 / n)
    assert abs(float(u.var()) - 1 / 12) < 5 * math.sqrt(1 / 180 / n)
    assert float(Streams.of(0, torch.arange(2000)).uniform(1000).max()) < 1


def test_normal_has_the_moments_of_the_normal() -> None:
    z = Streams.of(1, torch.arange(200)).normal(1000, dtype=torch.float64)
    n = z.numel()
    assert abs(float(z.mean())) < 5 / math.sqrt(n)
    assert abs(float(z.square().mean()) - 1) < 5 * math.sqrt(2 / n)
    assert abs(float(z.pow(4).mean()) - 3) < 5 * math.sqrt(96 / n)


def test_seeds_examples_and_draws_are_uncorrelated() -> None:
    base = Streams.of(0, torch.arange(64))
    rows = [
        base.uniform(2000, dtype=torch.float64)[0],
        base.uniform(2000, dtype=torch.float64)[1],
        base.fold(0).uniform(2000, dtype=torch.float64)[0],
        base.fold(1).uniform(2000, dtype=torch.float64)[0],
        Streams.of(1, torch.arange(64)).uniform(2000, dtype=torch.float64)[0],
    ]
    correlation = torch.corrcoef(torch.stack(rows)) - torch.eye(len(rows))
    assert float(correlation.abs().max()) < 5 / math.sqrt(2000)
