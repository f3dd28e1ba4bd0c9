"""Layer-wise relevance propagation against published formulas in loops, closed forms and a peer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import Residual, biased, examples, linear, numbers, residual, sequential
from torch import Tensor, nn
from torch.nn import functional

from conjoin.attribution import gradient_times_input, lrp
from conjoin.attribution.composites import (
    Composite,
    epsilon_alpha2_beta1,
    epsilon_alpha2_beta1_flat,
    epsilon_gamma_box,
    epsilon_plus,
    epsilon_plus_flat,
    uniform,
)
from conjoin.attribution.folding import folded
from conjoin.attribution.relevance import AlphaBeta, Epsilon, Flat, Gamma, WSquare, ZBox, ZPlus
from conjoin.core.dataset import Dataset
from conjoin.core.drive import batch_of
from conjoin.core.linear import Convolution, Dense, Diagonal
from conjoin.core.operator import Affine, Given, Step, evaluate
from conjoin.core.quantity import Contrast, given, log_likelihood, logit, margin
from conjoin.core.run import attribute, predict
from conjoin.core.slice import Slice
from conjoin.errors import CapabilityError, DataError, PlanError
from conjoin.models.torch import TorchModel
from conjoin.nn.initialise import initialise

Matrix = tuple[Tensor, Tensor, Tensor]  # weights (outputs, inputs), biases, which pairs there are


def values(model: TorchModel, data: Dataset, method: Any) -> Tensor:
    return attribute(model, data, method, seed=0, target=given).values


def images(count: int = 4, channels: int = 1) -> Dataset:
    x = examples(count * channels, dtype=torch.float64).x.reshape(count, channels, 8, 8)
    return Dataset(x, torch.arange(count) % 5)


# The published formulas, one pair of an input and an output after another.


def away(z: float, epsilon: float) -> float:
    return z - epsilon if z < 0 else z + epsilon


def shared(rule: Any, layer: Matrix, x: Tensor, relevance: Tensor) -> Tensor:
    """Hand relevance through one affine layer, output by output."""
    weights, biases, pairs = (part.tolist() for part in layer)
    inputs, e = x.tolist(), rule.epsilon
    found = [0.0] * len(inputs)
    for w, b, pair, whole in zip(weights, biases, pairs, relevance.tolist(), strict=True):
        c = [a * v for a, v in zip(inputs, w, strict=True)]
        parts = _parts(rule, w, b, pair, c, sum(c) + b)
        for sign, numerators, rest in parts:
            below = away(sum(numerators) + rest, e)
            for j, q in enumerate(numerators):
                found[j] += sign * q / below * whole
    return torch.tensor(found, dtype=torch.float64)


def _parts(
    rule: Any, w: list[float], b: float, pair: list[float], c: list[float], z: float
) -> list[tuple[float, list[float], float]]:
    """Return (factor, numerators, what stands in the denominator beside their sum)."""
    up, down = (lambda v: max(v, 0.0)), (lambda v: min(v, 0.0))
    plus, minus = [up(v) for v in c], [down(v) for v in c]
    found: list[tuple[float, list[float], float]] = []
    match rule:
        case Epsilon():
            found = [(1.0, c, b)]
        case ZPlus():
            found = [(1.0, plus, up(b))]
        case AlphaBeta():
            found = [(rule.alpha, plus, up(b)), (-rule.beta, minus, down(b))]
        case Gamma():
            part = up if z > 0 else down
            more = [v + rule.gamma * part(v) for v in c]
            found = [(1.0, more, b + rule.gamma * part(b))]
        case WSquare():
            found = [(1.0, [v * v for v in w], 0.0)]
        case Flat():
            found = [(1.0, pair, 0.0)]
        case ZBox():
            ends = [rule.low * up(v) + rule.high * down(v) for v in w]
            found = [(1.0, [v - end for v, end in zip(c, ends, strict=True)], 0.0)]
    return found


RULES = [
    Epsilon(0.01),
    Epsilon(0.5),
    ZPlus(),
    AlphaBeta(),
    AlphaBeta(1.5, 0.5),
    Gamma(),
    Gamma(2.0),
    WSquare(),
    Flat(),
    ZBox(-3.0, 4.0),
]


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("biased", [True, False])
def test_a_rule_is_the_published_formula(rule: Any, biased: bool) -> None:
    weight, x = numbers(5, 7, dtype=torch.float64), numbers(4, 7, seed=1, dtype=torch.float64)
    bias = numbers(5, seed=2, dtype=torch.float64) if biased else torch.zeros(5).double()
    weight[0] = weight[0].abs()  # an output without a negative part, for a positive input
    relevance = numbers(4, 5, seed=3, dtype=torch.float64)
    x[0] = x[0].abs()
    op = Affine(Dense(weight, (7,)), bias if biased else None)
    found = rule(op, x, relevance)
    layer = weight, bias, torch.ones_like(weight)
    for k in range(4):
        assert torch.allclose(found[k], shared(rule, layer, x[k], relevance[k]), atol=1e-10)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_rule_keeps_the_sum_without_biases(rule: Any) -> None:
    weight, x = numbers(5, 9, dtype=torch.float64), numbers(4, 9, seed=1, dtype=torch.float64)
    relevance = numbers(4, 5, seed=3, dtype=torch.float64)
    found = replace(rule, epsilon=1e-13)(Affine(Dense(weight, (9,))), x, relevance)
    assert torch.allclose(found.sum(1), relevance.sum(1), atol=1e-9)


def test_what_leaks_is_the_share_of_bias_and_stabiliser() -> None:
    weight = torch.tensor([[1.0, 2.0]]).double()
    x, whole = torch.tensor([[3.0, 1.0]]).double(), torch.ones(1, 1).double()
    op = Affine(Dense(weight, (2,)), torch.tensor([5.0]).double())
    assert torch.allclose(Epsilon(0.0)(op, x, whole), torch.tensor([[0.3, 0.2]]).double())
    assert torch.allclose(Epsilon(10.0)(op, x, whole), torch.tensor([[0.15, 0.1]]).double())
    assert torch.allclose(ZPlus(0.0)(op, x, whole), torch.tensor([[0.3, 0.2]]).double())
    for rule in (Flat(0.0), WSquare(0.0), ZBox(0.0, 4.0, 0.0)):
        assert float(rule(op, x, whole).sum()) == pytest.approx(1.0, abs=1e-12)
    # Nothing contributes: nothing is handed down, and nothing is divided by zero.
    for rule in (Epsilon(0.0), ZPlus(0.0), Gamma(0.25, 0.0), AlphaBeta(2.0, 1.0, 0.0)):
        assert float(rule(Affine(op.map), 0 * x, whole).abs().sum()) == 0
    # Without a negative part α of the relevance comes through, not α - β of it.
    assert float(AlphaBeta(2.0, 1.0, 0.0)(Affine(op.map), x, whole).sum()) == pytest.approx(2.0)


# Whole networks, slowly: one example, every layer a matrix.


def matrix(function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Write an affine function of one example out as a matrix and a bias."""
    size = torch.Size(shape).numel()
    with torch.no_grad():
        zero = function(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
        ends = function(torch.eye(size, dtype=torch.float64).reshape(size, *shape)).flatten(1)
    return (ends - zero).T, zero


class Chain(nn.Module):
    """Normalisation, convolution, batch normalisation, pools of both kinds, two dense layers."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv2d(2, 3, 3, padding=1, bias=bias), nn.BatchNorm2d(3)
        self.b = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=bias)
        self.c, self.head = nn.Linear(16, 6, bias=bias), nn.Linear(6, 5, bias=bias)
        initialise(self, 8)
        if bias:
            biased(self, 8)
            with torch.no_grad():
                self.norm.running_mean.copy_(numbers(3, seed=4))
                self.norm.running_var.copy_(0.5 + numbers(3, seed=5).abs())
                self.norm.weight.copy_(1 + numbers(3, seed=6))
        self.shift = 0.3 if bias else 0.0

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.norm(self.a((x - self.shift) / 0.6)), inplace=True)
        h = functional.max_pool2d(h, 2)
        h = functional.avg_pool2d(self.b(h).relu(), 2, stride=1, padding=1, ceil_mode=False)
        return self.head(torch.tanh(self.c(h[:, :, :2, :2].flatten(1))))


def chain(bias: bool = True) -> TorchModel:
    return TorchModel(Chain(bias).double().eval())


def slow_chain(module: Chain, x: Tensor, y: int, composite: Composite) -> Tensor:
    """Relevance of one example, layer by layer."""
    ones = _ones(module)
    first = composite.first or composite.convolution
    fine = Epsilon(composite.stabiliser)
    layers: list[tuple[Any, tuple[int, ...], Any, Any]] = [
        (lambda h: module.norm(module.a((h - module.shift) / 0.6)), (2, 8, 8), first, ones.a),
        (torch.relu, (3, 8, 8), None, None),
        (lambda h: functional.max_pool2d(h, 2), (3, 8, 8), "max", None),
        (module.b, (3, 4, 4), composite.convolution, ones.b),
        (torch.relu, (4, 2, 2), None, None),
        (lambda h: functional.avg_pool2d(h, 2, 1, 1), (4, 2, 2), fine, None),
        (lambda h: h[:, :, :2, :2].flatten(1), (4, 3, 3), "moved", None),
        (module.c, (16,), composite.dense, ones.c),
        (torch.tanh, (6,), None, None),
        (module.head, (6,), composite.dense, ones.head),
    ]
    seen, h = [], x[None]
    with torch.no_grad():
        for function, _, _, _ in layers:
            seen.append(h)
            h = function(h)
    relevance = torch.zeros(5, dtype=torch.float64)
    relevance[y] = h[0, y]
    for (function, shape, rule, whole), at in zip(reversed(layers), reversed(seen), strict=True):
        if rule is None:
            continue
        if rule in ("max", "moved"):  # to where it came from
            point = at.clone().requires_grad_()
            out = function(point)
            (back,) = torch.autograd.grad(out, point, relevance.reshape(out.shape))
            relevance = back.flatten()
            continue
        w, b = matrix(function, shape)
        pairs = torch.ones_like(w) if whole is None else matrix(whole, shape)[0]
        relevance = shared(rule, (w, b, pairs), at.flatten(), relevance)
    return relevance.reshape(x.shape)


def _ones(module: Chain) -> Chain:
    """The layers with all weights 1 and no biases: which pairs of inputs and outputs there are."""
    ones = Chain().double()
    with torch.no_grad():
        for name, value in ones.named_parameters():
            value.fill_(1.0 if name.endswith("weight") else 0.0)
    return ones


COMPOSITES = [
    epsilon_plus(),
    epsilon_plus(0.1),
    epsilon_plus_flat(),
    epsilon_alpha2_beta1(),
    epsilon_alpha2_beta1_flat(),
    epsilon_gamma_box(),
    epsilon_gamma_box(-1.0, 2.0, 0.01, 0.5),
    uniform(Gamma(0.1)),
    Composite(Epsilon(), AlphaBeta(), WSquare(), 0.2),
]


@pytest.mark.parametrize("composite", COMPOSITES, ids=repr)
def test_a_network_is_propagated_as_published(composite: Composite) -> None:
    model, data = chain(), images(2, 2)
    found = values(model, data, lrp(composite))
    with model.held():
        for k in range(2):
            slow = slow_chain(model.module, data.x[k], int(data.y[k]), composite)  # type: ignore[arg-type]
            assert torch.allclose(found[k], slow, atol=1e-9), float((found[k] - slow).abs().max())
    assert float(found.abs().max()) > 1e-3


@pytest.mark.parametrize("composite", COMPOSITES[:1] + COMPOSITES[2:], ids=repr)
def test_a_network_without_biases_keeps_the_sum(composite: Composite) -> None:
    def fine(rule: Any) -> Any:
        return None if rule is None else replace(rule, epsilon=1e-13)

    rules = fine(composite.convolution), fine(composite.dense), fine(composite.first)
    model, data = chain(bias=False), images(4, 2)
    found = values(model, data, lrp(Composite(*rules, 1e-13)))
    wanted = predict(model, data).gather(1, data.y[:, None])[:, 0]
    parts = any(isinstance(rule, AlphaBeta) for rule in rules)  # which may lack a negative part
    if not parts:
        assert torch.allclose(found.flatten(1).sum(1), wanted, atol=1e-9)


def test_the_epsilon_rule_without_biases_is_gradient_times_input() -> None:
    module = Residual().double()
    initialise(module, 0)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if name.endswith("bias"):
                value.zero_()
    model, data = TorchModel(module), images()
    for quantity in (logit, margin, Contrast(2)):
        found = values(
            model, data, lrp(Composite(Epsilon(0), Epsilon(0), None, 0), quantity=quantity)
        )
        times = values(model, data, gradient_times_input(quantity))
        assert torch.allclose(found, times, atol=1e-12)


def test_a_linear_model_is_weight_times_input() -> None:
    weight, x = numbers(4, 6, dtype=torch.float64), numbers(3, 6, seed=2, dtype=torch.float64)
    data, model = Dataset(x, torch.tensor([0, 1, 3])), linear(weight)
    found = values(model, data, lrp(uniform(Epsilon(0.0))))
    assert torch.allclose(found, weight[data.y] * x, atol=1e-12)
    share = values(model, data, lrp(uniform(Flat(0.0))))
    whole = predict(model, data).gather(1, data.y[:, None])
    assert torch.allclose(share, whole.expand(3, 6) / 6, atol=1e-12)


class Summed(nn.Module):
    """A sum of two branches, of which one is taken away, and of a constant; copies and a joint."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
        self.head = nn.Linear(18, 5, bias=False)
        initialise(self, 6)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.a(x), self.b(x)
        h = one - two
        return self.head(torch.cat([h, one, x.roll(1, 1)], 1))


def test_sums_share_by_contribution() -> None:
    model = TorchModel(Summed().double())
    x = numbers(3, 6, dtype=torch.float64)
    data = Dataset(x, torch.arange(3))
    rule = Epsilon(0.0)
    found = values(model, data, lrp(Composite(rule, rule, None, 0.3)))
    module: Any = model.module
    a, b, head = module.a.weight, module.b.weight, module.head.weight
    for k in range(3):
        one, two = a @ x[k], b @ x[k]
        joined = torch.cat([one - two, one, x[k].roll(1)])
        top = (joined * head[k]).detach()
        share = top[:6] / torch.where(one - two < 0, one - two - 0.3, one - two + 0.3)
        to_one, to_two = share * one + top[6:12], -share * two
        slow = ((to_one / one)[:, None] * a * x[k] + (to_two / two)[:, None] * b * x[k]).sum(0)
        assert torch.allclose(found[k], (slow + top[12:].roll(-1)).detach(), atol=1e-10)


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.head = (
            nn.Linear(6, 7, bias=False),
            nn.LayerNorm(7, bias=False),
            nn.Linear(7, 5, bias=False),
        )
        initialise(self, 6)
        with torch.no_grad():
            self.norm.weight.copy_(1 + 0.5 * numbers(7, seed=9))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.gelu(self.norm(self.a(x))))


def test_layer_norm_counts_its_denominator_as_fixed() -> None:
    model, x = TorchModel(Normed().double()), numbers(3, 6, dtype=torch.float64)
    data = Dataset(x, torch.arange(3))
    found = values(model, data, lrp(Composite(Epsilon(0.0), Epsilon(0.0), None, 0.0)))
    module: Any = model.module
    for k in range(3):
        h = module.a(x[k])
        spread = (h.var(unbiased=False) + module.norm.eps).sqrt().detach()
        top = functional.gelu(module.norm(h)) * module.head.weight[k]  # relevance of each unit
        centred = (torch.eye(7).double() - 1 / 7) @ module.a.weight / spread
        z = centred @ x[k]
        slow = ((top / z)[:, None] * centred * x[k]).sum(0)
        # Through the centring it is shared layer by layer, which for ε = 0 is the same.
        assert torch.allclose(found[k], slow.detach(), atol=1e-9)
        assert float(found[k].sum()) == pytest.approx(float(module(x[k])[k].detach()), abs=1e-9)


def test_the_winner_of_a_window_takes_all() -> None:
    class Top(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.max_pool2d(x, 4).flatten(1)

    model, data = TorchModel(Top()), Dataset(images().x.float(), torch.arange(4) % 4)
    found = values(model, data, lrp())
    for k in range(4):
        window = data.x[k, 0, 4 * (k // 2) : 4 * (k // 2) + 4, 4 * (k % 2) : 4 * (k % 2) + 4]
        assert float(found[k].sum()) == float(window.max()) == float(found[k].max())
        assert int((found[k] != 0).sum()) == 1
        assert int(found[k].argmax()) == int((data.x[k] == window.max()).flatten().long().argmax())


def test_sorted_pairs_go_where_they_came_from() -> None:
    model, data = sequential(dtype=torch.float64), images()
    for name, value in model.module.named_parameters():
        if name.endswith("bias"):
            value.data.zero_()
    rule = Epsilon(0.0)
    found = values(model, data, lrp(Composite(rule, rule, None, 0.0)))
    assert torch.allclose(found, values(model, data, gradient_times_input()), atol=1e-12)


class Known(nn.Module):
    """What the peer knows: modules of a few types, each used once."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.low = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=bias),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, bias=bias),
            nn.ReLU(),
        )
        self.head: Any = nn.Linear(24, 5, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.low(x).flatten(1))


@pytest.mark.parametrize("rule", ["EpsilonRule", "Alpha1_Beta0_Rule", "GammaRule"])
def test_agrees_with_the_peer(rule: str) -> None:
    captum = pytest.importorskip("captum.attr")
    rules = pytest.importorskip("captum.attr._utils.lrp_rules")
    bias = rule == "EpsilonRule"  # of the other rules the peer leaves biases as they are
    module = Known(bias)
    initialise(module, 2)
    if bias:
        biased(module, 2)
    module.double()
    model, data = TorchModel(module), images()
    own: Any = {
        "EpsilonRule": Epsilon(1e-9),
        "Alpha1_Beta0_Rule": ZPlus(1e-9),
        "GammaRule": Gamma(0.25, 1e-9),
    }[rule]
    found = values(model, data, lrp(Composite(own, Epsilon(1e-9), None, 1e-9)))
    for layer in (module.low[0], module.low[3]):
        layer.rule = getattr(rules, rule)()
    module.head.rule = rules.EpsilonRule(1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = captum.LRP(module).attribute(data.x.clone(), target=data.y).detach()
    assert torch.allclose(found, peer, atol=1e-5) and float(peer.abs().max()) > 1e-3


# Multiples folded into their neighbours.


def _net(*layers: nn.Module) -> nn.Sequential:
    module = nn.Sequential(*layers).double().eval()
    initialise(module, 1)
    biased(module, 1)
    with torch.no_grad():
        for number, layer in enumerate(module):
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                size = layer.num_features
                layer.running_mean.copy_(numbers(size, seed=number))
                layer.running_var.copy_(0.5 + numbers(size, seed=20 + number).abs())
                if layer.affine:
                    layer.weight.copy_(numbers(size, seed=30 + number))
    return module


class Scaled(nn.Module):
    def __init__(self, scale: float | Tensor, shift: float = 0.0) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.shift) * self.scale


IN = (4, 8, 8)
FOLDED = {
    "convolution, norm": (_net(nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6)), 1),
    "groups": (_net(nn.Conv2d(4, 6, 3, 2, groups=2), nn.BatchNorm2d(6)), 1),
    "transposed": (_net(nn.ConvTranspose2d(4, 6, 3, 2, groups=2), nn.BatchNorm2d(6)), 1),
    "norm, convolution": (_net(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, padding=2)), 1),
    "norm, groups": (_net(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, groups=2)), 1),
    "norm, transposed": (_net(nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 6, 3, groups=2)), 1),
    "three": (_net(Scaled(2.0, 0.3), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), Scaled(0.5)), 1),
    "dense": (_net(nn.Flatten(), nn.BatchNorm1d(256), nn.Linear(256, 7), nn.BatchNorm1d(7)), 1),
    "no bias": (_net(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6, affine=False)), 1),
    "by place": (_net(nn.Conv2d(4, 6, 3), Scaled(numbers(6, 6, seed=3).double())), 2),
    "two layers": (_net(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 6, 1)), 2),
    "a pool": (_net(nn.AvgPool2d(2), nn.BatchNorm2d(4)), 2),
}


@pytest.mark.parametrize("name", FOLDED)
def test_what_is_folded_computes_the_same(name: str) -> None:
    layers, left = FOLDED[name]
    model = TorchModel(nn.Sequential(*layers, nn.Flatten()))
    data = Dataset(numbers(3, *IN, dtype=torch.float64), torch.zeros(3, dtype=torch.int64))
    batch = batch_of(data, slice(0, 3), model.device, 0)
    steps = folded(model.steps(batch))
    assert sum(isinstance(step.op, Affine) for step in steps) == left
    out = evaluate(steps, data.x)
    assert torch.allclose(out[-1], predict(model, data), atol=1e-11)
    for step, value in zip(steps, out, strict=True):
        assert tuple(value.shape[1:]) == step.shape
    kept = sum(isinstance(step.op, Affine) and isinstance(step.op.map, Diagonal) for step in steps)
    assert kept == (1 if name in ("by place", "a pool") else 0)


def test_numbers_are_put_where_the_weights_are() -> None:
    """Factors that were Python numbers lie on the host, whatever device the weights are on."""
    number = Affine(Diagonal(torch.tensor(2.0).double(), (2, 5, 5)), torch.tensor(0.3).double())
    weight = torch.ones(3, 2, 3, 3, dtype=torch.float64, device="meta")
    layer = Affine(Convolution(weight, (2, 5, 5), (1, 1), (0, 0), (1, 1)))
    after = Affine(Diagonal(torch.tensor(0.5).double(), (3, 3, 3)))
    steps = (
        Step("x", Given(), (), (2, 5, 5)),
        Step("before", number, (0,), (2, 5, 5)),
        Step("layer", layer, (1,), (3, 3, 3)),
        Step("after", after, (2,), (3, 3, 3)),
    )
    _, one = folded(steps)
    assert isinstance(one.op, Affine) and isinstance(one.op.map, Convolution)
    assert one.op.map.weight.device.type == "meta" == one.op.bias.device.type  # type: ignore[union-attr]


def test_what_is_read_twice_is_not_folded() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
            initialise(self, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            return (self.norm(h) + h).flatten(1)

    model = TorchModel(Twice().double().eval())
    data = Dataset(numbers(3, *IN, dtype=torch.float64), torch.zeros(3, dtype=torch.int64))
    steps = folded(model.steps(batch_of(data, slice(0, 3), model.device, 0)))
    assert sum(isinstance(step.op, Affine) for step in steps) == 2
    assert torch.allclose(evaluate(steps, data.x)[-1], predict(model, data), atol=1e-11)


# Refusals.


class Odd(nn.Module):
    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.act = nn.Linear(64, 5), act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.a(x.flatten(1)))


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (torch.sigmoid, r"no rule for the network.sigmoid, since that makes something of nothing"),
        (nn.Softplus(), r"no rule for act.softplus, since"),
        (lambda h: h * h.roll(1, 1), "product of two values that depend on the input"),
        (lambda h: h.softmax(1), "softmax"),
    ],
)
def test_an_operator_without_a_rule_is_refused_by_name(
    act: Callable[[Tensor], Tensor], reason: str
) -> None:
    with pytest.raises(CapabilityError, match=reason):
        values(TorchModel(Odd(act).double()), images(), lrp())


def test_the_first_layers_are_those_that_read_the_input() -> None:
    """Moved, joined, averaged and scaled at most; the same layer further up is none."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(2, 3, 3)
            self.head = nn.Linear(3 * 16 + 3 * 4, 5)
            initialise(self, 3)

        def forward(self, x: Tensor) -> Tensor:
            low = functional.avg_pool2d(x, 2)
            one = self.a(low).relu().flatten(1)
            two = self.b(torch.cat([low, low.flip(2) * 0.5], 1)).relu().flatten(1)
            return self.head(torch.cat([one, two], 1))

    model, data = TorchModel(Two().double()), images()
    found = values(model, data, lrp(Composite(ZPlus(), Epsilon(), Flat())))
    assert torch.equal(found, values(model, data, lrp(Composite(Flat(), Epsilon()))))
    whole = values(model, data, lrp(uniform(Flat())))
    assert not torch.allclose(found, whole), "the head is none"


class Mixed(nn.Module):
    """Dense layers on the last axis and along the rows, a mean, a skip connection; no biases."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6, bias=False), nn.Linear(4, 4, bias=False)
        self.head = nn.Linear(6, 5, bias=False)
        initialise(self, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = x + self.a(x).relu()
        h = h - self.b(h.transpose(1, 2)).transpose(1, 2).relu()
        return self.head(h.mean(1))


def test_rows_of_an_example_stay_apart() -> None:
    model, x = TorchModel(Mixed().double()), numbers(5, 4, 6, dtype=torch.float64)
    data = Dataset(x, torch.arange(5))
    found = values(model, data, lrp(Composite(Epsilon(0.0), Epsilon(0.0), None, 0.0)))
    assert torch.allclose(found, values(model, data, gradient_times_input()), atol=1e-11)


@pytest.mark.parametrize("act", [nn.LeakyReLU(), nn.SiLU(), nn.Hardtanh(), nn.ELU(), nn.ReLU6()])
def test_an_activation_hands_on_what_it_has(act: nn.Module) -> None:
    model, data = TorchModel(Odd(act).double()), images()
    found = values(model, data, lrp(uniform(Flat(0.0))))
    whole = predict(model, data).gather(1, data.y[:, None])
    assert torch.allclose(found.flatten(1), whole.expand(4, 64) / 64, atol=1e-12)


def test_what_is_no_sum_of_outputs_is_refused() -> None:
    with pytest.raises(CapabilityError, match="the quantity is no sum of outputs"):
        values(residual(), Dataset(images().x.float(), images().y), lrp(quantity=log_likelihood))


def test_inputs_beyond_the_box_are_refused() -> None:
    with pytest.raises(DataError, match=r"beyond the box of ZBox\(low=0.0, high=0.5"):
        values(residual(dtype=torch.float64), images(), lrp(epsilon_gamma_box(0.0, 0.5)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Epsilon(-1.0),
        lambda: Flat(float("nan")),
        lambda: AlphaBeta(2.0, 2.0),
        lambda: AlphaBeta(0.5, -0.5),
        lambda: Gamma(-0.1),
        lambda: ZBox(1.0, 1.0),
        lambda: Composite(Flat(), Flat(), None, -1.0),
    ],
)
def test_parameters_are_checked(make: Callable[[], object]) -> None:
    with pytest.raises(PlanError):
        make()


def test_the_whole_network_is_explained_in_the_inputs_precision() -> None:
    assert lrp().where == Slice()
    for dtype in (torch.float32, torch.float64):
        data = Dataset(images().x.to(dtype), images().y)
        assert values(residual(dtype=dtype), data, lrp()).dtype == dtype
