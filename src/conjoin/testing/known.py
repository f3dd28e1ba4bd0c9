"""Networks of which it is known what an explanation owes them, one for each axiom.

All see six columns and give [f, 0], so that f is the logit, the margin and the contrast of class 0.
They are made of dense layers and ReLU, in double precision, with biases: nothing is zero by symmetry.
What a network is said not to depend on some units do read, and cancel, and the one of an affine
function has units, too: what asks the function alone does not notice, and a rule that looks at single
units does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from conjoin.core.random import Streams
from conjoin.models.torch import TorchModel

COLUMNS = 6
HIDDEN = 10
REAL = torch.float64


def drawn(seed: int, purpose: str, *shape: int) -> Tensor:
    """Standard normal numbers, a pure function of seed, purpose and shape."""
    return Streams.of(seed, torch.arange(1)).fold(purpose).normal(*shape, dtype=REAL)[0]


def points(seed: int, count: int = 3) -> Tensor:
    """Return some inputs."""
    return drawn(seed, "points", count, COLUMNS)


def _dense(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=REAL)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def _head(weight: Tensor, bias: float = 0.3) -> nn.Linear:
    """Give f and, as the other class, nothing."""
    rows = torch.stack([weight, torch.zeros_like(weight)])
    return _dense(rows, torch.tensor([bias, 0.0], dtype=REAL))


def shallow(inner: Tensor, bias: Tensor, outer: Tensor) -> TorchModel:
    """f(x) = outer · relu(inner x + bias) + 0.3."""
    return TorchModel(nn.Sequential(_dense(inner, bias), nn.ReLU(), _head(outer)))


def affine(seed: int) -> tuple[TorchModel, Tensor]:
    """Return f(x) = w · x + 0.3, by relu(w · x) - relu(-w · x), and w."""
    weight = drawn(seed, "affine", COLUMNS)
    signs = torch.tensor([1.0, -1.0], dtype=REAL)
    return shallow(signs[:, None] * weight, torch.zeros(2, dtype=REAL), signs), weight


def deep(seed: int) -> TorchModel:
    """Return a network of two hidden layers."""
    sizes = [(HIDDEN, COLUMNS), (HIDDEN, HIDDEN)]
    layers: list[nn.Module] = []
    for number, (rows, columns) in enumerate(sizes):
        weight = drawn(seed, f"weight {number}", rows, columns) * (2 / columns) ** 0.5
        layers += [_dense(weight, 0.3 * drawn(seed, f"bias {number}", rows)), nn.ReLU()]
    return TorchModel(nn.Sequential(*layers, _head(drawn(seed, "head", HIDDEN))))


def units(seed: int, purpose: str, count: int = HIDDEN) -> tuple[Tensor, Tensor, Tensor]:
    """Return hidden units that read all columns: their weights, biases and weights in f."""
    inner = drawn(seed, f"{purpose} inner", count, COLUMNS)
    return inner, 0.3 * drawn(seed, f"{purpose} bias", count), drawn(seed, purpose, count)


def blind(seed: int, column: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return units whose sum does not depend on a column: some do not read it, others cancel."""
    inner, bias, outer = units(seed, "blind")
    inner[:, column] = 0
    both, both_bias, share = units(seed, "cancelling", 4)
    return (
        torch.cat([inner, both, both]),
        torch.cat([bias, both_bias, both_bias]),
        torch.cat([outer, share, -share]),
    )


def without(seed: int, column: int) -> TorchModel:
    """Return a network that does not depend on a column."""
    return shallow(*blind(seed, column))


def twins(seed: int, column: int) -> tuple[TorchModel, TorchModel]:
    """Return two networks with the same derivative in a column, everywhere, and else different."""
    first, others = units(seed, "first"), blind(seed, column)
    parts = [torch.cat([a, b]) for a, b in zip(first, others, strict=True)]
    return shallow(*first), shallow(parts[0], parts[1], parts[2])


def symmetric(seed: int, one: int, two: int) -> TorchModel:
    """Return a network that stays the same function when two columns are exchanged."""
    inner, bias, outer = units(seed, "symmetric")
    mirrored = inner.clone()
    mirrored[:, one], mirrored[:, two] = inner[:, two], inner[:, one]
    return shallow(torch.cat([inner, mirrored]), bias.repeat(2), outer.repeat(2))


def saturated(seed: int) -> TorchModel:
    """f(x) = Σ_j c_j (1 - relu(1 - x_j)) + 0.3 - Σ_j c_j: flat in each column beyond 1."""
    size = 1 + drawn(seed, "saturated", COLUMNS).abs()
    return shallow(-torch.eye(COLUMNS, dtype=REAL), torch.ones(COLUMNS, dtype=REAL), -size)


__all__ = [
    "COLUMNS",
    "affine",
    "deep",
    "points",
    "saturated",
    "symmetric",
    "twins",
    "without",
]
