"""What a method of methods passed over, told to the driver that runs it, and so to the provenance.

An ensemble goes on without those of its parts that do not apply; a reader of its result must learn
which. The driver listens while it works, whoever in it speaks. It is *not* a log: what nobody
listens to is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_heard: ContextVar[dict[str, None] | None] = ContextVar("passed over", default=None)


def pass_over(what: object, why: Exception) -> str:
    """Tell that something did not apply, and why; return it in words."""
    said = f"{' '.join(repr(what).split())}: {why}"
    heard = _heard.get()
    if heard is not None:
        heard[said] = None
    return said


@contextmanager
def listening() -> Iterator[dict[str, None]]:
    """Collect what is passed over within, each once, in order; whoever listens outside hears it too."""
    own: dict[str, None] = {}
    token = _heard.set(own)
    try:
        yield own
    finally:
        _heard.reset(token)
        outer = _heard.get()
        if outer is not None:
            outer.update(own)


__all__ = ["listening", "pass_over"]
