"""Threat sets: sampling, membership, masks, per-example radii, bad input."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from conjoin.core.random import Streams
from conjoin.core.threat import L1, L2, Ball, Linf
from conjoin.errors import ThreatError

KINDS = (Linf, L2, L1)


@pytest.mark.parametrize("kind", KINDS)
@given(eps=st.floats(0, 5), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_samples_and_projections_lie_inside(kind: type[Ball], eps: float, seed: int) -> None:
    data, threat = examples(5), kind(eps)
    rng = Streams.of(seed, data.positions)
    for z in (
        threat.sample(data.x, rng),
        threat.project(data.x + rng.normal(1, 8, 8) * 3, data.x),
    ):
        assert bool(threat.contains(z, data.x).all())
        assert float(z.min()) >= -1e-6 and float(z.max()) <= 1 + 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_a_point_just_outside_is_outside(kind: type[Ball]) -> None:
    x = torch.full((1, 1, 8, 8), 0.5)
    threat = kind(0.3)
    step = torch.zeros_like(x)
    step[..., 0, 0] = 0.3
    assert bool(threat.contains(x + step, x).all())
    assert not bool(threat.contains(x + step * 1.01, x).any())
    assert not bool(kind(9.0).contains(x + step * 2, x).any())  # leaves the box


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_moves_outside_the_mask(kind: type[Ball]) -> None:
    data = examples(4)
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    mask[..., :3] = True
    threat = kind(0.7, mask=mask)
    rng = Streams.of(0, data.positions)
    z = threat.project(threat.sample(data.x, rng) + rng.normal(1, 8, 8), data.x)
    outside = ~mask.expand_as(z)
    assert torch.equal(z[outside], data.x[outside])
    assert bool((z[~outside] != data.x[~outside]).any())
    moved = data.x.clone()
    moved[outside] += 1e-3
    assert not bool(threat.contains(moved, data.x).any())
    assert float(threat.steepest(rng.normal(1, 8, 8), data.x)[outside].abs().max()) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_radii_per_example_follow_their_rows(kind: type[Ball]) -> None:
    data, eps = examples(6), torch.linspace(0, 1, 6)
    threat, rng = kind(eps), Streams.of(3, data.positions)
    far = data.x + 2 * rng.normal(1, 8, 8)
    keep = torch.tensor([5, 0, 3])
    alone = threat.rows(keep).project(far[keep], data.x[keep])
    assert torch.equal(alone, threat.project(far, data.x)[keep])
    assert bool((threat.distance(threat.project(far, data.x), data.x) <= eps + 1e-4).all())
    with pytest.raises(ThreatError, match="6 values for 3 examples"):
        threat.project(far[keep], data.x[keep])


@pytest.mark.parametrize("kind", KINDS)
def test_the_steepest_step_has_length_one_and_no_unit_step_ascends_more(kind: type[Ball]) -> None:
    data, threat = examples(4), kind(1.0)
    gradient = Streams.of(1, data.positions).normal(1, 8, 8)
    inside = torch.full_like(data.x, 0.5)
    step = threat.steepest(gradient, inside)
    length = torch.linalg.vector_norm(step.flatten(1), ord=threat.order, dim=1)
    assert torch.allclose(length, torch.ones(4), atol=1e-5)
    ascent = (gradient * step).flatten(1).sum(1)
    for draw in range(50):
        z = Streams.of(9, data.positions).fold(draw).normal(1, 8, 8)
        other = z / torch.linalg.vector_norm(z.flatten(1), ord=threat.order, dim=1).reshape(
            -1, 1, 1, 1
        )
        assert bool(((gradient * other).flatten(1).sum(1) <= ascent + 1e-5).all())


def test_the_euclidean_radius_bounds_every_sample() -> None:
    data = examples(8)
    for kind, eps in ((Linf, 0.3), (L2, 1.0), (L1, 2.0), (Linf, 5.0)):
        threat = kind(eps)
        reach = threat.euclidean_radius(data.x)
        for draw in range(5):
            rng = Streams.of(draw, data.positions)
            z = threat.project(data.x + 10 * rng.normal(1, 8, 8), data.x)
            assert bool((L2(0).distance(z, data.x) <= reach * (1 + 1e-6)).all())
    assert math.isclose(
        float(Linf(0.1).euclidean_radius(torch.full((1, 1, 8, 8), 0.5))), 0.8, rel_tol=1e-6
    )


def test_an_infinite_radius_is_the_box() -> None:
    data = examples(3)
    z = Linf(math.inf).project(data.x + 100, data.x)
    assert torch.equal(z, torch.ones_like(z))


@pytest.mark.parametrize("eps", [-0.1, math.nan, torch.tensor([0.1, -1.0])])
def test_a_negative_or_undefined_radius_is_refused(eps: float | torch.Tensor) -> None:
    with pytest.raises(ThreatError, match="eps must be >= 0"):
        Linf(eps)


def test_an_empty_box_and_a_mask_of_numbers_are_refused() -> None:
    with pytest.raises(ThreatError, match="lo < hi"):
        L2(1.0, (1.0, 0.0))
    with pytest.raises(ThreatError, match="boolean"):
        L2(1.0, mask=torch.ones(1, 2))
