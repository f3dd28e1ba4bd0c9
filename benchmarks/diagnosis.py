"""What the diagnosis says of every network of ``checkpoints.py``: healthy ones must be green.

python benchmarks/diagnosis.py FOLDER --count 60
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from checkpoints import CASES, case
from rich.console import Console
from rich.table import Table

from conjoin.attacks.diagnosis import Level, diagnosed


def main() -> None:
    """Diagnose `quick` on each case, and show what raises an alarm."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with checkpoints, mnist and cifar10")
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--count", type=int, default=60)
    args = parser.parse_args()
    torch.set_num_threads(1)
    shown = Table(title="quick(), and what its diagnosis says")
    for column in ("case", "left standing", "verdict", "alarms"):
        shown.add_column(column)
    for name in args.cases:
        model, data, threat = case(name, args.folder, args.count)
        found = diagnosed(model, data, threat, seed=0)
        loud = [one for one in found.indicators if one.level > Level.GREEN]
        said = ", ".join(f"{one.name} {one.value:.3g}" for one in loud)
        shown.add_row(name, f"{found.robust_accuracy:.1%}", found.verdict.word, said)
    Console(width=160).print(shown)


if __name__ == "__main__":
    main()
