"""How loose are the certifiers' bounds on public networks? ``python benchmarks/looseness.py FOLDER``.

For each network and norm the median over a few test images of (clean - lower) ÷ (clean - attacked),
then the median over all networks. FOLDER holds networks and data as :mod:`checkpoints` says; the
shipped ones are always looked at. ``attacked`` is what the library's PGD finds, so that the true
looseness is at most what is shown. What refuses counts as infinite. Ends with status 1 if a bound
lies above what an attack found.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from certification import subjects
from checkpoints import NETWORKS
from rich.console import Console
from rich.table import Table

from conjoin import L2, Linf, attack, certify
from conjoin.attacks import PGD
from conjoin.certification import Crown, Interval, Lipschitz, LocalLipschitz
from conjoin.core.drive import prepared
from conjoin.errors import CapabilityError
from conjoin.names import FASHION_MODELS

METHODS: dict[str, Any] = {
    "Lipschitz": Lipschitz(),
    "split": Lipschitz(split=True),
    "Interval": Interval(),
    "LocalLipschitz": LocalLipschitz(),
    "Crown": Crown(),
}
THREATS = (L2(0.1), Linf(1 / 255))


def looseness(model: Any, data: Any, threat: Any, methods: dict[str, Any]) -> dict[str, float]:
    """Return the median of each method; infinite where it refuses. NaN says that a bound is wrong."""
    hit = attack(model, data, PGD(steps=40), threat, seed=0)
    found = {}
    for name, method in methods.items():
        try:
            ready = prepared(method, model, data)
            lower = certify(model, data, ready, threat)
        except CapabilityError:
            found[name] = float("inf")
            continue
        loss = (lower.clean - lower.lower) / (lower.clean - hit.value).clamp(min=1e-9)
        wrong = bool((lower.lower > hit.value + 1e-5).any())
        found[name] = float("nan") if wrong else float(loss.median())
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="networks and data")
    parser.add_argument("--count", type=int, default=4, help="images")
    parser.add_argument("--networks", nargs="+")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = options.networks or [*(f"zoo:{name}" for name in FASHION_MODELS), *NETWORKS]
    methods = {name: METHODS[name] for name in options.methods}
    table = Table(title=f"(clean - lower) / (clean - attacked), {options.count} images")
    for column in ("network", "threat", *methods):
        table.add_column(column, justify="left" if column in ("network", "threat") else "right")
    every: dict[tuple[str, str], list[float]] = {}
    start, seen = time.perf_counter(), set()
    console = Console(width=110)
    for name, model, data in subjects(names, options.folder, options.count):
        seen.add(name)
        for threat in THREATS:
            found = looseness(model, data, threat, methods)
            table.add_row(name, str(threat), *(f"{value:.3g}" for value in found.values()))
            for key, value in found.items():
                every.setdefault((threat.name, key), []).append(value)
        console.print(f"{name}: {time.perf_counter() - start:.0f} s", style="dim")
    for threat in THREATS:
        medians = (statistics.median(every[threat.name, name]) for name in methods)
        table.add_row(f"median of {len(seen)}", str(threat), *(f"{v:.3g}" for v in medians))
    console.print(table)
    wrong = sum(value != value for values in every.values() for value in values)  # noqa: PLR0124 - NaN
    console.print(f"{wrong} medians with a bound above what an attack found")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
