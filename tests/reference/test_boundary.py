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
    multi_boundary_integrated_gradients,
    multi_boundary_saliency,
    smoothed_boundary_integrated_gradients,
    smoothed_boundary_saliency,
)
from conjoin.core.ball import L1, L2, Ball, Linf
from conjoin.core.boundary import Boundary, crossing
from conjoin.core.dataset import Dataset
from conjoin.core.distribution import Midpoint, Panels, Trapezoid
from conjoin.core.drive import batch_of
from conjoin.core.gradient import value_and_gradient
from conjoin.core.quantity import Contrast, RunnerUp, logit, margin, predicted
from conjoin.core.run import attack, attribute, predict
from conjoin.core.slice import Cut, Slice
from conjoin.errors import CapabilityError, DataError, PlanError
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
    assert float(aligned.median()) > 0.9999
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
    for method in (
        boundary_saliency(),
        boundary_integrated_gradients(),
        smoothed_boundary_saliency(draws=2),
        smoothed_boundary_integrated_gradients(draws=2),
        multi_boundary_saliency(),
        multi_boundary_integrated_gradients(),
    ):
        found = attribute(model, data, method, seed=0)
        assert (
            float(found.values.abs().max()) == 0 and float(found.gap.nan_to_num().abs().max()) == 0
        )
    assert not bool(nearest_boundary(model, data, L2(torch.inf), seed=0).found.any())


def test_of_a_linear_model_smoothing_changes_nothing() -> None:
    model, data, weight = flat()
    search = Boundary(L2(torch.inf, OPEN))
    _, behind = exact(model, data, weight, 2)
    smooth = smoothed_boundary_saliency(search, 0.3, 3, quantity=logit)
    found = attribute(model, data, smooth, seed=0)
    assert torch.allclose(found.values, weight[found.target].reshape_as(data.x), atol=1e-12)
    # Contrast has one piece, so noise that crosses the boundary of a third class is no matter.
    normal = weight[found.target] - weight[behind]
    one = behind == behind[0]
    smooth = smoothed_boundary_saliency(search, 0.3, 3, quantity=Contrast(int(behind[0])))
    values = attribute(model, data, smooth, seed=0).values.flatten(1)
    assert torch.allclose(values[one], normal[one], atol=1e-12)
    smoothed = smoothed_boundary_integrated_gradients(search, 0.3, 3)
    plain = attribute(model, data, boundary_integrated_gradients(search), seed=0).values
    assert torch.allclose(attribute(model, data, smoothed, seed=0).values, plain, atol=1e-12)


class Squares(nn.Module):
    """Logits that are weighted sums of squares."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).square() @ self.weight.T


def test_smoothed_of_squares_they_are_those_of_both_ends_moved_alike() -> None:
    weight, data = numbers(5, 64, dtype=DOUBLE), examples(6, dtype=DOUBLE)
    model, scale, draws = TorchModel(Squares(weight)), 0.2, 400
    points = data.x + 0.1 * numbers(*data.x.shape, seed=5, dtype=DOUBLE)
    search = Fixed(data, points)  # it knows the examples alone: a noisy one would get another's
    bsg = attribute(model, data, smoothed_boundary_saliency(search, scale, draws), seed=0)
    a = weight[bsg.target].reshape_as(data.x)
    mean = bsg.values / (2 * a) - points  # ∇Q = 2 a z: what is left is the mean of the noise
    width = scale * (data.x.flatten(1).amax(1) - data.x.flatten(1).amin(1))
    share = mean.flatten(1).std(1) / (width / draws**0.5)
    assert bool(((share > 0.6) & (share < 1.4)).all())  # 64 elements: 0.09 is one deviation
    big = smoothed_boundary_integrated_gradients(search, scale, draws, Midpoint(1))
    values = attribute(model, data, big, seed=0).values  # Midpoint(1): the gradient is linear
    assert torch.allclose(values, a * (data.x - points) * (data.x + points + 2 * mean), atol=1e-9)
    plain = attribute(model, data, boundary_saliency(search), seed=0).values
    still = attribute(model, data, smoothed_boundary_saliency(search, 0.0, 2), seed=0).values
    assert torch.allclose(still, plain, atol=1e-12)


def corner() -> tuple[TorchModel, Dataset, Tensor, Tensor]:
    """Class 0 holds the quadrant x <= 0; behind its walls lie 1 and 2, and 3 lies nowhere."""
    common = torch.tensor([0.7, -0.4], dtype=DOUBLE)
    walls = torch.tensor([[0, 0], [1, 0], [0, 1], [0, 0]], dtype=DOUBLE)
    model = linear(walls + common, torch.tensor([0, 0, 0, -5], dtype=DOUBLE))
    far = torch.tensor([[0.3, 0.5], [0.9, 0.2], [0.25, 0.75]], dtype=DOUBLE)
    return model, Dataset(-far, torch.zeros(3, dtype=torch.int64)), far, common


@pytest.mark.parametrize("count", [2, 3, 9])
def test_of_several_linear_boundaries_it_is_the_weighted_sum(count: int) -> None:
    model, data, far, common = corner()
    search = Boundary(L2(torch.inf, OPEN))
    a, b = far.unbind(1)
    near = torch.stack([b, a], 1) / (a + b)[:, None]  # (1/a, 1/b), that add up to 1
    bsm = multi_boundary_saliency(count, search.threat, quantity=margin)
    assert torch.allclose(attribute(model, data, bsm, seed=0).values, -near, atol=1e-6)
    big = multi_boundary_integrated_gradients(count, search.threat)
    values = attribute(model, data, big, seed=0).values
    assert torch.allclose(values, -common * near * far, atol=1e-6)
    one = multi_boundary_integrated_gradients(1, search.threat, quantity=margin)
    nearest = boundary_integrated_gradients(search, Panels(9), quantity=margin)
    same = attribute(model, data, nearest, seed=0).values
    assert torch.allclose(attribute(model, data, one, seed=0).values, same, atol=1e-6)


def test_boundaries_of_several_classes_need_classes() -> None:
    model, data, _, _ = corner()
    with pytest.raises(PlanError, match="boundaries must be at least 1"):
        multi_boundary_saliency(0)
    with pytest.raises(DataError, match="one class per example"):
        attribute(
            model, data, multi_boundary_saliency(quantity=Contrast()), seed=0, target=RunnerUp()
        )
    with pytest.raises(PlanError, match="scale >= 0"):
        smoothed_boundary_saliency(scale=-1.0)
