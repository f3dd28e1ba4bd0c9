"""A folder is used by one run at a time, and says by which."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from conjoin.audit import lock
from conjoin.audit.lock import locked
from conjoin.audit.store import Local, Remote, write_text
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


def test_elsewhere_a_file_says_who_holds_it_and_how_to_remove_it() -> None:
    store = Remote("memory://held")
    with locked(store):
        with (
            pytest.raises(
                PlanError, match=rf"process {os.getpid()} of .*killed, remove memory.*lock"
            ),
            locked(store),
        ):
            pass
        assert store.has(".lock") and not store.names()
    assert not store.has(".lock")
    with pytest.raises(ValueError, match="x"), locked(store):
        raise ValueError("x")
    assert not store.has(".lock")


def test_elsewhere_what_a_killed_run_of_this_machine_left_is_taken_over() -> None:
    store = Remote("memory://left")
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    told = {
        "pid": gone.pid,
        "host": socket.gethostname(),
        "user": "u",
        "since": "s",
        "command": "c",
    }
    write_text(store, ".lock", json.dumps(told))
    with locked(store):
        assert json.loads(store.read(".lock"))["pid"] == os.getpid()
    write_text(store, ".lock", json.dumps({**told, "host": "another"}))
    with pytest.raises(PlanError, match="of u on another since s"), locked(store):
        pass
    assert store.has(".lock"), "whoever is refused leaves it"
    store.remove(".lock")


def test_elsewhere_of_two_that_begin_at_once_the_last_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Remote("memory://both")

    def late(self: Remote, name: str) -> bool:  # the other one was not there yet when we looked
        return False

    with locked(store), monkeypatch.context() as patch:
        patch.setattr(Remote, "has", late)
        write = lock.write_text

        def twice(where: Remote, name: str, text: str) -> None:
            write(where, name, text)
            write(where, name, '{"pid": 1}')

        patch.setattr(lock, "write_text", twice)
        with pytest.raises(PlanError, match="in use by another run"), locked(store):
            pass
    store.remove(".lock")


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
