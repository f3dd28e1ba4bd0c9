"""Geometry and localisation of explanations: closed forms on linear models, slow definitions."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import examples, linear, numbers, residual
from torch import Tensor, nn

from conjoin.attribution import (
    boundary_integrated_gradients,
    boundary_saliency,
    integrated_gradients,
    saliency,
)
from conjoin.core.ball import L2
from conjoin.core.boundary import Boundary
from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Batch
from conjoin.core.quantity import margin
from conjoin.core.random import Streams
from conjoin.core.run import attribute, predict, score
from conjoin.core.slice import Cut, Slice
from conjoin.errors import CapabilityError, DataError
from conjoin.metrics import (
    Concentration,
    CosineTo,
    EnergyInside,
    PositiveOverlap,
    PositiveShare,
    RelativeDistanceTo,
    boundary_agreement,
    normal_alignment,
)
from conjoin.models.torch import TorchModel

DOUBLE = torch.float64
FREE = Boundary(L2(torch.inf, (-torch.inf, torch.inf)))


def flat() -> tuple[TorchModel, Dataset, Tensor, Tensor, Tensor]:
    """A linear model, examples, the weights of the answer and of the class behind the boundary."""
    weight = numbers(5, 64, dtype=DOUBLE)
    model, data = linear(weight), examples(8, dtype=DOUBLE)
    z = predict(model, data)
    top = z.argmax(1)
    gap = z.gather(1, top[:, None]) - z
    far = gap / (weight[top][:, None] - weight).norm(dim=2)
    behind = far.nan_to_num(nan=torch.inf).argmin(1)
    return model, data, weight[top], weight[behind], gap.gather(1, behind[:, None])[:, 0]


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def test_alignment_of_a_linear_model_is_that_of_its_weights() -> None:
    model, data, own, other, _ = flat()
    for by, a in ((saliency(), own), (saliency(margin), None)):
        found = score(model, data, by, normal_alignment(FREE), seed=0).values
        if a is not None:
            assert torch.allclose(found, cosine(a, own - other), atol=1e-9)
        else:  # the margin's gradient is the normal wherever the runner-up is the class behind
            near = attribute(model, data, by, seed=0).values.flatten(1)
            assert torch.allclose(found, cosine(near, own - other), atol=1e-9)
            assert float(found.max()) == pytest.approx(1.0, abs=1e-9)
    normals = boundary_saliency(FREE, quantity=margin)
    found = score(model, data, normals, normal_alignment(FREE), seed=0).values
    assert torch.allclose(found, torch.ones(8, dtype=DOUBLE), atol=1e-9)


def test_ig_and_big_of_a_linear_model_are_closed_forms() -> None:
    model, data, own, other, gap = flat()
    normal = own - other
    step = normal * (gap / normal.square().sum(1))[:, None]
    ig, big = own * data.x.flatten(1), own * step
    found = score(model, data, integrated_gradients(), boundary_agreement(FREE), seed=0).values
    assert torch.allclose(found, cosine(ig, big), atol=1e-5)
    far = RelativeDistanceTo(boundary_integrated_gradients(FREE))
    found = score(model, data, integrated_gradients(), far, seed=0).values
    assert torch.allclose(found, (ig - big).norm(dim=1) / ig.norm(dim=1), atol=1e-5)


def test_an_explanation_agrees_with_itself() -> None:
    model, data = residual(), examples(6)
    assert torch.allclose(
        score(model, data, saliency(), CosineTo(saliency()), seed=0).values, torch.ones(6)
    )
    far = score(model, data, saliency(), RelativeDistanceTo(saliency()), seed=0).values
    assert float(far.max()) == 0


def test_without_a_boundary_nothing_agrees_and_other_cuts_are_refused() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    module[1].weight.data = 0.001 * numbers(5, 64)
    module[1].bias.data = torch.tensor([9.0, 0.0, 0.0, 0.0, 0.0])
    model, data = TorchModel(module), examples(4)
    assert float(score(model, data, saliency(), CosineTo(), seed=0).values.abs().max()) == 0
    far = score(model, data, saliency(), RelativeDistanceTo(), seed=0).values
    assert torch.allclose(far, torch.ones(4))
    other = CosineTo(saliency(where=Slice(Cut("stem"))))
    with pytest.raises(CapabilityError, match="same cut"):
        score(residual(), examples(2), saliency(), other, seed=0)


def told(metric: object, values: Tensor) -> Tensor:
    batch = Batch(
        torch.zeros_like(values),
        torch.zeros(len(values), dtype=torch.int64),
        Streams.of(0, torch.arange(len(values))),
    )
    return metric(residual(), batch, values, saliency())  # type: ignore[operator, no-any-return]


def test_localisation_by_its_definitions() -> None:
    values = numbers(4, 2, 5, 6, dtype=DOUBLE)
    region = torch.zeros(1, 2, 5, 6, dtype=torch.bool)
    region[0, 0, 1:4, 2:5] = True  # one channel: the pixel counts
    loc, energy, share, con = (
        told(metric, values)
        for metric in (
            PositiveOverlap(region),
            EnergyInside(region),
            PositiveShare(region),
            Concentration(),
        )
    )
    for k in range(4):
        pixel, inside = values[k].sum(0), region[0].any(0)
        both = either = 0
        plus = all_plus = size = 0.0
        for i in range(5):
            for j in range(6):
                g, here = float(pixel[i, j]), bool(inside[i, j])
                both += g > 0 and here
                either += g > 0 or here
                all_plus += max(g, 0)
                plus += max(g, 0) * here
                size += abs(g) * here
        count = int(inside.sum())
        outside = either - count
        assert float(loc[k]) == pytest.approx(both / (count + outside), abs=1e-12)
        assert float(energy[k]) == pytest.approx(plus / all_plus, abs=1e-12)
        assert float(share[k]) == pytest.approx(plus / size, abs=1e-12)
        weight = values[k].abs().sum(0)
        total = float(weight.sum())
        ci = sum(float(weight[i].sum()) * i for i in range(5)) / total
        cj = sum(float(weight[:, j].sum()) * j for j in range(6)) / total
        near = sum(
            float(weight[i, j]) / total / (1 + math.hypot(i - ci, j - cj))
            for i in range(5)
            for j in range(6)
        )
        assert float(con[k]) == pytest.approx(near, abs=1e-12)


def test_localisation_at_its_ends() -> None:
    region = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    region[..., :2, :2] = True
    inside, nothing = region.double(), torch.zeros(1, 1, 4, 4, dtype=DOUBLE)
    for metric in (PositiveOverlap(region), EnergyInside(region), PositiveShare(region)):
        assert told(metric, inside).tolist() == [1.0]
        assert told(metric, -inside).tolist() == [0.0]
        assert told(metric, nothing).tolist() == [0.0]
        assert "4 of 16" in repr(metric)
        with pytest.raises(DataError, match="does not fit"):
            told(metric, torch.zeros(1, 1, 5, 5, dtype=DOUBLE))
    one = nothing.clone()
    one[..., 2, 1] = -3.0
    assert told(Concentration(), one).tolist() == [1.0]
    assert told(Concentration(), nothing).tolist() == [0.0]
    spread = torch.ones_like(nothing)
    assert 0 < float(told(Concentration(), spread)[0]) < float(told(Concentration(), inside)[0]) < 1
