"""A small model and data that the checks use where none are given.

The network has biases and a skip connection, and its examples lie inside (0, 1): nothing is zero by
symmetry, so a method that is right only on such networks is found out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from conjoin.core.dataset import Dataset
from conjoin.core.random import Streams
from conjoin.core.run import predict
from conjoin.core.substitution import Substitution
from conjoin.models.torch import TorchModel
from conjoin.models.wrap import wrap
from conjoin.nn.initialise import initialise


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
        self.act = nn.ReLU()
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Linear(4 * 4 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.stem(x))
        h = self.act(h + self.block(h))
        out: Tensor = self.head(self.pool(h).flatten(1))
        return out


def example_model(seed: int = 0, dtype: torch.dtype = torch.float32) -> TorchModel:
    """Return a seeded residual network with biases, for inputs of shape (1, 8, 8), five classes."""
    module = _Residual()
    initialise(module, seed)
    with torch.no_grad():
        for number, (name, value) in enumerate(module.named_parameters()):
            if name.endswith("bias"):
                rng = Streams.of(seed, torch.tensor([number])).fold("bias")
                value.copy_(0.3 * rng.normal(*value.shape)[0])
    return wrap(module.to(dtype))


def example_data(model: TorchModel, count: int = 10, seed: int = 7) -> Dataset:
    """Return inputs in (0, 1), ``(count, 1, 8, 8)``, labelled as the model predicts them."""
    index = torch.arange(count)
    x = Streams.of(seed, index).fold("x").uniform(1, 8, 8, dtype=model.dtype)
    data = Dataset(x, torch.zeros(count, dtype=torch.int64))
    return data.labelled(predict(model, data).argmax(1))


class _Reader(nn.Module):
    """Reads a sequence by its neighbouring pairs, so that the order of tokens matters."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.pairs = nn.Conv1d(6, 8, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        h = torch.tanh(self.pairs(self.embedding(tokens).transpose(1, 2)))
        out: Tensor = self.head(h.mean(2))
        return out


def example_reader(seed: int = 0) -> TorchModel:
    """Return a seeded network that reads 20 tokens, in sequences of any length; three classes."""
    module = _Reader()
    with torch.no_grad():
        for number, value in enumerate(module.parameters()):
            rng = Streams.of(seed, torch.tensor([number])).fold("reader")
            value.copy_(0.7 * rng.normal(*value.shape)[0])
    return wrap(module)


def example_tokens(model: TorchModel, count: int = 10, seed: int = 7) -> Dataset:
    """Return sequences of nine tokens, ``(count, 9)``, labelled as the model predicts them."""
    index = torch.arange(count)
    x = (Streams.of(seed, index).fold("tokens").uniform(9) * 20).long()
    data = Dataset(x, torch.zeros(count, dtype=torch.int64))
    return data.labelled(predict(model, data).argmax(1))


def example_substitution() -> Substitution:
    """Return the set of sequences in which two tokens at most move by up to two, the last stays."""
    token = torch.arange(20)[:, None] + torch.tensor([-2, -1, 1, 2])
    mask = torch.arange(9)[None] < 8
    return Substitution(torch.where((token >= 0) & (token < 20), token, -1), 2, mask)
