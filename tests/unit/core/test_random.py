"""Random numbers: a pure function of seed, example, purpose and element."""

from __future__ import annotations

import hashlib
import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from conjoin.core.random import Streams

MASK = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15
TYPES = (torch.float32, torch.float64)


def splitmix(state: int) -> int:
    """The reference finaliser, in Python integers."""
    z = state & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def purpose(name: int | str) -> int:
    if isinstance(name, int):
        return 2 * name
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return 2 * int.from_bytes(digest, "little") + 1


def words(seed: int, index: int, folds: tuple[int | str, ...], use: str, count: int) -> list[int]:
    key = splitmix(splitmix(seed + GAMMA) + index * GAMMA)
    for fold in folds:
        key = splitmix(key + purpose(fold) * GAMMA)
    key = splitmix(key ^ (purpose(use) & MASK))
    return [splitmix(key + e * GAMMA) for e in range(1, count + 1)]


@pytest.mark.parametrize("folds", [(), (3,), ("noise", -2, 2**70)])
def test_numbers_equal_a_reference_in_python_integers(folds: tuple[int | str, ...]) -> None:
    streams = Streams.of(5, torch.tensor([3]))
    for fold in folds:
        streams = streams.fold(fold)
    got = streams.uniform(3, dtype=torch.float64)[0].tolist()
    drawn = words(5, 3, folds, "uniform torch.float64", 3)
    assert got == [((w & (2**52 - 1)) + 0.5) * 2.0**-52 for w in drawn]
    halves = [half for w in words(5, 3, folds, "uniform torch.float32", 2) for half in (w, w >> 32)]
    expected = [((half & (2**23 - 1)) + 0.5) * 2.0**-23 for half in halves]
    assert streams.uniform(3)[0].tolist() == expected[:3]
    (word,) = words(5, 3, folds, "normal torch.float32", 1)
    radius = math.sqrt(-2 * math.log(((word & (2**31 - 1)) + 0.5) * 2.0**-31))
    angle = math.pi * (word - (word >> 63 << 64)) * 2.0**-63
    pair = torch.tensor([[radius * math.cos(angle), radius * math.sin(angle)]])
    assert torch.allclose(streams.normal(2), pair, rtol=1e-5, atol=1e-6)


def test_numbers_are_pinned() -> None:
    # A change of these changes every seeded result: say so in the changelog.
    streams = Streams.of(0, torch.tensor([0]))
    assert [round(v, 7) for v in streams.uniform(2)[0].tolist()] == [0.0610049, 0.6028253]
    assert [round(v, 5) for v in streams.normal(2)[0].tolist()] == [-0.73815, -1.70374]


@given(st.integers(-(2**40), 2**40), st.permutations(range(9)), st.integers(0, 1000))
def test_an_examples_numbers_do_not_depend_on_its_batch(
    seed: int, order: list[int], draw: int
) -> None:
    whole = Streams.of(seed, torch.arange(9)).fold("draw").fold(draw)
    mixed = Streams.of(seed, torch.tensor(order)).fold("draw").fold(draw)
    for dtype in TYPES:
        assert torch.equal(
            whole.uniform(2, 3, dtype=dtype)[order], mixed.uniform(2, 3, dtype=dtype)
        )
        alone = whole.rows(torch.tensor(order[:1]))
        assert torch.equal(alone.normal(5, dtype=dtype), mixed.normal(5, dtype=dtype)[:1])


@pytest.mark.parametrize("dtype", TYPES)
def test_a_longer_draw_goes_on_where_a_shorter_one_ends(dtype: torch.dtype) -> None:
    streams = Streams.of(3, torch.arange(70))
    for size in (1, 2, 7, 500):
        for draw in (streams.uniform, streams.normal):
            long = draw(3, 700, dtype=dtype)
            assert torch.equal(draw(size, dtype=dtype), long[:, 0, :size])
    assert streams.normal(0, 3).shape == (70, 0, 3)
    assert streams.rows(torch.arange(0)).uniform(2).shape == (0, 2)


def test_each_is_one_whole_batch_after_another() -> None:
    streams = Streams.of(3, torch.arange(5)).fold("noise")
    together = streams.each(range(2, 6)).normal(7)
    assert torch.equal(together, torch.cat([streams.fold(k).normal(7) for k in range(2, 6)]))


def test_no_two_purposes_share_numbers() -> None:
    base = Streams.of(0, torch.arange(3))
    names: list[int | str] = [*range(-40, 40), *map(str, range(40)), "sign", "length", "noise"]
    seen = torch.stack([base.fold(name).key for name in names])
    deeper = torch.stack(
        [base.fold(a).fold(b).key for a, b in itertools.product(names[:30], names)]
    )
    drawn = torch.cat([base.uniform(2000, dtype=d).double() for d in TYPES], 1)
    keys = torch.cat([base.key[None], seen, deeper])
    assert len(keys.unique()) == keys.numel()
    assert len(drawn.unique()) > drawn.numel() - 20  # 23 bits: a few meet by chance
    # Names and numbers are told apart for whatever hash: one is odd, the other even.
    assert all(purpose(name) % 2 == isinstance(name, str) for name in names)


@pytest.mark.parametrize("dtype", TYPES)
def test_uniform_is_uniform_and_stays_open(dtype: torch.dtype) -> None:
    u = Streams.of(0, torch.arange(200)).uniform(1000, dtype=dtype).double().flatten()
    assert float(u.min()) > 0 and float(u.max()) < 1
    assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-3
    assert abs(float(u.mean()) - 1 / 2) < 4 * math.sqrt(1 / 12 / len(u))
    assert abs(float(u.var()) - 1 / 12) < 4 * math.sqrt(1 / 180 / len(u))
    for bit in range(1, 20):  # every leading bit is fair
        share = float(((u * 2**bit).floor() % 2).mean())
        assert abs(share - 1 / 2) < 5 / 2 / math.sqrt(len(u))
    many = Streams.of(0, torch.arange(2000)).uniform(4000, dtype=dtype)
    assert float(many.max()) < 1 and float(many.min()) > 0


@pytest.mark.parametrize("dtype", TYPES)
def test_normal_is_normal_into_its_tails(dtype: torch.dtype) -> None:
    z = Streams.of(1, torch.arange(200)).normal(1000, dtype=dtype).double().flatten()
    n = len(z)
    assert stats.kstest(z.numpy(), "norm").pvalue > 1e-3
    assert abs(float(z.mean())) < 4 / math.sqrt(n)
    assert abs(float(z.square().mean()) - 1) < 4 * math.sqrt(2 / n)
    assert abs(float(z.pow(3).mean())) < 4 * math.sqrt(15 / n)
    assert abs(float(z.pow(4).mean()) - 3) < 4 * math.sqrt(96 / n)
    many = Streams.of(2, torch.arange(2000)).normal(4000, dtype=dtype)
    for cut in (3.0, 4.0, 4.75):
        expected = many.numel() * 2 * stats.norm.sf(cut)
        assert abs(int((many.abs() > cut).sum()) - expected) < 5 * math.sqrt(expected)
    assert bool(many.isfinite().all())


@pytest.mark.parametrize("dtype", TYPES)
def test_seeds_examples_purposes_and_elements_are_uncorrelated(dtype: torch.dtype) -> None:
    base, size = Streams.of(0, torch.arange(64)), 4000
    for draw in ("uniform", "normal"):
        rows = [
            getattr(streams, draw)(size, dtype=dtype)[row].double()
            for streams, row in (
                (base, 0),
                (base, 1),
                (base.fold(0), 0),
                (base.fold(1), 0),
                (base.fold("0"), 0),
                (base.fold(0).fold(1), 0),
                (base.fold(1).fold(0), 0),
                (Streams.of(1, torch.arange(64)), 0),
            )
        ]
        other = "normal" if draw == "uniform" else "uniform"
        rows.append(getattr(base, other)(size, dtype=dtype)[0].double())
        rows += [rows[0].roll(1), rows[0].roll(2)]  # neighbours: the pair shares a word
        table = torch.stack([*rows, *(row.square() for row in rows[:2])])
        correlation = torch.corrcoef(table)
        correlation -= torch.eye(len(table))
        own = [(0, len(rows)), (1, len(rows) + 1)]  # a number and its own square
        for a, b in own:
            correlation[a, b] = correlation[b, a] = 0
        assert float(correlation.abs().max()) < 5 / math.sqrt(size)


def test_pairs_of_normals_are_independent_in_magnitude() -> None:
    z = Streams.of(4, torch.arange(200)).normal(1000).double()
    left, right = z[:, ::2].flatten(), z[:, 1::2].flatten()
    for f in (torch.abs, torch.square):
        correlation = torch.corrcoef(torch.stack([f(left), f(right)]))[0, 1]
        assert abs(float(correlation)) < 4 / math.sqrt(len(left))


def test_streams_are_of_the_examples_that_were_chosen_then() -> None:
    index, keep = torch.arange(4), torch.tensor([2, 0])
    streams, some = Streams.of(3, index), Streams.of(3, torch.arange(4)).rows(keep)
    index += 7
    keep.fill_(1)
    wanted = Streams.of(3, torch.arange(4)).key
    assert torch.equal(streams.key, wanted) and torch.equal(some.key, wanted[[2, 0]])
    copy = streams.copied()
    copy.key.zero_()
    assert torch.equal(streams.key, wanted) and streams.key is streams.key
    assert torch.equal(streams.repeated(2).key, torch.cat([wanted, wanted]))
