"""What the papers claim of robust models and their explanations, counted on small public networks.

    python benchmarks/claims.py FOLDER [--count 64]

(a) Attributions of robust models look normal: saliency and the boundary's normal, IG and BIG lie
nearer to each other. (b) Their maps are harder to move while the answer stays. (d) BIG falls on the
object more than IG: the grid pointing game, on mosaics of four inputs at half their size (0.25 is
chance). Each line is one network, those of one data set together, the least robust first.
FOLDER holds ``checkpoints``, ``mnist`` and ``cifar10``; without it the shipped models alone.

Reference: wang2022 (a, d); ghorbani2019 (b).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from checkpoints import rebuilt, spaced, test_data
from torch import Tensor
from torch.nn import functional

from conjoin import L2, Dataset, Linf, attribute, predict, score
from conjoin.attribution import (
    boundary_integrated_gradients,
    boundary_saliency,
    integrated_gradients,
    saliency,
)
from conjoin.core.boundary import Boundary
from conjoin.core.quantity import given, margin
from conjoin.data import fashion_mnist
from conjoin.metrics import CosineTo, EnergyInside, RelativeDistanceTo, attack_explanation
from conjoin.models.torch import TorchModel
from conjoin.models.zoo import shipped

SHIPPED = {"plain": "standard", "adversarial": "PGD", "certified": "GloRo"}
MNIST = {
    "mnist_mlp_3layer": "standard",
    "mnist_conv_small_nat": "standard",
    "mnist_cnn_small": "interval",
    "mnist_kw_eps0.1": "Wong-Kolter",
    "mnist_cnn_a_adv": "PGD",
}
CIFAR = {
    "cifar_marabou_small": "standard",
    "cifar_conv_small_pgd": "PGD",
    "cifar_cnn_a_adv": "PGD",
    "cifar_resnet2b": "PGD",
    "cifar_kw_l2_small_36px": "Wong-Kolter l2",
    "cifar_kw_small_8px": "Wong-Kolter",
}
HEAD = (
    f"{'network':24}{'training':16}{'right':>6}{'sal~BSM':>9}{'IG~BIG':>9}{'|IG-BIG|':>10}"
    f"{'top':>7}{'cosine':>8}{'EG IG':>8}{'EG BIG':>8}{'of':>5}"
)


def mosaics(data: Dataset, count: int) -> tuple[Dataset, Tensor]:
    """Join four inputs of different classes at half their size; the region of the first is marked."""
    small, joined, labels = functional.avg_pool2d(data.x, 2), [], []
    far = len(data) // 4  # the files may be in the order of the labels
    for at in range(far):
        rows = [at + k * far for k in range(4)]
        four = data.y[rows].tolist()
        if len(joined) < count and len(set(four)) == len(four):
            a, b, c, d = small[rows]
            joined.append(torch.cat([torch.cat([a, b], 2), torch.cat([c, d], 2)], 1))
            labels.append(four)
    return Dataset(torch.stack(joined), torch.tensor(labels)[:, 0]), torch.tensor(labels)


def located(
    model: TorchModel, data: Dataset, search: Boundary, count: int
) -> tuple[float, float, int]:
    """Return the mean energy of IG and of BIG in the cell of the class that is answered."""
    mosaic, labels = mosaics(data, 4 * count)
    answer = predict(model, mosaic).argmax(1)
    hit = (labels == answer[:, None]).any(1).nonzero()[:count, 0]
    if not len(hit):
        return float("nan"), float("nan"), 0
    cell = (labels[hit] == answer[hit, None]).int().argmax(1)
    some = Dataset(mosaic.x[hit], answer[hit])
    side = some.x.shape[-1] // 2
    region = torch.zeros_like(some.x, dtype=torch.bool)
    for row, k in enumerate(cell.tolist()):
        top, left = side * (k // 2), side * (k % 2)
        region[row, :, top : top + side, left : left + side] = True
    found = []
    for method in (integrated_gradients(), boundary_integrated_gradients(search)):
        values = attribute(model, some, method, seed=0, target=given).values
        told = [
            score(
                model,
                some.select([row]),
                method,
                EnergyInside(region[row : row + 1]),
                seed=0,
                values=values[row : row + 1],
            ).values
            for row in range(len(some))
        ]
        found.append(float(torch.cat(told).nanmean()))
    return found[0], found[1], len(hit)


def line(name: str, kind: str, model: TorchModel, data: Dataset, eps: float, count: int) -> str:
    """Count one network."""
    search = Boundary(L2(torch.inf))
    answers = predict(model, data).argmax(1) == data.y
    right = data.select(answers.nonzero()[:count, 0])
    bsm = CosineTo(boundary_saliency(search, quantity=margin))
    normal = score(model, right, saliency(quantity=margin), bsm, seed=0).values.mean()
    big = boundary_integrated_gradients(search)
    ig = integrated_gradients()
    alike = score(model, right, ig, CosineTo(big), seed=0).values.mean()
    apart = score(model, right, ig, RelativeDistanceTo(big), seed=0).values.median()
    moved = attack_explanation(model, right, saliency(), Linf(eps), seed=0)
    one, other, of = located(model, data, search, count)
    return (
        f"{name:24}{kind:16}{100 * float(answers.double().mean()):6.1f}{normal:9.3f}{alike:9.3f}"
        f"{apart:10.3f}{float(moved.top.mean()):7.3f}{float(moved.cosine.mean()):8.3f}"
        f"{one:8.3f}{other:8.3f}{of:5}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--count", type=int, default=64)
    asked = parser.parse_args()
    groups = [
        ("fashion", {n: (k, shipped(n)) for n, k in SHIPPED.items()}, fashion_mnist("test"), 0.02)
    ]
    if asked.folder is not None:
        for data, nets, eps in (("mnist", MNIST, 0.05), ("cifar10", CIFAR, 2 / 255)):
            models = {n: (k, TorchModel(rebuilt(n, asked.folder))) for n, k in nets.items()}
            groups.append((data, models, test_data(data, asked.folder), eps))
    for name, models, data, eps in groups:
        print(f"\n{name}; maps attacked within linf {eps:.4g}\n{HEAD}", flush=True)
        some = spaced(data, 20 * asked.count)
        for model, (kind, net) in models.items():
            print(line(model, kind, net, some, eps, asked.count), flush=True)


if __name__ == "__main__":
    main()
