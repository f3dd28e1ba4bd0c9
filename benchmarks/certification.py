"""What each certifier proves, how loose it is, and what it costs: ``python
benchmarks/certification.py FOLDER``.

On the first test images that each network gets right: the share certified, the median of (clean -
lower) ÷ (clean - attacked), and the time per 20 images, in forward passes of the same images.
``attacked`` is what the library's PGD finds. FOLDER holds networks and data as :mod:`checkpoints`
says; without it the shipped networks alone are looked at. Ends with status 1 if a bound is above
what an attack found.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from checkpoints import NETWORKS, rebuilt, spaced, test_data
from rich.console import Console
from rich.table import Table

from conjoin import L1, L2, Dataset, Linf, attack, certify, predict
from conjoin.attacks import PGD
from conjoin.certification import (
    AlphaCrown,
    BranchAndBound,
    Crown,
    Interval,
    Lipschitz,
    LocalLipschitz,
)
from conjoin.core.ball import Ball
from conjoin.data import fashion_mnist
from conjoin.errors import CapabilityError
from conjoin.models.torch import TorchModel
from conjoin.models.zoo import shipped
from conjoin.names import FASHION_MODELS

METHODS: dict[str, Any] = {
    "Lipschitz": Lipschitz(),
    "Interval": Interval(),
    "LocalLipschitz": LocalLipschitz(),
    "Crown": Crown(),
    "AlphaCrown": AlphaCrown(10),
    "BranchAndBound": BranchAndBound(seconds=5.0),
}
# The threats of verification.md's table, and small ones of each norm.
THREATS: dict[str, tuple[Ball, ...]] = {
    "mnist_cnn_small": (Linf(0.05), Linf(0.1), Linf(0.2), L2(0.3), L1(1.0)),
    "mnist_kw_eps0.1": (Linf(0.05), Linf(0.1), Linf(0.2), L2(0.3), L1(1.0)),
    "mnist_kw_small_eps0.3": (Linf(0.1), Linf(0.3), L2(0.3)),
    "mnist_mlp_3layer": (Linf(0.02), L2(0.3), L1(1.0)),
    "mnist_mlp_6x100_nat": (Linf(0.02), L2(0.3), L1(1.0)),
    "mnist_cnn_a_adv": (Linf(0.1), L2(0.3)),
    "fashion_kw_eps0.1": (Linf(0.1), L2(0.3)),
    "cifar_kw_small_8px": (Linf(2 / 255), L2(0.1)),
    "cifar_kw_l2_small_36px": (Linf(1 / 255), L2(36 / 255)),
    "cifar_conv_small_sigmoid": (Linf(1 / 255), L2(0.1)),
    "cifar_resnet2b": (Linf(1 / 255), L2(0.05)),
    "cifar_marabou_small": (Linf(1 / 255), L2(0.05)),
    **{f"zoo:{name}": (Linf(0.02), L2(0.3), L1(1.0)) for name in FASHION_MODELS},
}


def subjects(
    names: list[str], folder: Path | None, count: int
) -> Iterator[tuple[str, Any, Dataset]]:
    """Yield networks with the first of spaced images that they get right."""
    for name in names:
        if name.startswith("zoo:"):
            model, data = shipped(name[4:]), fashion_mnist("test")
        elif folder is not None and (folder / "checkpoints" / f"{name}.npz").is_file():
            model = TorchModel(rebuilt(name, folder))
            data = test_data(NETWORKS[name].data, folder)
        else:
            continue
        data = spaced(data, 4 * count)
        right = predict(model, data).argmax(1) == data.y
        yield name, model, data.select(right.nonzero()[:count, 0])


def pass_time(model: Any, data: Dataset) -> float:
    """The least time of a forward pass of the images."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        predict(model, data)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="networks and data")
    parser.add_argument("--count", type=int, default=20, help="images")
    parser.add_argument("--networks", nargs="+", default=list(THREATS))
    parser.add_argument("--methods", nargs="+", default=[*METHODS][:5])
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(title=f"{options.count} images, one thread", title_justify="left")
    for name in ("network", "threat", "certifier", "certified", "looseness", "s per 20", "passes"):
        table.add_column(name, justify="left" if name in ("network", "threat") else "right")
    console, wrong = Console(width=120), 0
    for name, model, data in subjects(options.networks, options.folder, options.count):
        one = pass_time(model, data)
        for threat in THREATS[name]:
            hit = attack(model, data, PGD(steps=40), threat, seed=0)
            stood = f"{float((~hit.success).double().mean()):.2f}"
            table.add_row(name, str(threat), "PGD-40 leaves", stood, "1", "", "")
            for key in options.methods:
                start = time.perf_counter()
                try:
                    found = certify(model, data, METHODS[key], threat)
                except CapabilityError:
                    table.add_row(name, str(threat), key, "refused", "", "", "")
                    continue
                spent = time.perf_counter() - start
                loss = (found.clean - found.lower) / (found.clean - hit.value).clamp(min=1e-9)
                wrong += int((found.lower > hit.value + 1e-5).sum())
                table.add_row(
                    name,
                    str(threat),
                    key,
                    f"{float(found.certified.double().mean()):.2f}",
                    f"{float(loss.median()):.3g}",
                    f"{spent * 20 / len(data):.2f}",
                    f"{spent / one:.0f}",
                )
    console.print(table)
    console.print(f"{wrong} bounds above what an attack found")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
