"""Scores against hand-made answers and slow definitions."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from conftest import batch_of, examples, linear, numbers, residual
from scipy import stats
from torch import nn

from conjoin.attribution import integrated_gradients, saliency
from conjoin.core.ball import Linf
from conjoin.core.dataset import Dataset
from conjoin.core.distribution import Constant, Midpoint, Panels
from conjoin.core.drive import Run
from conjoin.core.run import attribute, predict, score
from conjoin.errors import CapabilityError
from conjoin.metrics import (
    CompletenessGap,
    Deletion,
    Insertion,
    MassInside,
    RankStability,
    TopStability,
)
from conjoin.metrics.ordering import by_feature, ranks
from conjoin.metrics.stability import spearman, top_intersection
from conjoin.models.torch import TorchModel


def test_ranks_share_ties_as_scipy_does() -> None:
    rows = numbers(5, 30).round(decimals=0)
    expected = torch.tensor(stats.rankdata(rows.numpy(), axis=1)).float()
    assert torch.equal(ranks(rows), expected)


def test_spearman_equals_scipy_also_with_ties() -> None:
    a, b = numbers(4, 50).round(decimals=0), numbers(4, 50, seed=1).round(decimals=0)
    got = spearman(a, b)
    for row in range(4):
        assert float(got[row]) == pytest.approx(stats.spearmanr(a[row], b[row])[0], abs=1e-6)
    assert spearman(torch.zeros(2, 9), numbers(2, 9)).tolist() == [0.0, 0.0]


def test_top_intersection_by_hand() -> None:
    a = torch.tensor([[9.0, -8.0, 1.0, 0.0]])
    b = torch.tensor([[0.0, 7.0, -6.0, 1.0]])
    assert float(top_intersection(a, b, 0.5)) == 0.5
    assert float(top_intersection(a, a, 0.5)) == 1.0


def slow_curve(
    model: TorchModel, x: torch.Tensor, y: int, values: torch.Tensor, steps: int, *, insert: bool
) -> float:
    """The definition, a feature at a time, for one example."""
    flat, order = x.flatten(), values.flatten().argsort(descending=True, stable=True).tolist()
    heights = []
    for step in range(steps + 1):
        count = round(step / steps * len(order))
        z = torch.zeros_like(flat) if insert else flat.clone()
        for i in order[:count]:
            z[i] = flat[i] if insert else 0.0
        heights.append(float(model(batch_of(z.reshape(1, *x.shape))).softmax(1)[0, y]))
    return sum((a + b) / 2 for a, b in pairwise(heights)) / steps


@pytest.mark.parametrize("metric", [Deletion(8), Insertion(8)])
def test_deletion_and_insertion_equal_the_definition(metric: Deletion | Insertion) -> None:
    model, data = residual(), examples(5)
    top = predict(model, data).argmax(1)
    values = attribute(model, data, saliency(), seed=0).values
    got = score(model, data, saliency(), metric, seed=0, values=values).values
    with model.held(), torch.no_grad():
        for row in range(5):
            insert = isinstance(metric, Insertion)
            slow = slow_curve(model, data.x[row], int(top[row]), values[row], 8, insert=insert)
            assert float(got[row]) == pytest.approx(slow, abs=1e-6)
    parts = score(model, data, saliency(), metric, seed=0, values=values, run=Run(2)).values
    assert torch.equal(parts, got)


def test_a_faithful_order_of_a_linear_model_beats_the_reverse() -> None:
    weight = torch.stack([torch.linspace(-1, 1, 20), torch.zeros(20)])
    data = Dataset(torch.full((1, 20), 0.7), torch.tensor([0]))
    model, method = linear(weight), integrated_gradients()
    truth = attribute(model, data, method, seed=0, target=_given).values
    for metric, sign in ((Deletion(20), -1), (Insertion(20), 1)):
        good = score(model, data, method, metric, seed=0, values=truth, target=_given).values
        bad = score(model, data, method, metric, seed=0, values=-truth, target=_given).values
        assert float((good - bad) * sign) > 0.1


def _given(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return labels


def test_channels_of_a_pixel_go_together() -> None:
    assert by_feature(numbers(2, 3, 4, 4)).shape == (2, 16)
    assert by_feature(numbers(2, 7)).shape == (2, 7)
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    data = Dataset(numbers(2, 3, 4, 4).sigmoid(), torch.tensor([0, 1]))
    found = score(TorchModel(module), data, saliency(), Deletion(4), seed=0)
    assert found.values.shape == (2,)


def test_mass_inside_is_the_share_of_the_magnitude() -> None:
    region = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    region[..., :2, :] = True
    values = torch.zeros(2, 1, 8, 8)
    values[0, 0, 0, 0], values[0, 0, 5, 5] = -3.0, 1.0
    got = score(residual(), examples(2), saliency(), MassInside(region), seed=0, values=values)
    assert got.values.tolist() == [0.75, 0.0]


def test_stability_of_a_linear_model_is_perfect_and_of_a_kinked_one_is_not() -> None:
    data = Dataset(numbers(3, 12).sigmoid(), torch.zeros(3, dtype=torch.int64))
    model = linear(numbers(2, 12))
    for metric in (RankStability(Linf(0.1)), TopStability(Linf(0.1), share=0.25)):
        assert score(model, data, saliency(), metric, seed=0).values.tolist() == [1.0] * 3
    kinked, images = residual(), examples(6)
    for metric in (RankStability(Linf(0.2)), TopStability(Linf(0.2))):
        values = score(kinked, images, saliency(), metric, seed=0).values
        more = score(kinked, images, saliency(), type(metric)(Linf(0.2), draws=8), seed=0).values
        assert float(values.max()) < 1.0
        assert bool((more <= values).all())  # the least over more draws


def test_completeness_gap_by_hand_and_where_none_is_promised() -> None:
    model, data = residual(), examples(4)
    raw = integrated_gradients(Constant(0.5), Midpoint(3))
    found = attribute(model, data, raw, seed=0)
    top = found.target
    change = (
        predict(model, data) - predict(model, replace(data, x=torch.full_like(data.x, 0.5)))
    ).gather(1, top[:, None])[:, 0]
    expected = (found.gap / change).abs()
    got = score(model, data, raw, CompletenessGap(), seed=0).values
    assert torch.allclose(got, expected, atol=1e-5)
    assert float(got.max()) > 1e-3
    exact = integrated_gradients(Constant(0.5), Panels(3))
    assert float(score(model, data, exact, CompletenessGap(), seed=0).values.max()) < 1e-5
    with pytest.raises(CapabilityError, match="promises no completeness"):
        score(model, data, saliency(), CompletenessGap(), seed=0)
