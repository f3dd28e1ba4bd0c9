"""Where a segment meets the boundary: as near as bisection, never in many more steps, mostly in few."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from conjoin.core.boundary import bisected, met

Function = Callable[[Tensor], Tensor]
ROOTS = torch.tensor([0.001, 0.2, 1 / 3, 0.5, 0.9, 0.9999], dtype=torch.float64)


def seen(function: Function, ends: Tensor, halvings: int, slack: float = 0.0) -> tuple[Tensor, int]:
    """Search along shares of a way of length 1; return the points and how often values were asked."""
    asked = 0

    def value(z: Tensor) -> Tensor:
        nonlocal asked
        asked += 1
        return function(z[:, 0]) - slack

    start, stop = (function(end) - slack for end in (torch.zeros_like(ends), ends))
    found = met(lambda share: share[:, None], value, (start, stop), ends[:, None], halvings)
    return found[:, 0], asked


def bent(z: Tensor) -> Tensor:
    return z + 9 * (z - 0.6).clamp(min=0) - 0.9 * (z - 0.1).clamp(min=0)


KINDS: dict[str, Function] = {
    "a line": lambda z: ROOTS - z,
    "a bent line": lambda z: bent(ROOTS) - bent(z),
    "a smooth curve": lambda z: ROOTS.exp() - z.exp(),
    "a bend at the boundary": lambda z: torch.where(z < ROOTS, 1e3 * (ROOTS - z), ROOTS - z),
    "a step": lambda z: torch.where(z < ROOTS, 1.0, -1.0).double(),
    "a long step": lambda z: torch.where(z < ROOTS, 1e-9, -1e9).double(),
    "a cube": lambda z: -((z - ROOTS) ** 3),
    "without end": lambda z: torch.where(z < ROOTS, math.inf, -1.0).double(),
}


@pytest.mark.parametrize("halvings", [8, 16, 24])
@pytest.mark.parametrize("kind", KINDS)
def test_the_last_point_beyond_is_within_the_width_and_at_most_one_step_late(
    kind: str, halvings: int
) -> None:
    found, asked = seen(KINDS[kind], torch.ones_like(ROOTS), halvings)
    assert bool((found >= ROOTS).all())
    assert bool((found - ROOTS <= 2.0**-halvings).all())
    assert asked <= halvings + 1


@pytest.mark.parametrize("kind", ["a line", "a bent line", "a smooth curve"])
def test_where_it_is_straight_at_the_boundary_few_steps_are_enough(kind: str) -> None:
    _, asked = seen(KINDS[kind], torch.ones_like(ROOTS), 24)
    assert asked <= 12


def test_an_example_rests_whatever_the_others_do() -> None:
    alone = [
        seen(lambda z, k=k: ROOTS[k] - z, torch.ones(1).double(), 16)[0] for k in range(len(ROOTS))
    ]
    together, _ = seen(KINDS["a line"], torch.ones_like(ROOTS), 16)
    assert torch.equal(together, torch.cat(alone))


def test_where_nothing_nearer_falls_the_end_is_returned() -> None:
    found, _ = seen(lambda z: torch.where(z < 1, 1.0, -1.0).double(), torch.ones(3).double(), 10)
    assert torch.equal(found, torch.ones(3).double())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=9), st.integers(4, 24))
def test_it_ends_where_the_sign_changes_as_bisection_does(
    knots: list[float], halvings: int
) -> None:
    heights = torch.tensor([abs(knots[0]) + 1e-3, *knots[1:-1], -abs(knots[-1]) - 1e-3]).double()

    def function(z: Tensor) -> Tensor:
        place = (z * (len(heights) - 1)).clamp(0, len(heights) - 1 - 1e-12)
        left = place.long()
        return torch.lerp(heights[left], heights[left + 1], place - left)

    found, asked = seen(function, torch.ones(1).double(), halvings)
    before = (found - 2.0**-halvings * (1 + 1e-9)).clamp(min=0)  # shares are rounded
    inside = torch.linspace(0, 1, 2000, dtype=torch.float64) * (found - before) + before
    assert float(function(found)) <= 0 and bool((function(inside) > 0).any())
    assert asked <= halvings + 1
    halved = bisected(
        lambda share: share[:, None],
        lambda z: function(z[:, 0]) <= 0,
        torch.ones(1, 1).double(),
        halvings,
    )
    assert float(function(halved[:, 0])) <= 0
