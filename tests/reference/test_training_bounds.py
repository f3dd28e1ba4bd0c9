"""Constants in training against the certifier's and against exact norms, on odd graphs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from conftest import batch_of, biased, numbers
from torch import Tensor, nn
from torch.nn import functional

from conjoin.certification import Lipschitz
from conjoin.certification.norms import matrix_norm
from conjoin.core.linear import Convolution
from conjoin.errors import CapabilityError, PlanError
from conjoin.models.torch import TorchModel
from conjoin.nn import Centring, GroupSort, MinMax, Normalise, OrthogonalDense, ResidualConvolution
from conjoin.nn.initialise import initialise
from conjoin.training import Gram, Power
from conjoin.training.gram import gram_bound, on_torus
from conjoin.training.graph import read_graph
from conjoin.training.power import running_constants


class Graph(nn.Module):
    """Layers, and a function that joins them."""

    def __init__(self, act: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.act = act
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.head = nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.act(self, x).flatten(1).relu())
        return out


def conv(i: int, o: int, k: int = 3, **more: int) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, **more)


def norm(features: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(features)
    with torch.no_grad():
        layer.weight.copy_(numbers(features, seed=8))
        layer.running_mean.copy_(numbers(features, seed=9))
        layer.running_var.copy_(numbers(features, seed=7).square() + 0.1)
    return layer


GRAPHS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: Graph(lambda m, x: m.a(x), a=conv(2, 4)),
    "residual": lambda: Graph(lambda m, x: x + m.a(x), a=conv(2, 2, padding=1)),
    "doubled": lambda: Graph(lambda m, x: m.a(x) + m.a(x), a=conv(2, 4)),
    "difference": lambda: Graph(lambda m, x: 2 * x - m.a(x), a=conv(2, 2, padding=1)),
    "shared layer": lambda: Graph(lambda m, x: m.a(m.a(x).relu()), a=conv(2, 2, padding=1)),
    "shared at two sizes": lambda: Graph(
        lambda m, x: m.a(functional.avg_pool2d(m.a(x), 2)), a=conv(2, 2, padding=1)
    ),
    "overlapping pool": lambda: Graph(
        lambda m, x: functional.max_pool2d(m.a(x), 3, 1), a=conv(2, 4)
    ),
    "average pool": lambda: Graph(lambda m, x: functional.avg_pool2d(m.a(x), 3, 2), a=conv(2, 4)),
    "dilation": lambda: Graph(lambda m, x: m.a(x), a=conv(2, 3, dilation=2)),
    "groups": lambda: Graph(lambda m, x: m.a(x), a=conv(2, 6, groups=2)),
    "stride": lambda: Graph(lambda m, x: m.a(x), a=conv(2, 5, 4, stride=2, padding=1)),
    "transposed": lambda: Graph(
        lambda m, x: m.a(x), a=nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1)
    ),
    "batch norm": lambda: Graph(lambda m, x: m.b(m.a(x)), a=conv(2, 4), b=norm(4)),
    "normalised": lambda: Graph(
        lambda m, x: m.a(m.n(x)), n=Normalise([0.3, 0.1], [0.2, 0.5]), a=conv(2, 4)
    ),
    "slopes": lambda: Graph(lambda m, x: functional.silu(m.a(x)) * 3, a=conv(2, 4)),
    "joined": lambda: Graph(lambda m, x: torch.cat([x, m.a(x)], 1), a=conv(2, 4, padding=1)),
    "sorted": lambda: Graph(
        lambda m, x: m.t(m.s(m.a(x))), a=conv(2, 6), s=MinMax(), t=GroupSort(3)
    ),
    "linear residual": lambda: Graph(
        lambda m, x: m.c(m.a(x)), a=ResidualConvolution(2, 3, 4), c=Centring(2)
    ),
    "orthogonal": lambda: Graph(lambda m, x: m.a(x.flatten(1)), a=OrthogonalDense(72, 20)),
    "two last layers": lambda: nn.Sequential(
        conv(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 7), nn.Linear(7, 3)
    ),
    "convolution last": lambda: nn.Sequential(conv(2, 4), nn.ReLU(), conv(4, 3, 4), nn.Flatten()),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 3)),
}


def made(name: str) -> nn.Module:
    net = GRAPHS[name]()
    with torch.random.fork_rng(devices=[]):
        net.eval()(torch.zeros(1, 2, 6, 6))
    initialise(net, 3)
    biased(net, 1)
    return net


@pytest.mark.parametrize("name", GRAPHS)
def test_constants_in_training_are_those_of_the_certifier(name: str) -> None:
    net, x = made(name), numbers(4, 2, 6, 6, seed=5)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    running = running_constants(net.train(), x[:1])
    running.settle(800)
    found, inner = running().detach().double(), float(running.inner().detach())
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key])  # what was moved is put back
    truth = Lipschitz().prepare(TorchModel(net.eval()), batch_of(x)).constants
    assert inner == pytest.approx(truth.inner, rel=2e-3)
    off = ~torch.eye(3, dtype=torch.bool)
    assert torch.allclose(found[off], truth.pairs[off], rtol=3e-3)
    assert bool((found.diagonal() == 0).all())
    assert inner <= truth.inner * (1 + 1e-5)


@pytest.mark.parametrize("name", [n for n in GRAPHS if n not in {"dilation", "transposed"}])
def test_gram_bounds_are_never_below_the_certifier(name: str) -> None:
    net, x = made(name), numbers(4, 2, 6, 6, seed=5)
    found = running_constants(net, x[:1], Gram(12))().detach().double()
    truth = Lipschitz().prepare(TorchModel(net.eval()), batch_of(x)).constants.pairs
    assert bool((found >= truth * (1 - 1e-5)).all())


def test_gram_knows_no_dilation() -> None:
    for name in ("dilation", "transposed"):
        with pytest.raises(CapabilityError, match=r"Power\(\)"):
            running_constants(made(name), numbers(1, 2, 6, 6), Gram())
    for wrong in (Gram, Power):
        with pytest.raises(PlanError, match="at least one"):
            wrong(0)


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (1, 6), (40, 40)])
def test_gram_iteration_approaches_the_norm_from_above(shape: tuple[int, int]) -> None:
    a = numbers(*shape, dtype=torch.float64)
    norm_ = float(torch.linalg.matrix_norm(a, 2))
    rank = min(shape)
    wide = a if shape[0] >= shape[1] else a.T
    once = wide.T @ wide
    for steps, gram in ((1, once), (2, once @ once), (3, once @ once @ once @ once)):
        exact = float(gram.norm()) ** (2.0**-steps)
        assert float(gram_bound(a[None], steps)) == pytest.approx(exact, rel=2e-5)
    for steps in (1, 3, 6, 12):
        bound = float(gram_bound(a[None], steps))
        assert norm_ <= bound <= norm_ * rank ** (2.0 ** -(steps + 1)) * (1 + 3e-5)
    for size in (1e-30, 1e30):  # squares would leave the range of floats
        assert float(gram_bound(size * a[None], 8)) == pytest.approx(size * norm_, rel=2e-2)


@pytest.mark.parametrize(
    ("stride", "padding", "groups", "kernel"),
    [
        (1, 1, 1, 3),
        (2, 1, 1, 4),
        (3, 0, 1, 3),
        (2, 2, 2, 5),
        (1, 0, 2, 1),
        (4, 0, 1, 4),
        (3, 1, 1, 2),
    ],
)
def test_a_torus_holds_the_convolution(stride: int, padding: int, groups: int, kernel: int) -> None:
    weight = numbers(6, 4 // groups, kernel, kernel, dtype=torch.float64)
    two = (stride, stride), (padding, padding)
    op = Convolution(weight, (4, 7, 7), *two, (1, 1), groups)
    eye = torch.eye(4 * 49, dtype=torch.float64).reshape(-1, 4, 7, 7)
    exact = float(torch.linalg.matrix_norm(op(eye).flatten(1), 2))
    bound = float(torch.linalg.matrix_norm(on_torus(op), 2).max())
    assert exact * (1 - 1e-12) <= bound <= exact * 1.6
    assert matrix_norm(op(eye).flatten(1)) == pytest.approx(exact, rel=1e-6)


def test_the_norm_is_differentiable_in_the_weights() -> None:
    net = made("plain")
    running = running_constants(net, numbers(1, 2, 6, 6))
    running.settle(800)
    running.inner().backward()
    weight = net.get_submodule("a").weight  # type: ignore[union-attr]
    op = read_graph(net, numbers(1, 2, 6, 6)).live[1].op.map
    eye = torch.eye(72, dtype=torch.float64).reshape(-1, 2, 6, 6)
    exact = weight.detach().double().requires_grad_()
    matrix = Convolution(exact, op.source, (1, 1), (0, 0), (1, 1))(eye).flatten(1)
    torch.linalg.matrix_norm(matrix, 2).backward()
    assert exact.grad is not None
    assert torch.allclose(weight.grad.double(), exact.grad, atol=2e-2)  # type: ignore[union-attr]


def test_an_iterate_follows_weights_that_were_zero() -> None:
    net = made("linear")
    layer = nn.Linear(72, 72)
    net = nn.Sequential(nn.Flatten(), layer, nn.ReLU(), nn.Linear(72, 3))
    initialise(net, 0)
    running = running_constants(net, numbers(1, 2, 6, 6))
    kept = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.zero_()
    running.settle(5)
    assert float(running.inner().detach()) < 1e-12
    with torch.no_grad():
        layer.weight.copy_(kept)
    running.settle(800)
    assert float(running.inner().detach()) == pytest.approx(matrix_norm(kept), rel=2e-3)


def test_a_start_orthogonal_to_nothing() -> None:
    """The kernel 1, -1: an iterate of ones would be annihilated, and its norm claimed 0."""
    net = nn.Sequential(nn.Conv2d(1, 1, (1, 2)), nn.ReLU(), nn.Flatten(), nn.Linear(30, 3))
    initialise(net, 0)
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[[[1.0, -1.0]]]]))
    running = running_constants(net, numbers(1, 1, 6, 6))
    running.settle(400)
    assert float(running.inner().detach()) > 1.9


class Functional(nn.Module):
    """Weights that belong to no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(numbers(72, 20, seed=1))
        self.second = nn.Parameter(numbers(3, 20, seed=2))
        self.third = nn.Parameter(numbers(20, seed=3))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear((x.flatten(1) @ self.first).relu() * self.third, self.second)


def test_a_parameter_is_found_by_its_values() -> None:
    net, x = Functional(), numbers(4, 2, 6, 6)
    running = running_constants(net, x[:1])
    running.settle(800)
    truth = Lipschitz().prepare(TorchModel(net.eval()), batch_of(x)).constants
    assert float(running.inner().detach()) == pytest.approx(truth.inner, rel=2e-3)
    running().sum().backward()
    assert all(p.grad is not None for p in net.parameters())


class Computed(nn.Module):
    """A weight that is computed in a way that nothing shows."""

    def __init__(self) -> None:
        super().__init__()
        self.raw = nn.Parameter(numbers(5, 72))
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(functional.linear(x.flatten(1), self.raw.exp()).relu())
        return out


class Slopes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.head = nn.Linear(72, 5), nn.PReLU(5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.act(self.first(x.flatten(1))))
        return out


class Squares(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(72, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.first(x.flatten(1)).square())
        return out


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (Computed, "never assumed"),
        (Slopes, "trained numbers"),
        (Squares, "slope of square has no bound"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 3), nn.Softmax(1)), "softmax"),
        (lambda: nn.Sequential(nn.Flatten(), nn.ReLU()), "no weights"),
    ],
)
def test_what_is_not_known_is_refused(network: Callable[[], nn.Module], said: str) -> None:
    with torch.random.fork_rng(devices=[]):
        net = network()
    with pytest.raises(CapabilityError, match=said):
        running_constants(net, numbers(1, 2, 6, 6)).inner()


def test_a_parametrised_weight_is_followed() -> None:
    net = made("linear")
    net[1] = nn.utils.parametrizations.weight_norm(nn.Linear(72, 3))  # type: ignore[operator]
    x = numbers(4, 2, 6, 6)
    found = running_constants(net, x[:1])().detach().double()
    truth = Lipschitz().prepare(TorchModel(net.eval()), batch_of(x)).constants.pairs
    assert torch.allclose(found, truth, rtol=1e-4, atol=1e-5)
