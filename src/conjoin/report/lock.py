"""The lock of a folder in use: one command at a time writes to it, and says who it is.

``.lock`` is locked by the operating system (``flock``), so that it is free again at the moment its
holder dies, however it dies; what the file says is for the person who is refused. Where the file
system knows no locks, what it says decides: a holder on this machine that no longer runs is dead.
"""

from __future__ import annotations

import getpass
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from conjoin.errors import PlanError

LOCK = ".lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder, made if need be, against others; a folder that stays empty is removed again.

    Raises:
        PlanError: If another process holds it, naming that process, or if there is a file in its
            place.
    """
    made = not folder.exists()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir():
        raise PlanError(f"{there} is a file; expected a folder: give another --out")
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":  # which has other locks
        yield
        return
    file = _taken(folder)
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        file.close()  # which frees it
        if made:
            with suppress(OSError):  # it holds something
                folder.rmdir()


def _taken(folder: Path) -> IO[str]:
    """Lock the file of the folder and write down who did."""
    import fcntl

    path = folder / LOCK
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(file)
            file.close()
            raise _refusal(folder, holder) from None
        except OSError:  # no locks on this file system
            holder = _holder(file)
            if _runs(holder):
                file.close()
                raise _refusal(folder, holder, f"; if it is dead, remove {path}") from None
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            break
        file.close()  # its last holder has just removed it
    file.truncate(0)
    json.dump(_self(), file)
    file.flush()
    return file


def _self() -> dict[str, Any]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        user = str(os.getuid())
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "user": user,
        "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}",
        "command": shlex.join(["conjoin", *sys.argv[1:]]),
    }


def _holder(file: IO[str]) -> dict[str, Any]:
    """Read who holds the folder; nothing where that was not written yet."""
    file.seek(0)
    try:
        found = json.loads(file.read())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _runs(holder: dict[str, Any]) -> bool:
    """Tell whether a holder may still be alive; what is on another machine cannot be asked."""
    if not holder or holder.get("host") != socket.gethostname():
        return bool(holder)
    try:
        os.kill(int(holder["pid"]), 0)
    except (ProcessLookupError, KeyError, ValueError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _refusal(folder: Path, holder: dict[str, Any], more: str = "") -> PlanError:
    who = "another process"
    if holder:
        who = (
            f"process {holder.get('pid')} of {holder.get('user')} on {holder.get('host')} since "
            f"{holder.get('since')} ({holder.get('command')})"
        )
    return PlanError(f"{folder} is in use by {who}; wait for it, or give another --out{more}")
