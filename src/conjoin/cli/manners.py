"""Manners on a shared machine: how threads wait, and how many there are.

Threads of OpenMP wait for their next piece of work by spinning, for milliseconds. Alone that is
fast; where other processes want the processors, the spinning thread keeps the very one from running
that it waits for: a run then takes several times the processor time. Here they sleep instead, and
where the processors are taken there is one thread only. Whatever the user has set stays as it is.
It must be settled before ``torch`` is loaded, which reads it once.
"""

from __future__ import annotations

import os

_WAITING = {
    "OMP_WAIT_POLICY": "PASSIVE",  # GNU's library
    "KMP_BLOCKTIME": "0",  # Intel's and LLVM's, in milliseconds
}


def settle() -> None:
    """Set how threads wait, and their number if the processors are not all free."""
    for name, value in _WAITING.items():
        os.environ.setdefault(name, value)
    every = _processors()
    free = max(1, round(every - _busy()))
    if free < every:
        os.environ.setdefault("OMP_NUM_THREADS", str(free))


def _processors() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _busy() -> float:
    """Return how many processes have wanted a processor, over the last minute; 0 if unknown."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return 0.0
