"""The nearest boundary, and explanations by it: closed forms, identities, honest failures."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from conftest import Residual, biased, examples, linear, numbers, residual, sequential
from torch import Tensor, nn

from conjoin.attacks import FAB, FMN, PGD, DeepFool, OntoBoundary, nearest_boundary
from conjoin.attribution import (
    boundary_integrated_gradients,
    boundary_saliency,
    integrated_gradients,
)
from conjoin.core.ball import L1, L2, Ball, Linf
from conjoin.core.boundary import Boundary, crossing
from conjoin.core.dataset import Dataset
from conjoin.core.distribution import Panels, Trapezoid
from conjoin.core.drive import batch_of
from conjoin.core.gradient import value_and_gradient
from conjoin.core.quantity import Contrast, logit, margin, predicted
from conjoin.core.run import attack, attribute, predict
from conjoin.core.slice import Cut, Slice
from conjoin.errors import CapabilityError, PlanError
from conjoin.models.torch import TorchModel
from conjoin.nn.initialise import initialise

DOUBLE = torch.float64
OPEN = (-torch.inf, torch.inf)
FEW = OntoBoundary((FMN(steps=20), DeepFool(steps=5)), 3)


def flat(dtype: torch.dtype = DOUBLE) -> tuple[TorchModel, Dataset, Tensor]:
    """A linear model of five classes, examples, and its weights."""
    weight = numbers(5, 64, dtype=dtype)
    return linear(weight), examples(8, dtype=dtype), weight


def exact(model: TorchModel, data: Dataset, weight: Tensor, dual: float) -> tuple[Tensor, Tensor]:
    """The distance of the nearest boundary without a box, and the class behind it."""
    z = predict(model, data)
    top = z.argmax(1)
    gap = z.gather(1, top[:, None]) - z
    norm = torch.linalg.vector_norm(weight[top][:, None] - weight, ord=dual, dim=2)
    far = torch.where(norm > 0, gap / norm, torch.inf)
    return far.amin(1), far.argmin(1)


@pytest.mark.parametrize(
    ("threat", "dual"), [(L2(9.0, OPEN), 2), (Linf(9.0, OPEN), 1), (L1(99.0, OPEN), torch.inf)]
)
def test_of_a_linear_model_the_distance_is_exact(threat: Ball, dual: float) -> None:
    model, data, weight = flat()
    found = nearest_boundary(model, data, threat, seed=0)
    distance, behind = exact(model, data, weight, dual)
    assert bool(found.found.all())
    assert torch.allclose(found.distance.double(), distance, rtol=1e-6)
    assert torch.equal(found.competitor, behind)
    assert float(found.residual.abs().max()) < 1e-5 and bool((found.residual <= 0).all())


def test_inside_the_box_it_is_that_of_a_quadratic_program() -> None:
    from scipy.optimize import minimize

    weight, x = numbers(3, 6, dtype=DOUBLE), 0.3 * numbers(4, 6, seed=3, dtype=DOUBLE).sigmoid()
    bias = torch.tensor([0.2, -0.1, 0.05], dtype=DOUBLE)
    model, data = linear(weight, bias), Dataset(x, torch.zeros(4, dtype=torch.int64))
    found = nearest_boundary(model, data, L2(torch.inf), seed=0)
    top = predict(model, data).argmax(1)
    for place, z in enumerate(x.numpy()):
        best = float("inf")
        for other in set(range(3)) - {int(top[place])}:
            w = (weight[top[place]] - weight[other]).numpy()
            b = float(bias[top[place]] - bias[other])
            made = minimize(
                lambda q, z=z: ((q - z) ** 2).sum(),
                z,
                bounds=[(0, 1)] * 6,
                constraints={"type": "ineq", "fun": lambda q, w=w, b=b: -(w @ q) - b},
                tol=1e-12,
            )
            if w @ made.x + b <= 1e-7:
                best = min(best, float(made.fun**0.5))
        assert bool(found.found[place]) == (best < float("inf"))
        if best < float("inf"):
            assert abs(float(found.distance[place]) - best) < 1e-4 * best


@pytest.mark.parametrize("make", [residual, sequential])
def test_it_is_nowhere_farther_than_its_searches(make: object) -> None:
    model, data = make(), examples(8)  # type: ignore[operator]
    threat = L2(torch.inf)
    searches = FMN(steps=30), FAB(steps=20), DeepFool(steps=10)
    method = OntoBoundary(searches, 4)
    ours = nearest_boundary(model, data, threat, seed=0, method=method)
    assert bool(ours.found.all())
    for search in searches:
        one = attack(model, data, search, threat, seed=0, target=predicted)
        far = torch.where(one.success, one.distance, torch.inf)
        assert bool((ours.distance <= far * (1 + 1e-5)).all())
    near_by = L2(float(ours.distance.median()))
    bounded = nearest_boundary(model, data, near_by, seed=0, method=method)
    assert 0 < int(bounded.found.sum()) < 8
    lost = ~bounded.found
    assert torch.equal(bounded.inputs[lost], data.x[lost])
    assert bool((bounded.competitor[lost] == -1).all()) and bool(
        bounded.distance[lost].isinf().all()
    )
    assert bool(bounded.residual[lost].isnan().all())


def test_the_boundary_of_one_class() -> None:
    model, data, _ = flat()
    top = predict(model, data).argmax(1)
    whole = nearest_boundary(model, data, L2(99.0, OPEN), seed=0, method=FEW)
    nearest = torch.full((8,), torch.inf, dtype=DOUBLE)
    for label in range(5):
        found = nearest_boundary(model, data, L2(99.0, OPEN), seed=0, against=label, method=FEW)
        own = top == label
        assert not bool(found.found[own].any())  # it is answered already: no boundary is crossed
        assert bool(found.found[~own].all())
        assert bool((found.competitor[~own] == label).all())
        nearest[~own] = torch.minimum(nearest[~own], found.distance[~own].double())
    assert torch.allclose(nearest, whole.distance.double(), rtol=1e-4)
    with pytest.raises(PlanError, match="not both"):
        nearest_boundary(model, data, L2(1.0), seed=0, against=1, quantity=Contrast(2))


def test_what_it_cannot_measure_is_refused() -> None:
    model, data, _ = flat()
    with pytest.raises(CapabilityError, match="has none"):
        attack(model, data, OntoBoundary(), L2(1.0), seed=0, quantity=logit)
    with pytest.raises(PlanError, match="rounds"):
        OntoBoundary(rounds=-1)


def test_rounds_only_bring_it_nearer() -> None:
    module = Residual(nn.Tanh)
    initialise(module, 0)
    biased(module, 0)
    model, data = TorchModel(module), examples(8)
    batch = batch_of(data, slice(0, 8), model.device, 0)
    batch = type(batch)(batch.x, predict(model, data).argmax(1), batch.rng)
    free = L2(torch.inf, OPEN)
    z = attack(model, data, PGD(steps=30), Linf(1.0), seed=0, target=predicted).inputs
    with model.held():
        far = [crossing(model, batch, free, margin, z, rounds) for rounds in (0, 1, 4, 9)]
        for met in far:  # on the boundary, to rounding, and on the other side
            value = margin(model(batch.at(met.inputs)), batch.aim)
            assert bool((value <= 0).all()) and float(value.min()) > -1e-4
        # At the nearest point the normal points at the example.
        _, normal = value_and_gradient(model, margin, batch.at(far[-1].inputs))
        way = batch.x - far[-1].inputs
        aligned = torch.cosine_similarity(way.flatten(1), normal.flatten(1))
        nothing = crossing(model, batch, free, margin, batch.x, 3)
    assert float(aligned.median()) > 0.99
    assert not bool(nothing.found.any()) and bool(nothing.distance.isinf().all())
    assert torch.equal(nothing.inputs, batch.x)
    for one, two in pairwise(far):
        assert bool((two.distance <= one.distance).all()) and torch.equal(one.found, two.found)
    assert float((far[-1].distance / far[0].distance).median()) < 0.9


def test_big_of_a_linear_model_is_its_closed_form() -> None:
    model, data, weight = flat()
    search = Boundary(L2(torch.inf, OPEN))
    found = attribute(model, data, boundary_integrated_gradients(search), seed=0)
    distance, behind = exact(model, data, weight, 2)
    top = found.target
    normal = weight[top] - weight[behind]
    step = (normal / normal.norm(dim=1, keepdim=True)) * distance[:, None]
    expected = (weight[top] * step).reshape_as(data.x)
    assert torch.allclose(found.values, expected, atol=1e-5)
    assert float(found.gap.abs().max()) < 1e-9
    saliency = attribute(model, data, boundary_saliency(search), seed=0).values
    assert torch.allclose(saliency, weight[top].reshape_as(data.x), atol=1e-12)
    normals = attribute(model, data, boundary_saliency(search, quantity=margin), seed=0).values
    assert torch.allclose(normals.flatten(1), normal, atol=1e-12)


class Fixed:
    """A baseline that is known already."""

    def __init__(self, data: Dataset, points: Tensor) -> None:
        self.x, self.points = data.x, points

    def __call__(self, model: object, batch: object) -> Tensor:
        place = (batch.x.flatten(1)[:, None] == self.x.flatten(1)).all(2).long().argmax(1)  # type: ignore[attr-defined]
        return self.points[place]


@pytest.mark.parametrize("where", [Slice(), Slice(Cut("stem"))])
def test_big_is_integrated_gradients_from_the_boundary(where: Slice) -> None:
    model, data = residual(dtype=DOUBLE), examples(6, dtype=DOUBLE)
    for rule in (Panels(7), Trapezoid(9)):
        big = attribute(
            model, data, boundary_integrated_gradients(quadrature=rule, where=where), seed=0
        )
        with model.held():
            batch = batch_of(data, slice(0, 6), model.device, 0)
            batch = type(batch)(batch.x, big.target, batch.rng)
            points = Boundary()(model, batch)
        method = integrated_gradients(Fixed(data, points), rule, where=where)
        assert torch.equal(big.values, attribute(model, data, method, seed=0).values)
        if isinstance(rule, Panels):
            assert float(big.gap.abs().max()) < 1e-12
    flipped = predict(model, Dataset(points, data.y)).argmax(1)
    assert bool((flipped != big.target).all())


def test_where_there_is_no_boundary_the_map_is_zero() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    module[1].weight.data = 0.001 * numbers(5, 64)
    module[1].bias.data = torch.tensor([9.0, 0.0, 0.0, 0.0, 0.0])
    model, data = TorchModel(module), examples(5)
    for method in (boundary_saliency(), boundary_integrated_gradients()):
        found = attribute(model, data, method, seed=0)
        assert (
            float(found.values.abs().max()) == 0 and float(found.gap.nan_to_num().abs().max()) == 0
        )
    assert not bool(nearest_boundary(model, data, L2(torch.inf), seed=0).found.any())
