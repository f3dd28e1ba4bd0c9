"""Projections: inside, idempotent, identity within, and the nearest point of the set."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from conjoin.core import projection
from conjoin.core.exact import holds
from conjoin.core.random import Streams

NORMS = {"l2": 2, "l1": 1}
RULES = {"l2": projection.EUCLIDEAN, "l1": projection.SUM}


def case(seed: int, count: int, size: int, eps: float) -> tuple[torch.Tensor, ...]:
    """Displacements, radii, and room with some coordinates at the border."""
    draws = Streams.of(seed, torch.arange(count))
    d = draws.fold(0).normal(size, dtype=torch.float64)
    x = draws.fold(1).uniform(size, dtype=torch.float64)
    x = torch.where(x < 0.2, 0.0, torch.where(x > 0.8, 1.0, x))
    return d, torch.full((count,), eps, dtype=torch.float64), -x, 1 - x


def project(
    name: str, d: torch.Tensor, eps: torch.Tensor, low: torch.Tensor, high: torch.Tensor
) -> torch.Tensor:
    return projection.nearest(RULES[name], d, torch.zeros_like(d), (low, high), eps)


cases = st.tuples(
    st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 12), st.floats(0.0, 3.0)
)


@pytest.mark.parametrize("name", NORMS)
@given(cases)
@settings(max_examples=150, deadline=None)
def test_inside_idempotent_and_identity_within(name: str, drawn: tuple[int, ...]) -> None:
    d, eps, low, high = case(*drawn)
    p = project(name, d, eps, low, high)
    assert bool(holds(p, torch.zeros_like(p), eps, NORMS[name]).all())
    assert bool((p >= low).all() and (p <= high).all())
    assert torch.equal(project(name, p, eps, low, high), p)
    feasible = (torch.linalg.vector_norm(d, ord=NORMS[name], dim=1) <= eps) & (
        (d >= low) & (d <= high)
    ).all(1)
    assert torch.equal(p[feasible], d[feasible])


@pytest.mark.parametrize("name", NORMS)
@given(cases)
@settings(max_examples=60, deadline=None)
def test_no_feasible_point_is_nearer(name: str, drawn: tuple[int, ...]) -> None:
    # For a convex set p is the projection iff <d - p, z - p> <= 0 for every z in the set.
    d, eps, low, high = case(*drawn)
    p = project(name, d, eps, low, high)
    for other in range(20):
        z = project(name, case(drawn[0] + 1 + other, *drawn[1:])[0] * 2, eps, low, high)
        assert float(((d - p) * (z - p)).sum(1).max()) <= 1e-8


@pytest.mark.parametrize("name", ["l2", "l1"])
@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_a_general_solver(name: str, seed: int) -> None:
    d, eps, low, high = case(seed, 1, 5, 0.6)
    p = project(name, d, eps, low, high)[0].numpy()
    target, room = d[0].numpy(), list(zip(low[0].numpy(), high[0].numpy(), strict=True))
    if name == "l2":
        inside = {"type": "ineq", "fun": lambda v: 0.36 - v @ v}
        found = optimize.minimize(
            lambda v: ((v - target) ** 2).sum(), p * 0, bounds=room, constraints=[inside], tol=1e-14
        ).x
    else:  # split into positive and negative parts, which makes the norm linear
        split = [(0, max(b, 0)) for _, b in room] + [(0, max(-a, 0)) for a, _ in room]
        inside = {"type": "ineq", "fun": lambda v: 0.6 - v.sum()}
        n = len(target)
        found = optimize.minimize(
            lambda v: ((v[:n] - v[n:] - target) ** 2).sum(),
            [0.0] * (2 * n),
            bounds=split,
            constraints=[inside],
            tol=1e-14,
        ).x
        found = found[:n] - found[n:]
    assert abs(((p - target) ** 2).sum() - ((found - target) ** 2).sum()) < 1e-6


@pytest.mark.parametrize(("name", "eps"), [("l2", 2.0), ("l1", 20.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_images_lose_a_few_units_in_the_last_place(
    name: str, eps: float, dtype: torch.dtype
) -> None:
    draws = Streams.of(0, torch.arange(4))
    x, d = (
        draws.uniform(3 * 32 * 32, dtype=dtype),
        draws.normal(3 * 32 * 32, dtype=dtype),
    )
    p = projection.nearest(
        RULES[name],
        x + d,
        x,
        (torch.zeros_like(x), torch.ones_like(x)),
        torch.full((4,), eps, dtype=torch.float64),
    )
    length = torch.linalg.vector_norm(p.double() - x.double(), ord=NORMS[name], dim=1)
    assert float(length.max()) <= eps
    # The nearest point lies on the sphere; 3,000 roundings and the sum's error bound are given away.
    assert float(length.min()) >= eps * (1 - 16 * torch.finfo(dtype).eps - 1e-12)
