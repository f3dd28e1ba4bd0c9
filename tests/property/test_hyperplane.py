"""The shortest way to a plane within a box, against general solvers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from conjoin.core.hyperplane import onto_plane
from conjoin.core.random import Streams

ORDERS = [1.0, 2.0, math.inf]
cases = st.tuples(
    st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 9), st.floats(-3.0, 3.0)
)


def drawn(seed: int, count: int, size: int, c: float) -> tuple[torch.Tensor, ...]:
    """Normals with some zeros, changes, and room with some elements at their ends."""
    draws = Streams.of(seed, torch.arange(count))
    w = draws.fold(0).normal(size, dtype=torch.float64)
    w = torch.where(draws.fold(1).uniform(size, dtype=torch.float64) < 0.2, 0.0, w)
    x = draws.fold(2).uniform(size, dtype=torch.float64)
    x = torch.where(x < 0.2, 0.0, torch.where(x > 0.8, 1.0, x))
    return w, torch.full((count,), c, dtype=torch.float64), -x, 1 - x


@pytest.mark.parametrize("order", ORDERS)
@given(cases)
@settings(max_examples=80, deadline=None)
def test_it_is_the_shortest_that_a_solver_finds(
    order: float, given_: tuple[int, int, int, float]
) -> None:
    w, c, low, high = drawn(*given_)
    d = onto_plane(w, c, low, high, order)
    assert bool((d >= low).all() and (d <= high).all())
    for row in range(len(w)):
        reach = torch.where(w[row] * c[row] > 0, high[row], -low[row])
        most = float((w[row].abs() * reach).sum()) if float(c[row]) else 0.0
        reached = float(w[row] @ d[row]) * (1 if c[row] > 0 else -1)
        assert reached == pytest.approx(min(abs(float(c[row])), most), abs=1e-9)
        if most > abs(float(c[row])) + 1e-6:
            length = float(torch.linalg.vector_norm(d[row], ord=order))
            assert length == pytest.approx(
                shortest(w[row], c[row], low[row], high[row], order), abs=1e-6
            )


def shortest(
    w: torch.Tensor, c: torch.Tensor, low: torch.Tensor, high: torch.Tensor, order: float
) -> float:
    """The least norm, by linear programming, or by bisection on what the radius can change."""
    size = len(w)
    if (
        order == 2
    ):  # the largest change within radius r is a concave problem; SLSQP solves the dual way
        found = optimize.minimize(
            lambda d: d @ d,
            torch.zeros(size).double().numpy(),
            jac=lambda d: 2 * d,
            bounds=list(zip(low.tolist(), high.tolist(), strict=True)),
            constraints={"type": "eq", "fun": lambda d: w.numpy() @ d - float(c)},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        return math.sqrt(found.fun)
    # d = p - n with p, n >= 0; the sum, or one more variable that bounds them all
    many = 2 * size + 1
    cost = [1.0] * (2 * size) + [0.0] if order == 1 else [0.0] * (2 * size) + [1.0]
    equal = [[*w.tolist(), *(-w).tolist(), 0.0]]
    upper = [
        [1.0 if k in (i, size + i) else -1.0 if k == many - 1 else 0.0 for k in range(many)]
        for i in range(size)
    ]
    found = optimize.linprog(
        cost,
        A_eq=equal,
        b_eq=[float(c)],
        A_ub=upper if order != 1 else None,
        b_ub=[0.0] * size if order != 1 else None,
        bounds=[*((0, h) for h in high.tolist()), *((0, -end) for end in low.tolist()), (0, None)],
    )
    return float(found.fun)


def test_without_walls_one_element_goes_all_the_way() -> None:
    w, far = torch.tensor([[1.0, -2.0, 0.0]]).double(), torch.full((1, 3), math.inf).double()
    d = onto_plane(w, torch.tensor([3.0]).double(), -far, far, 1.0)
    assert torch.equal(d, torch.tensor([[0.0, -1.5, 0.0]]).double())


def test_many_breakpoints_are_passed() -> None:
    w = 1.5 ** torch.arange(60, dtype=torch.float64)[None] / 1e4
    d = onto_plane(w, 0.999 * torch.full((1,), 60.0).double(), -1 / w, 1 / w, 2.0)
    assert float((w * d).sum()) == pytest.approx(0.999 * 60, rel=1e-9)


@pytest.mark.parametrize("order", ORDERS)
def test_where_the_plane_is_out_of_reach_it_is_the_corner(order: float) -> None:
    w = torch.tensor([[1.0, -2.0, 0.0]]).double()
    low, high = torch.full((1, 3), -0.5).double(), torch.full((1, 3), 0.25).double()
    d = onto_plane(w, torch.tensor([9.0]).double(), low, high, order)
    assert torch.equal(d, torch.tensor([[0.25, -0.5, 0.0]]).double())
