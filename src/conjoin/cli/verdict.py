"""``conjoin vnnlib``: the verdict on the first line, in time."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from conjoin.errors import PlanError

GRACE = 0.5  # seconds beyond the deadline that a batch in progress may take


class OverTimeError(BaseException):
    """The time is over in the middle of something; no handler of errors may take it for one."""


def told(network: Path, spec: Path, seconds: float) -> tuple[list[str], str]:
    """Decide a property within a time; return the lines to print, and the reason.

    Raises:
        ConjoinError: If network or property cannot be used.
    """
    if not seconds > 0:
        raise PlanError(f"--timeout is {seconds:g}; expected a number of seconds above 0")
    end = time.monotonic() + seconds
    try:
        with alarm(seconds + GRACE):
            from conjoin.audit.verification import Deadline, decide

            found = decide(network, spec, Deadline(end))
    except OverTimeError:
        return ["unknown"], "the time is over"
    lines = [found.verdict] + ([] if found.witness is None else [str(found.witness)])
    return lines, found.reason


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raise :class:`OverTimeError` after a time, where the system has such a signal."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise OverTimeError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


__all__ = ["OverTimeError", "alarm", "told"]
