"""How far integrated gradients are from their limit, against Captum at equal gradients and equal time.

The error is ||map - limit|| / ||map||, mean over images; the limit is taken by many midpoints in double
precision. Half of the networks (``report``) had no part in choosing the rule.
Equal time: Captum gets as many nodes as it can use in the time that ours took.

    python benchmarks/quadrature.py /data --count 8
"""

from __future__ import annotations

import argparse
import copy
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from captum.attr import IntegratedGradients
from checkpoints import NETWORKS, rebuilt, spaced, test_data
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from conjoin import Dataset, attribute, predict
from conjoin.attribution import integrated_gradients
from conjoin.core.distribution import Panels
from conjoin.data import fashion_mnist
from conjoin.models.torch import TorchModel
from conjoin.models.zoo import shipped
from conjoin.nn.normalise import Normalise

BUDGETS = (10, 20, 50)
LENET = "cifar_lenet_nat"
REPORT = {  # every second one of those in the folder, and two that ship
    *(
        "cifar_conv_small_pgd",
        "cifar_kw_l2_small_36px",
        LENET,
        "cifar_oval_base",
        "cifar_oval_wide",
    ),
    *("cifar_resnet4b", "mnist_cnn_a_adv", "mnist_conv_small_nat", "mnist_kw_small_eps0.3"),
    *("mnist_mlp_6x100_nat", "certified", "shortcut"),
}


def lenet(folder: Path) -> nn.Module:
    """Return the network with max pooling."""
    with np.load(folder / "checkpoints" / f"{LENET}.npz") as arrays:
        weights = [torch.from_numpy(arrays[key]) for key in arrays.files]
    layers = [nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)]
    layers += [nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)]
    for layer, weight, bias in zip(layers, weights[::2], weights[1::2], strict=True):
        layer.load_state_dict({"weight": weight, "bias": bias})
    a, b, *dense = layers
    pooled = [nn.ReLU(), nn.MaxPool2d(2)]
    body = [
        a,
        *pooled,
        b,
        *pooled,
        nn.Flatten(),
        dense[0],
        nn.ReLU(),
        dense[1],
        nn.ReLU(),
        dense[2],
    ]
    return nn.Sequential(Normalise((0.5,) * 3, (0.5,) * 3), *body).eval()


def of_name(name: str, folder: Path) -> tuple[TorchModel, Dataset]:
    """Return a network and the test images that it is for."""
    if name == LENET:
        return TorchModel(lenet(folder)), test_data("cifar10", folder)
    if name in NETWORKS:
        return TorchModel(rebuilt(name, folder)), test_data(NETWORKS[name].data, folder)
    return shipped(name), fashion_mnist("test")


def limit(model: TorchModel, data: Dataset, top: Tensor, nodes: int) -> Tensor:
    """Take the integral by midpoints in double precision, in a loop of its own."""
    module = copy.deepcopy(model.module).double().eval()
    x = data.x.double()
    total = torch.zeros_like(x)
    size = max(1, 256 // len(x))
    for chunk in torch.arange(nodes).split(size):
        t = ((chunk.double() + 0.5) / nodes).reshape(-1, *[1] * x.ndim)
        z = (t * x).flatten(0, 1).requires_grad_()
        out = module(z).gather(1, top.repeat(len(chunk))[:, None]).sum()
        (gradient,) = torch.autograd.grad(out, z)
        total += gradient.reshape(len(chunk), *x.shape).sum(0)
    return total / nodes * x


def timed(act: Callable[[], Tensor], repeats: int) -> tuple[Tensor, float]:
    """Return what comes out, and the least processor time of some runs."""
    least = math.inf
    for _ in range(repeats):
        start = time.process_time()
        found = act()
        least = min(least, time.process_time() - start)
    return found, least


def error(found: Tensor, truth: Tensor) -> float:
    """Return the mean relative error; an image whose map is zero has none."""
    apart, size = (z.flatten(1).norm(dim=1) for z in (found.double() - truth, truth))
    return float((apart / size)[size > 0].mean())


def measured(model: TorchModel, data: Dataset, repeats: int, nodes: int) -> list[tuple[float, ...]]:
    """Return for each budget: Captum's error, ours, their ratio, the times', that at equal time."""
    module = model.module.eval()
    top = predict(model, data).argmax(1)
    truth = limit(model, data, top, nodes)
    peer = IntegratedGradients(module)

    def captum(n: int) -> Tensor:
        size = 64 * len(data)
        return peer.attribute(
            data.x, target=top, n_steps=n, method="gausslegendre", internal_batch_size=size
        ).detach()

    rows = []
    for n in BUDGETS:
        method = integrated_gradients(quadrature=Panels(n))
        ours, taken = timed(lambda m=method: attribute(model, data, m, seed=0).values, repeats)
        theirs, peers_time = timed(lambda n=n: captum(n), repeats)
        more = max(n, round(n * taken / peers_time))
        later = error(captum(more), truth)
        own, other = error(ours, truth), error(theirs, truth)
        rows.append((other, own, other / own, taken / peers_time, later / own))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with checkpoints/, mnist/ and cifar10/")
    parser.add_argument("--count", type=int, default=8, help="images")
    parser.add_argument("--limit", type=int, default=4000, help="midpoints of the limit")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="captum")
    console = Console(width=130)
    names = sorted([*NETWORKS, LENET, "adversarial", "certified", "plain", "shortcut"])
    table = Table(title="Captum's error / ours (time in Captum's, ratio at equal time)")
    for name in ("network", "half", *(f"n = {n}" for n in BUDGETS)):
        table.add_column(name)
    kept: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    for name in names:
        if asked.only and name not in asked.only:
            continue
        half = "report" if name in REPORT else "choose"
        model, data = of_name(name, asked.folder)
        rows = measured(model, spaced(data, asked.count), asked.repeats, asked.limit)
        for n, row in zip(BUDGETS, rows, strict=True):
            kept.setdefault((half, n), []).append(row)
        cells = [f"{100 * r[0]:.3g} % {r[2]:.2f} ({r[3]:.2f}, {r[4]:.2f})" for r in rows]
        console.print(name, half, *cells)
        table.add_row(name, half, *cells)
    for half in ("choose", "report"):
        cells = []
        for n in BUDGETS:
            rows = kept.get((half, n), [])
            if rows:
                mean = [math.exp(sum(math.log(r[k]) for r in rows) / len(rows)) for k in range(5)]
                worst = min(r[2] for r in rows)
                cells.append(f"{mean[2]:.2f}, worst {worst:.2f} ({mean[3]:.2f}, {mean[4]:.2f})")
        if cells:
            table.add_row("geometric mean", half, *cells)
    console.print(table)


if __name__ == "__main__":
    main()
