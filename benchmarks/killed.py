"""An audit of 20,000 examples, killed five times in the middle: ``python benchmarks/killed.py``.

Workers and drivers are killed by turns (signal 9) while tasks are under way; each time the run goes
on from its folder. At the end rows, tensors and ``run.json`` (but its cost) are compared with those of
a run that nobody disturbed, in one process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import attacked
from rich.console import Console
from rich.table import Table

from conjoin.audit import Here, Pool, audit
from conjoin.audit.executor import Executor

STEPS = 40  # of the attacks: a run is to last long enough to be killed in its middle
VICTIMS = ("worker", "driver", "worker", "driver", "worker")


def carried_out(folder: Path, count: int, executor: Executor) -> None:
    audit(
        {"network": attacked.network()},
        attacked.data(count),
        {"limit": 0, "shard": 100},
        folder=folder,
        sections=attacked.sections(STEPS),
        executor=executor,
    )


def begun(folder: Path, count: int, how: str) -> subprocess.Popen[bytes]:
    call = [sys.executable, __file__, "--into", str(folder), "--count", str(count), "--on", how]
    return subprocess.Popen(call, start_new_session=True)  # noqa: S603 - this file


def contents(folder: Path) -> dict[str, str]:
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name != "report.html":
            content = file.read_bytes()
            if file.name == "run.json":
                content = json.dumps({**json.loads(content), "cost": None}).encode()
            found[file.relative_to(folder).as_posix()] = hashlib.sha256(content).hexdigest()
    return found


def done(folder: Path) -> int:
    return sum(1 for _ in (folder / "work").rglob("[0-9]*.safetensors"))


def workers(driver: int) -> list[int]:
    """Return the processes of a driver that perform tasks: its own, or those of its Ray."""
    told = subprocess.run(
        ["ps", "-wweo", "pid,ppid,sid,stat,args"],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rows = [line.split(maxsplit=4) for line in told.splitlines()[1:]]
    pool = [int(r[0]) for r in rows if r[1] == str(driver) and "executor.worker" in r[4]]
    ray = [int(r[0]) for r in rows if r[2] == str(driver) and r[4].startswith("ray::remotely")]
    return pool or ray


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--into", type=Path)
    parser.add_argument("--on", choices=("pool", "ray", "here"), default="pool")
    told = parser.parse_args()
    if told.into:
        if told.on == "ray":
            from conjoin.audit.executor.ray import Ray

            carried_out(told.into, told.count, Ray(workers=2))
        else:
            carried_out(told.into, told.count, Pool(2) if told.on == "pool" else Here())
        return
    top = Path(tempfile.mkdtemp(prefix="killed-"))
    table = Table("", "killed", "tasks done", "of", title=f"{told.count:,} examples, {told.on}")
    total = 2 * told.count // 100
    driver, start = begun(top / "run", told.count, told.on), time.monotonic()
    for number, victim in enumerate(VICTIMS, 1):
        found: list[int] = []
        while done(top / "run") < total * number // 7 or not found:
            if driver.poll() is not None:
                sys.exit(f"it ended before it could be killed {number} times ({driver.returncode})")
            found = workers(driver.pid)
            time.sleep(0.02)
        table.add_row(str(number), victim, str(done(top / "run")), str(total))
        if victim == "worker":
            os.kill(found[0], signal.SIGKILL)
        else:
            driver.kill()
            driver.wait()
            driver = begun(top / "run", told.count, told.on)
    assert driver.wait() == 0
    seconds = time.monotonic() - start
    carried_out(top / "whole", told.count, Here())
    same = contents(top / "run") == contents(top / "whole")
    Console().print(table)
    print(f"the same bytes as an undisturbed run: {same}; {seconds:.0f} s, {top}")
    sys.exit(not same)


if __name__ == "__main__":
    main()
