"""Certificates: closed forms, known pitfalls, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from conftest import Residual, batch_of, examples, linear, numbers, residual, sequential
from torch import nn

from conjoin.attacks import PGD
from conjoin.certification import BestOf, Interval, Lipschitz, certified_radius
from conjoin.certification import box as box_module
from conjoin.certification import constants as constants_module
from conjoin.certification import length as length_module
from conjoin.certification.box import Box, Boxes
from conjoin.certification.constants import Constants
from conjoin.certification.known import at_point
from conjoin.certification.length import (
    Length,
    Lengths,
    Line,
    length_of,
    magnitude_norm,
    norms_of,
)
from conjoin.certification.norms import root
from conjoin.certification.rounding import Rounding, gamma, rounded_down, total, up
from conjoin.core.ball import L1, L2, Ball, Linf
from conjoin.core.dataset import Dataset
from conjoin.core.evidence import Bounds, Claim
from conjoin.core.linear import Averages, Dense, Diagonal
from conjoin.core.operator import Add, Affine, Elementwise, RootMeanSquare, SortPairs, Step
from conjoin.core.protocols import Batch, Model, forwards
from conjoin.core.quantity import Avoid, Contrast, Quantity, logit, margin
from conjoin.core.random import Streams
from conjoin.core.run import attack, certify, predict
from conjoin.core.threat import Enclosure, Threat
from conjoin.errors import CapabilityError, ConjoinError, ModelError
from conjoin.models.torch import TorchModel
from conjoin.nn import MinMax, Normalise
from conjoin.nn.initialise import initialise

DUAL = {Linf: 1, L2: 2, L1: math.inf}


def constants(model: TorchModel, x: torch.Tensor) -> Constants:
    """The constants that certificates of the model use."""
    return Lipschitz().prepare(model, batch_of(x)).constants


def whole(model: TorchModel, x: torch.Tensor) -> float:
    """The constant of the network as the product along its graph, its last layers not folded."""
    steps = model.steps(batch_of(x))
    return forwards(Lengths(norms_of(steps), None), steps).constant


def value(model: TorchModel, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The margin at other inputs."""
    return margin(predict(model, Dataset(z, y)), y)


def wide_linear(classes: int = 4) -> tuple[TorchModel, Dataset, torch.Tensor]:
    """A linear model on inputs far from the box, labelled by its own answers."""
    weight = numbers(classes, 30, dtype=torch.float64)
    x = 0.5 + 0.1 * numbers(9, 30, seed=1, dtype=torch.float64)
    model = linear(weight, numbers(classes, seed=2, dtype=torch.float64))
    data = Dataset(x, torch.zeros(9, dtype=torch.int64))
    return model, data.labelled(predict(model, data).argmax(1)), weight


@pytest.mark.parametrize("kind", DUAL)
def test_intervals_are_exact_on_linear_models(kind: type[Ball]) -> None:
    model, data, weight = wide_linear()
    eps = 0.05
    outputs = predict(model, data)
    lower = certify(model, data, Interval(), kind(eps, (-9, 9))).lower
    rows = weight[data.y][:, None] - weight[None]
    dual = torch.linalg.vector_norm(rows, ord=DUAL[kind], dim=2)
    gaps = outputs.gather(1, data.y[:, None]) - outputs - eps * dual
    expected = gaps.scatter(1, data.y[:, None], torch.inf).amin(1)
    assert torch.allclose(lower, expected, atol=1e-9)
    assert bool((lower <= expected + 1e-12).all())


def test_the_box_tightens_intervals() -> None:
    weight = torch.tensor([[1.0], [-1.0]])
    data = Dataset(torch.tensor([[0.05]]), torch.tensor([0]))
    model = linear(weight, torch.tensor([0.0, 0.0]))
    assert float(certify(model, data, Interval(), Linf(0.3)).lower) == pytest.approx(0.0, abs=1e-6)
    loose = certify(model, data, Interval(), Linf(0.3, (-9, 9))).lower
    assert float(loose) == pytest.approx(2 * (0.05 - 0.3), abs=1e-6)


def test_the_lipschitz_bound_is_exact_on_linear_models_per_pair() -> None:
    model, data, weight = wide_linear()
    eps = 0.05
    outputs = predict(model, data)
    lower = certify(model, data, Lipschitz(), L2(eps, (-9, 9))).lower
    dual = torch.linalg.vector_norm(weight[data.y][:, None] - weight[None], dim=2)
    gaps = outputs.gather(1, data.y[:, None]) - outputs - eps * dual
    expected = gaps.scatter(1, data.y[:, None], torch.inf).amin(1)
    assert torch.allclose(lower, expected, atol=1e-9)
    # Twice the norm of the logits' map would be looser.
    naive = 2 * float(torch.linalg.svdvals(weight)[0])
    assert float(dual.max()) < naive


def test_other_quantities_have_their_own_constants() -> None:
    model, data, weight = wide_linear()
    threat, outputs = L2(0.1, (-9, 9)), predict(model, data)
    own = outputs.gather(1, data.y[:, None])[:, 0]
    for method in (Lipschitz(), Interval()):
        lower = certify(model, data, method, threat, quantity=logit).lower
        length = torch.linalg.vector_norm(weight[data.y], dim=1)
        assert torch.allclose(lower, own - 0.1 * length, atol=1e-9)
        lower = certify(model, data, method, threat, quantity=Contrast(2)).lower
        length = torch.linalg.vector_norm(weight[data.y] - weight[2], dim=1)
        assert torch.allclose(lower, own - outputs[:, 2] - 0.1 * length, atol=1e-9)
        with pytest.raises(CapabilityError, match="does not tell its rows"):
            certify(model, data, method, threat, quantity=Avoid(0))


def test_certified_radii_are_exact_on_linear_models() -> None:
    model, data, weight = wide_linear()
    outputs = predict(model, data)
    dual = torch.linalg.vector_norm(weight[data.y][:, None] - weight[None], dim=2)
    ratio = (outputs.gather(1, data.y[:, None]) - outputs) / dual
    exact = ratio.scatter(1, data.y[:, None], torch.inf).amin(1)
    found = certified_radius(model, data, Lipschitz(), L2(1.0, (-9, 9)), largest=2.0, steps=20)
    assert bool((found <= exact).all())
    assert torch.allclose(found, exact.clamp(max=2.0), atol=2.0 / 2**19)
    wrong = data.labelled((data.y + 1) % 4)
    none = certified_radius(model, wrong, Lipschitz(), L2(1.0, (-9, 9)), largest=2.0)
    assert float(none.max()) == 0.0


def test_what_is_not_proved_at_the_least_radius_is_not_searched() -> None:
    model, data, _ = wide_linear()
    seen: list[int] = []

    def some(model: Model, batch: Batch, threat: Threat, quantity: Quantity) -> Bounds:
        """Prove the first three examples up to 0.3, and nothing of the others."""
        seen.append(len(batch))
        first = (batch.x[:, None] == data.x[:3]).flatten(2).all(2).any(1)
        value = quantity(model(batch), batch.aim)
        proved = first & (threat.radius(batch.x) <= 0.3)  # type: ignore[attr-defined]
        return Bounds(torch.where(proved, value, -1.0), Claim.SOUND_REAL)

    found = certified_radius(model, data, some, L2(1.0, (-9, 9)), largest=1.0, steps=10)
    assert torch.allclose(found[:3], torch.tensor(0.3).double(), atol=2.0**-10)
    assert bool((found[:3] <= 0.3).all()) and not found[3:].any()
    assert seen == [9, 9, *[3] * 10]


def test_ties_are_not_certified() -> None:
    data = Dataset(torch.full((1, 3), 0.5), torch.tensor([0]))
    model = linear(torch.zeros(3, 3))
    for method in (Lipschitz(), Interval()):
        found = certify(model, data, method, L2(0.0))
        assert not bool(found.certified.any())
        assert float(certified_radius(model, data, method, L2(1.0), largest=1.0)) == 0.0


def test_tiny_weights_do_not_vanish_to_an_infinite_radius() -> None:
    first, last = nn.Linear(3, 3, bias=False), nn.Linear(3, 2, bias=False)
    first.weight.data = 1e-25 * torch.eye(3)
    last.weight.data = 1e25 * torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]])
    model = TorchModel(nn.Sequential(first, last))
    found = constants(model, torch.zeros(1, 3))
    assert float(found.pairs[0, 1]) == pytest.approx(2.0, rel=1e-6)
    assert float(found.pairs[0, 1]) >= 2.0 * (1 - 1e-7)  # 1e±25 are rounded to single precision


class Sums(nn.Module):
    """x + x, a shared layer applied twice, and a sum of branches."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.shared = nn.Linear(4, 4, bias=False)
        self.shared.weight.data = 3 * torch.eye(4)
        self.head = nn.Linear(8 if kind == "cat" else 4, 2, bias=False)
        self.head.weight.data = torch.eye(self.head.in_features)[:2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "double":
            h = x + x
        elif self.kind == "twice":
            h = self.shared(self.shared(x))
        elif self.kind == "branch":
            h = x + self.shared(x)
        else:
            h = torch.cat([x, self.shared(x)], 1)
        return self.head(h)


@pytest.mark.parametrize(
    ("kind", "inner"),
    [("double", 2.0), ("twice", 9.0), ("branch", 4.0), ("cat", math.sqrt(10))],
)
def test_graphs_are_composed_as_they_run(kind: str, inner: float) -> None:
    found = whole(TorchModel(Sums(kind)), torch.zeros(1, 4))
    assert found == pytest.approx(inner, rel=1e-7)
    assert found >= inner * (1 - 1e-12)


@pytest.mark.parametrize(
    ("layer", "bound"),
    [
        (nn.MaxPool2d(3, 1), 3.0),
        (nn.MaxPool2d(3, 2), 2.0),
        (nn.MaxPool2d(2), 1.0),
        (nn.AvgPool2d(2), 0.5),
        (nn.Sigmoid(), 0.25),
        (nn.LeakyReLU(2.0), 2.0),
        (Normalise([0.5], [0.25]), 4.0),
        (MinMax(), 1.0),
    ],
)
def test_layers_have_their_true_constants(layer: nn.Module, bound: float) -> None:
    channels = 2 if isinstance(layer, MinMax) else 1
    module = nn.Sequential(layer, nn.Flatten())
    found = whole(TorchModel(module), torch.zeros(1, channels, 8, 8))
    assert found == pytest.approx(bound, rel=1e-7)
    # No pair of inputs may stretch more.
    a, b = (numbers(200, channels, 8, 8, seed=s) for s in (0, 1))
    b = a + 1e-2 * b
    stretch = (layer(a) - layer(b)).flatten(1).norm(dim=1) / (a - b).flatten(1).norm(dim=1)
    assert float(stretch.max()) <= found * (1 + 1e-4)


@pytest.mark.parametrize("layer", [nn.Softmax(1), nn.GLU(), nn.Hardshrink(), nn.GroupNorm(2, 4)])
def test_unknown_layers_are_refused_never_one(layer: nn.Module) -> None:
    model = TorchModel(
        nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(2 if isinstance(layer, nn.GLU) else 4, 2))
    )
    data = Dataset(torch.full((2, 4), 0.5), torch.zeros(2, dtype=torch.int64))
    for method in (Lipschitz(), Interval()):
        with pytest.raises(CapabilityError, match=r"1: \w+ is not covered"):
            certify(model, data, method, L2(0.1))


def test_a_pool_with_a_divisor_of_its_own_is_refused() -> None:
    # A negative divisor turns the average round: its weights are no longer positive.
    pool = nn.AvgPool2d(2, divisor_override=-4)
    model = TorchModel(nn.Sequential(pool, nn.Flatten(), nn.Linear(16, 5)))
    for method in (Interval(), Lipschitz()):
        with pytest.raises(CapabilityError, match="divisor_override"):
            certify(model, examples(2), method, L2(0.1))


class Overwrites(nn.Module):
    """Overwrites a value in place; ``again`` then uses a view of it that was made before."""

    def __init__(self, again: bool) -> None:
        super().__init__()
        self.again = again

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x - 0.5
        view = h[:, :2]
        g = nn.functional.relu(h, inplace=True)
        return view + 0.0 if self.again else (g + h)[:, :2]


def test_what_is_overwritten_in_place_is_followed_or_refused() -> None:
    data = Dataset(torch.tensor([[0.9, 0.1, 0.2, 0.3]]), torch.zeros(1, dtype=torch.int64))
    for method in (Lipschitz(), Interval()):
        lower = certify(TorchModel(Overwrites(False)), data, method, Linf(0.1)).lower
        # 2 relu(x - 1/2): at least 2 (0.3 - 0) over the set; Lipschitz in l2 gives less.
        assert float(lower) == pytest.approx(0.6, abs=1e-5) or isinstance(method, Lipschitz)
        assert float(lower) <= 0.6
        with pytest.raises(CapabilityError, match="has overwritten"):
            certify(TorchModel(Overwrites(True)), data, method, Linf(0.1))


@pytest.mark.parametrize("make", [residual, sequential])
@pytest.mark.parametrize("kind", DUAL)
def test_no_point_of_the_set_is_below_an_interval_bound(make: object, kind: type[Ball]) -> None:
    model, data = make(), examples(8)  # type: ignore[operator]
    data = data.labelled(predict(model, data).argmax(1))
    threat = kind({Linf: 0.02, L2: 0.2, L1: 1.0}[kind])
    lower = certify(model, data, Interval(), threat).lower
    for draw in range(20):
        z = threat.sample(data.x, Streams.of(draw, data.positions))
        assert bool((value(model, z, data.y) >= lower).all())


def test_batch_normalisation_is_the_affine_map_it_is_in_evaluation() -> None:
    torch_module = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 5))
    norm = torch_module[0]
    norm.running_mean.fill_(0.4)  # type: ignore[union-attr,operator]
    norm.running_var.fill_(0.04)  # type: ignore[union-attr,operator]
    norm.weight.data.fill_(-2.0)
    initialise(torch_module, 0)
    model, data = TorchModel(torch_module), examples(4)
    data = data.labelled(predict(model, data).argmax(1))
    folded = nn.Linear(64, 5)
    scale = -2.0 / math.sqrt(0.04 + 1e-5)
    head = torch_module[2]
    folded.weight.data = head.weight.data * scale  # type: ignore[operator]
    folded.bias.data = head.bias.data - head.weight.data.sum(1) * scale * 0.4  # type: ignore[operator]
    plain = TorchModel(nn.Sequential(nn.Flatten(), folded))
    for method in (Interval(), Lipschitz()):
        a = certify(model, data, method, Linf(0.01)).lower
        b = certify(plain, data, method, Linf(0.01)).lower
        # Folding loses nothing for intervals; the product of two norms may be larger than one norm.
        assert bool((a <= b + 1e-4).all())
        if isinstance(method, Interval):
            assert torch.allclose(a, b, atol=1e-4)


def test_the_best_of_several_bounds_is_a_bound_and_the_largest() -> None:
    model, data = residual(), examples(8)
    data = data.labelled(predict(model, data).argmax(1))
    threat = L2(0.05)
    one, two = (certify(model, data, m, threat).lower for m in (Lipschitz(), Interval()))
    both = certify(model, data, BestOf((Lipschitz(), Interval())), threat).lower
    assert torch.equal(both, torch.maximum(one, two))


def test_activations_of_the_residual_network_are_known_to_both() -> None:
    model = TorchModel(Residual(nn.LeakyReLU))
    initialise(model.module, 1)
    data = examples(4)
    data = data.labelled(predict(model, data).argmax(1))
    for method in (Lipschitz(), Interval()):
        assert bool(certify(model, data, method, L2(1e-4)).certified.any())


class Block(nn.Module):
    """A residual block as it is usually written, with in-place activations and sums."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.relu(self.bn1(self.conv1(x)))
        h = self.bn2(self.conv2(h))
        h += x
        return self.relu(h)


def test_a_usual_residual_network_has_sound_bounds() -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1),
        nn.ReLU(inplace=True),
        Block(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    initialise(module, 2)
    model, data = TorchModel(module), examples(6).labelled(torch.zeros(6, dtype=torch.int64))
    data = data.labelled(predict(model, data).argmax(1))
    eps = 0.02
    for method in (Interval(), Lipschitz()):
        lower = certify(model, data, method, Linf(eps)).lower
        assert bool(lower.isfinite().all())
        found = attack(model, data, PGD(steps=20), Linf(eps), seed=0)
        assert bool((lower <= found.value).all())
    assert float(module[2].bn1.running_var.min()) == 1.0  # type: ignore[union-attr]
    # The product along the block: x + branch, hence one plus the product of the branch.
    parts = {bound.name: bound.bound for bound in constants(model, data.x[:1]).layers}
    norm = 1 / math.sqrt(1 + 1e-5)
    branch = parts["2.conv1.convolution"] * parts["2.conv2.convolution"] * norm**2
    expected = parts["0.convolution"] * (1 + branch)
    assert constants(model, data.x[:1]).inner == pytest.approx(expected, rel=1e-6)


class Shapes(nn.Module):
    """Reshapes to an image, concatenates along channels and along the last axis, views back."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.head = nn.Linear(3 * 4 * 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x.reshape(x.size(0), 1, 4, 4)
        h = torch.cat([h, self.conv(h)], dim=1)
        h = torch.cat([h, torch.relu(h)], dim=-1)
        return self.head(h.view(h.shape[0], -1))


def test_reshapes_and_concatenations_keep_their_axes() -> None:
    module = Shapes()
    initialise(module, 3)
    model = TorchModel(module)
    data = Dataset(numbers(6, 16).sigmoid(), torch.zeros(6, dtype=torch.int64))
    data = data.labelled(predict(model, data).argmax(1))
    clean = certify(model, data, Interval(Claim.SOUND_REAL), Linf(0.0))
    assert torch.allclose(clean.lower, clean.clean, atol=1e-5)  # at radius 0 the bound is the value
    for method in (Interval(), Lipschitz()):
        lower = certify(model, data, method, Linf(0.05)).lower
        for draw in range(30):
            z = Linf(0.05).sample(data.x, Streams.of(draw, data.positions))
            assert bool((value(model, z, data.y) >= lower).all())


class Mixes(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(-1, 2)


def test_reshapes_across_examples_are_refused() -> None:
    model = TorchModel(nn.Sequential(Mixes(), nn.Linear(2, 2)))
    data = Dataset(torch.full((2, 2), 0.5), torch.zeros(2, dtype=torch.int64))
    assert bool(certify(model, data, Interval(), L2(0.0)).lower.isfinite().all())
    wide = Dataset(torch.full((2, 4), 0.5), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ConjoinError, match=r"mixes the examples|expected logits"):
        certify(model, wide, Interval(), L2(0.0))


def test_an_in_place_first_layer_does_not_write_into_the_data() -> None:
    module = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 5))
    initialise(module, 0)
    data = examples(8)
    data = Dataset(data.x - 0.5, data.y)
    before = data.x.clone()
    model = TorchModel(module)
    data = data.labelled(predict(model, data).argmax(1))
    attack(model, data, PGD(steps=2), Linf(0.1, (-1, 1)), seed=0)
    certify(model, data, Interval(), Linf(0.1, (-1, 1)))
    assert torch.equal(data.x, before)


# --- what is added for rounding, in rational arithmetic ------------------------------------------


def fractions(values: torch.Tensor) -> list[Fraction]:
    """The numbers of a tensor, exactly."""
    return [Fraction(v) for v in values.flatten().tolist()]


def doubles(*shape: int, seed: int) -> torch.Tensor:
    """Numbers in double precision that no sum of products of them rounds well."""
    return numbers(*shape, seed=seed, dtype=torch.float64)


def boxed(op: object, *boxes: Box) -> Box:
    """The box of one operator in real arithmetic."""
    low = boxes[0].low
    domain = Boxes(at_point(low), None)
    shape = tuple(op(*(b.low for b in boxes)).shape[1:])  # type: ignore[operator]
    return domain.apply(Step("it", op, tuple(range(len(boxes))), shape), *boxes)  # type: ignore[arg-type]


def holds(box: Box, exact: list[Fraction], width: float) -> None:
    """The exact numbers lie in the box, which is no wider than so many units in the last place."""
    lows, highs = fractions(box.low), fractions(box.high)
    for low, value, high in zip(lows, exact, highs, strict=True):
        assert low <= value <= high
        assert high - low <= Fraction(width)


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-9, 1.0), (1.0, 1.0)])
@pytest.mark.parametrize("by_ball", [False, True])
def test_the_box_of_an_affine_map_holds_its_real_values(
    scale: float, offset: float, by_ball: bool
) -> None:
    # The box is a point, or wide round a ball of radius 0: nothing but rounding is left.
    for seed in range(8):
        weight, x = scale * doubles(6, 5, seed=3 * seed), doubles(1, 5, seed=3 * seed + 1)
        bias = offset * doubles(6, seed=3 * seed + 2)
        box = Box(x, x)
        if by_ball:
            box = Box(x - 9, x + 9, box_module.Ball(x, torch.zeros(1).double(), 2.0))
        rows, point, shift = (fractions(v) for v in (weight, x, bias))
        exact = [
            sum((a * b for a, b in zip(rows[5 * k : 5 * k + 5], point, strict=True)), shift[k])
            for k in range(6)
        ]
        found = boxed(Affine(Dense(weight, (5,)), bias if offset else None), box)
        holds(found, exact, 1e-12 * (scale + offset))


def test_the_box_of_an_affine_map_holds_products_below_the_range_of_doubles() -> None:
    tiny = torch.full((1, 1), 1e-200, dtype=torch.float64)
    found = boxed(Affine(Dense(tiny, (1,))), Box(tiny, tiny))
    holds(found, [fractions(tiny)[0] ** 2], 1e-300)


def test_the_box_of_an_l1_ball_is_its_dual_norm() -> None:
    weight, x = doubles(6, 5, seed=1), doubles(1, 5, seed=2)
    box = Box(x - 9, x + 9, box_module.Ball(x, torch.full((1,), 0.125).double(), 1.0))
    found = boxed(Affine(Dense(weight, (5,))), box)
    largest = [max(abs(v) for v in fractions(row)) for row in weight]
    middle = [sum(a * b for a, b in zip(fractions(r), fractions(x), strict=True)) for r in weight]
    eps = Fraction(1, 8)
    for low, high, m, n in zip(
        fractions(found.low), fractions(found.high), middle, largest, strict=True
    ):
        assert low <= m - eps * n <= low + Fraction(1e-12)
        assert high >= m + eps * n >= high - Fraction(1e-12)


def test_the_box_of_a_sum_holds_its_real_values() -> None:
    for seed in range(20):
        a, b, c = (doubles(1, 3, seed=3 * seed + k) for k in range(3))
        found = boxed(Add((1.0, -1.0, 1.0)), *(Box(v, v) for v in (a, b, c)))
        exact = [
            p - q + r for p, q, r in zip(fractions(a), fractions(b), fractions(c), strict=True)
        ]
        holds(found, exact, 1e-13)


def test_the_box_of_an_activation_holds_its_real_values() -> None:
    x = torch.linspace(-3, 3, 400, dtype=torch.float64)[None]
    step = next(
        s
        for s in TorchModel(nn.Sequential(nn.Tanh(), nn.Linear(400, 2)).double()).steps(batch_of(x))
        if isinstance(s.op, Elementwise)
    )
    found = boxed(step.op, Box(x, x))
    truth = np.tanh(x.numpy().astype(np.longdouble))  # 11 bits more
    assert bool((found.low.numpy() <= truth).all() and (found.high.numpy() >= truth).all())
    assert float((found.high - found.low).max()) < 1e-13


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-9, 1.0)])
@pytest.mark.parametrize("threat", [Linf(0.0, (-99, 99)), L2(0.0, (-99, 99))], ids=str)
def test_interval_bounds_hold_in_rational_arithmetic(
    scale: float, offset: float, threat: Ball
) -> None:
    # At radius 0 the bound of a linear network is its margin less what rounding may do.
    weight, bias = scale * doubles(3, 20, seed=1), offset * doubles(3, seed=2)
    x, y = doubles(60, 20, seed=3), torch.arange(60) % 3
    model, batch = linear(weight, bias), batch_of(x, y)
    method = Interval(Claim.SOUND_REAL).prepare(model, batch)
    lower = method(model, batch, threat, margin).lower
    rows, shift = [fractions(row) for row in weight], fractions(bias)
    for k in range(60):
        point = fractions(x[k])
        z = [
            sum((a * b for a, b in zip(row, point, strict=True)), c)
            for row, c in zip(rows, shift, strict=True)
        ]
        exact = z[int(y[k])] - max(v for i, v in enumerate(z) if i != int(y[k]))
        assert exact - Fraction(1e-11 * (scale + offset)) <= Fraction(float(lower[k])) <= exact


def test_products_and_sums_are_rounded_upwards() -> None:
    values = doubles(2, 400, seed=4).abs().tolist()
    for a, b in zip(*values, strict=True):
        assert Fraction(a) * Fraction(b) <= Fraction(up(a, b)) <= Fraction(a * b * (1 + 1e-14))
        assert Fraction(a) + Fraction(b) <= Fraction(total(a, b)) <= Fraction((a + b) * (1 + 1e-14))
    assert up(1e-200, 1e-200) == 5e-324 and up(0.0, 1e300) == 0.0, "only 0 gives 0"


def test_gamma_counts_terms() -> None:
    assert gamma(10, 1e-3) == pytest.approx(0.01 / 0.99, rel=1e-9)
    assert gamma(1, 1e-3) == pytest.approx(0.001 / 0.999, rel=1e-9)
    assert gamma(500, 1e-3) == math.inf
    assert Rounding.of(torch.float32).unit == 2.0**-24


def test_lengths_are_rounded_upwards(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    with monkeypatch.context() as patch:
        patch.setattr(
            constants_module, "UNIT", 1 / 128
        )  # two terms: 1 + 10 / 128, then 1 + 8 / 128
        assert constants_module._lengths(rows).item() == pytest.approx(5 * (1 + 10 / 128))
        raised = constants_module._raised(rows, 2.0)
        assert raised[0].tolist() == pytest.approx([6 * (1 + 8 / 128), 8 * (1 + 8 / 128)])
    with monkeypatch.context() as patch:
        patch.setattr(length_module, "UNIT", 1 / 128)
        assert length_of(rows) == pytest.approx(5 * (1 + 10 / 128))


def test_the_norm_of_magnitudes_looks_at_rows_and_columns() -> None:
    copied = Averages("expand", lambda x: x.expand(len(x), 9), (1,), 1)
    summed = Averages("sum", lambda x: x.sum(1, keepdim=True), (9,), 9)
    for map in (copied, summed, Dense(torch.full((1, 9), -1.0).double(), (9,))):
        assert magnitude_norm(map) == pytest.approx(3.0, rel=1e-12)


def test_the_pairs_of_a_network_are_no_less_than_exact_lengths() -> None:
    weight = doubles(6, 3, seed=8)
    found = constants(linear(weight), torch.zeros(1, 3, dtype=torch.float64))
    for i in range(6):
        own = sum(a * a for a in fractions(weight[i]))
        assert own <= Fraction(float(found.single[i])) ** 2 <= own * Fraction(1 + 1e-12)
        for j in range(6):
            both = zip(fractions(weight[i]), fractions(weight[j]), strict=True)
            square = sum(((a - b) ** 2 for a, b in both), Fraction(0))
            assert square <= Fraction(float(found.pairs[i, j])) ** 2
            assert Fraction(float(found.pairs[i, j])) ** 2 <= square * Fraction(1 + 1e-12)


def test_layer_normalisation_keeps_its_eps() -> None:
    # Nearly equal elements: the variance is below eps, and the slope is 1 / √eps, not √n / |x|.
    norm = nn.LayerNorm(3, eps=0.01, elementwise_affine=False)
    model = TorchModel(nn.Sequential(norm, nn.Linear(3, 3, bias=False)).double())
    model.module[1].weight.data = torch.eye(3).double()  # type: ignore[union-attr, operator, index]
    x = torch.tensor([[0.5, 0.502, 0.498]], dtype=torch.float64)
    data = Dataset(x, torch.tensor([1]))
    clean = 0.002 / math.sqrt(0.002**2 * 2 / 3 + 0.01)
    at_x = certify(model, data, Interval(), Linf(0.0))
    assert float(at_x.lower) == pytest.approx(clean, rel=1e-6)
    lower = float(certify(model, data, Interval(), Linf(1e-4)).lower)
    assert clean - 2e-3 * 2 <= lower < clean
    assert whole(model, x) == pytest.approx(1 / math.sqrt(0.01), rel=1e-6)


def test_a_prepared_certifier_refuses_other_weights_and_shapes() -> None:
    model, data = sequential(), examples(2)
    for method in (Interval(), Lipschitz()):
        ready = method.prepare(model, batch_of(data.x))
        with pytest.raises(ModelError, match="prepared for another model"):
            ready(sequential(1), batch_of(data.x), L2(0.1), margin)
        with pytest.raises(CapabilityError, match="prepared for inputs of shape"):
            ready(model, batch_of(data.x[..., :4]), L2(0.1), margin)


def test_halves_that_are_not_halves_are_no_sort() -> None:
    class Overlaps(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a, b = x[:, :3], x[:, 1:4]  # the same length as halves of six, but they overlap
            return torch.cat([torch.minimum(a, b), torch.maximum(a, b)], 1)[:, 3:]

    model = TorchModel(nn.Sequential(Overlaps(), nn.Linear(3, 2)))
    steps = model.steps(batch_of(torch.zeros(1, 6)))
    assert not any(isinstance(step.op, SortPairs) for step in steps)

    class OfBoth(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            (a, b), (c, d) = x.chunk(2, 1), (2 * x).chunk(2, 1)
            return torch.cat([torch.minimum(a, b), torch.maximum(c, d)], 1)

    both = TorchModel(nn.Sequential(OfBoth(), nn.Linear(6, 2))).steps(batch_of(torch.zeros(1, 6)))
    assert not any(isinstance(step.op, SortPairs) for step in both)
    sorted_ = TorchModel(nn.Sequential(MinMax(), nn.Linear(6, 2)))
    assert any(isinstance(s.op, SortPairs) for s in sorted_.steps(batch_of(torch.zeros(1, 6))))


class Does(nn.Module):
    """A function of the input before a dense layer."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function, self.head = function, nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.function(x))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: x + torch.arange(len(x))[:, None], "differs from example to example"),
        (lambda x: x * torch.arange(len(x))[:, None], "differs from example to example"),
        (
            lambda x: nn.functional.batch_norm(
                x, torch.zeros(4), torch.ones(4), training=True, momentum=0.0
            ),
            "its examples are not independent",
        ),
        (
            lambda x: x.reshape(-1, 2).relu().mean(1).reshape(-1, 2).repeat(1, 2),
            "rows of different examples are mixed on the first axis",
        ),
        (lambda x: x - x.mean(0), "runs over the examples|runs over all examples|must not mix"),
    ],
)
def test_what_differs_from_example_to_example_is_refused_as_such(
    function: Callable[[torch.Tensor], torch.Tensor], said: str
) -> None:
    model = TorchModel(Does(function))
    for method in (Interval(), Lipschitz()):
        with pytest.raises(CapabilityError, match=said):
            method.prepare(model, batch_of(torch.full((1, 4), 0.5)))


@pytest.mark.parametrize("factor", [3.0, -3.0, 0.2])
def test_the_ball_behind_a_scaling_is_the_scaled_ball(factor: float) -> None:
    x, eps = doubles(1, 5, seed=3), 0.125
    ball = box_module.Ball(x, torch.full((1,), eps).double(), 2.0)
    scale = torch.tensor(factor, dtype=torch.float64)
    bias = doubles(5, seed=4)
    found = boxed(Affine(Diagonal(scale, (5,)), bias), Box(x - eps, x + eps, ball)).ball
    assert found is not None and found.order == 2.0
    assert float(found.radius) == pytest.approx(eps * abs(factor), rel=1e-9)
    assert float(found.radius) > eps * abs(factor), "widened by rounding"
    assert torch.allclose(found.centre, factor * x + bias, atol=1e-12)
    uneven = torch.tensor([1.0, 1.0, 1.0, 1.0, 2.0], dtype=torch.float64)
    assert boxed(Affine(Diagonal(uneven, (5,))), Box(x - eps, x + eps, ball)).ball is None


def test_the_box_of_a_layer_norm_is_reached() -> None:
    # x / √(mean x²): the largest value of an element has it at its largest, the others at their least.
    low, high = torch.tensor([[0.5, -2.0, 1.0]]).double(), torch.tensor([[1.5, 0.5, 2.0]]).double()
    found = boxed(RootMeanSquare(1, 0.01), Box(low, high))
    corners = torch.cartesian_prod(
        *(torch.linspace(float(a), float(b), 41) for a, b in zip(low[0], high[0], strict=True))
    )
    values = RootMeanSquare(1, 0.01)(corners.double())
    assert bool((values >= found.low).all() and (values <= found.high).all())
    assert torch.allclose(values.amax(0), found.high[0], atol=1e-3)
    assert torch.allclose(values.amin(0), found.low[0], atol=1e-3)


class _Otherwise:
    """A model whose operators are those of another one, from some example on."""

    def __init__(self, model: TorchModel, shown: TorchModel, after: int) -> None:
        self.model, self.shown, self.after = model, shown, after
        self.device = model.device

    def __call__(self, batch: Batch) -> torch.Tensor:
        self.after -= 1
        return (self.shown if self.after >= 0 else self.model)(batch)

    def steps(self, example: Batch) -> object:
        return self.shown.steps(example)


@pytest.mark.parametrize("method", [Interval(), Lipschitz()], ids=["interval", "lipschitz"])
def test_operators_that_are_not_the_network_are_refused(method: object) -> None:
    data = examples(8)
    batch = batch_of(data.x)
    for after in (0, 1):  # at the first or the second look of the preparation
        with pytest.raises(CapabilityError, match="do not give its outputs"):
            method.prepare(_Otherwise(sequential(), sequential(1), after), batch)  # type: ignore[attr-defined]
    late = _Otherwise(sequential(), sequential(1), 2)
    ready = method.prepare(late, batch)  # type: ignore[attr-defined]
    with pytest.raises(CapabilityError, match="do not give its outputs"):
        ready(late, batch, L2(0.01), margin)


def test_any_row_of_a_quantity_has_its_constant() -> None:
    class Sums:
        """z_0 + z_1 - 2 z_2 and -z_1: no rows of pairs."""

        goal = 0.0

        def __call__(self, outputs: torch.Tensor, aim: torch.Tensor) -> torch.Tensor:
            return torch.einsum("bkc,bc->bk", self.rows(aim, 4), outputs.double()).amin(1)

        def rows(self, aim: torch.Tensor, classes: int) -> torch.Tensor:
            one = torch.tensor([[1.0, 1.0, -2.0, 0.0], [0.0, -1.0, 0.0, 0.0]])
            return one.double().expand(len(aim), 2, 4)

    weight = numbers(4, 6, dtype=torch.float64)
    model = linear(weight, torch.tensor([0.0, -90.0, -90.0, 0.0]).double())
    x = numbers(5, 6, seed=1, dtype=torch.float64)
    batch, quantity = batch_of(x), Sums()
    for method in (Lipschitz(), Interval()):
        ready = method.prepare(model, batch)
        lower = ready(model, batch, L2(0.5, (-99, 99)), quantity).lower  # type: ignore[arg-type]
        rows = quantity.rows(batch.aim, 4)[0] @ weight
        with torch.no_grad():
            values = torch.einsum("bkc,bc->bk", quantity.rows(batch.aim, 4), model(batch))
        exact = (values - 0.5 * rows.norm(dim=1)).amin(1)
        assert bool((lower <= exact).all())
        # One constant for all classes of a row loses what they share, but no more.
        assert bool((lower >= exact - 0.5 * 4 * weight.norm(dim=1).sum()).all())


class _Reports:
    """A certifier that returns what it is told."""

    def __init__(self, lower: float, radius: float | None, claim: Claim) -> None:
        self.said = lower, radius, claim

    def __call__(self, model: object, batch: Batch, *_: object) -> Bounds:
        lower, radius, claim = self.said
        found = None if radius is None else torch.full((len(batch),), radius).double()
        return Bounds(torch.full((len(batch),), lower), claim, radius=found)


def test_the_best_of_several_bounds_has_their_radius_and_their_weakest_claim() -> None:
    model, batch = sequential(), batch_of(examples(2).x)
    batch = replace(batch, aim=model(batch).argmax(1))  # a radius is of what is right
    one = _Reports(-11.0, 0.25, Claim.SOUND_DEPLOYED)
    two = _Reports(-12.0, 0.5, Claim.SOUND_REAL)
    three = _Reports(-13.0, None, Claim.SOUND_DEPLOYED)
    for pair in ((one, two), (two, one)):
        found = BestOf(pair)(model, batch, L2(1.0), margin)  # type: ignore[arg-type]
        assert found.lower.tolist() == [-11.0, -11.0] and found.claim == Claim.SOUND_REAL
        assert found.radius is not None and found.radius.tolist() == [0.5, 0.5]
    found = BestOf((one, three))(model, batch, L2(1.0), margin)  # type: ignore[arg-type]
    assert found.radius is None and found.claim == Claim.SOUND_DEPLOYED


def test_bounds_are_rounded_downwards_on_their_way_out() -> None:
    values = torch.cat([doubles(500, seed=6), torch.tensor([0.0, 0.1, -0.1, 2.0**-1074]).double()])
    out = rounded_down(values, torch.float32)
    assert out.dtype == torch.float32 and bool((out.double() <= values).all())
    assert bool((out.nextafter(torch.tensor(math.inf)).double() > values).all())


def test_the_radius_reaches_the_goal_and_no_further() -> None:
    # A margin of goal 2: the radius is where the margin falls to 2, not to 0.
    class Above:
        goal = 2.0

        def __call__(self, outputs: torch.Tensor, aim: torch.Tensor) -> torch.Tensor:
            return margin(outputs, aim)

        def rows(self, aim: torch.Tensor, classes: int) -> torch.Tensor:
            return margin.rows(aim, classes)

    model, data, weight = wide_linear()
    outputs = predict(model, data)
    dual = torch.linalg.vector_norm(weight[data.y][:, None] - weight[None], dim=2)
    gaps = (outputs.gather(1, data.y[:, None]) - outputs - 2.0) / dual
    exact = gaps.scatter(1, data.y[:, None], torch.inf).amin(1).clamp(min=0)
    found = certify(model, data, Lipschitz(), L2(1e-9, (-9, 9)), quantity=Above())  # type: ignore[arg-type]
    assert torch.allclose(found.radius, exact, atol=1e-6)
    assert int((exact > 0).sum()) > 0 and bool((found.radius <= exact + 1e-8).all())


def shared(x: torch.Tensor) -> torch.Tensor:
    """What was written to the memory of a view that was made before."""
    memory = torch.empty(len(x), 4)
    view = memory[:]
    torch.mul(x, 2, out=memory)
    return view


class Turns(Does):
    """Multiplies by the number of its calls, as a number or as a tensor."""

    def __init__(self, as_tensor: bool) -> None:
        super().__init__(self.turned)
        self.as_tensor, self.calls = as_tensor, 0

    def turned(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * (torch.full((), float(self.calls)) if self.as_tensor else self.calls)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Turns(False), "differs between two passes"),
        (lambda: Turns(True), "differs between two passes"),
        (lambda: Does(lambda x: x + torch.rand(4)), "draws random numbers"),
        (lambda: Does(shared), "shares memory with a value that was overwritten"),
    ],
)
def test_the_recorder_itself_refuses_what_is_no_function_of_an_example(
    make: Callable[[], nn.Module], said: str
) -> None:
    # Before any output is compared: a comparison at some points proves nothing.
    with pytest.raises(CapabilityError, match=said):
        TorchModel(make()).steps(batch_of(torch.full((1, 4), 0.5)))


def test_operators_follow_the_weights() -> None:
    model, batch = sequential(), batch_of(examples(3).x)
    for method in (Interval(), Lipschitz()):
        before = method(model, batch, L2(1e-5), margin).lower
        model.module[5].weight.data.mul_(3)  # type: ignore[index, union-attr, operator]
        after = method(model, batch, L2(1e-5), margin).lower
        assert bool(after.isfinite().all()) and not torch.equal(before, after)


@dataclass(frozen=True)
class Tenfold:
    """An l2 ball of ten times eps: its own unit is not that of the ball round it."""

    eps: float | torch.Tensor

    def contains(self, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return L2(10 * self.eps).contains(z, x)

    def sample(self, x: torch.Tensor, rng: Streams) -> torch.Tensor:
        return L2(10 * self.eps).sample(x, rng)

    def distance(self, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return L2(10 * self.eps).distance(z, x) / 10

    def rows(self, keep: torch.Tensor) -> Tenfold:
        return Tenfold(self.eps[keep]) if isinstance(self.eps, torch.Tensor) else self

    def to(self, device: torch.device) -> Tenfold:
        return self

    def check(self, x: torch.Tensor) -> None:
        L2(10 * self.eps).check(x)

    def radius(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.eps, dtype=torch.float64).expand(len(x))

    def at(self, eps: float | torch.Tensor) -> Tenfold:
        return Tenfold(eps)

    def enclosure(self, x: torch.Tensor) -> Enclosure:
        return L2(10 * self.eps).enclosure(x)


def test_a_radius_is_in_the_unit_of_the_threat() -> None:
    model, data, _ = wide_linear()
    data = replace(data, x=data.x.clamp(0, 1))
    true = certify(model, data, Lipschitz(), L2(0.01)).radius
    found = certify(model, data, Lipschitz(), Tenfold(0.001)).radius
    assert bool((found <= true / 10 * (1 + 1e-9)).all())
    searched = certified_radius(model, data, Lipschitz(), Tenfold(0.001), largest=0.1)
    assert torch.allclose(searched, (true / 10).clamp(max=0.1), atol=0.1 / 2**11)


def test_the_deployed_error_is_that_of_all_that_is_summed() -> None:
    # γ of the terms, the bias and one more, of |A| |x| + |b|, or of what b was computed from.
    x, bias = torch.full((1, 4), 0.5).double(), torch.tensor([3.0, -2.0, 0.0]).double()
    weight = torch.tensor([[1.0, -1.0, 2.0, 0.0]] * 3).double()
    domain = Boxes(at_point(x), Rounding.of(torch.float32))
    share = gamma(4 + 2, 2.0**-24)

    def error(op: Affine) -> torch.Tensor:
        found = domain.error(op, x)
        assert isinstance(found, torch.Tensor)
        return found[0]

    plain = error(Affine(Dense(weight, (4,))))
    assert plain.tolist() == pytest.approx([2 * share] * 3, rel=1e-6)
    with_bias = error(Affine(Dense(weight, (4,)), bias))
    assert with_bias.tolist() == pytest.approx([5 * share, 4 * share, 2 * share], rel=1e-6)
    large = error(Affine(Dense(weight, (4,)), bias, bias.abs() + 10))
    assert large.tolist() == pytest.approx([15 * share, 14 * share, 12 * share], rel=1e-6)
    computed = error(Affine(Dense(weight, (4,)), uncertainty=8.0))
    assert computed.tolist() == pytest.approx([2 * gamma(14, 2.0**-24)] * 3, rel=1e-6)


def test_the_box_of_an_activation_is_wider_by_its_jump() -> None:
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)[None]
    jumps = Elementwise("jumps", lambda z: z + 0.25 * (z > 0), (0.0, 1.0), jump=0.25, rounding=0)
    found = boxed(jumps, Box(x, x))
    assert torch.equal(found.low, jumps(x) - 0.25) and torch.equal(found.high, jumps(x) + 0.25)


def test_the_deployed_box_of_a_sum_is_wider_by_its_rounding() -> None:
    a, b = doubles(1, 5, seed=1), doubles(1, 5, seed=2)
    domain = Boxes(at_point(a), Rounding.of(torch.float32))
    found = domain.apply(Step("it", Add((1.0, 1.0)), (0, 1), (5,)), Box(a, a), Box(b, b))
    width = gamma(2, 2.0**-24) * (a.abs() + b.abs())
    assert torch.allclose(found.high - (a + b), width, rtol=1e-6, atol=0)
    assert torch.allclose((a + b) - found.low, width, rtol=1e-6, atol=0)


def test_lengths_and_errors_pass_through_an_affine_map() -> None:
    weight, bias = 2 * torch.eye(2).double(), torch.tensor([3.0, 4.0]).double()
    op = Affine(Dense(weight, (2,)), bias)
    domain = Lengths({id(op): (2.0, 2.5)}, Rounding.of(torch.float32))
    source = Length(7.0, Line(3.0, 5.0), Line(0.5, 0.25))
    found = domain.apply(Step("it", op, (0,), (2,)), source)
    share = gamma(2 + 2, 2.0**-24)  # of |A| times the length of the input, and of the bias
    assert found.constant == pytest.approx(14.0)
    assert tuple(found.error) == pytest.approx(
        (2 * 0.5 + share * 2.5 * 3, 2 * 0.25 + share * (2.5 * 5 + 5)), rel=1e-12
    )
    assert tuple(found.size) == pytest.approx(
        (2 * 3 + share * 2.5 * 3, 2 * 5 + 5 + share * (2.5 * 5 + 5)), rel=1e-12
    )
    still = domain.apply(Step("it", op, (0,), (2,)), Length(7.0, Line(), Line()))
    assert still.error.base == pytest.approx(share * 5, rel=1e-9)
    fresh = domain.apply(Step("it", op, (0,), (2,)), Length(7.0, Line(3.0, 5.0), Line()))
    assert fresh.error.slope == pytest.approx(share * 2.5 * 3, rel=1e-9)


def test_the_steepest_slope_counts_also_where_it_falls() -> None:
    falls = Elementwise("falls", lambda z: -2 * z, (-2.0, 1.0), rounding=0)
    source = Length(7.0, Line(3.0, 5.0), Line(0.5, 0.25))
    found = Lengths({}, None).apply(Step("it", falls, (0,), (2,)), source)
    assert found.constant == pytest.approx(14.0) and tuple(found.error) == pytest.approx((1.0, 0.5))


def test_a_constant_never_vanishes() -> None:
    lengths = torch.tensor([[1e-200, 0.0]], dtype=torch.float64)
    assert constants_module._raised(lengths, 1e-200).tolist() == [[5e-324, 0.0]]


def test_the_closed_form_pays_for_rounding_at_x_and_at_the_worst_point() -> None:
    # Logits near 1000 whose difference is small: each is off by γ (|b| + ...), at x and at z.
    model = linear(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([1000.0, 1000.0]))
    x, y = torch.tensor([[0.75, 0.25]]), torch.zeros(1, dtype=torch.int64)
    batch, threat = batch_of(x, y), L2(0.125)
    found = Lipschitz().prepare(model, batch)(model, batch, threat, margin)
    assert found.claim == Claim.SOUND_DEPLOYED and found.radius is not None
    # The margin of two such logits rounds as well: 32 units of both.
    error = gamma(2 + 2, 2.0**-24) * 2000 * 2 + 32 * 2.0**-24 * 2001
    exact = 0.5 - 0.125 * math.sqrt(2) - error
    assert float(found.lower) == pytest.approx(exact, abs=1e-4) and float(found.lower) < exact
    radius = (0.5 - error) / math.sqrt(2)
    assert float(found.radius) == pytest.approx(radius, abs=1e-4) and float(found.radius) < radius


def test_a_cube_reaches_as_far_as_its_corner() -> None:
    # Weights of one sign: the corner is the worst point, and both norms are equations there.
    model = linear(torch.tensor([[1.0] * 16, [0.0] * 16]).double())
    batch = batch_of(torch.full((1, 16), 0.5, dtype=torch.float64))
    lower = Lipschitz()(model, batch, Linf(0.125), margin).lower
    assert float(lower) == pytest.approx(8 - 16 * 0.125, rel=1e-9)


def test_roots_are_rounded_upwards() -> None:
    for square in doubles(300, seed=9).abs().tolist():
        assert Fraction(square) <= Fraction(root(square, 0)) ** 2 <= Fraction(square * (1 + 1e-15))
