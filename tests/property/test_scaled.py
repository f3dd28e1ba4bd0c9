"""Balls in units of each column: exact membership, projections, enclosures, and the invariant."""

from __future__ import annotations

import copy
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from conftest import biased
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from conjoin import attack, certify, predict, testing, wrap
from conjoin.attacks import PGD, fgsm
from conjoin.certification import BestOf, Interval, Lipschitz, certified_radius
from conjoin.core.ball import L1, L2, Ball, Linf
from conjoin.core.dataset import Dataset
from conjoin.core.evidence import Claim
from conjoin.core.random import Streams
from conjoin.core.scaled import Scaled
from conjoin.core.threat import Enclosed, Graded, Projectable, Threat
from conjoin.errors import DataError, ThreatError
from conjoin.nn.initialise import initialise

KINDS = (Linf, L2, L1)
TYPES = (torch.float32, torch.float64)
BOXES = ((0.0, 1.0), (-0.1, 1.1), (-3.0, 3.0), (-math.inf, math.inf))


def draws(purpose: str, count: int, *shape: int, seed: int = 7, **kind: torch.dtype) -> Tensor:
    return Streams.of(seed, torch.arange(count)).fold(purpose).uniform(*shape, **kind)


def points(count: int = 5, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Inputs in [0, 1], some of them on the border."""
    x = draws("x", count, *(shape or (8,)), dtype=dtype)
    return torch.where(x < 0.1, 0.0, torch.where(x > 0.9, 1.0, x))


def units(*shape: int, spread: float = 2.0, seed: int = 0, rows: int = 1) -> Tensor:
    """Scales from 10^-spread to 10^spread."""
    return 10 ** (spread * (2 * draws("s", rows, *shape, seed=seed, dtype=torch.float64) - 1))


def far(x: Tensor, seed: int, scale: float = 3.0) -> Tensor:
    """Points mostly outside any of the sets here."""
    normal = Streams.of(seed, torch.arange(len(x))).fold("far").normal(*x.shape[1:], dtype=x.dtype)
    return x + scale * normal


def really_inside(threat: Scaled, z: Tensor, x: Tensor) -> list[bool]:
    """Decide membership by rational arithmetic, a number at a time."""
    ends = (*threat.bounds, threat.scale)
    low, high, scale = (torch.as_tensor(v, dtype=torch.float64).expand_as(x) for v in ends)
    mask = torch.ones_like(x, dtype=torch.bool) if threat.mask is None else threat.mask.expand_as(x)
    found = []
    for row, eps in enumerate(threat.radius(x).tolist()):
        columns = (v[row].flatten().tolist() for v in (z, x, low, high, scale, mask))
        rows = list(zip(*columns, strict=True))
        inside = all(lo <= a <= hi and (free or a == b) for a, b, lo, hi, _, free in rows)
        gaps = [abs(Fraction(a) - Fraction(b)) / Fraction(s) for a, b, _, _, s, _ in rows]
        p = 1 if math.isinf(threat.order) else int(threat.order)
        length = max(gaps) if math.isinf(threat.order) else sum(gap**p for gap in gaps)
        found.append(inside and (math.isinf(eps) or length <= Fraction(eps) ** p))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_scaled_ball_stands_on_every_rung(kind: type[Ball]) -> None:
    for rung in (Threat, Projectable, Graded, Enclosed):
        assert isinstance(Scaled(kind(0.1), 2.0), rung)
    assert not isinstance(Scaled(kind(0.1), 2.0), Ball)  # its radius is no length in x


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TYPES)
@given(
    eps=st.floats(1e-30, 5) | st.sampled_from([0.0, 1e-130, 1e-170, 0.1, 0.25, 8 / 255, math.inf]),
    seed=st.integers(0, 1000),
    bounds=st.sampled_from(BOXES),
    spread=st.sampled_from([0.0, 0.3, 2.0, 25.0]),
)
@settings(max_examples=20, deadline=None)
def test_what_is_projected_or_drawn_is_inside_in_rational_arithmetic(
    kind: type[Ball],
    dtype: torch.dtype,
    eps: float,
    seed: int,
    bounds: tuple[float, float],
    spread: float,
) -> None:
    x = points(3, 7, dtype=dtype)
    threat = Scaled(kind(eps, bounds), units(7, spread=spread, seed=seed))
    found = [threat.project(far(x, seed), x), threat.project(far(x, seed, 1e-3), x)]
    if math.isfinite(eps) or math.isfinite(bounds[0]):
        found.append(threat.sample(x, Streams.of(seed, torch.arange(3))))
    for z in found:
        assert z.dtype == dtype
        assert all(really_inside(threat, z, x))
        assert bool(threat.contains(z, x).all())
        assert bool((threat.distance(z, x) <= threat.radius(x)).all())
        assert torch.equal(threat.project(z, x), z)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TYPES)
@given(seed=st.integers(0, 10_000), eps=st.floats(1e-3, 5), spread=st.sampled_from([0.0, 0.3, 2.0]))
@settings(max_examples=20, deadline=None)
def test_membership_is_that_of_rational_arithmetic_at_the_border(
    kind: type[Ball], dtype: torch.dtype, seed: int, eps: float, spread: float
) -> None:
    """Columns and all of a point on the sphere move by some units in the last place, out and in."""
    x = points(4, 5, dtype=dtype)
    threat = Scaled(kind(eps, (-math.inf, math.inf)), units(5, spread=spread, seed=seed))
    on = threat.project(far(x, seed, 1e4), x)
    for unit in (-4, -1, 1, 4):
        z = x + (on - x) * (1 + unit * torch.finfo(dtype).eps)
        assert threat.contains(z, x).tolist() == really_inside(threat, z, x)
        for column in range(5):
            other = on.clone()
            other[:, column] = z[:, column]
            assert threat.contains(other, x).tolist() == really_inside(threat, other, x)


@pytest.mark.parametrize("kind", KINDS)
def test_the_sphere_belongs_to_the_ball_and_the_next_float_does_not(kind: type[Ball]) -> None:
    x = torch.full((1, 9), 0.5, dtype=torch.float64)
    scale = torch.tensor([[1.0, 0.5, 2.0, 0.25] + [3.0] * 5])
    z = x + torch.tensor([[0.25, 0.125, 0.5, 0.0625] + [0.0] * 5])  # a quarter of each unit
    eps = {Linf: 0.25, L2: 0.5, L1: 1.0}[kind]
    assert bool(Scaled(kind(eps, (0, 2)), scale).contains(z, x))
    assert not bool(Scaled(kind(math.nextafter(eps, 0), (0, 2)), scale).contains(z, x))
    for place in range(4):
        beyond = z.clone()
        beyond[0, place] = math.nextafter(float(z[0, place]), 2)
        assert not bool(Scaled(kind(eps, (0, 2)), scale).contains(beyond, x))


def test_no_distance_inside_is_above_the_radius() -> None:
    """Where difference and quotient are both rounded: nearest would exceed eps in some of these."""
    x, scale = draws("x", 200, 50, dtype=torch.float64) ** 4, units(50, spread=0.5)
    for eps in (0.1, 0.9, 1.9):
        threat = Scaled(Linf(eps, (-9, 9)), scale)
        z = threat.project(x + 9, x)
        rounded = ((z - x) / scale).amax(1)
        assert bool((threat.distance(z, x) <= eps).all()) and bool((rounded > eps).any())
        torch.testing.assert_close(threat.distance(z, x), rounded, rtol=1e-13, atol=0)


@pytest.mark.parametrize("dtype", TYPES)
@given(
    x=st.floats(-10, 10) | st.sampled_from([0.0, -0.5, 1e-12]),
    eps=st.floats(1e-9, 10),
    scale=st.floats(1e-9, 10),
    cancels=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_linf_reaches_the_largest_float_inside(
    dtype: torch.dtype, x: float, eps: float, scale: float, cancels: bool
) -> None:
    """Cancelling sums too: x close to -eps · scale, where the product's own error shows."""
    start = torch.tensor([[-eps * scale if cancels else x]], dtype=dtype)
    threat = Scaled(Linf(eps, (-math.inf, math.inf)), scale)
    step, centre = Fraction(eps) * Fraction(scale), Fraction(float(start))
    for way in (1, -1):
        z = threat.project(start + way * 1e6, start)
        further = z.nextafter(torch.full_like(z, way * math.inf))
        assert abs(Fraction(float(z)) - centre) <= step < abs(Fraction(float(further)) - centre)
        assert bool(threat.contains(z, start)) and not bool(threat.contains(further, start))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("scale", [1.0, 0.25, 8.0])
def test_one_power_of_two_for_all_is_the_plain_ball(
    kind: type[Ball], dtype: torch.dtype, scale: float
) -> None:
    """(z - x) / s is exact then: both sets are the same.

    L2 and L1 give away a share of (n + 18) 2^-51 at a distance of 10, beside some units of x's dtype.
    """
    x = points(6, 9, dtype=dtype)
    threat, plain = Scaled(kind(0.25), torch.full((1, 9), scale)), kind(0.25 * scale)
    for seed in range(5):
        z = far(x, seed)
        close = 0 if kind is Linf else 8 * torch.finfo(dtype).eps + 10 * 27 * 2.0**-51
        torch.testing.assert_close(threat.project(z, x), plain.project(z, x), atol=close, rtol=0)
        assert torch.equal(threat.contains(plain.project(z, x), x), torch.ones(6) > 0)
        torch.testing.assert_close(threat.distance(z, x) * scale, plain.distance(z, x))
        torch.testing.assert_close(threat.steepest(z, x), scale * plain.steepest(z, x))
    mine, theirs = threat.enclosure(x), plain.enclosure(x)
    for part in ("low", "high", "centre"):
        assert torch.equal(getattr(mine, part), getattr(theirs, part))
    torch.testing.assert_close(mine.radius, theirs.radius)


@pytest.mark.parametrize("kind", [L2, L1])
def test_projections_are_nearest_in_units_of_the_scale(kind: type[Ball]) -> None:
    """No point of the set drawn at random is nearer; the tolerance is that of the last places."""
    x, scale = points(4, 6, dtype=torch.float64), units(6, spread=0.7)
    threat, z = Scaled(kind(0.8, (-0.2, 1.2)), scale), far(x, 3)

    def away(p: Tensor) -> Tensor:
        return ((p - z) / scale).square().sum(1)

    nearest = threat.project(z, x)
    close = threat.project(nearest + 0.01 * scale, x)
    for draw in range(200):
        other = threat.sample(x, Streams.of(draw, torch.arange(4)))
        for share in (1.0, 0.1, 1e-3):
            mixed = threat.project(nearest + share * (other - nearest), x)
            assert bool((away(nearest) <= away(mixed) + 1e-12).all())
    assert bool((away(nearest) <= away(close) + 1e-12).all())
    assert bool((threat.distance(nearest, x) >= 0.8 * (1 - 1e-12)).any())  # nothing is given away


@pytest.mark.parametrize("kind", KINDS)
def test_the_steepest_step_has_length_one_and_no_unit_step_ascends_more(kind: type[Ball]) -> None:
    index, scale = torch.arange(4), units(8, spread=0.5)
    threat, inside = Scaled(kind(1.0), scale), torch.full((4, 8), 0.5)
    gradient = Streams.of(1, index).normal(8)
    step = threat.steepest(gradient, inside)
    torch.testing.assert_close(
        threat.distance(step, torch.zeros_like(step)), torch.ones(4).double()
    )
    ascent = (gradient * step).sum(1)
    for draw in range(50):
        z = scale.float() * Streams.of(9, index).fold(draw).normal(8)
        other = z / threat.distance(z, torch.zeros_like(z)).float()[:, None]
        assert bool(((gradient * other).sum(1) <= ascent * (1 + 1e-5)).all())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("eps", [0.0, 0.3, 2.0, math.inf])
def test_the_enclosure_holds_the_set_and_is_tight(kind: type[Ball], eps: float) -> None:
    x, scale = points(6), units(8, spread=0.7)
    mask = draws("mask", 1, 8) < 0.7
    threat = Scaled(kind(eps, mask=mask), scale)
    held = threat.enclosure(x)
    assert held.low.dtype == held.centre.dtype == held.radius.dtype == torch.float64
    for seed in range(8):
        for size in (10.0, 0.3):
            z = threat.project(far(x, seed, size), x).double()
            assert bool(((held.low <= z) & (z <= held.high)).all())
            length = torch.linalg.vector_norm(z - held.centre, ord=held.order, dim=1)
            assert bool((length <= held.radius).all())
    columns = (v.expand_as(x).flatten().tolist() for v in (held.low, held.high, x, scale, mask))
    for low, high, a, s, free in zip(*columns, strict=True):
        if math.isfinite(eps) and free:  # rounded outwards, and by no more than one unit
            exact = max(Fraction(a) - Fraction(eps) * Fraction(s), Fraction(0))
            assert Fraction(low) <= exact <= Fraction(math.nextafter(low, 2))
            exact = min(Fraction(a) + Fraction(eps) * Fraction(s), Fraction(1))
            assert Fraction(math.nextafter(high, -2)) <= exact <= Fraction(high)
        else:
            assert (low, high) == ((0, 1) if free else (a, a))
    if math.isfinite(eps):  # the widest column that may move alone reaches the ball's border
        widest = float(torch.where(mask, scale, 0).max())
        torch.testing.assert_close(held.radius, torch.full((6,), eps * widest).double())


def test_where_nothing_may_move_the_enclosure_is_the_input() -> None:
    x, nothing = points(3), torch.zeros(1, 8, dtype=torch.bool)
    for eps in (0.5, math.inf):
        threat = Scaled(L2(eps, mask=nothing), units(8))
        held = threat.enclosure(x)
        assert torch.equal(held.low, x.double()) and torch.equal(held.high, x.double())
        assert held.radius.tolist() == [0.0] * 3
        assert torch.equal(threat.project(x + 1, x), x)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_moves_outside_the_mask(kind: type[Ball]) -> None:
    x, mask = points(4), torch.arange(8)[None] < 3
    threat, rng = Scaled(kind(0.7, mask=mask), units(8)), Streams.of(0, torch.arange(4))
    z = threat.project(threat.sample(x, rng) + rng.normal(8), x)
    assert torch.equal(z[:, 3:], x[:, 3:]) and bool((z[:, :3] != x[:, :3]).any())
    moved = x.clone()
    moved[:, 3:] += 1e-7
    assert not bool(threat.contains(moved, x).any())
    assert float(threat.steepest(rng.normal(8), x)[:, 3:].abs().max()) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_differs_per_example_follows_its_rows(kind: type[Ball]) -> None:
    x, eps = points(6), torch.linspace(0, 1, 6)
    mask = draws("mask", 6, 8) < 0.5
    low, high = x - 0.2, x + torch.linspace(0, 0.5, 6)[:, None]
    threat, z = Scaled(kind(eps, (low, high), mask), units(8, rows=6)), far(x, 3)
    whole = threat.project(z, x)
    assert all(really_inside(threat, whole, x))
    for keep in (torch.tensor([5, 0, 3]), torch.tensor([True, False, True, False, False, True])):
        part = threat.rows(keep)
        assert torch.equal(part.project(z[keep], x[keep]), whole[keep])
        assert torch.equal(part.distance(z[keep], x[keep]), threat.distance(z, x)[keep])
        assert torch.equal(part.rows(torch.tensor([1])).radius(x[:1]), part.radius(x[keep])[1:2])
    assert torch.equal(threat.to(torch.device("cpu")).project(z, x), whole)
    twice = Scaled(kind(0.3), units(8)).rows(torch.tensor([0, 0]))
    assert torch.equal(
        twice.project(z[:2], x[:2]), Scaled(kind(0.3), units(8)).project(z[:2], x[:2])
    )


def test_limits_are_computed_anew_when_inputs_change_in_place() -> None:
    x, threat = points(3), Scaled(Linf(0.1), units(8))
    first = threat.project(x + 9, x)
    x.mul_(0.5)
    fresh = Scaled(Linf(0.1), units(8)).project(x + 9, x)
    assert torch.equal(threat.project(x + 9, x), fresh) and not torch.equal(fresh, first)
    for twin in (copy.deepcopy(threat), pickle.loads(pickle.dumps(threat))):  # noqa: S301 - ours
        assert torch.equal(twin.project(x + 9, x), fresh)


def test_the_callers_tensors_are_not_kept() -> None:
    scale, x = torch.ones(1, 8), points(2)
    threat = Scaled(Linf(0.1), scale)
    scale.fill_(5)
    assert torch.equal(threat.project(x + 9, x), Linf(0.1).project(x + 9, x))


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call as users do, without the run-time type checks of the tests."""
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)


@pytest.mark.usefixtures("unchecked")
def test_arrays_are_taken_for_tensors() -> None:
    x, threat = points(2), Scaled(Linf(0.1), np.full((1, 8), 2.0))  # type: ignore[arg-type]
    assert torch.equal(threat.project(x + 9, x), Linf(0.2).project(x + 9, x))
    assert threat.at(0.3).radius(x).tolist() == [0.3, 0.3]


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, 1e31, torch.tensor([[1.0, 0.0]])])
def test_scales_that_are_none_are_refused(bad: float | Tensor) -> None:
    with pytest.raises(ThreatError, match=r"scales must be > 0, .*does not vary"):
        Scaled(Linf(0.1), bad)


@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_refused() -> None:
    x = points(3)
    with pytest.raises(ThreatError, match=r"scale of shape \(8,\) .*expected \(1, 8\)"):
        Scaled(Linf(0.1), torch.ones(8)).check(x)
    with pytest.raises(ThreatError, match=r"scale of shape \(2, 8\)"):
        Scaled(Linf(0.1), torch.ones(2, 8)).check(x)
    with pytest.raises(ThreatError, match=r"mask of shape \(1, 7\)"):
        Scaled(Linf(0.1, mask=torch.ones(1, 7) > 0), 1.0).check(x)
    with pytest.raises(DataError, match="outside the threat's bounds"):
        Scaled(Linf(0.1, (0.2, 0.8)), 1.0).check(x)
    with pytest.raises(ThreatError, match="eps must be 0, infinite or within"):
        Scaled(Linf(1e-300), 1.0)
    with pytest.raises(ThreatError, match="moves floating point numbers"):
        Scaled(L2(0.1), 1.0).project(torch.zeros(3, 8).long(), torch.zeros(3, 8).long())
    with pytest.raises(ThreatError, match="unbounded"):
        Scaled(L2(math.inf, (-math.inf, 1.0)), 1.0).sample(x, Streams.of(0, torch.arange(3)))
    with pytest.raises(ThreatError, match="must be a number or a tensor"):
        Scaled(Linf(0.1), "wide")  # type: ignore[arg-type]
    with pytest.raises(ThreatError, match=r"expected a ball, e\.g\. Linf\(0\.5\); got 0\.5"):
        Scaled(0.5, 1.0)  # type: ignore[arg-type]


IMAGE_UNITS = units(1, 8, 8, spread=0.4)
THREATS = tuple(Scaled(ball, IMAGE_UNITS) for ball in (Linf(0.05), L2(0.5), L1(2.0)))


@pytest.mark.parametrize("eps", [0.0, 0.05, 2.0, math.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_the_contract_of_threats(kind: type[Ball], eps: float) -> None:
    testing.check_threat(Scaled(kind(eps), IMAGE_UNITS))
    mask = draws("mask", 1, 1, 8, 8) < 0.5
    testing.check_threat(Scaled(kind(eps, mask=mask), IMAGE_UNITS))


@pytest.mark.parametrize("method", [PGD(steps=5), fgsm()], ids=repr)
def test_the_contract_of_attacks(method: PGD) -> None:
    testing.check_attack(method, threats=THREATS)


@pytest.mark.parametrize(
    "method",
    [
        Interval(),
        Interval(Claim.SOUND_REAL),
        Lipschitz(),
        Lipschitz(Claim.SOUND_REAL),
        BestOf((Interval(), Lipschitz())),
    ],
    ids=repr,
)
def test_the_contract_of_certifiers(method: Interval | Lipschitz | BestOf) -> None:
    testing.check_certifier(method, threats=THREATS)


def table(seed: int, columns: int = 6) -> tuple[Dataset, nn.Sequential, Tensor]:
    """A small network on columns of very different spreads, and data labelled as it predicts."""
    scale = units(columns, spread=1.5, seed=seed).float()
    network = nn.Sequential(nn.Linear(columns, 8), nn.ReLU(), nn.Linear(8, 3))
    initialise(network, seed)
    biased(network, seed)
    with torch.no_grad():  # as a network that was trained on such columns
        network[0].weight.div_(scale)
    x = scale * draws("rows", 8, columns, seed=seed)
    data = Dataset(x, torch.zeros(8, dtype=torch.int64))
    return data.labelled(predict(wrap(network), data).argmax(1)), network, scale


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 500), eps=st.floats(1e-3, 0.5))
@settings(max_examples=15, deadline=None)
def test_certificate_at_most_attack_at_most_clean(kind: type[Ball], seed: int, eps: float) -> None:
    data, network, scale = table(seed)
    box = (torch.zeros_like(scale), scale)  # of each column
    threat = Scaled(kind(eps, box), scale)
    found = attack(wrap(network), data, PGD(steps=15, restarts=2), threat, seed=seed)
    assert bool((found.value <= found.clean).all())
    assert all(really_inside(threat, found.inputs, data.x))
    for method in (Interval(), Lipschitz()):
        proved = certify(wrap(network), data, method, threat)
        assert proved.provenance.claim == Claim.SOUND_DEPLOYED
        assert bool((proved.lower <= found.value).all())
        assert len(proved.judged(found)) == len(data)  # which compares the two


@pytest.mark.parametrize("kind", KINDS)
def test_radii_are_in_units_of_the_scale_and_hold(kind: type[Ball]) -> None:
    """A linear network's radius in units is known: margin over the dual norm of its scaled row."""
    scale = units(5, spread=1.0).float()
    network = nn.Linear(5, 2)
    initialise(network, 0)
    x = draws("rows", 6, 5) * scale
    model = wrap(network)
    data = Dataset(x, torch.zeros(6, dtype=torch.int64))
    data = data.labelled(predict(model, data).argmax(1))
    threat = Scaled(kind(1.0, (-math.inf, math.inf)), scale)
    radius = certified_radius(model, data, Interval(), threat, largest=8.0, steps=30)
    with torch.no_grad():
        row, gap = (
            network.weight.double().diff(dim=0)[0],
            network(x).double().diff(dim=1)[:, 0].abs(),
        )
    order = threat.order
    dual = 1.0 if math.isinf(order) else math.inf if order == 1 else 2.0
    true = gap / torch.linalg.vector_norm(row * scale[0], ord=dual)
    assert bool((radius <= true).all()) and bool((radius > 0).all())
    if kind is Linf:  # the box is the set: nothing is lost but rounding
        torch.testing.assert_close(radius, true.clamp(max=8), rtol=1e-3, atol=1e-6)
    beyond = attack(model, data, PGD(steps=20, random_start=False), threat.at(true * 1.01), seed=0)
    inside = attack(model, data, PGD(steps=20, random_start=False), threat.at(true * 0.99), seed=0)
    assert bool(beyond.success.all()) and not bool(inside.success.any())
