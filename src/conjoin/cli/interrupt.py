"""What Ctrl-C does: one line and exit code 130, at any moment.

Python's own answer is an exception, wherever the program happens to be: in an import it ends in a
traceback, in a callback of the collector or in a model's own ``except`` it is lost. So the process
ends at once, but where work is under way that is to be left tidy; there an exception is raised, and
again at the next step if it was lost. The second Ctrl-C always ends the process.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130  # what a shell reports of a program that a signal 2 ended


def answer() -> None:
    """Let Ctrl-C end the process with one line; where it is ignored (nohup, &), it stays ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def decided(code: int) -> None:
    """Let Ctrl-C from now on end the process with the exit code that it has come to."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, lambda *_: os._exit(code))


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Within the context raise KeyboardInterrupt; calling the value raises one that was lost."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, _end)
        raise KeyboardInterrupt

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is not _end:  # somebody else's to decide
        yield check
        return
    signal.signal(signal.SIGINT, ask)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, _end)


def _end(number: int, frame: FrameType | None) -> None:
    """Say it past all buffers, which may be in use, and give the terminal its cursor back."""
    try:
        tidy = b"\r\x1b[K\x1b[?25h" if os.isatty(2) else b""
        os.write(2, tidy + b"conjoin: interrupted\n")
    finally:
        os._exit(INTERRUPTED)
