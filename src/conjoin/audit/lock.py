"""One audit at a time in a folder: a lock that says who holds it, and ends with its holder.

The lock is the operating system's (``flock``), so a killed holder leaves none behind; the words in
the file only tell others whom to ask.
"""

from __future__ import annotations

import getpass
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from conjoin.audit.store import Local, Store
from conjoin.errors import PlanError

try:
    import fcntl
except ImportError:  # no such lock on this system
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Hold a folder within; a store that is no folder has no lock.

    Raises:
        PlanError: If another run holds it, saying which.
    """
    if not isinstance(store, Local) or fcntl is None:
        yield
        return
    store.root.mkdir(parents=True, exist_ok=True)
    path = store.root / LOCK
    handle = _taken(path)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(_holder()).encode())
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: nobody can have taken it since
        os.close(handle)


def _taken(path: Path) -> int:
    """Open and lock the file; again if the last holder removed it in between."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and path.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        except BlockingIOError as error:
            said = _said(path)
            os.close(handle)
            raise PlanError(
                f"{path.parent} is in use{said}; wait for that run, end it, or give another folder"
            ) from error
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _holder() -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "user": _user(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv)[:200],
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return str(os.getuid())


def _said(path: Path) -> str:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return (
            f" by process {told['pid']} of {told['user']} on {told['host']} since {told['since']}"
            f" ({told['command']})"
        )
    except (OSError, ValueError, KeyError, TypeError):  # it is just being written
        return " by another run"


__all__ = ["LOCK", "locked"]
