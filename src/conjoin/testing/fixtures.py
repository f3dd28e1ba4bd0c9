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
