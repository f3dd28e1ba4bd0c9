"""Threat sets: strict membership, sampling, masks, per-example radii and boxes, bad input."""

from __future__ import annotations

import copy
import math
import pickle
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from conjoin.core.ball import L1, L2, Ball, Linf
from conjoin.core.random import Streams
from conjoin.core.threat import Enclosed, Graded, Projectable, Threat
from conjoin.errors import DataError, ThreatError

KINDS = (Linf, L2, L1)
TYPES = (torch.float32, torch.float64)


def points(count: int = 5, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Inputs in [0, 1], some of them on the border."""
    x = Streams.of(7, torch.arange(count)).uniform(*(shape or (1, 8, 8)), dtype=dtype)
    return torch.where(x < 0.1, 0.0, torch.where(x > 0.9, 1.0, x))


def far(x: Tensor, seed: int, scale: float = 3.0) -> Tensor:
    """Points mostly outside any of the sets here."""
    draws = Streams.of(seed, torch.arange(len(x))).fold("far")
    return x + scale * draws.normal(*x.shape[1:], dtype=x.dtype)


def really_inside(threat: Ball, z: Tensor, x: Tensor) -> bool:
    """Decide membership by rational arithmetic, a number at a time."""
    radii = threat.radius(x).tolist()
    low, high = (torch.as_tensor(b, dtype=torch.float64).expand_as(x) for b in threat.bounds)
    for row, eps in enumerate(radii):
        columns = (v[row].flatten().tolist() for v in (z, x, low, high))
        rows = list(zip(*columns, strict=True))
        if any(not lo <= a <= hi for a, _, lo, hi in rows):
            return False
        gaps = [abs(Fraction(a) - Fraction(b)) for a, b, _, _ in rows]
        p = threat.order
        length = max(gaps) if math.isinf(p) else sum(gap ** int(p) for gap in gaps)
        if math.isfinite(eps) and length > Fraction(eps) ** (1 if math.isinf(p) else int(p)):
            return False
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_a_ball_stands_on_every_rung(kind: type[Ball]) -> None:
    for rung in (Threat, Projectable, Graded, Enclosed):
        assert isinstance(kind(0.1), rung)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TYPES)
@given(
    eps=st.floats(0, 5) | st.sampled_from([0.0, 1e-30, 1e-170, 0.1, 0.25, 8 / 255, math.inf]),
    seed=st.integers(0, 1000),
    bounds=st.sampled_from([(0.0, 1.0), (-0.1, 1.1), (-3, 3), (-math.inf, math.inf)]),
)
@settings(max_examples=40, deadline=None)
def test_what_is_projected_or_drawn_is_inside_in_rational_arithmetic(
    kind: type[Ball],
    dtype: torch.dtype,
    eps: float,
    seed: int,
    bounds: tuple[float, float],
) -> None:
    x = points(3, 7, dtype=dtype)
    threat = kind(eps, bounds)
    found = [threat.project(far(x, seed), x), threat.project(far(x, seed, 1e-3), x)]
    if math.isfinite(eps) or math.isfinite(bounds[0]):
        found.append(threat.sample(x, Streams.of(seed, torch.arange(3))))
    for z in found:
        assert z.dtype == dtype
        assert really_inside(threat, z, x)
        assert bool(threat.contains(z, x).all())
        assert bool((threat.distance(z, x) <= threat.radius(x)).all())
        assert torch.equal(threat.project(z, x), z)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TYPES)
def test_photographs_stay_inside_to_the_last_bit(kind: type[Ball], dtype: torch.dtype) -> None:
    x = points(2, 3, 224, 224, dtype=dtype)
    eps = {Linf: 8 / 255, L2: 0.5, L1: 0.5}[kind]
    z = kind(eps).project(far(x, 1, 0.01), x)
    # fsum rounds once, so the sum of exact gaps is right to a unit in the last place.
    for a, b in zip(z.double().flatten(1).tolist(), x.double().flatten(1).tolist(), strict=True):
        gaps = [abs(p - q) for p, q in zip(a, b, strict=True)]
        length = {
            Linf: max(gaps),
            L2: math.sqrt(math.fsum(g * g for g in gaps)),
            L1: math.fsum(gaps),
        }[kind]
        assert length <= eps
        assert length >= eps * (1 - 1e-5)  # and not by giving the radius away
    assert bool(kind(eps).contains(z, x).all())
    assert torch.equal(kind(eps).project(z, x), z)


def test_membership_has_no_slack() -> None:
    x = torch.full((1, 3, 224, 224), 0.5)
    z = x.clone()
    z[..., :2, :].add_(0.62 / (2 * 224 * 3))
    assert not bool(L1(0.5).contains(z, x).any())
    z = x.clone()
    z[..., 0, 0] += 3e-4
    assert not bool(L2(0.0).contains(z, x).any())
    assert bool(L2(0.0).contains(x, x).all())


@pytest.mark.parametrize("kind", KINDS)
def test_the_sphere_belongs_to_the_ball_and_the_next_float_does_not(kind: type[Ball]) -> None:
    x = torch.full((1, 9), 0.5, dtype=torch.float64)
    for eps in (0.25, 0.1, 0.3):
        z = x.clone()
        z[0, 3] += eps
        exact = Fraction(float(z[0, 3])) - Fraction(1, 2) <= Fraction(eps)
        assert bool(kind(eps).contains(z, x)) is exact
        assert bool(kind(eps).contains(z.nextafter(x + 1), x)) is False
    assert not bool(kind(9.0).contains(x + 0.6, x).any())  # leaves the box
    many = x.clone()
    many[0, :4] += 0.25  # of length 1, 1/2 and 1/4, exactly
    eps = {Linf: 0.25, L2: 0.5, L1: 1.0}[kind]
    assert bool(kind(eps).contains(many, x))
    assert not bool(kind(math.nextafter(eps, 0)).contains(many, x))


def test_linf_reaches_the_largest_float_inside() -> None:
    x = points(4, 50)
    threat = Linf(0.1)
    for z, beyond in ((threat.project(x + 1, x), x + 9), (threat.project(x - 1, x), x - 9)):
        assert bool(threat.contains(z, x).all())
        further = z.nextafter(beyond).double()
        outside = ((further - x.double()).abs() > 0.1) | (further < 0) | (further > 1)
        assert bool(outside.all())


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_moves_outside_the_mask(kind: type[Ball]) -> None:
    x = points(4)
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    mask[..., :3] = True
    threat, rng = kind(0.7, mask=mask), Streams.of(0, torch.arange(4))
    z = threat.project(threat.sample(x, rng) + rng.normal(1, 8, 8), x)
    outside = ~mask.expand_as(z)
    assert torch.equal(z[outside], x[outside])
    assert bool((z[~outside] != x[~outside]).any())
    moved = x.clone()
    moved[outside] += 1e-7
    assert not bool(threat.contains(moved, x).any())
    assert float(threat.steepest(rng.normal(1, 8, 8), x)[outside].abs().max()) == 0
    held = threat.enclosure(x)
    assert torch.equal(held.low[outside], x.double()[outside])
    assert torch.equal(held.high[outside], x.double()[outside])


@pytest.mark.parametrize("kind", KINDS)
def test_what_differs_per_example_follows_its_rows(kind: type[Ball]) -> None:
    x, eps = points(6), torch.linspace(0, 1, 6)
    mask = Streams.of(4, torch.arange(6)).uniform(1, 8, 8) < 0.5
    low, high = x - 0.2, x + torch.linspace(0, 0.5, 6).reshape(-1, 1, 1, 1)
    threat, z = kind(eps, (low, high), mask), far(x, 3)
    whole = threat.project(z, x)
    for keep in (torch.tensor([5, 0, 3]), torch.tensor([True, False, True, False, False, True])):
        part = threat.rows(keep)
        assert torch.equal(part.project(z[keep], x[keep]), whole[keep])
        assert torch.equal(part.rows(torch.tensor([1])).radius(x[:1]), part.radius(x[keep])[1:2])
        fresh = kind(eps, (low, high), mask).rows(keep)
        assert torch.equal(fresh.project(z[keep], x[keep]), whole[keep])
    assert bool((threat.distance(whole, x) <= eps.double()).all())
    assert bool(((whole >= low) & (whole <= high)).all())
    twice = kind(torch.tensor([0.3])).rows(torch.tensor([0, 0]))
    assert twice.radius(x[:2]).tolist() == [float(torch.tensor(0.3))] * 2
    assert torch.equal(threat.to(torch.device("cpu")).project(z, x), whole)


def test_limits_are_computed_anew_when_inputs_change_in_place() -> None:
    x, threat = points(3), Linf(0.1)
    first = threat.project(x + 9, x)
    part = threat.rows(torch.tensor([0, 2]))
    other = (x + 0.03).clamp(max=1)[[0, 2]]
    assert torch.equal(part.project(other + 9, other), Linf(0.1).project(other + 9, other))
    part = threat.rows(torch.tensor([0, 2]))
    x.mul_(0.5)
    kept = x[[0, 2]]
    assert torch.equal(part.project(kept + 9, kept), Linf(0.1).project(kept + 9, kept))
    again = threat.project(x + 9, x)
    assert torch.equal(again, Linf(0.1).project(x + 9, x)) and not torch.equal(again, first)
    for twin in (copy.deepcopy(threat), pickle.loads(pickle.dumps(threat))):  # noqa: S301 - ours
        assert torch.equal(twin.project(x + 9, x), again)


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_that_no_float_meets_are_kept_exactly(kind: type[Ball]) -> None:
    x = torch.full((2, 4), 0.2)
    threat = kind(9.0, (0.1, 0.3))  # in single precision 0.1 is too large, 0.3 as well
    for z in (threat.project(x - 5, x), threat.project(x + 5, x)):
        assert really_inside(threat, z, x)
        assert bool(threat.contains(z, x).all())
    # A step that no longer leads anywhere is not taken: the box is known in the input's floats.
    at_the_top = threat.project(x + 5, x)
    if kind is L1:
        assert float(threat.steepest(torch.ones_like(x), at_the_top).abs().max()) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_steepest_step_has_length_one_and_no_unit_step_ascends_more(kind: type[Ball]) -> None:
    index, threat = torch.arange(4), kind(1.0)
    gradient = Streams.of(1, index).normal(1, 8, 8)
    inside = torch.full((4, 1, 8, 8), 0.5)
    step = threat.steepest(gradient, inside)
    length = torch.linalg.vector_norm(step.flatten(1), ord=threat.order, dim=1)
    assert torch.allclose(length, torch.ones(4), atol=1e-5)
    ascent = (gradient * step).flatten(1).sum(1)
    for draw in range(50):
        z = Streams.of(9, index).fold(draw).normal(1, 8, 8)
        other = z / torch.linalg.vector_norm(z.flatten(1), ord=threat.order, dim=1).reshape(
            -1, 1, 1, 1
        )
        assert bool(((gradient * other).flatten(1).sum(1) <= ascent + 1e-5).all())
    faint = threat.steepest(gradient * 1e-30, inside)  # squares vanish in single precision
    assert torch.allclose(faint, step, atol=1e-5)


def test_the_l1_step_leaves_out_what_the_box_already_stops() -> None:
    z = torch.tensor([[1.0, 0.0, 0.5, 0.0, 1.0]])
    # The largest gradients push elements 0 and 1 out of the box; element 3 may still rise.
    gradient = torch.tensor([[9.0, -8.0, 1.0, 2.0, 1.5]])
    assert L1(1.0).steepest(gradient, z).tolist() == [[0.0, 0.0, 0.0, 1.0, 0.0]]
    assert L1(1.0).steepest(-gradient, z).tolist() == [[-1.0, 0.0, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("eps", [0.0, 0.3, 2.0, math.inf])
def test_the_enclosure_holds_the_set_and_is_tight(kind: type[Ball], eps: float) -> None:
    x, threat = points(6), kind(eps)
    held = threat.enclosure(x)
    assert held.low.dtype == held.centre.dtype == held.radius.dtype == torch.float64
    for seed in range(5):
        z = threat.project(far(x, seed, 10), x).double()
        assert bool(((held.low <= z) & (z <= held.high)).all())
        length = torch.linalg.vector_norm((z - held.centre).flatten(1), ord=held.order, dim=1)
        assert bool((length <= held.radius).all())
    for low, high, a in zip(*(v.flatten().tolist() for v in (held.low, held.high, x)), strict=True):
        if math.isfinite(eps):  # rounded outwards, and by no more than one unit
            exact = max(Fraction(a) - Fraction(eps), Fraction(0))
            assert Fraction(low) <= exact <= Fraction(math.nextafter(low, 2))
            exact = min(Fraction(a) + Fraction(eps), Fraction(1))
            assert Fraction(math.nextafter(high, -2)) <= exact <= Fraction(high)
        else:
            assert (low, high) == (0, 1)


def test_an_infinite_radius_is_the_box() -> None:
    x = points(3)
    for kind in KINDS:
        assert torch.equal(kind(math.inf).project(x + 100, x), torch.ones_like(x))
        z = kind(math.inf).sample(x, Streams.of(0, torch.arange(3)))
        assert bool(kind(math.inf).contains(z, x).all()) and not torch.equal(z, x)
        with pytest.raises(ThreatError, match="unbounded"):
            kind(math.inf, (-math.inf, 1.0)).sample(x, Streams.of(0, torch.arange(3)))


def test_radii_are_exact() -> None:
    x = points(2)
    assert Linf(8 / 255).radius(x).tolist() == [8 / 255] * 2
    assert Linf(torch.tensor([0.1, 0.2], dtype=torch.float64)).radius(x).tolist() == [0.1, 0.2]
    assert L2(1).at(0.3).radius(x).tolist() == [0.3] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_samples_fill_the_ball(kind: type[Ball]) -> None:
    x = torch.zeros(4000, 3, dtype=torch.float64)
    z = kind(1.0, (-9, 9)).sample(x, Streams.of(5, torch.arange(4000)))
    share = torch.linalg.vector_norm(z, ord=kind(1.0).order, dim=1) ** 3  # uniform in (0, 1)
    assert abs(float(share.mean()) - 1 / 2) < 5 * math.sqrt(1 / 12 / 4000)
    assert abs(float(share.square().mean()) - 1 / 3) < 5 * math.sqrt(4 / 45 / 4000)
    assert float(z.mean(0).abs().max()) < 5 * math.sqrt(1 / 3 / 4000)


@pytest.mark.parametrize("eps", [-0.1, math.nan, torch.tensor([0.1, -1.0])])
def test_a_negative_or_undefined_radius_is_refused(eps: float | Tensor) -> None:
    with pytest.raises(ThreatError, match="eps must be >= 0"):
        Linf(eps)


def test_an_empty_box_and_a_mask_of_numbers_are_refused() -> None:
    for bounds in ((1.0, 0.0), (math.nan, 1.0), (torch.ones(1, 2), torch.zeros(1, 2))):
        with pytest.raises(ThreatError, match="lo < hi"):
            L2(1.0, bounds)
    with pytest.raises(ThreatError, match="boolean"):
        L2(1.0, mask=torch.ones(1, 2))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("shape", "fits"),
    [((1, 1, 8, 8), True), ((1, 8, 8), False), ((8, 8), False), ((2, 1, 8, 8), False)],
)
def test_masks_without_their_rows_are_refused(
    batch: int, shape: tuple[int, ...], fits: bool
) -> None:
    x, threat = points(batch), Linf(0.1, mask=torch.ones(shape, dtype=torch.bool))
    if fits:
        threat.check(x)
        return
    for act in (
        lambda: threat.check(x),
        lambda: threat.project(x, x),
        lambda: threat.contains(x, x),
        lambda: threat.enclosure(x),
    ):
        with pytest.raises(ThreatError, match=rf"mask of shape .* inputs of shape \({batch}, 1"):
            act()


def test_bounds_and_radii_without_their_rows_are_refused() -> None:
    x = points(3)
    for eps in (torch.ones(2), torch.ones(4), torch.ones(1)):
        with pytest.raises(ThreatError, match=rf"{len(eps)} values for 3 examples"):
            L2(eps).check(x)
    for low in (torch.zeros(8, 8), torch.zeros(3, 1, 8), torch.zeros(2, 1, 1, 1)):
        with pytest.raises(ThreatError, match=r"lower bound of shape .* inputs of shape \(3, 1"):
            L2(1.0, (low, 1.0)).check(x)
    for bound in (torch.tensor(1.0), torch.ones(1, 1, 8, 8), torch.ones(3, 1, 1, 1)):
        L2(1.0, (0.0, bound)).check(x)
    threat = Linf(torch.ones(3), mask=torch.ones(3, 1, 8, 8, dtype=torch.bool))
    for keep in (torch.tensor([0, 3]), torch.tensor([True, False]), torch.ones(4).bool()):
        with pytest.raises(ThreatError, match="does not hold the rows asked for"):
            threat.rows(keep)


def test_inputs_outside_their_own_set_are_refused() -> None:
    x = points(3)
    for bad in (x - 1e-6, x + 1e-6):
        with pytest.raises(DataError, match=r"outside the threat's bounds \(0.0, 1.0\)"):
            Linf(0.1).check(bad)
    with pytest.raises(DataError, match="given as tensors"):
        Linf(0.1, (x, x + 0.01)).check(x + 0.02)
    with pytest.raises(ThreatError, match="floating point"):
        Linf(1.0, (0, 9)).project(torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 3).long())
    tokens = torch.tensor([[1, 5]])
    assert bool(Linf(1.0, (0, 9)).contains(tokens + 1, tokens))
    assert not bool(Linf(1.0, (0, 9)).contains(tokens + 2, tokens))
