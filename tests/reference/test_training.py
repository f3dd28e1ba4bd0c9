"""Layers and training objectives against their definitions; the loop repeats itself exactly."""

from __future__ import annotations

import pytest
import torch
from conftest import examples, numbers, sequential
from torch import nn
from torch.nn import functional

from conjoin.attacks import PGD
from conjoin.certification import Lipschitz
from conjoin.certification.norms import matrix_norm, operator_norm
from conjoin.core.ball import L2, Linf
from conjoin.core.linear import Convolution
from conjoin.core.protocols import Batch
from conjoin.core.quantity import log_likelihood
from conjoin.core.random import Streams
from conjoin.core.run import certify, predict
from conjoin.errors import ModelError, PlanError
from conjoin.models.torch import TorchModel
from conjoin.nn import MinMax, Normalise
from conjoin.nn.initialise import initialise
from conjoin.training import Adversarial, GloRo, Power, Recipe, Standard, fit
from conjoin.training.power import running_constants


def network(seed: int = 0) -> nn.Sequential:
    made = sequential(seed).module
    assert isinstance(made, nn.Sequential)
    initialise(made, seed, orthogonal=True)
    return made


def batch(count: int = 8) -> Batch:
    data = examples(count)
    return Batch(data.x, data.y, Streams.of(0, data.positions))


def test_minmax_sorts_pairs_and_keeps_gradient_norms() -> None:
    x = numbers(3, 6, 2, 2).requires_grad_()
    out = MinMax()(x)
    assert torch.equal(out[:, :3], torch.minimum(x[:, :3], x[:, 3:]))
    assert torch.equal(out[:, 3:], torch.maximum(x[:, :3], x[:, 3:]))
    v = numbers(3, 6, 2, 2, seed=1)
    (gradient,) = torch.autograd.grad((out * v).sum(), x)
    assert torch.allclose(gradient.norm(), v.norm())
    with pytest.raises(ModelError, match="even number"):
        MinMax()(numbers(1, 3))


def test_normalise_maps_by_channel_and_refuses_nonsense() -> None:
    x = numbers(2, 2, 3, 3)
    out = Normalise([0.5, -1.0], [0.5, 2.0])(x)
    assert torch.allclose(out[:, 0], (x[:, 0] - 0.5) / 0.5)
    assert torch.allclose(out[:, 1], (x[:, 1] + 1.0) / 2.0)
    for mean, std in (([0.0], [0.0]), ([0.0], [1.0, 1.0]), ([0.0], [float("nan")])):
        with pytest.raises(ModelError, match="one mean and one std > 0"):
            Normalise(mean, std)


def test_initial_weights_are_seeded_and_orthogonal_on_request() -> None:
    one, two, other = network(0), network(0), network(1)
    for a, b, c in zip(one.parameters(), two.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        if a.ndim > 1:
            assert not torch.equal(a, c)
    weight = one[3].weight.detach().double()
    assert torch.allclose(weight @ weight.T, torch.eye(16).double(), atol=1e-5)
    plain = nn.Linear(400, 300)
    initialise(plain, 0)
    assert float(plain.weight.detach().std()) == pytest.approx((2 / 400) ** 0.5, rel=0.02)


def test_power_iteration_approaches_the_norms_from_below() -> None:
    net = network(3)
    norms = running_constants(net, torch.zeros(1, 1, 8, 8), Power()).norms
    truth = [
        operator_norm(
            Convolution(net[0].weight.detach().double(), (1, 8, 8), (2, 2), (1, 1), (1, 1))
        ),
        matrix_norm(net[3].weight),
    ]
    for estimate, bound in zip(norms(1), truth, strict=True):
        assert float(estimate.detach()) <= bound * (1 + 1e-6)
    for estimate, bound in zip(norms(300), truth, strict=True):
        assert float(estimate.detach()) == pytest.approx(bound, rel=1e-2)
        assert float(estimate.detach()) <= bound * (1 + 1e-6)


def test_gloro_is_the_cross_entropy_with_the_certificate_as_a_class() -> None:
    net, part, eps = network(), batch(), 0.3
    objective = GloRo(eps).prepare(net, part.x[:1])
    objective.state.settle(500)
    loss = objective(net, part, 1.0)
    logits = net(part.x)
    model = TorchModel(net)
    constants = Lipschitz().prepare(model, part).constants
    expected = []
    for z, label in zip(logits, part.aim, strict=True):
        j = int(z.argmax())
        bottom = max(
            float(z[k].detach()) + eps * float(constants.pairs[j, k]) for k in range(5) if k != j
        )
        expected.append(
            functional.cross_entropy(torch.cat([z, z.new_tensor([bottom])])[None], label[None])
        )
    assert float(loss.detach()) == pytest.approx(
        float(torch.stack(expected).mean().detach()), rel=1e-3
    )
    # ⊥ wins exactly where the prediction is not certified.
    some = examples(8).labelled(predict(model, examples(8)).argmax(1))
    certified = certify(model, some, Lipschitz(), L2(eps, (-9, 9))).certified
    top = logits.argmax(1)
    reach = logits + eps * constants.pairs[top].float()
    bottom_wins = reach.scatter(1, top[:, None], -torch.inf).amax(1) >= logits.amax(1)
    assert torch.equal(certified, ~bottom_wins)


def test_gloro_gradients_are_finite_at_ties() -> None:
    net, part = network(), batch()
    with torch.no_grad():
        net[5].weight.zero_()
        net[5].bias.zero_()
    GloRo(0.3).prepare(net, part.x[:1])(net, part, 1.0).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is None or bool(parameter.grad.isfinite().all()), name


def test_adversarial_training_sees_a_loss_at_least_as_large_as_standard() -> None:
    net, part = network(), batch()
    threat = Linf(0.1)
    method = PGD(steps=5, surrogate=log_likelihood, random_start=False)
    clean = Standard()(net, part, 1.0)
    worst = Adversarial(method, threat)(net, part, 1.0)
    assert float(worst.detach()) >= float(clean.detach())
    assert float(Adversarial(method, threat)(net, part, 0.0).detach()) == pytest.approx(
        float(clean.detach())
    )
    assert all(p.requires_grad for p in net.parameters())
    with pytest.raises(PlanError, match="with a goal"):
        Adversarial(method, threat, quantity=lambda outputs, aim: outputs[:, 0])
    worst.backward()
    assert all(p.grad is not None for p in net.parameters())


def test_training_repeats_itself_and_learns() -> None:
    data = examples(64)
    data = data.labelled((data.x.flatten(1)[:, :5]).argmax(1))
    seen: list[int] = []

    def trained() -> nn.Sequential:
        net = network()
        fit(net, data, Standard(), Recipe(epochs=20, batch_size=16, rate=1e-2), seen_epoch)
        return net

    def seen_epoch(event: object) -> None:
        seen.append(event.done)  # type: ignore[attr-defined]

    one, two = trained(), trained()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    right = (predict(TorchModel(one), data).argmax(1) == data.y).float().mean()
    assert float(right) > 0.9
    assert seen == 2 * list(range(1, 21))
    assert not one.training
