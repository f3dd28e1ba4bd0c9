"""Certified stability of SmoothGrad: where the bound is met, brute force, and no attack beyond it."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from conftest import examples, linear, numbers, residual, sequential
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import Tensor, nn

from conjoin.attacks import Homotopy
from conjoin.attribution import smoothgrad
from conjoin.attribution.similarity import Cosine
from conjoin.certification import Lipschitz
from conjoin.certification.drift import (
    drift,
    least_cosine,
    least_overlap,
    pooled,
    sampling_error,
    steepness,
)
from conjoin.core.ball import L2
from conjoin.core.dataset import Dataset
from conjoin.core.drive import batch_of
from conjoin.core.evidence import EvidenceClass
from conjoin.core.gradient import value_and_gradient
from conjoin.core.quantity import Contrast, Quantity, RunnerUp, log_likelihood, logit, margin
from conjoin.core.quantity import given as as_given
from conjoin.core.run import attribute, predict
from conjoin.errors import CapabilityError, DataError, PlanError, SoundnessError
from conjoin.metrics import attack_explanation, certified_explanation
from conjoin.metrics.certified import Smoothing
from conjoin.models.torch import TorchModel

DOUBLE = torch.float64
OPEN = (-torch.inf, torch.inf)


@pytest.mark.parametrize(("radius", "scale"), [(0.1, 0.5), (1.0, 0.5), (3.0, 1.3), (0.0, 1.0)])
def test_the_bound_is_met_by_the_absolute_value(radius: float, scale: float) -> None:
    # f = K|t|: the smoothed slope is K (2Φ(t/σ) - 1); from -r/2 to r/2 it rises by B(r), no less.
    steep = 2.5

    def slope(t: float) -> float:
        def at(u: float) -> float:
            return steep * math.copysign(1, u) * stats.norm.pdf(u, t, scale)

        ends = (t - 12 * scale, 0.0, t + 12 * scale)
        return sum(integrate.quad(at, a, b)[0] for a, b in itertools.pairwise(ends))

    apart = slope(radius / 2) - slope(-radius / 2)
    bound = float(drift(torch.tensor(steep, dtype=DOUBLE), radius, scale))
    assert bound == pytest.approx(apart, rel=1e-7, abs=1e-9) and bound >= apart - 1e-9


def test_the_bound_grows_and_stays_below_that_of_any_two_gradients() -> None:
    one = torch.ones(1, dtype=DOUBLE)
    found = [float(drift(one, radius, 0.5)) for radius in (0.0, 0.1, 1.0, 5.0, 1e9)]
    assert found == sorted(found) and found[0] == 0 and found[-1] == pytest.approx(2.0)
    # In small radii it is that of the largest curvature, K √(2/π) / σ.
    assert found[1] == pytest.approx(0.1 * math.sqrt(2 / math.pi) / 0.5, rel=1e-2)
    for wrong in ((-1.0, 1.0), (math.nan, 1.0), (1.0, 0.0), (1.0, math.inf)):
        with pytest.raises(PlanError, match="positive scale"):
            drift(one, *wrong)


@pytest.mark.parametrize("size", [1, 200])
def test_averages_lie_within_the_sampling_error(size: int) -> None:
    draws, alpha, times = 32, 0.05, 1000
    field = numbers(times, draws, size, dtype=DOUBLE)
    field = 3.0 * field / field.norm(dim=2, keepdim=True)  # of length K, in the mean 0
    error = field.mean(1).norm(dim=1)
    bound = float(sampling_error(torch.tensor(3.0, dtype=DOUBLE), draws, alpha))
    share = 3.0 / math.sqrt(draws) * (1 + math.sqrt(2 * math.log(1 / alpha)))
    assert bound == pytest.approx(share, rel=1e-9)
    assert float((error > bound).double().mean()) <= alpha
    assert float(error.mean()) <= 3.0 / math.sqrt(draws) < bound
    for wrong in ((0, 0.1), (5, 0.0), (5, 1.0)):
        with pytest.raises(PlanError, match="draws >= 1"):
            sampling_error(torch.ones(1), *wrong)


@given(st.integers(0, 10**6), st.floats(0.05, 1.5))
@settings(max_examples=40, deadline=None)
def test_no_map_within_the_distance_has_a_smaller_cosine(seed: int, share: float) -> None:
    values = numbers(6, 12, seed=seed, dtype=DOUBLE)
    distance = share * values.norm(dim=1)
    bound = least_cosine(values, distance)
    for k in range(20):
        way = numbers(6, 12, seed=seed + 1 + k, dtype=DOUBLE)
        moved = values + way / way.norm(dim=1, keepdim=True) * distance[:, None]
        assert bool((Cosine()(moved, values) >= bound).all())
    if share < 1:  # met on the tangent: at right angles to the moved map
        a = values / values.norm(dim=1, keepdim=True)
        side = numbers(6, 12, seed=seed + 99, dtype=DOUBLE)
        side = side - (side * a).sum(1, keepdim=True) * a
        side = side / side.norm(dim=1, keepdim=True)
        turned = values - share * distance[:, None] * a
        turned = turned + distance[:, None] * math.sqrt(1 - share**2) * side
        assert torch.allclose(Cosine()(turned, values), bound, atol=1e-9)
    else:
        assert bool((bound == -1).all())


@given(st.integers(0, 10**6), st.floats(0.1, 2.0), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_no_map_within_the_distance_keeps_less_of_the_top(seed: int, far: float, top: int) -> None:
    values = numbers(3, 8, seed=seed, dtype=DOUBLE)
    distance = torch.full((3,), far, dtype=DOUBLE)
    bound = least_overlap(values, distance, top)
    ways = [numbers(3, 8, seed=seed + 1 + k, dtype=DOUBLE) for k in range(10)]
    order = values.abs().argsort(dim=1, descending=True)
    for count in range(1, min(top, 8 - top) + 1):  # the last of the top down, the next ones up
        way = torch.zeros_like(values)
        way.scatter_(1, order[:, top - count : top], -1.0)
        way.scatter_(1, order[:, top : top + count], 1.0)
        ways.append(way * values.sign())
    for way in ways:
        moved = values + way / way.norm(dim=1, keepdim=True) * far
        now = moved.abs().argsort(dim=1, descending=True)[:, :top]
        for k in range(3):
            kept = len(set(now[k].tolist()) & set(order[k, :top].tolist())) / top
            assert kept >= float(bound[k]) - 1e-12


def test_one_patch_passes_another_at_their_gap_over_the_root_of_two() -> None:
    values = torch.tensor([[5.0, 2.0, -3.0, 0.5]], dtype=DOUBLE)
    at = (5 - 3) / math.sqrt(2)
    for distance, kept in ((at * 0.999, 1.0), (at * 1.001, 0.0)):
        assert float(least_overlap(values, torch.tensor([distance], dtype=DOUBLE), 1)) == kept
    # Of two at once: (5 - 2)² + (3 - 0.5)² pairs the largest with the smallest, or the other way.
    both = math.sqrt(((5 - 0.5) ** 2 + (3 - 2) ** 2) / 2)
    for distance, kept in ((both * 0.999, 0.5), (both * 1.001, 0.0)):
        assert float(least_overlap(values, torch.tensor([distance], dtype=DOUBLE), 2)) == kept
    with pytest.raises(DataError, match="number of features"):
        least_overlap(values, torch.ones(1), 4)


def test_pooling_brings_maps_no_farther_apart() -> None:
    a, b = numbers(4, 3, 7, 10, dtype=DOUBLE), numbers(4, 3, 7, 10, seed=1, dtype=DOUBLE)
    for patch in (1, 3, 4, 20):
        near = (pooled(a, patch) - pooled(b, patch)).norm(dim=1)
        assert bool((near <= (a - b).flatten(1).norm(dim=1) + 1e-12).all())
    whole = torch.ones(1, 2, 4, 4, dtype=DOUBLE)  # constant on patches: no length is lost
    assert float(pooled(whole, 2).norm()) == pytest.approx(float(whole.norm()))
    assert pooled(a, 4).shape == (4, 2 * 3)
    assert float(pooled(a, 4)[0, 0]) == pytest.approx(float(a[0, :, :4, :4].sum()) / math.sqrt(48))
    with pytest.raises(DataError, match="maps"):
        pooled(a.flatten(1), 2)


def steep(model: TorchModel, data: Dataset, quantity: Quantity, aim: Tensor) -> Tensor:
    batch = batch_of(data, slice(0, len(data)), model.device, 0)
    with model.held():
        return steepness(Lipschitz().prepare(model, batch), quantity, aim)


def test_the_constant_of_a_linear_model_is_that_of_its_weights() -> None:
    weight = numbers(5, 64, dtype=DOUBLE)
    model, data = linear(weight), examples(8, dtype=DOUBLE)
    found = steep(model, data, logit, data.y)
    assert torch.allclose(found, weight.norm(dim=1)[data.y], rtol=1e-9)
    apart = (weight[:, None] - weight).norm(dim=2)
    assert torch.allclose(steep(model, data, margin, data.y), apart.amax(1)[data.y], rtol=1e-9)
    pair = predict(model, data).topk(2, dim=1).indices
    found = steep(model, data, Contrast(), pair)
    assert torch.allclose(found, apart[pair[:, 0], pair[:, 1]], rtol=1e-9)


def test_no_gradient_is_longer_than_the_constant() -> None:
    model, data = sequential(dtype=DOUBLE), examples(12, dtype=DOUBLE)
    for quantity in (logit, margin, Contrast(1)):
        bound = steep(model, data, quantity, data.y)
        batch = batch_of(data, slice(0, 12), model.device, 0)
        with model.held():
            for k in range(4):
                points = batch.at(3 * numbers(12, 1, 8, 8, seed=k, dtype=DOUBLE))
                _, slope = value_and_gradient(model, quantity, points)
                assert bool((slope.flatten(1).norm(dim=1) <= bound * (1 + 1e-9)).all())


def folded() -> tuple[TorchModel, Dataset]:
    """Two logits ±Σ|t_i|-like of few numbers, whose kinks lie where the examples are."""
    module = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    eye = torch.eye(3, dtype=DOUBLE)
    module[0].weight.data = torch.cat([eye, -eye]) / math.sqrt(2)
    module[0].bias.data = torch.zeros(6, dtype=DOUBLE)
    module[2].weight.data = torch.stack([torch.ones(6), -torch.ones(6)]).to(DOUBLE)
    module[2].bias.data = torch.tensor([50.0, 0.0], dtype=DOUBLE)
    x = 0.2 * numbers(5, 3, dtype=DOUBLE)
    return TorchModel(module), Dataset(x, torch.zeros(5, dtype=torch.int64))


@pytest.mark.parametrize("make", [folded, lambda: (sequential(), examples(4))])
def test_no_attack_or_sample_moves_the_explanation_farther(make: object) -> None:
    model, data = make()  # type: ignore[operator]
    noise, radius = Smoothing(scale=0.5, draws=1200, alpha=1e-6, patch=4), 0.4
    proved = certified_explanation(model, data, radius, seed=0, smoothing=noise)
    method = smoothgrad(0.5, 1200, relative=False)
    threat = L2(radius, OPEN)
    few = smoothgrad(0.5, 24, relative=False)
    descent = Homotopy(sharpness=(2.0,), steps=6)
    attacked = attack_explanation(model, data, few, threat, seed=1, method=descent)
    assert float(attacked.similarity.median()) < 0.999
    rng = batch_of(data, slice(0, len(data)), model.device, 5).rng
    inwards = torch.nn.functional.normalize(data.x.flatten(1)).reshape(data.x.shape)
    limit, aim = proved.drift + 2 * proved.error, predict(model, data).argmax(1)
    for z in (attacked.inputs, threat.sample(data.x, rng), data.x - radius * inwards):
        assert bool(((z - data.x).flatten(1).norm(dim=1) <= radius * (1 + 1e-6)).all())
        there = attribute(model, Dataset(z, aim), method, seed=9, target=as_given).values
        assert bool(((there - proved.values).flatten(1).double().norm(dim=1) <= limit).all())
        assert bool((Cosine()(there, proved.values) >= least_cosine(proved.values, limit)).all())


def test_what_is_reported_follows_from_its_parts() -> None:
    model, data = sequential(), examples(6)
    noise = Smoothing(scale=2.0, draws=400, alpha=0.01, patch=4, top=0.25)
    found = certified_explanation(model, data, 0.05, seed=3, smoothing=noise, quantity=logit)
    method = smoothgrad(2.0, 400, relative=False)
    shown = attribute(model, data, method, seed=3)
    assert torch.equal(found.values, shown.values)
    assert torch.allclose(found.constant, steep(model, data, logit, shown.target))
    assert torch.allclose(found.drift, drift(found.constant, 0.05, 2.0))
    assert torch.allclose(found.error, sampling_error(found.constant, 400, 0.01))
    assert torch.equal(found.cosine, least_cosine(found.values, found.drift + found.error))
    overlap = least_overlap(pooled(found.values, 4), found.drift + found.error, 1)
    assert torch.equal(found.overlap, overlap)
    assert torch.equal(found.joint, found.certified & (found.cosine > 0))
    assert found.evidence.kind is EvidenceClass.STATISTICAL and "0.01" in found.evidence.detail
    wide = certified_explanation(model, data, 50.0, seed=3, smoothing=noise)
    assert bool((wide.cosine == -1).all()) and not bool(wide.joint.any() | wide.certified.any())
    assert bool((wide.overlap == 0).all())


def test_what_has_no_constant_is_refused() -> None:
    data = examples(2)
    few = Smoothing(draws=2)
    with pytest.raises(CapabilityError):
        certified_explanation(
            sequential(), data, 0.1, seed=0, smoothing=few, quantity=log_likelihood
        )  # type: ignore[arg-type]
    found = certified_explanation(
        residual(), data, 0.1, seed=0, smoothing=few, quantity=Contrast(), target=RunnerUp()
    )
    assert bool((found.constant > 0).all())
    for wrong in ({"scale": 0.0}, {"draws": 0}, {"alpha": 1.0}, {"patch": 0}, {"top": 1.0}):
        with pytest.raises(PlanError, match="expected"):
            Smoothing(**wrong)  # type: ignore[arg-type]


class Louder(torch.autograd.Function):
    """The identity, with thrice its derivative."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, *slopes: Tensor) -> Tensor:
        return 3 * slopes[0]


class Loud(nn.Module):
    """A linear network whose backward pass is not its derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(Louder.apply(x.flatten(1)))  # type: ignore[no-untyped-call, no-any-return]


def test_gradients_of_another_function_are_not_certified() -> None:
    with pytest.raises(SoundnessError, match="backward pass"):
        certified_explanation(
            TorchModel(Loud()), examples(2), 0.1, seed=0, smoothing=Smoothing(draws=2)
        )
