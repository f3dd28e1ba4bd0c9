"""Agreement with Captum at 1e-5 on a residual network, two inputs, an LSTM and a transformer.

At equal nodes where both take the same rule. What differs by definition is said where it is tested:
Captum's integrated gradients by trapezoid count both ends fully, ours by halves.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from captum import attr
from conftest import biased, numbers
from torch import Tensor, nn
from torch.nn import functional

from conjoin.attribution import (
    Influence,
    conductance,
    feature_ablation,
    gradient_times_input,
    integrated_gradients,
    internal_influence,
    layer_integrated_gradients,
    occlusion,
    saliency,
)
from conjoin.core.dataset import Dataset
from conjoin.core.distribution import Filled, Midpoint, Panels, Path, Point, Straight
from conjoin.core.quantity import given, logit
from conjoin.core.run import attribute
from conjoin.core.slice import INPUT, Cut, Side, Slice
from conjoin.models.torch import TorchModel
from conjoin.nn.initialise import initialise

NODES = 12


class Small(nn.Module):
    """A residual network with batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.stem(x)).relu()
        h = (h + self.b(self.a(h).relu())).relu()
        return self.head(functional.avg_pool2d(h, 8).flatten(1))


class Reader(nn.Module):
    """An LSTM over a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 6)
        self.lstm, self.head = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.stem(x))[0].mean(1))


class Attending(nn.Module):
    """One block of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Linear(3, 8), nn.LayerNorm(8)
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        q, k, v = self.qkv(self.norm(h)).chunk(3, -1)
        h = h + self.out(functional.scaled_dot_product_attention(q, k, v))
        return self.head(functional.relu(h).mean(1))


SHAPES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (Small, (1, 8, 8)),
    "LSTM": (Reader, (6, 3)),
    "transformer": (Attending, (6, 3)),
}


def made(name: str) -> tuple[TorchModel, Dataset]:
    make, shape = SHAPES[name]
    module = make().eval()
    initialise(module, 2)
    biased(module, 2)
    x = numbers(4, *shape, seed=5, dtype=torch.float64)
    return TorchModel(module.double()), Dataset(x, torch.tensor([0, 3, 1, 4]))


def ours(model: TorchModel, data: Dataset, method: object) -> Tensor:
    return attribute(model, data, method, seed=0, target=given).values  # type: ignore[arg-type]


def same(found: Tensor, peer: Tensor) -> bool:
    peer = peer.detach().to(found.dtype)
    return torch.allclose(found, peer, rtol=1e-5, atol=1e-5 * float(peer.abs().max()))


@pytest.mark.parametrize("name", SHAPES)
def test_methods_at_the_input(name: str) -> None:
    model, data = made(name)
    module, x, y = model.module, data.x.clone().requires_grad_(), data.y
    assert same(ours(model, data, saliency()), attr.Saliency(module).attribute(x, y, abs=False))
    peer = attr.InputXGradient(module).attribute(x, y)
    assert same(ours(model, data, gradient_times_input()), peer)
    integrated = attr.IntegratedGradients(module)
    middle = integrated.attribute(x, target=y, n_steps=NODES, method="riemann_middle")
    assert same(ours(model, data, integrated_gradients(quadrature=Midpoint(NODES))), middle)
    fine = integrated.attribute(x, target=y, n_steps=1000, method="gausslegendre").detach()
    panels = ours(model, data, integrated_gradients(nodes=100))
    assert float((panels - fine).norm() / fine.norm()) < 6e-3
    groups = torch.arange(x[0].numel()).reshape(1, *x.shape[1:])
    ablated = attr.FeatureAblation(module).attribute(x, target=y)
    assert same(ours(model, data, feature_ablation(groups)), ablated)


@pytest.mark.parametrize("name", SHAPES)
def test_methods_at_a_layer(name: str) -> None:
    model, data = made(name)
    module, x, y = model.module, data.x, data.y
    layer = module.get_submodule("stem")
    gradient = attr.LayerGradientXActivation(module, layer).attribute(x, target=y)
    times = internal_influence("stem", Point(times_input=True))
    assert same(ours(model, data, times), gradient)
    middle = attr.LayerIntegratedGradients(module, layer).attribute(
        x, target=y, n_steps=NODES, method="riemann_middle"
    )
    method = layer_integrated_gradients("stem", quadrature=Midpoint(NODES))
    assert same(ours(model, data, method), middle)
    way = Path(quadrature=Midpoint(NODES), displaced=False)
    mean = attr.InternalInfluence(module, layer).attribute(
        x, target=y, n_steps=NODES, method="riemann_middle"
    )
    assert same(ours(model, data, internal_influence("stem", way)), mean)
    flow = attr.LayerConductance(module, layer).attribute(x, target=y, n_steps=1500).detach()
    found = ours(model, data, conductance("stem", nodes=150))
    assert float((found - flow).norm() / flow.norm()) < 4e-3


def test_occlusion_of_images() -> None:
    model, data = made("residual")
    peer = attr.Occlusion(model.module).attribute(
        data.x, (1, 3, 3), strides=(1, 2, 2), target=data.y
    )
    assert same(ours(model, data, occlusion(window=3, stride=2)), peer)


class Pair(nn.Module):
    """Two inputs that meet in a product."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(3, 8), nn.Linear(2, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return self.head(self.one(x).relu() * self.two(other).tanh())


def test_two_inputs() -> None:
    module = Pair()
    initialise(module, 1)
    biased(module, 1)
    model = TorchModel(module.double())
    x, other = numbers(4, 3, dtype=torch.float64), numbers(4, 2, seed=9, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 3])
    data, second = Dataset(x, y, context={"other": other}), Cut("", Side.IN, item="other")
    both = Influence(Point(), logit, Slice(INPUT), also=(second,))
    found = attribute(model, data, both, seed=0, target=given)
    one, two = attr.Saliency(module).attribute(
        (x.clone().requires_grad_(), other.clone().requires_grad_()), y, abs=False
    )
    assert same(found.values, one) and same(found.layers[second.name], two)
    way = Influence(Straight(Filled(0.0), Midpoint(NODES)), logit, Slice(INPUT), also=(second,))
    found = attribute(model, data, way, seed=0, target=given)
    one, two = attr.IntegratedGradients(module).attribute(
        (x, other), target=y, n_steps=NODES, method="riemann_middle"
    )
    assert same(found.values, one) and same(found.layers[second.name], two)
    panels = Influence(Straight(Filled(0.0), Panels(60)), logit, Slice(INPUT), also=(second,))
    close = attribute(model, data, panels, seed=0, target=given)
    assert float(close.gap.isnan().sum()) == 0
