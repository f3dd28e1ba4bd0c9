"""Features: usefulness in closed form, sets made of features, and pictures of what units look for."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import linear, numbers
from torch import Tensor, nn

from conjoin import Dataset, Linf, attribute, predict, wrap
from conjoin.attacks import PGD, d_det, d_rand, feature_set, nearest_boundaries, nearest_boundary
from conjoin.attribution import boundary_deeplift, boundary_integrated_gradients
from conjoin.attribution.visualise import Smooth, spectrum, visualise
from conjoin.cli.features import Featuring
from conjoin.core.ball import L2
from conjoin.core.drive import batch_of
from conjoin.errors import DataError, PlanError
from conjoin.metrics import usefulness
from conjoin.models.inner import activations, feature_distance

DOUBLE = torch.float64


def data(count: int = 12, width: int = 5) -> Dataset:
    x = numbers(count, width, dtype=DOUBLE).sigmoid()
    return Dataset(x, torch.arange(count) % 3, classes=("a", "b", "c"))


def features() -> nn.Sequential:
    """A linear layer of features, and a head."""
    first, last = nn.Linear(5, 4).double(), nn.Linear(4, 3).double()
    first.weight.data = numbers(4, 5, seed=1, dtype=DOUBLE)
    last.weight.data = numbers(3, 4, seed=2, dtype=DOUBLE)
    return nn.Sequential(first, last)


def test_usefulness_of_linear_features_is_the_closed_form() -> None:
    net, few = features(), data()
    found = usefulness(wrap(net), few, "0", Linf(0.1, (-9.0, 9.0)), seed=0, method=PGD(steps=20))
    f = net[0](few.x).detach()
    scaled = (f - f.mean(0)) / f.std(0, correction=0)
    fall = 0.1 * net[0].weight.abs().sum(1).detach() / f.std(0, correction=0)
    for label in range(3):
        mine = few.y == label
        rho = (scaled[mine].mean(0) - scaled[~mine].mean(0)) / 2
        assert torch.allclose(found.clean[:, label], rho)
        assert torch.allclose(found.robust[:, label], rho - fall, atol=1e-6)
    assert found.evidence.kind == "empirical" and "robustly useful" in repr(found)
    with pytest.raises(DataError, match="one"):
        usefulness(wrap(net), few.labelled(few.y * 0), "0", Linf(0.1), seed=0)


def test_relabelled_sets_carry_the_label_that_the_attack_reached() -> None:
    net, few = features(), data()
    open_ = L2(50.0, (-math.inf, math.inf))
    det = d_det(wrap(net), few, open_, seed=0, method=PGD(steps=50))
    assert torch.equal(det.data.y, (few.y + 1) % 3) and det.share > 0.8
    answers = predict(wrap(net), det.data).argmax(1)
    assert torch.equal(answers == det.data.y, det.attacked.success)
    rand = d_rand(wrap(net), few, open_, seed=0, method=PGD(steps=50))
    again = d_rand(wrap(net), few.select([5, 2]), open_, seed=0, method=PGD(steps=50))
    assert torch.equal(again.data.y, rand.data.y[[5, 2]])
    many = Dataset(torch.zeros(3000, 5, dtype=DOUBLE), torch.zeros(3000, dtype=torch.int64))
    drawn = d_rand(wrap(net), many, L2(0.0), seed=1, method=PGD(steps=1)).data.y
    assert bool((drawn.bincount(minlength=3) > 900).all())


def test_a_feature_set_has_the_features_and_not_the_inputs() -> None:
    net, few = features(), data()
    found = feature_set(
        wrap(net), few, "0", L2(9.0, (-9.0, 9.0)), seed=0, method=PGD(steps=200, step_size=0.02)
    )
    assert torch.equal(found.data.y, few.y)
    want, have = net[0](few.x).detach(), net[0](found.data.x).detach()
    assert float((want - have).norm(dim=1).max()) < 0.5 < float(want.norm(dim=1).median())
    moved = (found.data.x - few.x).norm(dim=1)
    assert float(moved.median()) > 0.1  # of five inputs four features are held: one way is open
    apart = feature_distance(wrap(net), "0")
    with pytest.raises(DataError, match="features"):
        apart(batch_of(few, slice(0, 2), torch.device("cpu"), 0))


def test_units_are_outputs() -> None:
    net, few = features(), data()
    inner = activations(wrap(net), "0")
    assert torch.equal(predict(inner, replace(few, classes=())), net[0](few.x).detach())


class Sum(nn.Module):
    """Two templates: the answer is how much of each is in the image."""

    def __init__(self) -> None:
        super().__init__()
        made = torch.zeros(2, 1, 6, 6)
        made[0, 0, :, 2:4], made[1, 0, 2:4] = 1.0, 1.0
        self.templates = nn.Parameter(made - made.mean((1, 2, 3), keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, None] * self.templates).flatten(2).sum(2)


@pytest.mark.parametrize("fourier", [False, True])
def test_what_a_class_looks_for_is_its_template(fourier: bool) -> None:
    net = Sum()
    threat = L2(20.0, (-math.inf, math.inf)) if fourier else L2(9.0)
    start = torch.full((1, 6, 6), 0.5)
    labels, method = torch.arange(2), PGD(steps=40)
    drawn = visualise(
        wrap(net), labels, method, threat, start=start, seed=0, jitter=((0, 0),), fourier=fourier
    ).inputs
    assert drawn.shape == (2, 1, 6, 6) and 0 <= float(drawn.min()) <= float(drawn.max()) <= 1
    for label in range(2):
        at = net.templates[label] > 0
        assert float(drawn[label][at].mean() - drawn[label][~at].mean()) > 0.4


def test_shifts_are_averaged_and_roughness_is_taken_off() -> None:
    model, few = wrap(Sum()), Dataset(numbers(3, 1, 6, 6).sigmoid(), torch.tensor([0, 1, 0]))
    batch = batch_of(few, slice(0, 3), torch.device("cpu"), 0)
    shifts = ((0, 0), (1, 0), (0, -2))
    want = torch.stack([Sum()(few.x.roll(s, (2, 3))) for s in shifts]).mean(0)
    x = few.x
    rough = (x[:, :, 1:] - x[:, :, :-1]).abs().mean((1, 2, 3)) + (
        x[..., 1:] - x[..., :-1]
    ).abs().mean((1, 2, 3))
    assert torch.allclose(Smooth(model, 0.7, shifts)(batch), want - 0.7 * rough[:, None], atol=1e-6)
    flat = Dataset(few.x.flatten(1), few.y)
    with pytest.raises(DataError, match="images"):
        Smooth(model)(batch_of(flat, slice(0, 1), torch.device("cpu"), 0))


def test_the_constant_coefficient_is_the_mean() -> None:
    x, coefficients = torch.full((1, 1, 4, 4), 0.5), torch.zeros(1, 1, 4, 8)
    coefficients[..., 0, 0] = 0.1
    assert torch.allclose(spectrum(x, coefficients), torch.full_like(x, 0.1).sigmoid())


def test_nearest_boundaries_of_a_linear_model_are_sorted() -> None:
    weight = numbers(5, 8, dtype=DOUBLE)
    model, few = linear(weight), Dataset(numbers(6, 8, seed=3, dtype=DOUBLE), torch.arange(6) % 5)
    open_ = L2(99.0, (-math.inf, math.inf))
    found = nearest_boundaries(model, few, open_, 3, seed=0)
    first = nearest_boundary(model, few, open_, seed=0)
    assert torch.allclose(found[0].distance, first.distance, rtol=1e-4)
    assert torch.equal(found[0].competitor, first.competitor)
    assert bool((found[0].distance <= found[1].distance).all())
    assert bool((found[1].distance <= found[2].distance).all())
    behind = torch.stack([one.competitor for one in found])
    assert all(len(column.unique()) == 3 for column in behind.T)
    with pytest.raises(PlanError, match="1 to 4"):
        nearest_boundaries(model, few, open_, 5, seed=0)


def test_deeplift_from_the_boundary_is_that_of_integration_on_a_linear_model() -> None:
    model, few = (
        linear(numbers(3, 6, dtype=DOUBLE)),
        Dataset(numbers(4, 6, seed=2, dtype=DOUBLE).sigmoid(), torch.arange(4) % 3),
    )
    one = attribute(model, few, boundary_deeplift(), seed=0).values
    other = attribute(model, few, boundary_integrated_gradients(), seed=0).values
    assert torch.allclose(one, other, atol=1e-9) and float(one.abs().max()) > 0


def test_the_command_writes_what_data_reads(tmp_path: Path) -> None:
    from conjoin.audit.plan import make_plan
    from conjoin.audit.sections import installed
    from conjoin.audit.sources import load_data
    from conjoin.cli.acts import perform

    settings = {
        "models": ["plain"],
        "data": "fashion_mnist",
        "threats": ["l2:1"],
        "limit": 6,
        "seed": 0,
    }
    plan = make_plan(settings, installed(), "here")
    (line,) = perform(Featuring("d_det", None, 3), plan, tmp_path, None, None)
    made = load_data(str(line.file))
    assert len(made.y) == 6 and np.load(line.file / "x.npy").shape == (6, 1, 28, 28)
    with pytest.raises(PlanError, match="layer"):
        Featuring("of_layer", None, 3)
