"""Certificates: closed forms, known pitfalls, refusals."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import Residual, examples, linear, numbers, residual, sequential
from torch import nn

from conjoin.attacks import PGD
from conjoin.certification import BestOf, Interval, Lipschitz, certified_radius
from conjoin.certification.lipschitz import constants
from conjoin.core.dataset import Dataset
from conjoin.core.quantity import Avoid, Contrast, logit, margin
from conjoin.core.random import Streams
from conjoin.core.run import attack, certify, predict
from conjoin.core.threat import L1, L2, Ball, Linf
from conjoin.errors import CapabilityError, ConjoinError
from conjoin.models.torch import TorchModel
from conjoin.nn import MinMax, Normalise
from conjoin.nn.initialise import initialise

DUAL = {Linf: 1, L2: 2, L1: math.inf}


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
        with pytest.raises(CapabilityError, match="margin, logit and Contrast"):
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
    found = constants(TorchModel(Sums(kind)), torch.zeros(1, 4))
    assert found.inner == pytest.approx(inner, rel=1e-8)
    assert found.inner >= inner * (1 - 1e-12)


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
    found = constants(TorchModel(module), torch.zeros(1, channels, 8, 8))
    assert found.inner == pytest.approx(bound, rel=1e-9)
    # No pair of inputs may stretch more.
    a, b = (numbers(200, channels, 8, 8, seed=s) for s in (0, 1))
    b = a + 1e-2 * b
    stretch = (layer(a) - layer(b)).flatten(1).norm(dim=1) / (a - b).flatten(1).norm(dim=1)
    assert float(stretch.max()) <= found.inner * (1 + 1e-4)


@pytest.mark.parametrize("layer", [nn.LayerNorm(4), nn.Softmax(1), nn.PReLU()])
def test_unknown_layers_are_refused_never_one(layer: nn.Module) -> None:
    model = TorchModel(nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 2)))
    data = Dataset(torch.full((2, 4), 0.5), torch.zeros(2, dtype=torch.int64))
    for method in (Lipschitz(), Interval()):
        with pytest.raises(CapabilityError, match="layer '1'"):
            certify(model, data, method, L2(0.1))


def test_a_pool_with_a_divisor_of_its_own_is_refused() -> None:
    # A negative divisor turns the average round: its weights are no longer positive.
    pool = nn.AvgPool2d(2, divisor_override=-4)
    model = TorchModel(nn.Sequential(pool, nn.Flatten(), nn.Linear(16, 5)))
    for method in (Interval(), Lipschitz()):
        with pytest.raises(CapabilityError, match="divisor_override"):
            certify(model, examples(2), method, L2(0.1))


class Overwrites(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x + 0.0
        g = nn.functional.relu(h, inplace=True)
        return g + h


def test_values_overwritten_while_in_use_are_refused() -> None:
    data = Dataset(torch.full((2, 4), 0.5), torch.zeros(2, dtype=torch.int64))
    for method in (Lipschitz(), Interval()):
        with pytest.raises(CapabilityError, match="overwrites a value"):
            certify(TorchModel(Overwrites()), data, method, L2(0.1))


@pytest.mark.parametrize("make", [residual, sequential])
@pytest.mark.parametrize("kind", DUAL)
def test_no_point_of_the_set_is_below_an_interval_bound(make: object, kind: type[Ball]) -> None:
    model, data = make(), examples(8)  # type: ignore[operator]
    data = data.labelled(predict(model, data).argmax(1))
    threat = kind({Linf: 0.02, L2: 0.2, L1: 1.0}[kind])
    lower = certify(model, data, Interval(), threat).lower
    for draw in range(20):
        z = threat.sample(data.x, Streams.of(draw, data.positions))
        value = margin(model(z).detach(), data.y)
        assert bool((value >= lower - 1e-5).all())


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
        assert bool((lower <= found.value + 1e-5).all())
    assert float(module[2].bn1.running_var.min()) == 1.0  # type: ignore[union-attr]
    # The product along the block: x + branch, hence one plus the product of the branch.
    parts = {bound.name: bound.bound for bound in constants(model, data.x[:1]).layers}
    norm = 1 / math.sqrt(1 + 1e-5)
    branch = parts["2.conv1"] * parts["2.conv2"] * norm**2
    expected = parts["0"] * (1 + branch) / math.sqrt(16)
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
    clean = certify(model, data, Interval(), Linf(0.0))
    assert torch.allclose(clean.lower, clean.clean, atol=1e-5)  # at radius 0 the bound is the value
    for method in (Interval(), Lipschitz()):
        lower = certify(model, data, method, Linf(0.05)).lower
        for draw in range(30):
            z = Linf(0.05).sample(data.x, Streams.of(draw, data.positions))
            assert bool((margin(model(z).detach(), data.y) >= lower - 1e-5).all())


class Mixes(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(-1, 2)


def test_reshapes_across_examples_are_refused() -> None:
    model = TorchModel(nn.Sequential(Mixes(), nn.Linear(2, 2)))
    data = Dataset(torch.full((2, 2), 0.5), torch.zeros(2, dtype=torch.int64))
    assert bool(certify(model, data, Interval(), L2(0.0)).lower.isfinite().all())
    wide = Dataset(torch.full((2, 4), 0.5), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ConjoinError, match=r"mixes the examples|expected logits of shape"):
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
