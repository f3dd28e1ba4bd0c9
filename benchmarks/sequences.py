"""How far integrated gradients of sequence networks are from their limit, against Captum's.

    python benchmarks/sequences.py

Small recurrent networks and encoders read the rows of the Fashion-MNIST images that ship with the
package, trained here from a seed on the first 800 and measured on 16 of the others: the error
||map - limit|| / ||limit|| of Gauss-Legendre nodes over that of ``Panels``, at equal gradients.
"""

from __future__ import annotations

import argparse
import copy

import torch
from captum.attr import IntegratedGradients
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from conjoin import Dataset, attribute, given, predict
from conjoin.attribution import integrated_gradients
from conjoin.core.distribution import Midpoint, Panels
from conjoin.data import fashion_mnist
from conjoin.models.torch import TorchModel

BUDGETS, TRAINED, SHOWN, WIDTH = (10, 20), 800, 16, 32


class Reader(nn.Module):
    """A body over 28 rows, the mean of what it says, and a head."""

    def __init__(self, body: nn.Module, width: int, act: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Sequential(nn.Linear(width, WIDTH), act, nn.Linear(WIDTH, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        z = self.body(x.squeeze(1))
        found: Tensor = self.head((z[0] if isinstance(z, tuple) else z).mean(1))
        return found


def encoder(*, ahead: bool) -> nn.Module:
    """Return two encoder layers, normalised ahead of their parts or behind."""
    layer = nn.TransformerEncoderLayer(WIDTH, 4, 64, 0.0, batch_first=True, norm_first=ahead)
    return nn.Sequential(
        nn.Linear(28, WIDTH), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    )


def networks() -> dict[str, Reader]:
    """Return networks that are not trained yet."""
    one = {"input_size": 28, "hidden_size": WIDTH, "batch_first": True}
    both = nn.GRU(28, WIDTH, 2, bidirectional=True, batch_first=True)
    return {
        "LSTM": Reader(nn.LSTM(**one), WIDTH, nn.Tanh()),
        "LSTM, head with ReLU": Reader(nn.LSTM(**one), WIDTH, nn.ReLU()),
        "GRU, two layers both ways": Reader(both, 2 * WIDTH, nn.ReLU()),
        "RNN with ReLU": Reader(nn.RNN(**one, nonlinearity="relu"), WIDTH, nn.ReLU()),
        "encoder, norms behind": Reader(encoder(ahead=False), WIDTH, nn.ReLU()),
        "encoder, norms ahead": Reader(encoder(ahead=True), WIDTH, nn.ReLU()),
    }


def train(module: nn.Module, data: Dataset, epochs: int) -> None:
    """Train on the first examples."""
    optimiser = torch.optim.Adam(module.parameters(), 2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(TRAINED).split(64):
            loss = nn.functional.cross_entropy(module(data.x[rows]), data.y[rows])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()


def error(found: Tensor, truth: Tensor) -> float:
    """Return the mean relative error."""
    apart, size = (z.flatten(1).norm(dim=1) for z in (found.double() - truth, truth))
    return float((apart / size).mean())


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--limit", type=int, default=4000, help="midpoints of the limit")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    table = Table(title="error of Gauss-Legendre (Captum), of Panels, ratio")
    for name in ("network", "right", *(f"n = {n}" for n in BUDGETS)):
        table.add_column(name)
    data = fashion_mnist("test")
    for name, module in networks().items():
        train(module, data, asked.epochs)
        model, held_back = TorchModel(module.eval()), data.select(range(TRAINED, len(data)))
        right = float((predict(model, held_back).argmax(1) == held_back.y).double().mean())
        x = held_back.x[:SHOWN]
        top = predict(model, held_back).argmax(1)[:SHOWN]
        double = TorchModel(copy.deepcopy(module).double())
        limit = integrated_gradients(quadrature=Midpoint(asked.limit))
        truth = attribute(double, Dataset(x.double(), top), limit, seed=0, target=given).values
        cells = []
        for n in BUDGETS:
            method = integrated_gradients(quadrature=Panels(n))
            ours = attribute(model, Dataset(x, top), method, seed=0, target=given).values
            peer = IntegratedGradients(module)
            theirs = peer.attribute(x, target=top, n_steps=n, method="gausslegendre").detach()
            own, other = error(ours, truth), error(theirs, truth)
            cells.append(f"{other:.2g}, {own:.2g}, {other / own:.1f}")
        table.add_row(name, f"{right:.2f}", *cells)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
