"""An epoch of certified training against one of standard training: processor time, in one run.

    python benchmarks/training.py --count 12800 --repeats 3

The same network (2C2F, 166,406 parameters), the same data, batches of 256, one thread; the contenders
alternate, and the least time of several repeats counts. The first row is the floor: certified training
can cost no less. Reading the graph and letting the estimates settle is done once for each training, and
shown apart. Data are random: time does not depend on them.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch
from rich.console import Console
from rich.table import Table

from conjoin import Dataset
from conjoin.core.random import Streams
from conjoin.training import EMMA, Adam, GloRo, Gram, Recipe, Standard, TradesGloRo, fit
from conjoin.training.architectures import architecture
from conjoin.training.objective import Objective, Preparable

SHAPE, CLASSES = (1, 28, 28), 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=12800, help="examples of an epoch")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--architecture", default="2C2F")
    words = parser.parse_args()
    torch.set_num_threads(1)
    index = torch.arange(words.count)
    x = Streams.of(0, index).uniform(*SHAPE)
    data = Dataset(x, (x.flatten(1).mean(1) * 1e6).long() % CLASSES)
    contenders: dict[str, Objective] = {
        "standard": Standard(),
        "GloRo": GloRo(0.3),
        "TRADES with ⊥": TradesGloRo(0.3),
        "EMMA": EMMA(0.3),
        "EMMA, bounds from above (Gram)": EMMA(0.3, norms=Gram()),
    }
    recipe = Recipe(epochs=1, batch_size=256, optimiser=Adam(nesterov=True))
    least, before = dict.fromkeys(contenders, float("inf")), dict.fromkeys(contenders, 0.0)
    for repeat in range(words.repeats):
        for name, objective in contenders.items():
            network = architecture(words.architecture, SHAPE, CLASSES)
            start = time.process_time()
            ready = (
                objective.prepare(network, x[:1])
                if isinstance(objective, Preparable)
                else objective
            )
            middle = time.process_time()
            fit(network, data, ready, replace(recipe, seed=repeat))
            least[name] = min(least[name], time.process_time() - middle)
            before[name] = middle - start
    table = Table("objective", "CPU s an epoch", "of standard", "CPU s for 60,000", "once, CPU s")
    for name, seconds in least.items():
        whole = seconds * 60_000 / words.count
        ratio = seconds / least["standard"]
        table.add_row(
            name, f"{seconds:.2f}", f"{ratio:.2f}x", f"{whole:.1f}", f"{before[name]:.2f}"
        )
    table.title = f"{words.architecture}, {words.count} images of 28 x 28, batches of 256"
    Console().print(table)


if __name__ == "__main__":
    main()
