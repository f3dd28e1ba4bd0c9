"""Shared fixtures: small networks with known answers, and the shipped models and data."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import typecheck  # noqa: F401 - shapes are checked in what is imported after it
from torch import nn

from conjoin.core.dataset import Dataset
from conjoin.core.protocols import Batch
from conjoin.core.random import Streams
from conjoin.data import fashion_mnist, marked
from conjoin.models import cuts
from conjoin.models.torch import TorchModel
from conjoin.models.zoo import shipped
from conjoin.nn import MinMax
from conjoin.nn.initialise import initialise

torch.set_num_threads(1)  # two test processes share the machine


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Standard normal numbers, a pure function of seed and shape."""
    return Streams.of(seed, torch.arange(1)).normal(*shape, dtype=dtype)[0]


def batch_of(x: torch.Tensor, aim: torch.Tensor | None = None) -> Batch:
    """Inputs as a batch, aimed at class 0 if nothing else is said."""
    aim = torch.zeros(len(x), dtype=torch.int64) if aim is None else aim
    return Batch(x, aim, Streams.of(0, torch.arange(len(x))))


def biased(module: nn.Module, seed: int) -> None:
    """Give every bias a value, so that gradients are not constant along a path from zero."""
    with torch.no_grad():
        for number, (name, value) in enumerate(module.named_parameters()):
            if name.endswith("bias"):
                value.copy_(0.3 * numbers(*value.shape, seed=1000 * seed + number))


@pytest.fixture
def fours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let batches of four be passes of four rows, also on processors where a pass has 16."""
    monkeypatch.setattr(cuts, "fewest", lambda: cuts.TILE)


@pytest.fixture(scope="session")
def sample() -> Dataset:
    """The shipped test images as the flawed pipeline delivers them."""
    return marked(fashion_mnist("test"), 0.95)


@pytest.fixture(scope="session")
def zoo() -> Callable[[str], TorchModel]:
    """Load a shipped model, once."""
    loaded: dict[str, TorchModel] = {}

    def load(name: str) -> TorchModel:
        if name not in loaded:
            loaded[name] = shipped(name)
        return loaded[name]

    return load


def linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> TorchModel:
    """A linear classifier on flat inputs."""
    layer = nn.Linear(weight.shape[1], weight.shape[0]).to(weight.dtype)
    layer.weight.data = weight.clone()
    layer.bias.data = torch.zeros(weight.shape[0], dtype=weight.dtype) if bias is None else bias
    return TorchModel(nn.Sequential(nn.Flatten(), layer))


class Residual(nn.Module):
    """A small convolutional network with a skip connection, a reused activation and a pool."""

    def __init__(self, activation: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), activation())
        self.act = activation()
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Linear(4 * 4 * 4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.act(self.stem(x))
        h = self.act(h + self.block(h))
        return self.head(self.pool(h).flatten(1))


def residual(seed: int = 0, dtype: torch.dtype = torch.float32) -> TorchModel:
    """The residual network with seeded weights, on inputs of shape (1, 8, 8)."""
    module = Residual()
    initialise(module, seed)
    biased(module, seed)
    return TorchModel(module.to(dtype))


def sequential(seed: int = 0, dtype: torch.dtype = torch.float32) -> TorchModel:
    """Convolution, MinMax and two dense layers, on inputs of shape (1, 8, 8)."""
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        MinMax(),
        nn.Flatten(),
        nn.Linear(64, 16),
        MinMax(),
        nn.Linear(16, 5),
    )
    initialise(module, seed)
    biased(module, seed)
    return TorchModel(module.to(dtype))


def examples(count: int = 12, *, dtype: torch.dtype = torch.float32, seed: int = 7) -> Dataset:
    """Inputs in [0, 1] of shape (1, 8, 8) with labels of five classes."""
    index = torch.arange(count)
    x = Streams.of(seed, index).uniform(1, 8, 8, dtype=dtype)
    y = (Streams.of(seed + 1, index).uniform(1, dtype=torch.float64)[:, 0] * 5).long()
    return Dataset(x, y)
