"""Standard output and error whose reader may leave (``conjoin audit | head -1``).

What is written after that is dropped and the command goes on: its results are files, and whether it
has come to them is what its exit code says.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class Tolerant:
    """A text stream that drops what it cannot say.

    Args:
        stream: Where it is said; ``None`` where it was closed before the start.
        drops: The errors that are no reason to stop.
    """

    def __init__(self, stream: TextIO | None, drops: type[OSError]) -> None:
        self._stream = stream or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for good
        self._drops = drops

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or drop."""
        try:
            return self._stream.write(text)
        except self._drops:
            self.lose()
            return len(text)

    def flush(self) -> None:
        """Flush, or drop."""
        try:
            self._stream.flush()
        except self._drops:
            self.lose()

    def lose(self) -> None:
        """Drop what is buffered and all that follows."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def tolerant() -> Iterator[None]:
    """Within the context let both streams be tolerant; flush them, so that nothing fails later.

    Raises:
        OSError: If the output could not be written though somebody reads it: a full disk.
    """
    before = sys.stdout, sys.stderr
    out, err = Tolerant(sys.stdout, BrokenPipeError), Tolerant(sys.stderr, OSError)
    sys.stdout, sys.stderr = out, err
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        err.flush()
        try:
            out.flush()
        except OSError:
            out.lose()
            raise
