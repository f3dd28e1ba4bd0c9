"""Threats over tokens: what is in the set, what is drawn from it, and what is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conjoin import Dataset, attack, margin
from conjoin.attacks import PGD
from conjoin.core.random import Streams
from conjoin.core.substitution import Substitution, listed
from conjoin.core.threat import Enumerable, Graded, Projectable, Threat
from conjoin.errors import CapabilityError, DataError, ThreatError
from conjoin.testing import check_threat, example_reader, example_substitution, example_tokens

TABLE = listed({1: (2, 3), 2: (1,), 3: (1, 4, 5)}, 6)
X = torch.tensor([[1, 2, 0, 3], [3, 3, 1, 0]])


def inside(z: tuple[int, ...], x: list[int], budget: int, mask: list[bool]) -> bool:
    """Membership, word by word."""
    lists = {1: (2, 3), 2: (1,), 3: (1, 4, 5)}
    changed = [i for i, (a, b) in enumerate(zip(z, x, strict=True)) if a != b]
    return len(changed) <= budget and all(mask[i] and z[i] in lists.get(x[i], ()) for i in changed)


@pytest.mark.parametrize("budget", [0, 1, 2, 4])
@pytest.mark.parametrize("mask", [[True] * 4, [True, False, True, True]])
def test_membership_is_that_of_the_definition(budget: int, mask: list[bool]) -> None:
    threat = Substitution(TABLE, budget, torch.tensor([mask]))
    every = torch.tensor(list(itertools.product(range(-1, 6), repeat=4)))
    for x in X:
        told = threat.contains(every, x.expand_as(every)).tolist()
        exact = [inside(tuple(z), x.tolist(), budget, mask) for z in every.tolist()]
        assert told == exact


def test_the_rungs_that_it_stands_on() -> None:
    threat = Substitution(TABLE, 2)
    assert isinstance(threat, Threat) and isinstance(threat, Graded)
    assert isinstance(threat, Enumerable) and not isinstance(threat, Projectable)
    assert threat.radius(X).tolist() == [2, 2]
    assert threat.at(torch.tensor([1.0, 3.0])).radius(X).tolist() == [1, 3]
    assert str(threat) == "substitution:2" and "6x3" in repr(threat)
    assert repr(threat) == repr(Substitution(TABLE.clone(), 2))
    assert repr(threat) != repr(Substitution(TABLE.clone().fill_(-1), 2))


def test_options_are_the_candidates_of_each_place_once() -> None:
    found = Substitution(torch.tensor([[-1, -1], [1, 1], [0, -1]]), 1).options(
        torch.tensor([[0, 1, 2]])
    )
    assert found.tolist() == [[[-1, -1], [-1, -1], [0, -1]]]  # none, its own, one
    placed = torch.tensor([[[2, 1], [7, 7]], [[3, -1], [-1, -1]]])
    threat = Substitution(placed, 2)
    x = torch.tensor([[1, 1], [4, 4]])
    assert threat.options(x).tolist() == [[[2, -1], [7, -1]], [[3, -1], [-1, -1]]]
    second = threat.rows(torch.tensor([1]))
    assert second.options(x[1:]).tolist() == [[[3, -1], [-1, -1]]]


def test_samples_use_up_the_budget_and_every_candidate() -> None:
    many = X[:1].expand(4000, -1)
    z = Substitution(TABLE, 2).sample(many, Streams.of(0, torch.arange(4000)))
    assert bool(Substitution(TABLE, 2).contains(z, many).all())
    assert bool(((z != many).sum(1) == 2).all())
    share = ((z != many).double().mean(0)).tolist()
    assert share[2] == 0 and all(abs(s - 2 / 3) < 0.03 for k, s in enumerate(share) if k != 2)
    last = z[:, 3][z[:, 3] != 3]
    assert all(abs(float((last == t).double().mean()) - 1 / 3) < 0.03 for t in (1, 4, 5))
    check_threat(example_substitution(), example_tokens(example_reader()))
    everywhere = Substitution(TABLE, float("inf")).sample(X, Streams.of(0, torch.arange(2)))
    assert ((everywhere != X).sum(1)).tolist() == [3, 3]


@given(st.integers(0, 3), st.integers(0, 100))
def test_a_smaller_budget_is_a_smaller_set(budget: int, seed: int) -> None:
    z = Substitution(TABLE, budget).sample(X, Streams.of(seed, torch.arange(2)))
    assert bool(Substitution(TABLE, budget + 1).contains(z, X).all())
    assert bool((Substitution(TABLE, budget).distance(z, X) <= budget).all())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Substitution(TABLE, -1), "budget must be >= 0"),
        (lambda: Substitution(TABLE, float("nan")), "budget must be >= 0"),
        (lambda: Substitution(TABLE.double(), 1), "candidates must be 64-bit"),
        (lambda: Substitution(torch.tensor([[7]]), 1), r"span 7..7; expected tokens 0..0"),
        (lambda: Substitution(torch.tensor([[-2]]), 1), "span -2"),
        (lambda: Substitution(TABLE, 1, torch.ones(1, 4)), "mask must be a boolean"),
        (lambda: Substitution(TABLE, 1, torch.ones(3, 4) > 0).check(X), "mask of shape"),
        (lambda: Substitution(TABLE, torch.ones(3)).check(X), "budget has 3 values for 2"),
        (lambda: Substitution(torch.zeros(2, 5, 1).long(), 1).check(X), "candidates of shape"),
        (lambda: listed({1: (9,)}, 6), "token 9 is not in a vocabulary of 6"),
    ],
)
def test_what_is_no_threat_is_refused(make: object, said: str) -> None:
    with pytest.raises(ThreatError, match=said):
        make()  # type: ignore[operator]


def test_inputs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"tokens span 0..9; .* 0..5"):
        Substitution(TABLE, 1).check(torch.tensor([[0, 9]]))
    with pytest.raises(DataError, match="replaces tokens, 64-bit"):
        Substitution(TABLE, 1).check(torch.zeros(2, 4))
    model = example_reader()
    with pytest.raises(CapabilityError, match="tells neither"):
        attack(model, example_tokens(model), PGD(), example_substitution(), seed=0)


def test_a_per_example_budget_reaches_the_driver() -> None:
    from conjoin.attacks import Greedy

    model = example_reader()
    data: Dataset = example_tokens(model)
    budget = torch.arange(len(data)).double() % 3
    found = attack(model, data, Greedy(), example_substitution().at(budget), seed=0)
    assert bool((found.distance <= budget).all()) and float(found.distance.max()) == 2
    assert found.inputs.dtype == torch.int64
    assert bool((found.value <= found.clean).all()) and margin.goal == 0.0
    assert np.isfinite(found.value.numpy()).all()
