"""The nearest boundary: against the published pipeline, and the exact one on a dense network.

The peer is the pipeline of boundary attributions as it was published, re-created with its own
libraries: Foolbox's L2PGD at seven radii (the first that flips is taken) and Carlini-Wagner of 100
steps where that is nearer, then Captum's integrated gradients from the point. Ours is
``nearest_boundary`` and ``boundary_integrated_gradients`` from its points. What either returns is
judged here: by the network itself, which must answer otherwise, and by its distance. The peer's
radii are in input units, its clipping is 0..1. Time is that of the processor, with one thread, on
the same images.

``exact`` trains a network of 784-60-10 on the shipped Fashion-MNIST and asks for the true distance of
each of ``--count`` test images; the bounds, the cells and the seconds of a point are printed.

    OMP_NUM_THREADS=1 python benchmarks/boundary.py --count 20
    OMP_NUM_THREADS=1 python benchmarks/boundary.py --only exact --count 100
    OMP_NUM_THREADS=1 python benchmarks/boundary.py --only efficientnet_lite0 --photographs FOLDER

Reference: wang2022 (their code); jordan2019 for the exact one.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from conjoin import L2, Dataset, Linf, attribute, predict, wrap
from conjoin.attacks import nearest_boundary
from conjoin.attribution import boundary_integrated_gradients
from conjoin.certification import Polyhedral, exact_boundary
from conjoin.core.ball import Ball
from conjoin.core.protocols import Batch
from conjoin.core.quantity import given, margin
from conjoin.data import fashion_mnist, photographs
from conjoin.models.torch import TorchModel
from conjoin.nn.initialise import initialise
from conjoin.training import Recipe, Standard, fit

RADII = (36 / 255, 64 / 255, 0.3, 0.5, 0.7, 0.9, 1.1)
STEPS, CW_STEPS, CW_STEP, NODES = 40, 100, 0.01, 10
PICTURES = frozenset({".jpg", ".jpeg", ".png"})
NORMS: dict[str, type[Ball]] = {"l2": L2, "linf": Linf}


def published(network: nn.Module, data: Dataset) -> tuple[Tensor, Tensor]:
    """Return the peer's points and its attributions."""
    from captum.attr import IntegratedGradients
    from foolbox import PyTorchModel
    from foolbox.attacks import L2PGD, L2CarliniWagnerAttack

    peer = PyTorchModel(network, bounds=(0, 1), device="cpu")
    best = torch.full((len(data),), torch.inf)
    points = data.x.clone()
    for eps in RADII:
        step = L2PGD(steps=STEPS, rel_stepsize=2 * eps / STEPS)
        _, z, flipped = step(peer, data.x, data.y, epsilons=eps)
        first = flipped & best.isinf()
        points[first] = z[first]
        best[first] = (z - data.x).flatten(1).norm(dim=1)[first]
    attack = L2CarliniWagnerAttack(steps=CW_STEPS, stepsize=CW_STEP)
    _, z, flipped = attack(peer, data.x, data.y, epsilons=RADII[-1] - 0.1)
    far = (z - data.x).flatten(1).norm(dim=1)
    nearer = flipped & (far < best)
    points[nearer] = z[nearer]
    maps = IntegratedGradients(network).attribute(
        data.x, points, target=data.y, n_steps=NODES, method="riemann_trapezoid"
    )
    return points, maps.detach()


def ours(model: TorchModel, data: Dataset) -> tuple[Tensor, Tensor]:
    """Return our points and attributions from them."""
    points = nearest_boundary(model, data, L2(torch.inf), seed=0, target=given).inputs

    def there(model: object, batch: Batch) -> Tensor:
        return batch.context["boundary"]

    known = replace(data, context={"boundary": points})
    method = boundary_integrated_gradients(there, nodes=NODES)
    return points, attribute(_Blind(model), known, method, seed=0, target=given).values


class _Blind:
    """A model that does not pass the known points on to its module."""

    def __init__(self, model: TorchModel) -> None:
        self.model, self.device = model, model.device

    def __call__(self, batch: Batch) -> Tensor:
        """Pass through."""
        return self.model(replace(batch, context={}))

    def run(self, batch: Batch, **parts: object) -> tuple[Tensor, ...]:
        """Pass through, with cuts."""
        return self.model.run(replace(batch, context={}), **parts)  # type: ignore[arg-type]


def compared(name: str, model: TorchModel, network: nn.Module, data: Dataset) -> list[str]:
    """Run both on the images that the model answers, as it answers them; return a row."""
    data = data.labelled(predict(model, data).argmax(1))
    found = {}
    for who in ("peer", "ours"):
        start = time.process_time()
        made = published(network, data) if who == "peer" else ours(model, data)
        seconds = time.process_time() - start
        inside = replace(data, x=made[0].clamp(0, 1))
        flips = margin(predict(model, inside), data.y) <= 0  # a tie is a point of the boundary
        far = (made[0].double() - data.x.double()).flatten(1).norm(dim=1)
        found[who] = flips, torch.where(flips, far, torch.inf), seconds
    both = found["peer"][0] & found["ours"][0]
    ratios = (found["ours"][1] / found["peer"][1])[both].tolist()
    flipped = [f"{int(found[who][0].sum())} of {len(data)}" for who in ("peer", "ours")]
    share = found["ours"][2] / found["peer"][2]
    return [
        name,
        *flipped,
        f"{median(ratios):.3f}" if ratios else "-",
        f"{max(ratios):.3f}" if ratios else "-",
        f"{found['peer'][2] / len(data):.3f}",
        f"{found['ours'][2] / len(data):.3f}",
        f"{share:.3f}",
    ]


def dense(width: int = 60) -> nn.Sequential:
    """Train 784-``width``-10 on the shipped training images."""
    layers = nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10)
    network = nn.Sequential(*layers)
    initialise(network, 0)
    fit(network, fashion_mnist("train"), Standard(), Recipe(epochs=30))
    return network


def exact(count: int, norm: str, seconds: float) -> Table:
    """Ask for the true distances, one image at a time, and for the attack's."""
    model, threat = wrap(dense()), NORMS[norm](torch.inf)
    data = fashion_mnist("test").select(range(count))
    near = nearest_boundary(model, data, threat, seed=0)
    method, spent, rows, cells = Polyhedral(cells=10**6, seconds=seconds), [], [], []
    for place in range(count):
        start = time.process_time()
        one = data.select([place])
        rows.append(
            exact_boundary(model, one, threat, method=method, near=near.inputs[place : place + 1])
        )
        spent.append(time.process_time() - start)
        cells.append(int(rows[-1].cells[0]))
    held = sum(bool(row.exact[0]) for row in rows)
    over = [float(near.distance[k] / row.distance[0]) for k, row in enumerate(rows)]
    table = Table(title=f"784-60-10, {norm}, inside the box, {count} images")
    for head in ("exact", "seconds, median", "90 %", "worst", "cells, median", "worst"):
        table.add_column(head, justify="right")
    table.add_column("attack ÷ exact, median")
    table.add_column("worst")
    order = sorted(spent)
    late = order[min(count - 1, int(0.9 * count))]
    table.add_row(
        f"{held} of {count}",
        *(f"{v:.2f}" for v in (median(spent), late, order[-1])),
        *(str(int(v)) for v in (median(cells), max(cells))),
        f"{median(over):.4f}",
        f"{max(over):.4f}",
    )
    return table


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument(
        "--only", action="append", help="plain, adversarial, efficientnet_lite0, exact"
    )
    parser.add_argument("--norm", choices=sorted(NORMS), default="l2", help="of the exact distance")
    parser.add_argument("--seconds", type=float, default=60.0, help="for one exact distance")
    parser.add_argument("--photographs", type=Path, help="folder of pictures")
    args = parser.parse_args()
    asked = args.only or ["plain", "adversarial", "exact"]
    console = Console(width=160)
    table = Table(title="the published pipeline (peer) and nearest_boundary (ours), l2")
    for head in ("network", "peer flips", "ours flips", "ours ÷ peer, median", "worst"):
        table.add_column(head)
    for head in ("peer, s a point", "ours, s a point", "share"):
        table.add_column(head, justify="right")
    for name in asked:
        if name == "exact":
            continue
        if name == "efficientnet_lite0":
            from conjoin.models.imagenet import efficientnet_lite0

            model = efficientnet_lite0()
            if args.photographs is None:
                parser.error("efficientnet_lite0 wants --photographs FOLDER")
            files = sorted(p for p in args.photographs.iterdir() if p.suffix.lower() in PICTURES)
            data = photographs(*files)
        else:
            from conjoin.models.zoo import shipped

            model, data = shipped(name), fashion_mnist("test")
        data = data.select(range(min(args.count, len(data))))
        table.add_row(*compared(name, model, model.module, data))
    if table.row_count:
        console.print(table)
    if "exact" in asked:
        console.print(exact(args.count, args.norm, args.seconds))


if __name__ == "__main__":
    main()
