"""The moment at which work ends, looked at between batches: never a silent stop in the middle."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment at which work ends.

    Attributes:
        at: When, by the clock.
        clock: In seconds.
    """

    at: float
    clock: Callable[[], float] = time.monotonic

    @property
    def left(self) -> float:
        """Seconds until then; at least a little, so that it can be given to a method."""
        return max(self.at - self.clock(), 1e-3)

    @property
    def over(self) -> bool:
        """Whether it is past."""
        return self.clock() >= self.at


__all__ = ["Deadline"]
