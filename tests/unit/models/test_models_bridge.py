"""A model of another framework, here NumPy with a hand-written derivative, beside its torch twin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import batch_of
from torch import nn

from conjoin import wrap
from conjoin.attacks import PGD
from conjoin.attribution import integrated_gradients
from conjoin.certification import Interval
from conjoin.core.ball import L1, L2, Ball, Linf
from conjoin.core.dataset import Dataset
from conjoin.core.distribution import GaussLegendre
from conjoin.core.quantity import given
from conjoin.core.run import attack, attribute, certify
from conjoin.core.slice import INPUT, OUTPUT, Cut
from conjoin.errors import CapabilityError, ModelError
from conjoin.models.bridge import Bridge, over_dlpack
from conjoin.models.torch import TorchModel

GENERATOR = np.random.default_rng(5)
W1, B1 = GENERATOR.normal(size=(7, 6)), GENERATOR.normal(size=7)
W2, B2 = GENERATOR.normal(size=(4, 7)), GENERATOR.normal(size=4)


def forward(x: np.ndarray) -> np.ndarray:
    return np.tanh(x @ W1.T + B1) @ W2.T + B2


def vjp(x: np.ndarray, v: np.ndarray) -> np.ndarray:
    slope = 1 - np.tanh(x @ W1.T + B1) ** 2
    return ((v @ W2) * slope) @ W1


@pytest.fixture
def bridged() -> Bridge:
    return Bridge(over_dlpack(forward, np.from_dlpack), over_dlpack(vjp, np.from_dlpack))


@pytest.fixture
def twin() -> TorchModel:
    net = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 4)).double()
    for layer, weight, bias in ((net[0], W1, B1), (net[2], W2, B2)):
        layer.weight.data, layer.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
    return wrap(net)


@pytest.fixture
def data(twin: TorchModel) -> Dataset:
    x = torch.from_numpy(np.random.default_rng(6).random((9, 6)))
    with torch.no_grad():
        return Dataset(x, twin(batch_of(x)).argmax(1))


def test_outputs_and_gradients_are_those_of_the_twin(
    bridged: Bridge, twin: TorchModel, data: Dataset
) -> None:
    pairs = []
    for model in (bridged, twin):
        leaf = data.x.clone().requires_grad_()
        out = model(batch_of(leaf))
        pairs.append((out.detach(), *torch.autograd.grad(out[:, 2].sum(), leaf)))
    for one, two in zip(*pairs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("threat", [Linf(0.2), L2(0.5), L1(0.8)], ids=str)
def test_pgd_finds_the_same_as_on_the_twin(
    bridged: Bridge, twin: TorchModel, data: Dataset, threat: Ball
) -> None:
    found = [attack(m, data, PGD(20, restarts=2), threat, seed=3) for m in (bridged, twin)]
    torch.testing.assert_close(found[0].inputs, found[1].inputs, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found[0].value, found[1].value, rtol=1e-9, atol=1e-9)
    assert torch.equal(found[0].success, found[1].success)
    assert bool(found[0].success.any()) and bool((found[0].value < found[0].clean).all())
    assert found[0].provenance.backward == found[1].provenance.backward > 0


def test_an_explanation_is_that_of_the_twin(
    bridged: Bridge, twin: TorchModel, data: Dataset
) -> None:
    method = integrated_gradients(quadrature=GaussLegendre(20))
    found = [attribute(m, data, method, seed=0, target=given) for m in (bridged, twin)]
    torch.testing.assert_close(found[0].values, found[1].values, rtol=1e-9, atol=1e-9)
    assert float(found[0].gap.abs().max()) < 1e-9


def test_a_second_derivative_raises_instead_of_being_wrong(bridged: Bridge, data: Dataset) -> None:
    leaf = data.x.clone().requires_grad_()
    out = bridged(batch_of(leaf))
    with pytest.raises(CapabilityError, match="second derivative through a bridged model"):
        torch.autograd.grad(out.sum(), leaf, create_graph=True)


def test_an_inner_cut_raises(bridged: Bridge, data: Dataset) -> None:
    batch = batch_of(data.x)
    x, out = bridged.run(batch, take=(INPUT, OUTPUT))
    assert x is data.x and torch.equal(out, bridged(batch))
    (moved,) = bridged.run(batch, put={INPUT: data.x + 1})
    assert torch.equal(moved, bridged(batch.at(data.x + 1)))
    assert bridged.run(batch, put={OUTPUT: out}, take=(OUTPUT,))[0] is out
    with pytest.raises(CapabilityError, match="cut at its input and output only"):
        bridged.run(batch, take=(Cut("hidden"),))
    with pytest.raises(CapabilityError, match="a bridge of its own"):
        bridged.run(batch, put={Cut("hidden"): data.x})


def test_only_a_version_tells_bridges_apart(bridged: Bridge) -> None:
    assert bridged.digest() == ""
    one, two = replace(bridged, version="1"), replace(bridged, version="2")
    assert one.digest() == replace(bridged, version="1").digest() != two.digest() != ""
    assert len(one.digest()) == 64


def test_a_context_comes_by_name(data: Dataset) -> None:
    def scaled(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
        return forward(x) * scale

    def back(x: np.ndarray, v: np.ndarray, scale: np.ndarray) -> np.ndarray:
        return vjp(x, v * scale)

    model = Bridge(over_dlpack(scaled, np.from_dlpack), over_dlpack(back, np.from_dlpack))
    scale = torch.full((9, 1), 3.0, dtype=torch.float64)
    leaf = data.x.clone().requires_grad_()
    batch = replace(batch_of(leaf), context={"scale": scale})
    out = model(batch)
    torch.testing.assert_close(out.detach(), torch.from_numpy(3 * forward(data.x.numpy())))
    (gradient,) = torch.autograd.grad(out[:, 1].sum(), leaf)
    v = np.zeros((9, 4))
    v[:, 1] = 3
    torch.testing.assert_close(gradient, torch.from_numpy(vjp(data.x.numpy(), v)))


def test_a_certificate_needs_layers_and_says_what_applies(bridged: Bridge, data: Dataset) -> None:
    with pytest.raises(CapabilityError, match=r"needs to know the layers.*attacks apply"):
        certify(bridged, data, Interval(), Linf(0.01))


def test_wrapping_a_bridge_says_that_it_is_a_model_already(bridged: Bridge) -> None:
    with pytest.raises(ModelError, match="it already is a model"):
        wrap(bridged)
