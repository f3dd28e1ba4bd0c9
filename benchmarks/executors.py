"""What the executors cost: ``python benchmarks/executors.py [--ray]``.

The same audit in this process, by two workers, and by Ray on two processors: wall time, interleaved,
the least of several repeats, one thread a task, so only ratios on an idle machine mean anything. A
pool's target is 1.2 / N of the time in this process, Ray's 1.5 / N and its start. Bytes are compared.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import attacked
from killed import contents
from rich.console import Console
from rich.table import Table

from conjoin.audit import Here, Pool, audit
from conjoin.audit.executor import Executor


def carried_out(executor: Executor, count: int, steps: int) -> tuple[float, dict[str, str]]:
    folder = Path(tempfile.mkdtemp(prefix="executors-"))
    models, data = {"network": attacked.network(512)}, attacked.data(count)
    start = time.perf_counter()
    audit(
        models,
        data,
        {"limit": 0, "shard": 100},
        folder=folder,
        sections=attacked.sections(steps),
        executor=executor,
    )
    return time.perf_counter() - start, contents(folder)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=4_000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ray", action="store_true")
    told = parser.parse_args()
    executors: dict[str, Executor] = {"here": Here(), "2 workers": Pool(2)}
    if told.ray:
        from conjoin.audit.executor.ray import Ray

        executors["Ray, 2 processors"] = Ray(workers=2)
    least: dict[str, float] = {}
    bytes_ = {}
    for _ in range(told.repeats):
        for name, executor in executors.items():
            seconds, bytes_[name] = carried_out(executor, told.count, told.steps)
            least[name] = min(seconds, least.get(name, seconds))
    table = Table("executor", "s", "of here", "same bytes", title=f"load {os.getloadavg()[0]:.1f}")
    for name, seconds in least.items():
        same = bytes_[name] == bytes_["here"]
        table.add_row(name, f"{seconds:.1f}", f"{seconds / least['here']:.2f}", str(same))
    Console().print(table)


if __name__ == "__main__":
    main()
