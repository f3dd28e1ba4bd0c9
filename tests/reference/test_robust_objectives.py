"""Robust objectives against their formulas, written out slowly in double precision."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import batch_of, biased, examples, numbers, sequential
from torch import Tensor, nn
from torch.nn import functional

from conjoin.attacks import PGD
from conjoin.certification import Interval, Lipschitz
from conjoin.core.ball import L2, Linf
from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Batch
from conjoin.core.quantity import logit
from conjoin.core.random import Streams
from conjoin.core.run import certify
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError, PlanError
from conjoin.models.torch import TorchModel
from conjoin.nn import Centring
from conjoin.nn.head import bottom
from conjoin.nn.initialise import initialise
from conjoin.training import (
    EMMA,
    IBP,
    TRADES,
    Cosine,
    FastAdversarial,
    Fixed,
    GloRo,
    Gram,
    Linear,
    Logarithmic,
    Segments,
    TradesGloRo,
)
from conjoin.training.interval import worst_logits
from conjoin.training.objective import Agreement, beside

ALL = Fixed(1.0)
PAIRS = torch.tensor([[0.0, 2.0, 1.0], [2.0, 0.0, 4.0], [1.0, 4.0, 0.0]], dtype=torch.float64)
LOGITS = torch.tensor(
    [[3.0, 1.0, 0.0], [0.5, 1.0, 0.9], [-1.0, -2.0, 5.0], [2.0, 2.0, 2.0]], dtype=torch.float64
)
LABELS = torch.tensor([0, 2, 2, 1])


def network(seed: int = 0) -> nn.Sequential:
    made = sequential(seed).module
    assert isinstance(made, nn.Sequential)
    initialise(made, seed, orthogonal=True)
    biased(made, seed)
    return made


def batch(count: int = 8) -> Batch:
    data = examples(count)
    return Batch(data.x, data.y, Streams.of(0, data.positions))


def slow_bottom(z: list[float], eps: float) -> float:
    j = z.index(max(z))
    return max(z[i] + eps * float(PAIRS[j, i]) for i in range(3) if i != j)


def cross_entropy(z: list[float], label: int) -> float:
    return math.log(sum(math.exp(v) for v in z)) - z[label]


def test_bottom_is_the_highest_that_another_class_can_reach() -> None:
    found = bottom(LOGITS, PAIRS, 0.5)
    assert found.tolist() == [slow_bottom(z, 0.5) for z in LOGITS.tolist()]
    assert float(bottom(LOGITS, PAIRS, 0.0)[3]) == 2.0  # a tie is no certificate


def test_gloro_is_cross_entropy_with_one_class_more() -> None:
    eps = 0.5
    expected = [
        cross_entropy([*z, slow_bottom(z, eps)], y)
        for z, y in zip(LOGITS.tolist(), LABELS.tolist(), strict=True)
    ]
    loss = GloRo(1.0, ratio=Fixed(eps)).loss(LOGITS, LABELS, PAIRS, 0.3)
    assert float(loss) == pytest.approx(sum(expected) / 4, rel=1e-12)


def test_trades_for_gloro_is_the_divergence_from_the_answer_with_bottom() -> None:
    eps, weight = 0.5, 3.0
    total = 0.0
    for z, y in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        p = torch.tensor([*z, -math.inf], dtype=torch.float64).softmax(0)
        q = torch.tensor([*z, slow_bottom(z, eps)], dtype=torch.float64).softmax(0)
        divergence = float((p[:3] * (p[:3] / q[:3]).log()).sum())
        assert divergence == pytest.approx(-math.log(1 - float(q[3])), rel=1e-12)
        total += cross_entropy(z, y) + weight * divergence
    objective = TradesGloRo(1.0, weight=Fixed(weight), ratio=Fixed(eps))
    assert float(objective.loss(LOGITS, LABELS, PAIRS, 0.0)) == pytest.approx(total / 4, rel=1e-12)


def test_emma_moves_each_class_as_far_as_its_own_attack() -> None:
    eps, total = 0.5, 0.0
    for z, y in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        moved = list(z)
        for i in range(3):
            if i != y:
                constant = float(PAIRS[y, i])
                radius = min(eps, max(0.01 * eps, (z[y] - z[i]) / constant))
                moved[i] += radius * constant
        total += cross_entropy(moved, y)
    logits = LOGITS.clone().requires_grad_()
    loss = EMMA(1.0, ratio=Fixed(eps)).loss(logits, LABELS, PAIRS, 0.0)
    assert float(loss.detach()) == pytest.approx(total / 4, rel=1e-12)
    # The radii are held: the gradient in the logits is that of the cross-entropy.
    (slope,) = torch.autograd.grad(loss, logits)
    assert torch.allclose(slope.sum(1), torch.zeros(4, dtype=torch.float64), atol=1e-12)
    assert float(slope[3, 1]) == pytest.approx(
        (torch.tensor([2 + 0.01, 2.0, 2 + 0.02], dtype=torch.float64).softmax(0)[1] - 1) / 4
    )


@pytest.mark.parametrize("objective", [GloRo(0.3), TradesGloRo(0.3), EMMA(0.3)])
def test_certified_objectives_follow_the_weights(objective: GloRo) -> None:
    net, part = network(), batch()
    ready = objective.prepare(net, part.x[:1])
    ready.state.settle(500)
    pairs = Lipschitz().prepare(TorchModel(net.eval()), part).constants.pairs.float()
    expected = objective.loss(net(part.x), part.aim, pairs, 0.7)
    loss = ready(net, part, 0.7)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=2e-3)
    loss.backward()
    for name, p in net.named_parameters():
        assert p.grad is not None and bool(p.grad.isfinite().all()), name
    assert "v1" in dict(ready.state.norms.named_buffers())
    with pytest.raises(PlanError, match="l2 radius"):
        type(objective)(-1.0)


def test_the_gradient_lowers_the_constants() -> None:
    net, part = network(), batch()
    ready = GloRo(3.0, ratio=ALL).prepare(net, part.x[:1])
    before = float(ready.state().detach().max())
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01)
    for _ in range(20):
        optimiser.zero_grad()
        ready(net, part, 1.0).backward()
        optimiser.step()
    assert float(ready.state().detach().max()) < 0.95 * before


def test_vra_of_training_by_gram_is_never_optimistic() -> None:
    net, part = network(), batch(32)
    ready = GloRo(0.3, norms=Gram(6)).prepare(net, part.x[:1])
    with torch.no_grad():
        logits = net.eval()(part.x)
        wins = bottom(logits, ready.state(), 0.3) < logits.amax(1)
    data = examples(32).labelled(logits.argmax(1))
    proof = certify(TorchModel(net), data, Lipschitz(), L2(0.3, (-9, 9)))
    assert bool((wins <= proof.certified).all())
    assert bool(wins.any())


def test_trades_is_cross_entropy_and_the_divergence_at_the_attack() -> None:
    net, part, threat = network(), batch(), Linf(0.2, (-9, 9))
    method = PGD(steps=7, step_size=0.3)
    loss = TRADES(threat, weight=2.0, method=method, ratio=ALL)(net, part, 0.0)
    clean = net(part.x).detach()
    model = Agreement(net.eval(), part.x.device)
    z = method(model, beside(part, clean.log_softmax(1)), threat, logit)
    assert bool(threat.contains(z, part.x).all())
    p, q = clean.double().softmax(1), net(z).detach().double().softmax(1)
    divergence = (p * (p / q).log()).sum(1)
    expected = functional.cross_entropy(clean, part.aim).double() + 2 * divergence.mean()
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)
    random = threat.sample(part.x, part.rng)
    q = net(random).detach().double().softmax(1)
    assert float(divergence.mean()) > float((p * (p / q).log()).sum(1).mean()) > 0
    loss.backward()
    assert all(p.requires_grad and p.grad is not None for p in net.parameters())


def test_one_step_from_a_random_start() -> None:
    net, part, threat = network(), batch(), Linf(0.3, (-9, 9))
    rng = part.rng.fold("start")
    start = threat.sample(part.x, rng).requires_grad_()
    functional.cross_entropy(net(start), part.aim, reduction="sum").backward()
    assert start.grad is not None
    end = (start + 1.25 * 0.3 * start.grad.sign()).detach()
    end = part.x + (end - part.x).clamp(-0.3, 0.3)
    plain = FastAdversarial(threat, guard=1, ratio=ALL)(net, part, 0.0)
    expected = functional.cross_entropy(net(end), part.aim)
    assert float(plain.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    # The guard takes the first wrong point on the way: no later one than the end.
    slow = []
    for x, z, y in zip(part.x, end, part.aim, strict=True):
        places = [x + (z - x) * (k / 4) for k in (1, 2, 3)]
        wrong = [p for p in places if int(net(p[None]).argmax()) != int(y)]
        slow.append(wrong[0] if wrong else z)
    guarded = FastAdversarial(threat, guard=4, ratio=ALL)(net, part, 0.0)
    expected = functional.cross_entropy(net(torch.stack(slow)), part.aim)
    assert float(guarded.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    with pytest.raises(PlanError, match="guard >= 1"):
        FastAdversarial(threat, guard=0)


def test_interval_training_bounds_the_worst_logits() -> None:
    net, part, eps = network(), batch(), 0.05
    ready = IBP(Linf(eps, (-9, 9))).prepare(net, part.x[:1])
    box = part.x - eps, part.x + eps
    worst = worst_logits(ready.graph, box, part.aim).detach()
    assert torch.equal(worst.gather(1, part.aim[:, None]), torch.zeros(8, 1))
    proof = certify(TorchModel(net.eval()), examples(8), Interval(), Linf(eps, (-9, 9)))
    lower = -worst.scatter(1, part.aim[:, None], -torch.inf).amax(1)
    assert torch.allclose(lower.double(), proof.lower.double(), atol=1e-4)
    for point in range(20):
        x = part.x + eps * (2 * numbers(*part.x.shape, seed=point).sigmoid() - 1)
        z = net(x).detach()
        assert bool((z - z.gather(1, part.aim[:, None]) <= worst + 1e-5).all())
    with torch.no_grad():  # the weights of today, not those that were read
        net[3].weight.mul_(2)
    assert not torch.allclose(worst, worst_logits(ready.graph, box, part.aim).detach())


def test_interval_training_is_a_weighted_sum() -> None:
    net, part = network(), batch()
    objective = IBP(Linf(0.1, (-9, 9)), weight=Fixed(0.25), ratio=ALL)
    ready = objective.prepare(net, part.x[:1])
    worst = worst_logits(ready.graph, (part.x - 0.1, part.x + 0.1), part.aim)
    expected = 0.75 * functional.cross_entropy(net(part.x), part.aim)
    expected = expected + 0.25 * functional.cross_entropy(worst, part.aim)
    assert float(ready(net, part, 0.0).detach()) == pytest.approx(
        float(expected.detach()), rel=1e-4
    )
    ready(net, part, 0.0).backward()
    assert all(p.grad is not None for p in net.parameters())
    with pytest.raises(PlanError, match="infinity norm"):
        IBP(L2(0.1))


class Shifted(nn.Module):
    """Biases of their own, a running mean, and one that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8, bias=False), nn.Linear(8, 4)
        self.own = nn.Parameter(numbers(8, seed=1))
        self.centre = Centring(8)
        self.computed = False

    def forward(self, x: Tensor) -> Tensor:
        shift = self.own.exp() if self.computed else self.own
        out: Tensor = self.last(self.centre(self.first(x) + shift).relu())
        return out


def test_interval_training_follows_biases_of_every_kind() -> None:
    with torch.random.fork_rng(devices=[]):
        net = Shifted()
    initialise(net, 0)
    x, y = numbers(9, 6), torch.arange(9) % 4
    ready = IBP(Linf(0.05, (-9, 9))).prepare(net, x[:1])
    assert not bool(net.centre.mean.any())
    with torch.no_grad():  # as training moves them
        net.own.add_(1.5)
        net.centre.mean.add_(numbers(8, seed=3))
        net.last.bias.add_(numbers(4, seed=4))
    worst = worst_logits(ready.graph, (x - 0.05, x + 0.05), y).detach()
    proof = certify(TorchModel(net.eval()), Dataset(x, y), Interval(), Linf(0.05, (-9, 9)))
    lower = -worst.scatter(1, y[:, None], -torch.inf).amax(1)
    assert torch.allclose(lower.double(), proof.lower.double(), atol=1e-4)
    net.computed = True
    with pytest.raises(CapabilityError, match="where its bias comes from"):
        IBP(Linf(0.1)).prepare(net, x[:1])


class Branched(nn.Module):
    """A join, a subtraction and a shared layer, and no dense layer in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        h = self.first(h.relu()) - 0.5 * x
        return self.last(torch.cat([h, x], 1)[:, 3:9]).tanh()


def test_interval_training_follows_odd_graphs() -> None:
    with torch.random.fork_rng(devices=[]):
        net = Branched()
    initialise(net, 0)
    biased(net, 2)
    x, y = numbers(9, 6), torch.arange(9) % 4
    ready = IBP(Linf(0.05, (-9, 9))).prepare(net, x[:1])
    worst = worst_logits(ready.graph, (x - 0.05, x + 0.05), y).detach()
    for point in range(50):
        z = net(x + 0.05 * (2 * numbers(9, 6, seed=point).sigmoid() - 1)).detach()
        assert bool((z - z.gather(1, y[:, None]) <= worst + 1e-5).all())
    ball, labelled = Linf(0.05, (-9, 9)), Dataset(x, y)
    proof = certify(TorchModel(net.eval()), labelled, Interval(), ball)
    lower = -worst.scatter(1, y[:, None], -torch.inf).amax(1)
    assert torch.allclose(lower.double(), proof.lower.double(), atol=1e-4)
    odd = nn.Sequential(nn.Linear(6, 4), nn.GELU())
    initialise(odd, 0)
    with pytest.raises(CapabilityError, match="no interval bound for training"):
        worst_logits(IBP(Linf(0.1)).prepare(odd, x[:1]).graph, (x - 1, x + 1), y)


def test_schedules_reach_their_end_and_stay() -> None:
    linear, log = Linear(0.1, 1.5, until=0.5), Logarithmic(0.01, 1.0, until=0.5)
    assert linear(0.0) == 0.1
    assert linear(0.25) == pytest.approx(0.8)
    assert linear(0.5) == linear(0.9) == linear(1.0) == 1.5
    assert log(0.25) == pytest.approx(0.1)
    assert log(0.5) == log(1.0) == 1.0
    whole = Segments((Fixed(0.0), Linear(0.0, 2.0), Logarithmic(2.0, 1.0)), (0.25, 0.75, 1.0))
    assert [whole(p) for p in (0.0, 0.2, 0.5, 0.75, 1.0)] == pytest.approx([0, 0, 1, 2, 1])
    assert whole(1.0) == 1.0
    rate = Cosine(warm=0.1)
    assert rate(0.05) < rate(0.1) > rate(0.5) > rate(0.99) > rate(1.0) == 0
    assert Cosine(1.0, 0.2, warm=0.0)(0.5) == pytest.approx(0.6)
    for wrong in (
        lambda: Linear(until=0.0),
        lambda: Logarithmic(0.0, 1.0),
        lambda: Segments((Fixed(1.0),), (0.5,)),
        lambda: Segments((Fixed(1.0), Fixed(2.0)), (0.5, 0.5)),
    ):
        with pytest.raises(PlanError):
            wrong()


def test_a_ball_of_one_radius_is_needed() -> None:
    threat: Threat = Linf(torch.full((8,), 0.1))
    with pytest.raises(PlanError, match="one radius"):
        TRADES(threat)(network(), batch(), 0.5)
    assert batch_of(numbers(2, 3)).x.shape == (2, 3)
