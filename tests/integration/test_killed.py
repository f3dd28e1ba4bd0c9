"""Whatever is killed in the middle, the next run goes on, and ends with the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import audited
import pytest

from conjoin.audit import Here, audit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are looked up in /proc"),
]
COUNT = 1600  # examples, in shards of eight: 600 tasks
SCRIPT = """
import sys, time
from pathlib import Path
import audited
from conjoin.audit import Here, Pool, audit
from conjoin.models.torch import TorchModel
if __name__ == "__main__":
    folder, workers = sys.argv[1], int(sys.argv[2])
    audit({"m": audited.net()}, audited.data(%d), audited.PLAN, folder=folder,
          sections=audited.SECTIONS, executor=Pool(workers) if workers else Here())
"""


def begun(tmp_path: Path, workers: int) -> subprocess.Popen[bytes]:
    (tmp_path / "driver.py").write_text(SCRIPT % COUNT)
    path = os.pathsep.join([str(Path(audited.__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, str(tmp_path / "driver.py"), str(tmp_path / "run"), str(workers)],
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )


def done(folder: Path) -> int:
    return sum(1 for _ in (folder / "work").rglob("[0-9]*.safetensors"))


def after(tmp_path: Path, count: int, driver: subprocess.Popen[bytes]) -> None:
    """Wait until so many tasks are done."""
    while done(tmp_path / "run") < count:
        assert driver.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)


def running() -> dict[int, int]:
    """List processes with their parents; those that only wait to be counted are left out."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it ended meanwhile
            continue
        if state not in "ZX":
            found[int(entry.parent.name)] = int(parent)
    return found


def children(parent: int) -> list[int]:
    return [pid for pid, above in running().items() if above == parent]


def gone(pids: list[int], within: float = 10) -> bool:
    end = time.monotonic() + within
    while time.monotonic() < end:
        if not running().keys() & set(pids):
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    audit(
        {"m": audited.net()},
        audited.data(COUNT),
        audited.PLAN,
        folder=folder,
        sections=audited.SECTIONS,
        executor=Here(),
    )
    return audited.contents(folder)


def test_killed_five_times(tmp_path: Path, whole: dict[str, str]) -> None:
    driver = begun(tmp_path, 2)
    for number, victim in enumerate(("worker", "driver", "worker", "driver", "worker"), 1):
        after(tmp_path, 90 * number, driver)
        while not (workers := children(driver.pid)):
            time.sleep(0.01)
        if victim == "worker":
            os.kill(workers[0], signal.SIGKILL)
            continue
        driver.kill()
        driver.wait()
        assert gone(workers)
        driver = begun(tmp_path, 2)
    assert driver.wait(300) == 0
    assert audited.contents(tmp_path / "run") == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupt_ends_all_processes_at_once(
    tmp_path: Path, whole: dict[str, str], workers: int
) -> None:
    driver = begun(tmp_path, workers)
    after(tmp_path, 30, driver)
    started = children(driver.pid)
    assert len(started) == workers
    os.killpg(driver.pid, signal.SIGINT)
    assert driver.wait(30) == -signal.SIGINT
    assert gone(started)
    assert not (tmp_path / "run" / ".lock").exists()
    driver = begun(tmp_path, 2)
    assert driver.wait(300) == 0
    assert audited.contents(tmp_path / "run") == whole


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    first = begun(tmp_path, 0)
    after(tmp_path, 10, first)
    os.kill(first.pid, signal.SIGSTOP)  # it holds the folder, and does not end meanwhile
    second = subprocess.run(
        first.args, env={**os.environ, "PYTHONPATH": str(Path(audited.__file__).parent)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"is in use by process {first.pid}" in second.stderr
    first.kill()
    first.wait()


def test_ray_leaves_the_same_bytes(tmp_path: Path, whole: dict[str, str]) -> None:
    pytest.importorskip("ray")
    script = SCRIPT.replace("import Here, Pool, audit", "import Here, audit").replace(
        "Pool(workers)", "Ray(workers=workers)"
    )
    script = "from conjoin.audit.executor.ray import Ray\n" + script
    (tmp_path / "driver.py").write_text(script % COUNT)
    path = os.pathsep.join([str(Path(audited.__file__).parent), os.environ.get("PYTHONPATH", "")])
    # In a process of its own: Ray leaves threads, sockets and warnings behind in its driver.
    subprocess.run(
        [sys.executable, str(tmp_path / "driver.py"), str(tmp_path / "run"), "2"],
        env={**os.environ, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"},
        check=True,
        timeout=500,
    )
    assert audited.contents(tmp_path / "run") == whole
