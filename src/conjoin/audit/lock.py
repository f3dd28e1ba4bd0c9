"""One audit at a time in a place: a lock that says who holds it.

In a folder the lock is the operating system's (``flock``), so a killed holder leaves none behind; the
words in the file only tell others whom to ask. Elsewhere (object stores know no locks) the file itself
is the lock. A holder that is killed leaves it: the next run on the same machine sees that its process
has ended and takes it over, others are told how to remove it. It is a guard against mistakes and *no*
mutual exclusion: of two runs that begin within the same moment both may go on. They then write equal
files; what either of them writes aside may be swept away by the other, which then fails and is begun
again.
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
from uuid import uuid4

from conjoin.audit.store import Local, Store, write_text
from conjoin.errors import PlanError

try:
    import fcntl
except ImportError:  # no such lock on this system
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Hold a place within; on a system without locks a folder has none.

    Raises:
        PlanError: If another run holds it, saying which.
    """
    if not isinstance(store, Local):
        with _marked(store):
            yield
        return
    if fcntl is None:
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


@contextmanager
def _marked(store: Store) -> Iterator[None]:
    """Hold a place by a file in it."""
    if store.has(LOCK) and not _ended(store.read(LOCK)):
        raise PlanError(
            f"{store.url} is in use{_said(store.read(LOCK))}; wait for that run, end it, or give "
            f"another place. If it was killed, remove {store.url.rstrip('/')}/{LOCK}"
        )
    own = json.dumps({**_holder(), "run": uuid4().hex})
    write_text(store, LOCK, own)
    if store.read(LOCK) != own.encode():  # another one wrote it in between, and goes on
        raise PlanError(f"{store.url} is in use{_said(store.read(LOCK))}; give another place")
    try:
        yield
    finally:
        if store.has(LOCK) and store.read(LOCK) == own.encode():
            store.remove(LOCK)


def _ended(content: bytes) -> bool:
    """Tell whether the holder was a process of this machine that is gone."""
    try:
        told = json.loads(content)
        if fcntl is None or told["host"] != socket.gethostname():
            return False  # without locks there is no harmless signal either
        os.kill(told["pid"], 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return False


def _taken(path: Path) -> int:
    """Open and lock the file; again if the last holder removed it in between."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and path.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        except BlockingIOError as error:
            said = _said(_content(path))
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


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _said(content: bytes) -> str:
    try:
        told = json.loads(content)
        return (
            f" by process {told['pid']} of {told['user']} on {told['host']} since {told['since']}"
            f" ({told['command']})"
        )
    except (ValueError, KeyError, TypeError):  # it is just being written
        return " by another run"


__all__ = ["LOCK", "locked"]
