"""Lipschitz constants of functions split into a line and a rest: never larger, never below the
truth."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from conftest import batch_of, biased, examples, numbers, residual, sequential
from torch import Tensor, nn

from conjoin.attacks import PGD
from conjoin.certification import Lipschitz
from conjoin.certification.constants import Constants
from conjoin.core.ball import L2
from conjoin.core.random import Streams
from conjoin.core.run import attack, certify, predict
from conjoin.models.torch import TorchModel
from conjoin.nn.initialise import initialise


def found(model: TorchModel, x: Tensor) -> Constants:
    return Lipschitz(split=True).prepare(model, batch_of(x)).constants


class Plus(nn.Module):
    """x + body(x)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


def square(n: int, seed: int) -> nn.Linear:
    layer = nn.Linear(n, n).double()
    with torch.no_grad():
        layer.weight.copy_(numbers(n, n, seed=seed).double() / math.sqrt(n))
    return layer


def test_a_linear_residual_is_one_operator() -> None:
    """‖(u_i - u_j) ... (I + W)‖ exactly, through a slope that is one: no rest at all."""
    inner, head = square(7, 1), nn.Linear(7, 3).double()
    block = Plus(inner)
    identity = nn.LeakyReLU(1.0)
    model = TorchModel(nn.Sequential(block, identity, head))
    whole = head.weight.detach() @ (torch.eye(7).double() + inner.weight.detach())
    constants = found(model, torch.zeros(2, 7).double())
    assert constants.close is not None
    for i in range(3):
        for j in range(3):
            if i != j:
                exact = float((whole[i] - whole[j]).norm())
                assert exact <= float(constants.close[i, j]) <= exact * (1 + 1e-6)


def test_a_residual_branch_is_bounded_by_its_halves() -> None:
    """x + W relu(x) has at most ‖I + W/2‖ + ‖W‖/2, row by row here."""
    weight, head = square(6, 3), nn.Linear(6, 2, bias=False).double()
    model = TorchModel(nn.Sequential(Plus(nn.Sequential(nn.ReLU(), weight)), head))
    w, row = weight.weight.detach(), (head.weight[0] - head.weight[1]).detach()
    half = float((row @ (torch.eye(6).double() + w / 2)).norm()) + float((row @ w).norm()) / 2
    constants = found(model, torch.zeros(1, 6).double())
    assert constants.close is not None
    assert float(constants.close[0, 1]) == pytest.approx(half, rel=1e-6)
    assert half < float(constants.pairs[0, 1])
    signs = torch.cartesian_prod(
        *[torch.tensor([0.0, 1.0]).double()] * 6
    )  # every pattern of slopes
    true = max(float((row @ (torch.eye(6).double() + w * s)).norm()) for s in signs)
    assert true <= float(constants.close[0, 1])


def pooled() -> TorchModel:
    """Convolution, batch norm and average pool before a function, and after it."""
    norm = nn.BatchNorm2d(4)
    with torch.no_grad():
        norm.running_mean.copy_(numbers(4, seed=1))
        norm.running_var.copy_(numbers(4, seed=2).square() + 0.3)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), norm, nn.AvgPool2d(2), nn.Tanh(),
        nn.Conv2d(4, 4, 3), nn.AvgPool2d(2), nn.Flatten(), nn.ReLU(), nn.Linear(4, 5),
    )  # fmt: skip
    initialise(module, 2)
    biased(module, 2)
    return TorchModel(module.eval())


MODELS: dict[str, Callable[[], TorchModel]] = {
    "residual": residual,
    "sorted pairs": sequential,
    "pooled": pooled,
}


@pytest.mark.parametrize("name", MODELS)
def test_constants_lie_between_gradients_and_products(name: str) -> None:
    model = MODELS[name]()
    constants = found(model, examples(2).x)
    plain = Lipschitz().prepare(model, batch_of(examples(2).x)).constants
    assert torch.equal(plain.pairs, constants.pairs)
    assert constants.close is not None
    classes = len(plain.single)
    off = ~torch.eye(classes, dtype=torch.bool)
    assert bool((constants.close[off] <= plain.pairs[off]).all())
    assert bool((constants.close.diagonal() <= plain.single).all())
    if name != "sorted pairs":
        assert float((constants.close / plain.pairs)[off].median()) < 0.95
    z = Streams.of(5, torch.arange(40)).normal(1, 8, 8) * 3
    leaf = z.requires_grad_()
    outputs = model.module(leaf)
    for c in range(classes - 1):
        (slope,) = torch.autograd.grad(
            (outputs[:, c] - outputs[:, c + 1]).sum(), leaf, retain_graph=True
        )
        assert float(slope.flatten(1).norm(dim=1).max()) <= float(constants.close[c, c + 1])


@pytest.mark.parametrize("name", MODELS)
def test_split_certificates_prove_more_and_are_not_attacked(name: str) -> None:
    model = MODELS[name]()
    data = examples(6)
    data = data.labelled(predict(model, data).argmax(1))
    split, plain = (certify(model, data, Lipschitz(split=s), L2(0.05)) for s in (True, False))
    assert bool((split.radius >= plain.radius).all())
    inside = L2(split.radius.double())
    hit = attack(model, data, PGD(steps=30), inside, seed=0)
    assert not bool((hit.success & (split.radius > 0)).any())
    assert "split" in repr(Lipschitz(split=True))
    assert repr(Lipschitz()) == "Lipschitz()"
