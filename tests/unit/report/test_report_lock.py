"""A folder in use: one command at a time, the others are told whose it is."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from conjoin.errors import PlanError
from conjoin.report.lock import LOCK, held

HOLD = (
    "import sys, pathlib\n"
    "from conjoin.report.lock import held\n"
    "with held(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
)


def holder(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the folder, until it is killed or its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_folder_is_made_held_and_let_go(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    with held(folder):
        said = json.loads((folder / LOCK).read_text())
        assert said["pid"] == os.getpid() and said["host"] == socket.gethostname()
        (folder / "result").touch()
    assert [path.name for path in folder.iterdir()] == ["result"]


def test_what_stays_empty_is_removed_only_if_it_was_made_here(tmp_path: Path) -> None:
    with held(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()
    (tmp_path / "mine").mkdir()
    with held(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").is_dir()


def test_who_comes_second_is_told_who_holds_it_and_leaves_it_alone(tmp_path: Path) -> None:
    other = holder(tmp_path / "run")
    try:
        words = rf"run is in use by process {other.pid} of .* since .*\(conjoin .*another --out"
        with pytest.raises(PlanError, match=words), held(tmp_path / "run"):
            pass
        assert json.loads((tmp_path / "run" / LOCK).read_text())["pid"] == other.pid
        other.communicate("")
        with held(tmp_path / "run"):
            pass
    finally:
        other.kill()
        other.communicate()


def test_the_lock_of_a_killed_holder_is_free(tmp_path: Path) -> None:
    other = holder(tmp_path / "run")
    other.kill()
    other.communicate()
    assert (tmp_path / "run" / LOCK).exists(), "it could not tidy up"
    with held(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / LOCK).read_text())["pid"] == os.getpid()


@pytest.mark.parametrize(
    ("holder", "taken"), [("here", False), ("dead", True), ("elsewhere", False), ("unsaid", True)]
)
def test_without_locks_of_the_file_system_what_the_file_says_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holder: str, taken: bool
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    said = {
        "here": {"pid": os.getpid(), "host": socket.gethostname()},
        "dead": {"pid": gone.pid, "host": socket.gethostname()},
        "elsewhere": {"pid": gone.pid, "host": "another.machine"},
    }
    (tmp_path / LOCK).write_text(json.dumps(said[holder]) if holder in said else "")
    if taken:
        with held(tmp_path):
            assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    else:
        with pytest.raises(PlanError, match=r"in use by .* remove .*\.lock"), held(tmp_path):
            pass


@pytest.mark.parametrize("below", ["file", "file/run", "file/deep/run"])
def test_a_file_is_no_folder(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(PlanError, match=r"file is a file; expected a folder"),
        held(tmp_path / below),
    ):
        pass
    assert (tmp_path / "file").read_text() == "mine"


def test_a_failure_lets_go(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), held(tmp_path / "run"):
        raise KeyboardInterrupt
    with held(tmp_path / "run"):
        pass
