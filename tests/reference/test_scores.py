"""Scores of explanations against answers by hand and slow definitions in double precision."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from conftest import batch_of, examples, linear, numbers, residual
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from conjoin.attribution import (
    gradient_times_input,
    integrated_gradients,
    kernel_shap,
    saliency,
)
from conjoin.audit.methods import Method
from conjoin.core.ball import Linf
from conjoin.core.dataset import Dataset
from conjoin.core.distribution import Constant
from conjoin.core.drive import Run
from conjoin.core.naming import Better
from conjoin.core.protocols import Batch, Metric, Model
from conjoin.core.quantity import Contrast, RunnerUp
from conjoin.core.quantity import given as labels
from conjoin.core.random import Streams
from conjoin.core.run import attribute, predict, score
from conjoin.core.slice import Cut, Slice
from conjoin.errors import CapabilityError, DataError, PlanError
from conjoin.metrics import (
    ROAD,
    Complexity,
    ComplexityRise,
    Deletion,
    EffectiveComplexity,
    EnergyInside,
    Infidelity,
    Insertion,
    LocalLipschitz,
    MassInside,
    MaxSensitivity,
    ModelRandomisation,
    PointingGame,
    PositiveOverlap,
    PositiveShare,
    RandomLogit,
    RankAccuracy,
    RelativeInputStability,
    RelativeOutputStability,
    RelativeRepresentationStability,
    SensitivityN,
    Sparseness,
)
from conjoin.metrics.faithfulness import Order
from conjoin.metrics.infidelity import Noise, Removal
from conjoin.metrics.relative import quotients
from conjoin.metrics.road import imputed
from conjoin.metrics.sanity import histogram_entropy
from conjoin.models.redrawn import layers, redrawn
from conjoin.models.torch import TorchModel

WIDE = (-torch.inf, torch.inf)
POSITIVE = (PositiveOverlap, EnergyInside, PositiveShare)


def scored(metric: Any, values: Tensor, data: Dataset | None = None, **words: Any) -> Tensor:
    """Score values on the small residual network, or on what is given."""
    model = words.pop("model", None) or residual()
    data = examples(len(values)) if data is None else data
    method = words.pop("method", saliency())
    return score(model, data, method, metric, seed=0, values=values, **words).values


class Squares(nn.Module):
    """Σ x² and a constant: the gradient is 2 x, the second derivative 2."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x.square().sum(1), torch.full_like(x[:, 0], -1.0)], 1)


def squares() -> tuple[TorchModel, Dataset]:
    model = TorchModel(Squares())
    model.dtype = torch.float64
    x = numbers(4, 6, dtype=torch.float64) + 0.1
    return model, Dataset(x, torch.zeros(4, dtype=torch.int64))


# The order of a curve.


def test_the_least_relevant_first_is_the_reverse_and_a_random_order_lies_between() -> None:
    weight = torch.stack([torch.linspace(-1, 1, 20), torch.zeros(20)])
    data = Dataset(torch.full((64, 20), 0.7), torch.zeros(64, dtype=torch.int64))
    values = (weight[:1] * data.x).contiguous()
    words = {"model": linear(weight), "target": labels}
    for kind in (Deletion, Insertion):
        most, least, drawn = (scored(kind(20, order=o), values, data, **words) for o in Order)
        assert torch.equal(least, scored(kind(20), -values, data, **words))
        sign = 1 if kind is Deletion else -1
        assert bool((sign * (least - most) > 0.1).all())
        assert float(drawn.std()) > 0.01, "each example has an order of its own"
        assert sign * float(most[0]) < sign * float(drawn.mean()) < sign * float(least[0])
    assert torch.equal(drawn, scored(Insertion(20, order=Order.RANDOM), -values, data, **words))


def test_a_plan_says_the_order_and_the_perturbation() -> None:
    lowest = Method.of(Metric, {"name": "Deletion", "order": "lerf"})
    assert lowest.build() == Deletion(order=Order.LERF) and str(lowest) == "Deletion order=lerf"
    far = {"name": "Removal", "share": 0.4}
    read = Method.of(Metric, "Infidelity", perturbation=far, shares=True)
    assert read.build() == Infidelity(Removal(0.4), shares=True)
    small = Method.of(Metric, "RelativeRepresentationStability", where="3", threat="linf:0.1")
    assert repr(small.build()) == repr(RelativeRepresentationStability(Linf(0.1), where=Cut("3")))


def test_curves_say_which_way_they_are_read() -> None:
    read = {kind: [kind(order=o).better for o in Order] for kind in (Deletion, Insertion, ROAD)}
    down, up, no = Better.LOWER, Better.HIGHER, Better.NEITHER
    assert read == {Deletion: [down, up, no], Insertion: [up, down, no], ROAD: [down, up, no]}
    assert ROAD(order=Order.LERF).title == "ROAD, lowest first"
    assert Deletion(order=Order.RANDOM).meaning == "mean probability while features are removed"
    for make in (lambda: Deletion(0), lambda: Insertion(0), lambda: ROAD(0)):
        with pytest.raises(PlanError, match="one step at least"):
            make()
    with pytest.raises(PlanError, match="standard deviation"):
        ROAD(noise=-1.0)


# ROAD.


def slow_imputed(image: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Solve the equations of the removed pixels of one channel, a neighbour at a time."""
    height, width = image.shape
    where = [(i, j) for i in range(height) for j in range(width) if gone[i, j]]
    number = {place: k for k, place in enumerate(where)}
    left, right = np.zeros((len(where), len(where))), np.zeros(len(where))
    for (i, j), k in number.items():
        for di in (-1, 0, 1):
            for dj in (-1, 0, 1):
                near = i + di, j + dj
                if (di, dj) == (0, 0) or not (0 <= near[0] < height and 0 <= near[1] < width):
                    continue
                w = 1 / 6 if 0 in (di, dj) else 1 / 12
                left[k, k] += w
                if gone[near]:
                    left[k, number[near]] -= w
                else:
                    right[k] += w * image[near]
    out = image.copy()
    for place, value in zip(where, np.linalg.solve(left, right), strict=True):
        out[place] = value
    return out


def test_imputation_solves_its_equations() -> None:
    x = numbers(3, 2, 9, 7, dtype=torch.float64)
    drawn = Streams.of(4, torch.arange(3)).uniform(1, 9, 7)
    for share in (0.1, 0.5, 0.9):
        gone = drawn < share
        found = imputed(x, gone)
        for row in range(3):
            for channel in range(2):
                slow = slow_imputed(x[row, channel].numpy(), gone[row, 0].numpy())
                assert np.abs(found[row, channel].numpy() - slow).max() < 1e-5
    # All but a corner: the corner everywhere. A constant image stays; nothing gone, nothing done.
    corner = torch.ones(1, 1, 40, 40, dtype=torch.bool)
    corner[..., 0, 0] = False
    one = numbers(1, 1, 40, 40, dtype=torch.float64)
    assert torch.allclose(imputed(one, corner), one[..., :1, :1].expand_as(one), atol=1e-5)
    assert torch.equal(imputed(x, torch.zeros_like(drawn, dtype=torch.bool)), x)
    # A sequence: a straight line between what is left.
    line = torch.tensor([[3.0, 9.0, 9.0, 9.0, 7.0, 9.0]], dtype=torch.float64)
    gone = torch.tensor([[False, True, True, True, False, True]])
    assert torch.allclose(imputed(line, gone), torch.tensor([[3.0, 4, 5, 6, 7, 7]]).double())


def test_road_is_its_definition() -> None:
    model, data = residual(), examples(3)
    values = attribute(model, data, saliency(), seed=0).values
    top = predict(model, data).argmax(1)
    for order, sign in ((Order.MORF, -1), (Order.LERF, 1)):
        got = scored(ROAD(steps=3, noise=0.0, order=order), values, data, model=model)
        for row in range(3):
            total = 0.0
            for share in (0.25, 0.5, 0.75):
                gone = torch.zeros(64, dtype=torch.bool)
                gone[(sign * values[row].flatten()).argsort(stable=True)[: round(64 * share)]] = (
                    True
                )
                image = data.x[row, 0].double().numpy()
                z = torch.tensor(slow_imputed(image, gone.reshape(8, 8).numpy())).float()
                with model.held(), torch.no_grad():
                    total += float(model(batch_of(z[None, None])).softmax(1)[0, top[row]])
            assert float(got[row]) == pytest.approx(total / 3, abs=1e-5)
    noisy = scored(ROAD(steps=3, noise=0.1), values, data, model=model)
    assert not torch.equal(noisy, scored(ROAD(steps=3, noise=0.0), values, data, model=model))


def test_the_noise_of_road_is_on_what_was_imputed_alone() -> None:
    seen: list[Tensor] = []

    class Watched(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x.flatten(1)[:, :2]

    data = Dataset(torch.full((1, 1, 40, 40), 0.5), torch.tensor([0]))
    values = torch.arange(1600.0).reshape(1, 1, 40, 40)
    scored(ROAD(steps=1, noise=0.2), values, data, model=TorchModel(Watched()))
    changed = seen[-1][0] - 0.5
    assert torch.equal(changed.flatten()[:800], torch.zeros(800))
    assert abs(float(changed.flatten()[800:].std()) - 0.2) < 0.02


def test_what_has_no_neighbours_is_not_imputed() -> None:
    data = Dataset(numbers(2, 6), torch.tensor([0, 1]))
    with pytest.raises(CapabilityError, match="Score by Deletion"):
        scored(ROAD(), numbers(2, 6), data, model=linear(numbers(2, 6)))


# What a perturbation does.


def test_the_weights_of_a_linear_model_predict_everything() -> None:
    weight, x = numbers(2, 30, dtype=torch.float64), numbers(3, 30, seed=2, dtype=torch.float64)
    data, words = Dataset(x, torch.tensor([0, 1, 0])), {"model": linear(weight), "target": labels}
    slopes = weight[data.y]
    for drawn in (Noise(0.3), Removal(0.4)):
        metric = Infidelity(drawn)
        assert float(scored(metric, slopes, data, **words).max()) < 1e-24
        shares = replace(metric, shares=True, baseline=Constant(0.25))
        assert float(scored(shares, slopes * (x - 0.25), data, **words).max()) < 1e-24
        far = scored(metric, 3 * slopes, data, **words)
        none = scored(metric, 0 * slopes, data, **words)
        assert torch.allclose(far, 4 * none) and float(none.min()) > 0
        scaled = scored(replace(metric, scaled=True), -3 * slopes, data, **words)
        assert float(scaled.max()) < 1e-24
        nothing = scored(replace(metric, scaled=True), 0 * slopes, data, **words)
        assert torch.allclose(nothing, none)
    # Of nothing but noise of deviation σ the error is Σ w² σ².
    none = scored(Infidelity(Noise(0.3), 4000), 0 * slopes, data, **words)
    sigma = 0.3 * (x.amax(1) - x.amin(1))
    assert torch.allclose(none, slopes.square().sum(1) * sigma**2, rtol=0.1)
    # Of features that go with probability p: p Σ t² + p² ((Σ t)² - Σ t²), t = w (x - b).
    t = slopes * (x - 0.25)
    none = scored(
        Infidelity(Removal(0.4), 4000, baseline=Constant(0.25)), 0 * slopes, data, **words
    )
    expected = 0.24 * t.square().sum(1) + 0.16 * t.sum(1).square()
    assert torch.allclose(none, expected, rtol=0.1)


def test_infidelity_is_its_definition() -> None:
    model, data = residual(dtype=torch.float64), examples(3, dtype=torch.float64)
    values = attribute(model, data, integrated_gradients(Constant(0.5)), seed=0).values
    top, rng = predict(model, data).argmax(1), Streams.of(0, data.positions).fold("infidelity")
    metric = Infidelity(Removal(0.3), 20, shares=True, baseline=Constant(0.5))
    got = scored(metric, values, data, model=model)
    for row in range(3):
        errors = []
        for draw in range(20):
            taken = (rng.fold(draw).uniform(64)[row] < 0.3).reshape(1, 8, 8)
            z = torch.where(taken, 0.5, data.x[row])
            with model.held(), torch.no_grad():
                both = model(batch_of(torch.stack([data.x[row], z])))[:, top[row]]
            errors.append(float(values[row][taken].sum() - (both[0] - both[1])) ** 2)
        assert float(got[row]) == pytest.approx(sum(errors) / 20, rel=1e-9)


def test_captum_agrees_on_the_same_perturbations() -> None:
    metrics = pytest.importorskip("captum.metrics", reason="the peer is not installed")
    attr = pytest.importorskip("captum.attr", reason="the peer is not installed")
    model, data = residual(dtype=torch.float64), examples(3, dtype=torch.float64)
    module, top = model.module.eval(), predict(model, data).argmax(1)
    values = attribute(model, data, saliency(), seed=0).values
    rng, draws = Streams.of(0, data.positions).fold("infidelity"), 10

    def noise(x: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        drawn = Noise(0.3)(data.x, 0 * data.x, rng, range(draws))
        change = drawn.transpose(0, 1).flatten(0, 1)  # an example's draws one after another
        return change, x - change

    for scaled in (False, True):
        theirs = metrics.infidelity(
            module, noise, data.x, values, target=top, n_perturb_samples=draws, normalize=scaled
        )
        ours = scored(Infidelity(Noise(0.3), draws, scaled=scaled), values, data, model=model)
        assert torch.allclose(ours, theirs.double(), atol=1e-6)
    near = Linf(0.05)

    def around(x: Tensor, *_: object) -> tuple[Tensor]:
        drawn = torch.stack([near.sample(data.x, _streams(data).fold(k)) for k in range(draws)])
        return (drawn.transpose(0, 1).flatten(0, 1),)

    def explain(x: tuple[Tensor, ...], target: Tensor) -> tuple[Tensor, ...]:
        leaf = x[0].detach().requires_grad_()
        return (attr.Saliency(module).attribute(leaf, target=target, abs=False).detach(),)

    theirs = metrics.sensitivity_max(
        explain, data.x, around, n_perturb_samples=draws, target=top, norm_ord=2
    )
    ours = scored(MaxSensitivity(near, draws), values, data, model=model)
    assert torch.allclose(ours, theirs.double(), atol=1e-6)


def test_the_channels_of_a_pixel_are_removed_together() -> None:
    x = numbers(2, 3, 4, 4)
    change = Removal(0.5)(x, torch.zeros_like(x), Streams.of(0, torch.arange(2)), range(3))
    gone = change != 0
    assert change.shape == (3, 2, 3, 4, 4) and torch.equal(gone[:, :, 0], gone[:, :, 2])
    assert 0 < float(gone.float().mean()) < 1


def test_sensitivity_n_is_a_correlation_over_subsets() -> None:
    weight, x = numbers(2, 30, dtype=torch.float64), numbers(3, 30, seed=2, dtype=torch.float64)
    data, words = Dataset(x, torch.tensor([0, 1, 0])), {"model": linear(weight), "target": labels}
    shares = weight[data.y] * (x - 0.5)
    metric = SensitivityN(0.3, 40, Constant(0.5))
    assert torch.allclose(scored(metric, shares, data, **words), torch.ones(3).double())
    assert torch.allclose(scored(metric, -2 * shares, data, **words), -torch.ones(3).double())
    assert scored(metric, torch.ones_like(x), data, **words).tolist() == [0.0] * 3
    model, images = residual(dtype=torch.float64), examples(3, dtype=torch.float64)
    values = attribute(model, images, saliency(), seed=0).values
    top, rng = predict(model, images).argmax(1), Streams.of(0, images.positions).fold("subset")
    got = scored(SensitivityN(0.25, 12), values, images, model=model)
    for row in range(3):
        sums, falls = [], []
        for draw in range(12):
            drawn = rng.fold(draw).uniform(64, dtype=torch.float64)[row]
            taken = torch.zeros(64, dtype=torch.bool)
            taken[drawn.argsort()[:16]] = True
            taken = taken.reshape(1, 8, 8)
            z = torch.where(taken, 0.0, images.x[row])
            with model.held(), torch.no_grad():
                both = model(batch_of(torch.stack([images.x[row], z])))[:, top[row]]
            sums.append(float(values[row][taken].sum()))
            falls.append(float(both[0] - both[1]))
        assert float(got[row]) == pytest.approx(np.corrcoef(sums, falls)[0, 1], abs=1e-9)
    for make in (lambda: SensitivityN(0.0), lambda: SensitivityN(draws=1)):
        with pytest.raises(PlanError, match="two draws"):
            make()


def test_shares_that_add_up_score_better_than_slopes() -> None:
    model, data = residual(), examples(8)
    means = {
        method.title: float(score(model, data, method, SensitivityN(), seed=0).values.mean())
        for method in (kernel_shap(torch.arange(64).reshape(1, 1, 8, 8)), saliency())
    }
    assert means["Shapley values (KernelSHAP)"] > max(0.8, means["saliency (gradient)"])


# Stability.


def test_the_gradient_of_squares_moves_twice_as_fast_as_its_input() -> None:
    model, data = squares()
    near = Linf(0.05, WIDE)
    words = {"model": model, "target": labels}
    values = 2 * data.x
    fast = scored(LocalLipschitz(near), values, data, **words)
    assert torch.allclose(fast, torch.full((4,), 2.0).double(), rtol=1e-9)
    drawn = [near.sample(data.x, _streams(data).fold(k)) for k in range(6)]
    moves = torch.stack([(z - data.x).norm(dim=1) for z in drawn]).amax(0)
    most = scored(MaxSensitivity(near, 6), values, data, **words)
    assert torch.allclose(most, moves / data.x.norm(dim=1), rtol=1e-9)
    # a(x) = 2 x, so the relative changes of both are equal.
    same = scored(RelativeInputStability(near, 6), values, data, **words)
    assert torch.allclose(same, torch.ones(4).double(), rtol=1e-9)
    quotient = torch.stack([((data.x - z) / data.x).norm(dim=1) for z in drawn])
    change = torch.stack([(z.square().sum(1) - data.x.square().sum(1)).abs() for z in drawn])
    out = scored(RelativeOutputStability(near, 6), values, data, **words)
    assert torch.allclose(out, (quotient / change).amax(0), rtol=1e-9)
    value = data.x.square().sum(1)
    rep = scored(RelativeRepresentationStability(near, 6), values, data, **words)
    assert torch.allclose(rep, (quotient / (change / value)).amax(0), rtol=1e-9)


def _streams(data: Dataset) -> Streams:
    return Streams.of(0, data.positions).fold("stability")


def test_an_explanation_that_stays_is_stable_and_a_zero_one_is_finite() -> None:
    data, words = Dataset(numbers(3, 12).sigmoid(), torch.zeros(3, dtype=torch.int64)), {}
    words["model"] = linear(numbers(2, 12))
    values = attribute(words["model"], data, saliency(), seed=0).values
    for kind in (
        *(MaxSensitivity, LocalLipschitz, RelativeInputStability),
        *(RelativeOutputStability, RelativeRepresentationStability),
    ):
        assert scored(kind(Linf(0.1)), values, data, **words).tolist() == [0.0] * 3
        assert bool(scored(kind(Linf(0.1)), 0 * values, data, **words).isfinite().all())
        with pytest.raises(PlanError, match="one draw"):
            kind(Linf(0.1), 0)
    assert scored(LocalLipschitz(Linf(0.0)), 0 * values, data, **words).tolist() == [0.0] * 3


def test_draws_that_change_the_class_are_left_out_if_others_are_left() -> None:
    class Step(nn.Module):
        """The class is the sign of the first column; the gradient is large on one side."""

        def forward(self, x: Tensor) -> Tensor:
            first = torch.where(x[:, 0] > 0, 5 * x.sum(1).square() + 1, x.sum(1).square() - 1)
            return torch.stack([first, torch.zeros_like(first)], 1)

    model = TorchModel(Step())
    model.dtype = torch.float64
    x = torch.tensor([[0.01, 0.3]], dtype=torch.float64)
    data, metric = Dataset(x, torch.tensor([0])), RelativeInputStability(Linf(0.1, WIDE), 8)
    values = attribute(model, data, saliency(), seed=0, target=labels).values
    drawn = [metric.threat.sample(x, _streams(data).fold(k)) for k in range(8)]
    assert len({bool(z[0, 0] > 0) for z in drawn}) == 2
    expected = 0.0
    for z in drawn:
        if float(z[0, 0]) > 0:
            there = 10 * z.sum() * torch.ones_like(z)
            change = ((values - there) / values).norm() / ((x - z) / x).norm()
            expected = max(expected, float(change))
    got = scored(metric, values, data, model=model, target=labels)
    assert float(got) == pytest.approx(expected, rel=1e-9)
    always = Dataset(torch.tensor([[1e-9, 0.3]]).double(), torch.tensor([0]))
    few = RelativeInputStability(Linf(0.1, WIDE), 1)
    seen = [few.threat.sample(always.x, Streams.of(s, torch.arange(1)).fold("stability").fold(0))
            for s in range(20)]  # fmt: skip
    seed = next(s for s, z in enumerate(seen) if float(z[0, 0]) < 0)
    none = score(model, always, saliency(), few, seed=seed, target=labels).values
    assert float(none) > 0, "no draw keeps the class: all of them count"


# Sanity.


@dataclass(frozen=True)
class Edges:
    """An explanation that never looks at the model."""

    needs: ClassVar[type] = Model
    where: ClassVar[Slice] = Slice()

    def __call__(self, model: Model, batch: Batch, /) -> Tensor:
        return batch.x.clone()

    def ends(self, model: Model, batch: Batch, /) -> None:
        """Promise nothing."""


def test_an_explanation_that_ignores_the_model_is_found_out() -> None:
    model, data = residual(), examples(4)
    for metric in (ModelRandomisation(), ModelRandomisation(2, only=True), RandomLogit()):
        assert score(model, data, Edges(), metric, seed=0).values.tolist() == [1.0] * 4
    assert score(model, data, Edges(), ComplexityRise(), seed=0).values.tolist() == [0.0] * 4
    seen = score(model, data, saliency(), ModelRandomisation(), seed=0).values
    assert float(seen.abs().max()) < 0.7
    other = score(model, data, saliency(), ModelRandomisation(seed=1), seed=0).values
    assert not torch.equal(seen, other)
    size = score(model, data, saliency(), ModelRandomisation(magnitudes=True), seed=0).values
    assert not torch.equal(seen, size)


def test_randomisation_is_that_of_a_copy_and_its_passes_are_counted() -> None:
    model, data = residual(), examples(4)
    before, weights = model.digest(), [p.clone() for p in model.module.parameters()]
    values = attribute(model, data, saliency(), seed=0).values
    metric = ModelRandomisation(seed=3)
    found = score(model, data, saliency(), metric, seed=0, values=values)
    assert model.digest() == before
    assert all(torch.equal(a, b) for a, b in zip(weights, model.module.parameters(), strict=True))
    assert (found.provenance.forward, found.provenance.backward) == (8, 4)
    made, _ = redrawn(model, 3)
    top = predict(model, data).argmax(1)
    other = attribute(made, data.labelled(top), saliency(), seed=0, target=labels).values
    for row in range(4):
        expected = stats.spearmanr(values[row].flatten(), other[row].flatten())[0]
        assert float(found.values[row]) == pytest.approx(expected, abs=1e-6)


def test_layers_are_drawn_from_the_top_with_the_spread_they_have() -> None:
    model = residual()
    names = layers(model.module)
    assert names == ["stem", "block.0", "head"]
    own = dict(model.module.named_parameters())

    def moved(top: int | None, only: bool = False) -> list[str]:
        new = dict(redrawn(model, 0, top, only=only)[0].module.named_parameters())
        return [n for n in names if not torch.equal(own[f"{n}.weight"], new[f"{n}.weight"])]

    assert moved(None) == names and moved(1) == ["head"] and moved(2) == ["block.0", "head"]
    assert moved(2, only=True) == ["block.0"] and moved(3, only=True) == ["stem"]
    drawn = redrawn(model, 0)[0].module.get_submodule("head").weight.detach()
    old = own["head.weight"].detach()
    assert float((drawn.mean() - old.mean()).abs()) < 4 * float(old.std()) / old.numel() ** 0.5
    assert float(drawn.std() / old.std()) == pytest.approx(1, abs=0.2)
    assert float(stats.spearmanr(drawn.flatten(), old.flatten())[0]) < 0.3
    still = TorchModel(nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)))
    kept = redrawn(still, 0)[0].module.get_submodule("0")
    assert kept.weight.tolist() == [1.0] * 3 and kept.bias.tolist() == [0.0] * 3
    for top in (0, 4):
        with pytest.raises(PlanError, match="has 3 layers"):
            redrawn(model, 0, top)


def test_only_weights_of_a_network_can_be_drawn() -> None:
    class Plain:
        device = torch.device("cpu")

        def __call__(self, batch: Batch) -> Tensor:
            return batch.x.flatten(1)[:, :3]

    data = Dataset(numbers(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(CapabilityError, match="weights of a torch"):
        score(Plain(), data, Edges(), ModelRandomisation(), seed=0)

    class Single(nn.Linear):
        def __deepcopy__(self, memo: object) -> Single:
            raise RuntimeError("there is but one")

    model = TorchModel(nn.Sequential(nn.Flatten(), Single(16, 2)))
    with pytest.raises(CapabilityError, match="cannot be copied: there is but one"):
        score(model, data, Edges(), ModelRandomisation(), seed=0)


def test_another_class_is_any_other() -> None:
    weight = numbers(5, 20)
    data = Dataset(numbers(200, 20), torch.arange(200) % 5)
    got = score(linear(weight), data, saliency(), RandomLogit(), seed=0, target=labels).values
    pairs = [[stats.spearmanr(a, b)[0] for b in weight] for a in weight]
    seen = set()
    for row in range(200):
        mine = int(data.y[row])
        other = [k for k in range(5) if abs(pairs[mine][k] - float(got[row])) < 1e-5]
        assert len(other) == 1 and other[0] != mine
        seen.add((mine, other[0]))
    assert len(seen) == 20
    method = saliency(Contrast())
    with pytest.raises(CapabilityError, match="one class of each example"):
        score(linear(weight), data, method, RandomLogit(), seed=0, target=RunnerUp())


def test_the_entropy_of_a_histogram_is_numpys() -> None:
    values = numbers(3, 1, 12, 12)
    for row, found in enumerate(histogram_entropy(values, 20)):
        counts = np.histogram(values[row].double().numpy(), 20)[0]
        assert float(found) == pytest.approx(stats.entropy(counts), abs=1e-9)
    assert histogram_entropy(torch.ones(2, 9), 20).tolist() == [0.0, 0.0]
    model, data = residual(), examples(3)
    got = score(model, data, saliency(), ComplexityRise(20, 5), seed=0).values
    top = data.labelled(predict(model, data).argmax(1))
    both = [
        histogram_entropy(attribute(m, top, saliency(), seed=0, target=labels).values, 20)
        for m in (model, redrawn(model, 5)[0])
    ]
    assert torch.allclose(got.double(), (both[1] - both[0]) / both[0], atol=1e-6)
    with pytest.raises(PlanError, match="two bins"):
        ComplexityRise(1)


# Complexity.


def test_complexities_by_hand() -> None:
    rows = torch.zeros(5, 1, 2, 2)
    rows[0, 0, 1, 1] = -3.0
    rows[1] = 0.5
    rows[2, 0] = torch.tensor([[1.0, -2.0], [3.0, 0.0]])
    rows[3, 0] = torch.tensor([[1.0, 0.04], [-0.06, 0.0]])
    gini = scored(Sparseness(), rows).tolist()
    # Σ_ij |v_i - v_j| / (2 d² mean): of 1, 2, 3, 0 it is 20 / 48.
    assert gini[:3] == pytest.approx([0.75, 0.0, 20 / 48]) and gini[4] == 0.0
    share = torch.tensor([1 / 6, 2 / 6, 3 / 6])
    entropies = scored(Complexity(), rows).tolist()
    assert entropies[:3] == pytest.approx([0.0, math.log(4), -float((share * share.log()).sum())])
    assert entropies[4] == 0.0
    assert scored(EffectiveComplexity(), rows).tolist() == [1.0, 4.0, 3.0, 2.0, 0.0]
    assert scored(EffectiveComplexity(0.5), rows).tolist() == [1.0, 4.0, 2.0, 1.0, 0.0]
    with pytest.raises(PlanError, match="share of the largest"):
        EffectiveComplexity(1.0)


def test_the_gini_index_is_that_of_pairs() -> None:
    values = numbers(4, 30)
    data = Dataset(values, torch.zeros(4, dtype=torch.int64))
    got = scored(Sparseness(), values, data, model=linear(numbers(2, 30)))
    for row, v in enumerate(values.abs().double()):
        pairs = (v[:, None] - v).abs().sum() / (2 * 30**2 * v.mean())
        assert float(got[row]) == pytest.approx(float(pairs), abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-3, 1e3))
def test_complexities_see_neither_scale_nor_sign_nor_place(seed: int, factor: float) -> None:
    values = numbers(2, 20, seed=seed, dtype=torch.float64).round(decimals=1)
    order = Streams.of(seed, torch.arange(1)).uniform(20)[0].argsort()
    signs = numbers(20, seed=seed + 1, dtype=torch.float64).sign()
    model = linear(numbers(2, 20, dtype=torch.float64))
    data = Dataset(values, torch.zeros(2, dtype=torch.int64))
    most = {Sparseness: 1 - 1 / 20, Complexity: math.log(20), EffectiveComplexity: 20}
    for kind, top in most.items():
        found = scored(kind(), values, data, model=model)
        other = scored(kind(), factor * (signs * values)[:, order], data, model=model)
        assert torch.allclose(found, other, atol=1e-9)
        assert bool(((found >= -1e-12) & (found <= top + 1e-12)).all())


# Localisation.


def test_the_top_features_in_a_region_by_hand() -> None:
    region = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    region[0, 0, 0, :4] = True
    values = -torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    values[0, 0, 0, 0], values[0, 0, 5, 5], values[0, 0, 0, 1] = 3.0, 2.0, 1.0
    values[0, 0, 7, 7] = 0.5
    values[1, 0, 5, 5] = 1.0
    values[2] = 0.0
    values[3, 0, 0, :2], values[3, 0, 7, 6:] = 5.0, 5.0
    rank = scored(RankAccuracy(region), values)
    point = scored(PointingGame(region), values)
    assert rank[0] == 0.5 and rank[2] == pytest.approx(4 / 64) and rank[3] == 0.5
    assert point.tolist() == pytest.approx([1.0, 0.0, 4 / 64, 0.5])
    # Magnitude is not evidence for the class.
    assert scored(PointingGame(region), -values)[0] == 0.0
    each = torch.cat([region, ~region, region, region])
    assert scored(PointingGame(each), values).tolist() == pytest.approx([1.0, 1.0, 4 / 64, 0.5])
    assert repr(RankAccuracy(region)) == "RankAccuracy(4 of 64 elements)"
    assert repr(PointingGame(region)) == "PointingGame(4 of 64 elements)"
    for kind in (RankAccuracy, PointingGame):
        with pytest.raises(DataError, match="empty"):
            scored(kind(torch.zeros_like(region)), values)
        assert scored(kind(each), values, run=Run(2)).equal(scored(kind(each), values))


@pytest.mark.parametrize("kind", [MassInside, RankAccuracy, PointingGame, *POSITIVE])
def test_regions_of_each_example_go_with_their_examples(kind: Any) -> None:
    values = numbers(6, 1, 8, 8, seed=4)
    each = numbers(6, 1, 8, 8, seed=5) > 0.3
    whole = scored(kind(each), values)
    for size in (2, 3, 4):  # batches of equal size, and not
        assert scored(kind(each), values, run=Run(size)).equal(whole)
    one_by_one = [
        scored(kind(each[k : k + 1]), values[k : k + 1], examples(6).select([k])) for k in range(6)
    ]
    assert torch.allclose(whole, torch.cat(one_by_one), atol=1e-7)
    assert scored(kind(each[:1]), values, run=Run(2)).equal(scored(kind(each[:1]), values))
    for some in (
        each[:2],
        each[:3],
        torch.cat([each, each]),
    ):  # each fills a pass
        with pytest.raises(DataError, match=r"regions of \d+ examples, and the data have 6"):
            scored(kind(some), values, run=Run(len(some)))


def test_small_elements_of_relative_changes_count_as_a_share_of_the_largest() -> None:
    before = torch.tensor([[0.0, 1e-9, -2.0], [0.0, 0.0, 0.0], [1e-3, 5.0, 1e-5]])
    after = before + 1e-3
    moved = (before.double() - after.double()).abs()
    floor = torch.tensor([[2e-6, 2e-6, 2.0], [1e-12] * 3, [1e-3, 5.0, 1e-5]]).double()
    found = quotients(before, after)
    assert torch.allclose(found.abs(), moved / floor, rtol=1e-5)


def test_a_change_of_nothing_counts_as_a_small_one() -> None:
    weight = torch.zeros(2, 3, dtype=torch.float64)
    model = linear(weight, torch.tensor([1.0, 0.0]).double())  # the outputs never move
    x = 1 + numbers(2, 3, seed=3).sigmoid().double()
    data, near = Dataset(x, torch.zeros(2, dtype=torch.int64)), Linf(0.05, WIDE)
    drawn = [near.sample(x, _streams(data).fold(k)) for k in range(5)]
    most = torch.stack([((x - z) / x).norm(dim=1) for z in drawn]).amax(0)
    found = scored(RelativeOutputStability(near, 5), x, data, model=model, method=Itself())
    assert torch.allclose(found, most / 1e-6, rtol=1e-9)


@dataclass(frozen=True)
class Itself:
    """Explains an input by itself."""

    needs: ClassVar[type] = Model
    where: ClassVar[Slice] = Slice()

    def __call__(self, model: Model, batch: Batch, /) -> Tensor:
        return batch.x.clone()

    def ends(self, model: Model, batch: Batch, /) -> None:
        """Promise nothing."""


def test_a_pixel_is_in_the_region_if_a_channel_is() -> None:
    region = torch.zeros(1, 3, 4, 4, dtype=torch.bool)
    region[0, 1, 0, 0] = True
    values = torch.zeros(1, 3, 4, 4)
    values[0, :, 0, 0] = torch.tensor([5.0, -1.0, -1.0])
    values[0, 0, 1, 1] = 4.0
    data = Dataset(numbers(1, 3, 4, 4), torch.tensor([0]))
    model = TorchModel(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)))
    assert scored(PointingGame(region), values, data, model=model).tolist() == [0.0]
    values[0, 1, 0, 0] = 1.0
    assert scored(PointingGame(region), values, data, model=model).tolist() == [1.0]


def test_scores_that_replace_features_want_explanations_of_the_input() -> None:
    model, data = residual(), examples(2)
    inner = saliency(where=Slice(Cut("stem")))
    for metric in (Deletion(), ROAD(), Infidelity(), SensitivityN()):
        with pytest.raises(CapabilityError, match="starts at the input"):
            score(model, data, inner, metric, seed=0)
    assert score(model, data, inner, Sparseness(), seed=0).values.shape == (2,)
    assert score(model, data, gradient_times_input(), Infidelity(shares=True), seed=0)
    tokens = Dataset(torch.zeros(2, 3, dtype=torch.int64), torch.tensor([0, 1]))
    words = TorchModel(nn.Sequential(nn.Embedding(4, 2), nn.Flatten(), nn.Linear(6, 2)))
    for make in (lambda: Infidelity(draws=0), lambda: Removal(0.0)):
        with pytest.raises(PlanError):
            make()
    sound = Dataset(numbers(2, 3, 9), torch.tensor([0, 1]))
    heard = TorchModel(nn.Sequential(nn.Flatten(), nn.Linear(27, 2)))
    assert score(heard, sound, saliency(), ROAD(steps=2), seed=0).values.shape == (2,)
    with pytest.raises(CapabilityError, match="tokens"):
        score(words, tokens, Edges(), Infidelity(), seed=0, values=torch.ones(2, 3))
