"""Strength and passes of the ensembles against AutoAttack: what is left standing, and at what price.

Each run of an attack on a case (a network, a norm, a radius; see ``checkpoints.py``) is a line of a
file that only grows: which examples fell, passes, processor time. A run on file is not made again, so
the table can be made in parts; what any run has ever broken counts for the column "best known". Peer:
AutoAttack's standard version by ``pyautoattack``; what it returns is judged here: inside the exact set,
and wrong by the network itself.

    python benchmarks/attacks.py FOLDER --count 200 --seeds 3
    python benchmarks/attacks.py FOLDER --table
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from checkpoints import CASES, case
from rich.console import Console
from rich.table import Table
from torch import Tensor

from conjoin import Dataset, attack
from conjoin.attacks import quick, standard, thorough
from conjoin.core.ball import Ball
from conjoin.core.protocols import Attack, Batch
from conjoin.core.random import Streams
from conjoin.models.torch import TorchModel

OURS: dict[str, Callable[[], Attack]] = {
    "quick": quick,
    "standard": standard,
    "thorough": thorough,
}


@dataclass(frozen=True)
class Line:
    """One run.

    Attributes:
        case, attack, seed, count: What was run; ``count`` examples, evenly spaced.
        made: The version of the attack, as it shows itself.
        left: Examples that were right and stayed so.
        fell: Places of those that were right and fell.
        passes: Forward and backward, per example.
        seconds: Of one processor.
    """

    case: str
    attack: str
    seed: int
    count: int
    made: str
    left: int
    fell: list[int]
    forward: float
    backward: float
    seconds: float


class Counted(torch.nn.Module):
    """A network that counts what passes through it."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network, self.forwards, self.backwards = network, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        """Pass through, and count."""
        self.forwards += len(x)
        out: Tensor = self.network(x)
        if out.requires_grad:
            out.register_hook(self._returned)
        return out

    def _returned(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


def peer(model: TorchModel, data: Dataset, threat: Ball, seed: int) -> tuple[Tensor, float, float]:
    """Run AutoAttack; return its candidates and its passes."""
    import pyautoattack

    network = Counted(model.module.eval())
    norm = {"linf": "Linf", "l2": "L2"}[threat.name]
    tool = pyautoattack.AutoAttack(network, norm=norm, eps=float(threat.eps), seed=seed)
    found = tool.run_standard_evaluation(data.x, data.y, batch_size=128)
    z = found[0] if isinstance(found, tuple) else found
    return threat.project(z.detach(), data.x), network.forwards, network.backwards


def run(name: str, which: str, seed: int, count: int, folder: Path) -> Line:
    """Run one attack on one case."""
    model, data, threat = case(name, folder, count)
    started = time.process_time()
    if which == "autoattack":
        made = "AutoAttack(standard)"
        z, forward, backward = peer(model, data, threat, seed)
    else:
        method = OURS[which]()
        result = attack(model, data, method, threat, seed=seed)
        made, z = repr(method), result.inputs
        forward, backward = result.provenance.forward, result.provenance.backward
    seconds = time.process_time() - started
    right, stays = (correct(model, data, x) for x in (data.x, z))
    assert bool(threat.contains(z, data.x).all())
    n = len(data)
    fell = (right & ~stays).nonzero()[:, 0].tolist()
    left = int((right & stays).sum())
    return Line(name, which, seed, n, made, left, fell, forward / n, backward / n, seconds)


def correct(model: TorchModel, data: Dataset, x: Tensor) -> Tensor:
    """Return which inputs are classified right, at the ties wrong."""
    with torch.no_grad():
        batch = Batch(x, data.y, Streams.of(0, torch.arange(len(x))))
        outputs = model(batch)
    own = outputs.gather(1, data.y[:, None])[:, 0]
    return own > outputs.scatter(1, data.y[:, None], -torch.inf).amax(1)


def read(record: Path) -> list[Line]:
    """Return the runs on file."""
    if not record.exists():
        return []
    return [Line(**json.loads(line)) for line in record.read_text().splitlines()]


def table(lines: list[Line], names: list[str]) -> Table:
    """Show what is left, as the mean and the most over the seeds, and the passes."""
    shown = Table(title="Left standing of the examples (mean over seeds, most), passes an example")
    shown.add_column("case")
    for column in ("clean", *names, "best known"):
        shown.add_column(column, justify="right")
    for name in dict.fromkeys(line.case for line in lines):
        own = [line for line in lines if line.case == name]
        count = max(line.count for line in own)
        own = [line for line in own if line.count == count]
        fallen = set().union(*(line.fell for line in own))
        clean = own[0].left + len(own[0].fell)
        cells = []
        for which in names:
            made = latest([line for line in own if line.attack == which])
            if not made:
                cells.append("")
                continue
            left = [line.left for line in made]
            passes = sum(line.forward + line.backward for line in made) / len(made)
            cells.append(f"{sum(left) / len(left):.1f} ({max(left)}), {passes:.0f}")
        shown.add_row(name, f"{clean} of {count}", *cells, str(clean - len(fallen)))
    return shown


def latest(lines: list[Line]) -> list[Line]:
    """Return the runs of the version run last."""
    return [line for line in lines if line.made == lines[-1].made]


def main() -> None:
    """Make the runs that are not on file, then show the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with checkpoints, mnist and cifar10")
    parser.add_argument("--record", type=Path, default=Path(__file__).with_name("strength.jsonl"))
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--attacks", nargs="*", default=["quick", "standard", "autoattack"])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true", help="run nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(0 if args.table else args.seeds):
        for name in args.cases:
            for which in args.attacks:
                made = repr(OURS[which]()) if which in OURS else "AutoAttack(standard)"
                key = (name, which, seed, args.count, made)
                done = read(args.record)
                if key in {(k.case, k.attack, k.seed, k.count, k.made) for k in done}:
                    continue
                line = run(name, which, seed, args.count, args.folder)
                with args.record.open("a") as file:
                    file.write(json.dumps(asdict(line)) + "\n")
    Console(width=160).print(
        table(read(args.record), ["quick", "standard", "thorough", "autoattack"])
    )


if __name__ == "__main__":
    main()
