"""Memory of an audit from 10,000 to 1,000,000 examples: ``python benchmarks/scale.py``.

Made data of 256 features in ``x.npy`` (1 GB at a million), read by position; accuracy and a one-step
attack of every example, 1,000 a task. The peak of resident memory of the driver and of its workers is
the kernel's (``VmHWM``), each run in processes of its own.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import attacked
from rich.console import Console
from rich.table import Table

from conjoin.audit import Here, Pool, audit
from conjoin.data.stored import stored

COUNTS = (10_000, 100_000, 1_000_000)


def peak(pid: int | str) -> float:
    """Return the peak of a process's memory so far, in MB; 0 if it has ended."""
    try:
        told = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    line = next((line for line in told.splitlines() if line.startswith("VmHWM")), "VmHWM: 0 kB")
    return int(line.split()[1]) / 1024


def children() -> list[str]:
    return Path(f"/proc/self/task/{threading.main_thread().native_id}/children").read_text().split()


def measured(folder: Path, data: Path, workers: int) -> None:
    """Carry one audit out; print the peaks of the driver and of its workers."""
    highest, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            highest[0] = max(highest[0], *map(peak, children()), 0.0)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    audit(
        {"network": attacked.network()},
        stored(data),
        {"limit": 0, "shard": 1000},
        folder=folder,
        sections=attacked.sections(),
        executor=Pool(workers) if workers else Here(),
        batch_size=500,
    )
    ended.set()
    watcher.join()
    print(peak("self"), highest[0])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--one", type=Path, help="measure this folder of data and print")
    told = parser.parse_args()
    if told.one:
        measured(told.one / "run", told.one / "data", told.workers)
        return
    table = Table("examples", "driver, MB", "ratio", "worker, MB", "ratio", "s", "rows/, MB")
    first: tuple[float, float] | None = None
    for count in told.counts:
        top = Path(tempfile.mkdtemp(prefix="scale-"))
        attacked.write(top / "data", count)
        start = time.monotonic()
        call = [sys.executable, __file__, "--one", str(top), "--workers", str(told.workers)]
        out = subprocess.run(call, capture_output=True, text=True, check=True).stdout  # noqa: S603
        driver, worker = map(float, out.split()[-2:])
        first = first or (driver, worker)
        size = sum(f.stat().st_size for f in (top / "run" / "rows").iterdir()) / 2**20
        table.add_row(
            f"{count:,}",
            f"{driver:.0f}",
            f"{driver / first[0]:.2f}",
            f"{worker:.0f}" if worker else "",
            f"{worker / first[1]:.2f}" if worker else "",
            f"{time.monotonic() - start:.0f}",
            f"{size:.1f}",
        )
        shutil.rmtree(top)
    Console().print(table)


if __name__ == "__main__":
    main()
