"""What a certificate claims: of real arithmetic, or also of the network as it is computed.

Where the claim is ``sound-deployed``, no evaluation in the network's own precision, in any order of
summation, at any input of that precision inside S(x), falls below the bound. Where it is
``sound-real``, no exact evaluation does. Membership in S(x) is decided with fractions.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
import torch
from networks import seeded
from torch import Tensor, nn

from conjoin import L1, L2, Dataset, Linf, certify, wrap
from conjoin.certification import Interval, Lipschitz, certified_radius
from conjoin.core.evidence import Claim
from conjoin.core.random import Streams
from conjoin.core.result import Certificate

METHODS = [Interval(), Lipschitz()]
KINDS: dict[float, Any] = {math.inf: Linf, 2.0: L2, 1.0: L1}
DEPLOYED = Claim.SOUND_DEPLOYED
IDS = ["interval", "lipschitz"]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return Streams.of(seed, torch.arange(shape[0])).uniform(*shape[1:])


def inside(z: Tensor, x: Tensor, order: float, eps: float) -> bool:
    """Whether one point lies in S(x), exactly."""
    pairs = zip(z.flatten().tolist(), x.flatten().tolist(), strict=True)
    moves = [abs(Fraction(a) - Fraction(b)) for a, b in pairs]
    limit = Fraction(eps)
    boxed = float(z.min()) >= 0 and float(z.max()) <= 1
    if math.isinf(order):
        return boxed and max(moves) <= limit
    if order == 1:
        return boxed and sum(moves, Fraction(0)) <= limit
    return boxed and sum((m * m for m in moves), Fraction(0)) <= limit * limit


def nearest_inside(z: Tensor, x: Tensor, order: float, eps: float) -> Tensor:
    """The point pulled towards x, as little as its precision allows, until it lies in S(x)."""
    z = z.clamp(0, 1)
    if math.isinf(order):
        # The outermost numbers of the precision, coordinate by coordinate.
        top, low = (x.double() + eps).to(x.dtype), (x.double() - eps).to(x.dtype)
        top = torch.where(top.double() - x.double() > eps, top.nextafter(x), top)
        low = torch.where(x.double() - low.double() > eps, low.nextafter(x), low)
        return torch.minimum(torch.maximum(z, low), top).clamp(0, 1)
    d = z.double() - x.double()
    size = float(torch.linalg.vector_norm(d.flatten(), ord=order))
    share = min(1.0, eps / size) if size else 1.0
    for _ in range(60):
        pulled = (x.double() + share * d).to(x.dtype).clamp(0, 1)
        if inside(pulled, x, order, eps):
            return pulled
        share *= 1 - 3e-8
    return x


def margins(outputs: Tensor, y: Tensor) -> Tensor:
    """In the precision of the outputs, as a deployed system decides."""
    own = outputs.gather(1, y[:, None])[:, 0]
    return own - outputs.scatter(1, y[:, None], -math.inf).amax(1)


def exact_margin(weight: Tensor, bias: Tensor, z: Tensor, label: int) -> Fraction:
    """The margin of a linear network, with fractions."""
    point = [Fraction(v) for v in z.flatten().tolist()]
    logits = [
        sum((Fraction(w) * v for w, v in zip(row, point, strict=True)), Fraction(b))
        for row, b in zip(weight.tolist(), bias.tolist(), strict=True)
    ]
    return logits[label] - max(v for i, v in enumerate(logits) if i != label)


def orders(module: nn.Module, x: Tensor) -> Iterator[Tensor]:
    """Evaluate in one precision in several ways: other batches, and other orders of summation."""
    with torch.no_grad():
        yield module(x)
        yield torch.cat([module(row[None]) for row in x])
        yield torch.cat([module(part) for part in x.split(7)])
        if isinstance(module, nn.Linear):
            yield from sums(module, x.flatten(1))


def sums(layer: nn.Linear, x: Tensor) -> Iterator[Tensor]:
    """A dense layer as loops would compute it: bias first or last, forwards, backwards, by size."""
    products = x[:, None] * layer.weight  # each rounded once
    by_size = products.abs().argsort(2)
    kinds: list[Callable[[Tensor], Tensor]] = [
        lambda p: p,
        lambda p: p.flip(2),
        lambda p: p.gather(2, by_size),
        lambda p: p.gather(2, by_size.flip(2)),
        lambda p: p.sort(2).values,
        lambda p: p.sort(2, descending=True).values,
    ]
    for order in kinds:
        terms = order(products)
        for first in (layer.bias.expand(len(x), -1), torch.zeros_like(terms[:, :, 0])):
            total = first.clone()
            for place in range(terms.shape[2]):
                total = total + terms[:, :, place]
            yield total if bool((first != 0).any()) else total + layer.bias


@pytest.mark.parametrize("method", METHODS, ids=IDS)
@pytest.mark.parametrize("order", list(KINDS), ids=str)
@pytest.mark.parametrize("share", [1.0, 0.9999995])
def test_a_linear_network_at_its_certified_radius(method: Any, order: float, share: float) -> None:
    """The minimum is on the rim, in the direction of the gradient: there is no slack to hide in."""
    count, size = 300, 64
    layer: Any = seeded(nn.Linear(size, 5), 3)
    x = 0.3 + 0.4 * drawn(count, size)
    with torch.no_grad():
        y, clean = layer(x).argmax(1), layer(x).double()
    data, model = Dataset(x, y), wrap(layer)
    threat = KINDS[order](0.01)
    found = certify(model, data, method, threat)
    radius = found.radius
    if not bool(found.settled.all()):
        radius = certified_radius(model, data, method, threat, largest=2.0, steps=30)
    assert found.provenance.claim == DEPLOYED  # cheap and finite here: the default
    weight, contradicted = layer.weight.detach(), 0
    points, aims = [], []
    for row in range(count):
        eps = float(radius[row]) * share
        rows = weight[y[row]] - weight
        duals = torch.linalg.vector_norm(rows.double(), ord=_dual(order), dim=1)
        gaps = (clean[row, y[row]] - clean[row]) / duals
        gaps[y[row]] = math.inf
        step = _steepest(-rows[int(gaps.argmin())].double(), order)
        points.append(nearest_inside((x[row].double() + eps * step).float(), x[row], order, eps))
        assert inside(points[-1], x[row], order, eps)
        aims.append(y[row])
    z, aim = torch.stack(points), torch.stack(aims)
    for outputs in orders(layer, z):
        contradicted += int((margins(outputs, aim) <= 0).sum())
    assert contradicted == 0
    assert float(radius.median()) > 0.005
    for row in range(0, count, 10):
        assert exact_margin(weight, layer.bias.detach(), z[row], int(aim[row])) > 0


def _dual(order: float) -> float:
    return 1.0 if math.isinf(order) else math.inf if order == 1 else 2.0


def _steepest(d: Tensor, order: float) -> Tensor:
    if math.isinf(order):
        return d.sign()
    if order == 2:
        return d / d.norm()
    step = torch.zeros_like(d)
    top = int(d.abs().argmax())
    step[top] = d[top].sign()
    return step


class Rounds(nn.Module):
    """x + 2²³ - 2²³, in real arithmetic x; in single precision it rounds to whole numbers."""

    def __init__(self, front: bool = True) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.head.weight.data = torch.tensor([[1.0, 0.5, 0.25, -0.5], [-1.0, 0.5, 0.25, -0.5]])
        self.head.bias.data = torch.tensor([0.1, 0.9])
        self.front = front

    def forward(self, x: Tensor) -> Tensor:
        if self.front:
            return self.head((x + 2.0**23) - 2.0**23)
        z: Tensor = self.head(x)
        return (z + 2.0**23) - 2.0**23


@pytest.mark.parametrize("method", METHODS, ids=IDS)
@pytest.mark.parametrize("front", [True, False])
@pytest.mark.parametrize("order", list(KINDS), ids=str)
def test_a_network_that_rounds_away_its_input(method: Any, front: bool, order: float) -> None:
    module = Rounds(front)
    x = drawn(200, 4, seed=4)
    truth = module.head  # what it is in real arithmetic
    with torch.no_grad():
        y = truth(x).argmax(1)
    data, model = Dataset(x, y), wrap(module)
    for eps in (0.0, 1e-3, 0.05):
        found = certify(model, data, method, KINDS[order](eps))
        noise = 2 * drawn(200, 4, seed=5) - 1
        corners = [x, x + eps * noise.sign(), x - eps * noise.sign(), x + eps * noise]
        for z in corners:
            near = torch.stack(
                [nearest_inside(p, q, order, eps) for p, q in zip(z, x, strict=True)]
            )
            _holds(found, module, truth, near, y)


def _holds(found: Certificate, module: nn.Module, truth: nn.Linear, z: Tensor, y: Tensor) -> None:
    if found.provenance.claim == DEPLOYED:
        for outputs in orders(module, z):
            value = margins(outputs, y)
            assert bool((value >= found.lower).all())
            assert not bool((found.certified & (value <= 0)).any())
    weight, bias = truth.weight.detach(), truth.bias.detach()
    for row in range(0, len(z), 9):
        value = exact_margin(weight, bias, z[row], int(y[row]))
        lower = float(found.lower[row])
        if math.isfinite(lower):
            assert value >= Fraction(lower)
        assert value > 0 or not bool(found.certified[row])


def test_a_network_that_rounds_is_never_certified_as_deployed_where_it_is_wrong() -> None:
    """x in (0, 1/2) becomes 0: the deployed margin is -0.8, the real one up to 0.1."""
    module = Rounds()
    x = torch.zeros(50, 4)
    x[:, 0] = torch.linspace(0.41, 0.499, 50)
    y = torch.zeros(50, dtype=torch.int64)
    with torch.no_grad():
        assert bool((margins(module(x), y) < 0).all())
        assert bool((margins(module.head(x), y) > 0).any())
    for method in METHODS:
        for threat in (L2(0.0), Linf(1e-4), L1(1e-3)):
            found = certify(wrap(module), Dataset(x, y), method, threat)
            assert not bool(found.certified.any())  # clean is the deployed value: lost already
            assert bool((found.lower <= found.clean).all())


def cancelling(size: float, depth: int) -> nn.Sequential:
    """Dense layers whose large biases cancel two layers on: rounding is large, bounds must know."""
    parts: list[nn.Module] = []
    for number in range(depth):
        up: Any = seeded(nn.Linear(12, 12), 10 + number)
        down: Any = seeded(nn.Linear(12, 12), 20 + number)
        up.bias.data += size
        down.bias.data -= down.weight.data @ torch.full((12,), size)
        parts += [up, nn.ReLU() if number % 2 else nn.Identity(), down, nn.ReLU()]
    return nn.Sequential(*parts, seeded(nn.Linear(12, 4), 30))


def shuffled(net: nn.Sequential, seed: int) -> nn.Sequential:
    """The same function with its hidden numbers in another order, so that sums run otherwise."""
    twin = copy.deepcopy(net)
    layers: list[Any] = [part for part in twin if isinstance(part, nn.Linear)]
    with torch.no_grad():
        for number, (one, two) in enumerate(pairwise(layers)):
            turn = drawn(1, one.out_features, seed=100 * seed + number)[0].argsort()
            one.weight.data, one.bias.data = one.weight[turn].clone(), one.bias[turn].clone()
            two.weight.data = two.weight[:, turn].clone()
    return twin


@pytest.mark.parametrize("method", METHODS, ids=IDS)
@pytest.mark.parametrize("size", [0.0, 100.0, 1e4, 1e6])
@pytest.mark.parametrize("depth", [1, 3])
def test_no_order_of_summation_contradicts_a_deployed_bound(
    method: Any, size: float, depth: int
) -> None:
    net = cancelling(size, depth)
    x = drawn(64, 12, seed=6)
    with torch.no_grad():
        y = net.double()(x.double()).argmax(1)
        truth = margins(net(x.double()), y)
        net = net.float()
    data = Dataset(x, y)
    for threat in (Linf(0.0), L2(1e-7), Linf(1e-3)):
        found = certify(wrap(net), data, method, threat)
        assert bool(
            (found.lower.double() <= truth + 1e-9 * (1 + size) * (1 + truth.abs())).all()
        )  # x itself is in S(x)
        if found.provenance.claim != DEPLOYED:
            continue
        for seed in range(12):
            twin = shuffled(net, seed)
            for outputs in orders(twin, x):
                value = margins(outputs, y)
                assert bool((value >= found.lower).all())
                assert not bool((found.certified & (value <= 0)).any())


@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_a_plain_network_carries_the_stronger_claim(method: Any) -> None:
    net = cancelling(0.0, 1)
    x = drawn(32, 12, seed=7)
    with torch.no_grad():
        y = net(x).argmax(1)
    found = certify(wrap(net), Dataset(x, y), method, L2(1e-5))
    assert found.provenance.claim == DEPLOYED
    assert bool(found.certified.any())
    # The price of the claim is rounding, not a share of the bound.
    real = certify(wrap(net.double()), Dataset(x.double(), y), method, L2(1e-5))
    gap = (real.lower - found.lower).max()
    assert 0 <= float(gap) < 1e-3


@pytest.mark.parametrize("method", METHODS, ids=IDS)
@pytest.mark.parametrize("kind", ["convolution", "pool", "norm", "activation", "sum"])
def test_random_inputs_of_single_precision_stay_above_a_deployed_bound(
    method: Any, kind: str
) -> None:
    """At eps = 0 the bound is the value less its rounding: the sharpest test of the error terms."""
    middle: dict[str, nn.Module] = {
        "convolution": nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)),
        "pool": nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.MaxPool2d(2)),
        "norm": nn.BatchNorm2d(4),
        "activation": nn.Sequential(nn.Softplus(), nn.Tanh(), nn.GELU(), nn.SiLU(), nn.ELU()),
        "sum": _Sum(),
    }
    net = _stacked(middle[kind])
    x = drawn(64, 1, 8, 8, seed=9)
    with torch.no_grad():
        outputs = net.double()(x.double())
        y, truth = outputs.argmax(1), margins(outputs, outputs.argmax(1))
        net = net.float()
    found = certify(wrap(net), Dataset(x, y), method, Linf(0.0))
    assert bool((found.lower.double() <= truth + 1e-9).all())
    if found.provenance.claim == DEPLOYED:
        for outputs in orders(net, x):
            assert bool((margins(outputs, y) >= found.lower).all())
    # A global constant knows no more of rounding than the size of each layer.
    assert float((truth - found.lower).max()) < (0.01 if isinstance(method, Interval) else 1.0)


class _Sum(nn.Module):
    """h + 100 - c(h) - 100: a residual with a large detour."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(4, 4, 1)

    def forward(self, h: Tensor) -> Tensor:
        return ((h + 100.0) - self.c(h)) - 100.0


def _stacked(middle: nn.Module) -> nn.Module:
    front = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), middle, nn.Flatten()).eval()
    with torch.no_grad():
        size = front(torch.zeros(1, 1, 8, 8)).shape[1]
    return seeded(nn.Sequential(*front, nn.Linear(size, 3)), 8).eval()
