"""GloRo networks and relaxed robustness: never more than the certifier, strict, true."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from conftest import biased, examples, numbers, sequential
from torch import nn

from conjoin.attacks import PGD
from conjoin.certification import Lipschitz
from conjoin.core.ball import L2
from conjoin.core.evidence import Claim
from conjoin.core.run import attack, certify
from conjoin.errors import CapabilityError, ModelError, PlanError
from conjoin.models.torch import TorchModel
from conjoin.nn import GloRoHead, MinMax
from conjoin.nn.initialise import initialise
from conjoin.training import Affinity, GloRo, Recipe, TopK, fit, gloro
from conjoin.training.relaxed import leading


def network(seed: int = 0) -> nn.Sequential:
    made = sequential(seed).module
    assert isinstance(made, nn.Sequential)
    initialise(made, seed, orthogonal=True)
    biased(made, seed)
    return made.eval()


@pytest.mark.parametrize("eps", [0.0, 0.05, 0.3])
def test_an_answer_is_what_the_certifier_proves(eps: float) -> None:
    net, data = network(), examples(64)
    whole = gloro(net, eps=eps, example=data.x[:4])
    out = whole(data.x)
    assert out.shape == (64, 6)
    assert torch.equal(out[:, :5], net(data.x))
    data = data.labelled(net(data.x).argmax(1))
    proof = certify(TorchModel(net), data, Lipschitz(), L2(max(eps, 1e-9), (-9, 9)))
    answered = out.argmax(1) < 5
    assert bool((answered <= proof.certified).all())
    assert int((answered != proof.certified).sum()) <= 1  # one may lie within rounding
    assert torch.allclose(whole.radius(data.x), proof.radius, rtol=1e-4, atol=1e-5)
    assert bool((whole.radius(data.x) <= proof.radius * (1 + 1e-5) + 1e-6).all())
    assert whole.claim is Claim.SOUND_DEPLOYED
    assert whole.constants is not None and whole.constants.inner > 0


def test_an_answer_survives_attacks() -> None:
    net, data = network(1), examples(64)
    data = data.labelled(net(data.x).argmax(1))
    whole = gloro(net, eps=0.25, example=data.x[:4])
    answered = whole(data.x).argmax(1) < 5
    assert 5 < int(answered.sum()) < 60
    tried = attack(TorchModel(net), data, PGD(steps=30), L2(0.25, (-9, 9)), seed=0)
    assert not bool((tried.success & answered).any())
    radius = whole.radius(data.x)
    wide = attack(TorchModel(net), data, PGD(steps=30), L2(2.0, (-9, 9)), seed=0)
    assert bool((wide.distance[wide.success] > radius[wide.success]).all())


def test_ties_and_broken_logits_are_bottom() -> None:
    zero = torch.zeros(3, 3, dtype=torch.float64)
    head = GloRoHead(0.5, zero, zero, zero)  # constants of a constant network
    logits = torch.tensor(
        [
            [0.0, 0.0, 0.0],
            [1.0, 1.0, 0.0],
            [2.0, 1.0, 0.0],
            [torch.nan, 1.0, 0.0],
            [1e30, 1e30, 0.0],
        ]
    )
    assert head(logits, torch.ones(5)).argmax(1).tolist() == [3, 3, 0, 3, 3]
    infinite = torch.tensor([[torch.inf, 0.0, 0.0]])
    assert int(head(infinite, torch.ones(1)).argmax()) == 3
    dead = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    for p in dead.parameters():
        nn.init.zeros_(p)
    whole = gloro(dead.eval(), eps=0.1, example=examples(2).x)
    assert whole(examples(2).x).argmax(1).tolist() == [5, 5]
    assert whole.radius(examples(2).x).tolist() == [0.0, 0.0]


def test_small_weights_give_no_infinite_radius() -> None:
    """Weights of 1e-25, then of 1e25: in single precision their product is not what it seems."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 2))
    initialise(net, 0)
    with torch.no_grad():
        net[1].weight.mul_(1e-25)
        net[3].weight.mul_(1e25)
    whole = gloro(net.eval(), eps=0.1, example=examples(4).x)
    assert bool(whole.radius(examples(4).x).isfinite().all())


def test_logits_of_bottom_are_rounded_up() -> None:
    pairs = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    none = torch.zeros_like(pairs)
    z = numbers(1000, 2)
    bottom = GloRoHead(0.1, pairs, none, none)(z, torch.zeros(1000))[:, 2].double()
    assert bool((bottom >= z.double().amin(1) + 0.1).all())
    assert bool((bottom <= z.double().amin(1) + 0.1 + 2e-5 * (1 + z.abs().amax(1))).all())
    room = torch.full_like(pairs, 0.5)
    longer = GloRoHead(0.1, pairs, room, none)(z, torch.full((1000,), 2.0))[:, 2].double()
    assert torch.allclose(longer - bottom, torch.ones(1000, dtype=torch.float64), atol=1e-4)


def test_constants_belong_to_their_weights() -> None:
    net, data = network(), examples(8)
    whole = gloro(net, eps=0.1)
    with pytest.raises(ModelError, match="not known yet"):
        whole(data.x)
    whole.freeze(data.x[:2])
    whole(data.x)
    assert not any("falling" in name for name in whole.state_dict())
    with torch.no_grad():
        net[3].weight[0, 0] += 0.5
    with pytest.raises(ModelError, match="have changed"):
        whole(data.x)
    whole.freeze(data.x[:2])(data.x)
    net[3].weight.data[0, 0] += 0.5  # behind autograd's back
    with pytest.raises(ModelError, match="have changed"):
        whole.radius(data.x)
    whole.freeze(data.x[:2]).train()
    with pytest.raises(ModelError, match="mode"):
        whole(data.x)
    with pytest.raises(PlanError, match="l2 radius"):
        gloro(net, eps=-1.0)
    with pytest.raises(CapabilityError, match="softmax"):
        gloro(nn.Sequential(net, nn.Softmax(1)), eps=0.1, example=data.x[:2])


@pytest.mark.parametrize(
    ("falling", "said"),
    [
        (torch.zeros(2, 3, dtype=torch.float64), "square"),
        (torch.zeros(1, 1, dtype=torch.float64), "2 x 2"),
        (torch.zeros(3, 3), "double precision"),
    ],
)
def test_odd_constants_are_refused(falling: torch.Tensor, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        GloRoHead(0.1, falling, falling, falling)
    square = torch.zeros(2, 2, dtype=torch.float64)
    with pytest.raises(ModelError, match="radius"):
        GloRoHead(float("inf"), square, square, square)


def slow_leading(net: nn.Module, x: torch.Tensor, pairs: torch.Tensor) -> list[list[float]]:
    found = []
    for z in net(x).detach().double():
        order = z.argsort(descending=True).tolist()
        row = []
        for k in range(1, len(order)):
            ways = itertools.product(order[:k], order[k:])
            row.append(min(float((z[i] - z[j]) / pairs[i, j]) for i, j in ways))
        found.append(row)
    return found


def test_top_k_is_the_longest_of_the_leading_sets() -> None:
    net, data = network(2), examples(24)
    whole = gloro(net, eps=0.1, example=data.x[:4])
    assert whole.constants is not None
    slow = slow_leading(net, data.x, whole.constants.pairs)
    radii, order = leading(whole, data.x)
    assert torch.allclose(radii, torch.tensor(slow, dtype=torch.float64), rtol=1e-3, atol=1e-3)
    assert bool((radii <= torch.tensor(slow, dtype=torch.float64) + 1e-9).all())
    assert torch.allclose(radii[:, 0], whole.radius(data.x))
    for k in (1, 2, 4):
        told = TopK(k)(whole, data.x)
        assert torch.equal(told.radius, radii[:, :k].amax(1))
        assert torch.equal(told.classes.sum(1), told.size)
        first = told.classes.gather(1, order)
        assert bool((first.long().diff(dim=1) <= 0).all())  # the leading ones
    assert bool((TopK(3)(whole, data.x).radius >= TopK(1)(whole, data.x).radius).all())


def test_a_leading_set_survives_random_and_steepest_changes() -> None:
    net, data = network(2), examples(16)
    whole = gloro(net, eps=0.1, example=data.x[:4])
    told = TopK(3)(whole, data.x)
    for seed in range(20):
        step = numbers(*data.x.shape, seed=seed)
        length = step.flatten(1).norm(dim=1)[:, None, None, None]
        z = data.x + step / length * (0.999 * told.radius.float())[:, None, None, None]
        out = net(z)
        inside = out.masked_fill(~told.classes, torch.inf).amin(1)
        outside = out.masked_fill(told.classes, -torch.inf).amax(1)
        assert bool((inside > outside)[told.size > 0].all())


def test_affinity_forgives_mistakes_within_a_set() -> None:
    net, data = network(2), examples(24)
    whole = gloro(net, eps=0.1, example=data.x[:4])
    radii, order = leading(whole, data.x)
    sets = ((0, 1), (2, 3, 4))
    told = Affinity(sets)(whole, data.x)
    for row, places, size, radius in zip(
        radii, order.tolist(), told.size, told.radius, strict=True
    ):
        allowed = [k for k in range(1, 5) if k == 1 or any(set(places[:k]) <= set(s) for s in sets)]
        best = max(float(row[k - 1]) for k in allowed)
        assert float(radius) == best
        assert not best or int(size) in allowed
    assert torch.equal(Affinity(((0,),))(whole, data.x).radius, whole.radius(data.x))
    everything = Affinity(((0, 1, 2, 3, 4),))(whole, data.x)
    assert torch.equal(everything.radius, TopK(4)(whole, data.x).radius)
    for wrong in (lambda: Affinity(()), lambda: Affinity(((),)), lambda: TopK(0)):
        with pytest.raises(PlanError):
            wrong()
    with pytest.raises(PlanError, match="no class 9"):
        Affinity(((0, 9),))(whole, data.x)


def test_training_raises_the_share_that_is_answered() -> None:
    data = examples(128)
    data = data.labelled((data.x.flatten(1)[:, :3]).argmax(1))
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), MinMax(), nn.Linear(16, 3))
    initialise(net, 0, orthogonal=True)
    eps = 0.1

    def proved() -> float:
        out = gloro(net.eval(), eps=eps, example=data.x[:2])(data.x)
        return float((out.argmax(1) == data.y).float().mean())

    before = proved()
    whole = gloro(net, eps=eps)
    fit(whole, data, GloRo(eps), Recipe(epochs=40, batch_size=32, rate=1e-2))
    assert proved() > max(0.6, before + 0.2)
    assert float((whole(data.x).argmax(1) == data.y).float().mean()) == proved()  # frozen by fit


def moved_weights(net: nn.Sequential) -> None:
    weight = next(net.parameters()).data
    weight.copy_(weight.flip(0))  # the same numbers, elsewhere


def hooked(net: nn.Sequential) -> None:
    net[-1].register_forward_hook(lambda module, args, out: 1000 * out)


def partly_training(net: nn.Sequential) -> None:
    net[-1].train()


@pytest.mark.parametrize("change", [moved_weights, hooked, partly_training])
def test_what_is_another_network_is_refused(change: Callable[[nn.Sequential], None]) -> None:
    net, data = network(), examples(4)
    whole = gloro(net, eps=0.1, example=data.x)
    whole(data.x)
    change(net)
    for ask in (whole, whole.radius):
        with pytest.raises(ModelError, match="have changed"):
            ask(data.x)


def test_inputs_of_another_size_are_refused() -> None:
    class Summing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(1, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(x.flatten(1).sum(1, keepdim=True))

    whole = gloro(Summing().eval(), eps=0.1, example=torch.rand(2, 1, 2, 2))
    whole(torch.rand(2, 1, 2, 2))
    with pytest.raises(ModelError, match="inputs of shape"):  # whose constant is twice as large
        whole(torch.rand(2, 1, 4, 4))
