"""The command settles its threads before torch is loaded, and the user's own settings win."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from conjoin.cli import manners


@pytest.mark.parametrize(
    ("every", "busy", "threads"), [(8, 0.2, None), (8, 5.0, "3"), (2, 1.9, "1"), (2, 40.0, "1")]
)
def test_threads_leave_room_for_others(
    monkeypatch: pytest.MonkeyPatch, every: int, busy: float, threads: str | None
) -> None:
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"):
        monkeypatch.setenv(name, "theirs")  # so that what is set below is undone
        monkeypatch.delenv(name)
    monkeypatch.setattr(manners, "_processors", lambda: every)
    monkeypatch.setattr(manners, "_busy", lambda: busy)
    manners.settle()
    assert os.environ.get("OMP_NUM_THREADS") == threads
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setenv("KMP_BLOCKTIME", "200")
    monkeypatch.setattr(manners, "_busy", lambda: 99.0)
    manners.settle()
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert os.environ["KMP_BLOCKTIME"] == "200"


def test_torch_is_not_loaded_before() -> None:
    code = "import sys, conjoin.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
