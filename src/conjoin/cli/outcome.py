"""How a command ends: an exit code, and one line where it is not 0."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from conjoin.cli.interrupt import INTERRUPTED, interruptible
from conjoin.cli.streams import tolerant
from conjoin.errors import ConjoinError, PostconditionError

if TYPE_CHECKING:
    from conjoin.core.protocols import Observer

EXIT_CODES = """\
Exit codes: 0 done; 1 a defect of this program or of your own code; 2 bad input (one line says what
was expected, what came and how to mend it); 3 a method broke its contract, or an attack contradicted
a certificate; 4 the results could not be written (go on with --resume); 130 interrupted (go on with
--resume)."""

_CANNOT_WRITE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM),
    *(errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG),
)


class InterruptedWorkError(Exception):
    """Work was interrupted; says what remains of it."""


class IncompleteError(Exception):
    """Some of the work failed; says how to go on."""


def outcome(command: Callable[[], object]) -> int:
    """Run a command, say in one line how it failed, and return the exit code.

    Raises:
        Exception: What is a defect, with its traceback.
    """
    try:
        with tolerant():
            return _run(command)
    except OSError as error:  # of the output itself
        return _said(error)


def _run(command: Callable[[], object]) -> int:
    try:
        code = command()
    except Exception as error:
        return _said(error)
    if code == INTERRUPTED:  # what the parser makes of KeyboardInterrupt
        return _fail("interrupted", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _said(error: Exception) -> int:
    """Say the error and return its exit code; raise it again if it is a defect."""
    codes = {
        InterruptedWorkError: INTERRUPTED,
        IncompleteError: 1,
        PostconditionError: 3,
        ConjoinError: 2,
    }
    code = next((code for kind, code in codes.items() if isinstance(error, kind)), None)
    if code is not None:
        return _fail(str(error), code)
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        place = f" {error.filename}" if error.filename else ""
        mend = "mend that, then run it again (an audit goes on with --resume)"
        return _fail(f"cannot write{place}: {error.strerror}; {mend}", 4)
    usage = getattr(error, "format_message", None)  # the parser's own errors
    if usage is None:
        raise error
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help, of many lines
        sys.stderr.write(f"{usage()}\n")
        return 2
    return _fail(f"{usage()} (see conjoin --help)", 2)


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"conjoin: {' '.join(message.split())}\n")
    return code


@contextmanager
def working(rest: Callable[[], str]) -> Iterator[Observer]:
    """Yield an observer; let neither Ctrl-C nor an exit of the user's own code pass for success.

    ``rest`` is asked what remains when the work is interrupted.

    Raises:
        InterruptedWorkError: At Ctrl-C.
        RuntimeError: If code of the user's own ends the program.
    """
    from conjoin.cli.progress import progress

    try:
        with interruptible() as check, progress(check) as observe:
            yield observe
    except KeyboardInterrupt:
        raise InterruptedWorkError(f"interrupted; {rest()}") from None
    except (SystemExit, typer.Exit, typer.Abort, BrokenPipeError, EOFError) as stop:
        raise RuntimeError(
            f"the code of a model or of the data ended with {stop!r}; expected it to return, or to "
            "raise an error that says what is wrong"
        ) from stop
