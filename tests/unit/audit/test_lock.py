"""A folder is used by one run at a time, and says by which."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conjoin.audit.lock import locked
from conjoin.audit.store import Local, Remote
from conjoin.errors import PlanError

pytest.importorskip("fcntl")
HOLD = (
    "import sys, time, pathlib; from conjoin.audit.lock import locked\n"
    "from conjoin.audit.store import Local\n"
    "with locked(Local(pathlib.Path(sys.argv[1]))): print('held', flush=True); time.sleep(600)"
)


def test_it_is_held_within_and_gone_after(tmp_path: Path) -> None:
    with locked(Local(tmp_path / "run")):
        with (
            pytest.raises(PlanError, match=rf"in use by process {os.getpid()} of .* since 2.*\("),
            locked(Local(tmp_path / "run")),
        ):
            pass
        assert (tmp_path / "run" / ".lock").exists()
    assert not (tmp_path / "run" / ".lock").exists()
    with pytest.raises(ValueError, match="x"), locked(Local(tmp_path / "run")):
        raise ValueError("x")
    with locked(Local(tmp_path / "run")):
        pass


def test_a_store_that_is_no_folder_has_none() -> None:
    with locked(Remote("memory://a")), locked(Remote("memory://a")):
        pass


def test_another_process_is_named_and_its_death_frees_the_folder(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(PlanError, match=f"process {other.pid}"), locked(Local(tmp_path)):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert (tmp_path / ".lock").exists()  # its words, but nobody holds it
    with locked(Local(tmp_path)):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()


def test_a_file_without_words_is_another_run(tmp_path: Path) -> None:
    with locked(Local(tmp_path)):
        (tmp_path / ".lock").write_text("")
        with pytest.raises(PlanError, match="by another run"), locked(Local(tmp_path)):
            pass
