"""What the executors cost: ``python benchmarks/executors.py [--ray]``.

The same audit in this process, by two workers, and by Ray on two processors: wall time, interleaved,
the least of several repeats, one thread a task. A pool's target is 1.2 / N of the time in this process,
Ray's 1.5 / N and its start; that can be seen on an idle machine only. Elsewhere processor time tells:
what a pool of N spends in all, its start included, over N is what it takes where N processors are free
(Ray's processes are not this one's children, so theirs is not known). Bytes are compared.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import attacked
from killed import contents
from rich.console import Console
from rich.table import Table

from conjoin.audit import Here, Pool, audit
from conjoin.audit.executor import Executor


def processor() -> float:
    """Return the processor time of this process and of those that it started and that ended."""
    told = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(t.ru_utime + t.ru_stime for t in told)


def carried_out(executor: Executor, count: int, steps: int) -> tuple[float, float, dict[str, str]]:
    folder = Path(tempfile.mkdtemp(prefix="executors-"))
    models, data = {"network": attacked.network(512)}, attacked.data(count)
    start, busy = time.perf_counter(), processor()
    audit(
        models,
        data,
        {"limit": 0, "shard": 100},
        folder=folder,
        sections=attacked.sections(steps),
        executor=executor,
    )
    return time.perf_counter() - start, processor() - busy, contents(folder)


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
    spent: dict[str, float] = {}
    bytes_ = {}
    for _ in range(told.repeats):
        for name, executor in executors.items():
            seconds, busy, bytes_[name] = carried_out(executor, told.count, told.steps)
            least[name] = min(seconds, least.get(name, seconds))
            spent[name] = min(busy, spent.get(name, busy))
    title = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"
    table = Table("executor", "s", "of here", "CPU s", "of here", "same bytes", title=title)
    for name, seconds in least.items():
        same = bytes_[name] == bytes_["here"]
        cells = f"{seconds:.1f}", f"{seconds / least['here']:.2f}"
        busy = f"{spent[name]:.1f}", f"{spent[name] / spent['here']:.2f}"
        known = ("", "") if name.startswith("Ray") else busy
        table.add_row(name, *cells, *known, str(same))
    Console().print(table)


if __name__ == "__main__":
    main()
