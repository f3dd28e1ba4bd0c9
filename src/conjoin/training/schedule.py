"""Schedules: a number that follows the progress of training, from 0 to 1.

Each reaches its end value exactly, at ``until``, and stays there. The progress of the last step is 1.
They are *not* aware of steps or epochs: the same schedule serves any length of training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, runtime_checkable

from conjoin.errors import PlanError


@runtime_checkable
class Schedule(Protocol):
    """A function of the progress in 0..1."""

    def __call__(self, progress: float, /) -> float:
        """Return the value at this progress."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same value."""

    value: float = 1.0

    def __call__(self, progress: float, /) -> float:
        """Return it."""
        return self.value


@dataclass(frozen=True, slots=True)
class Linear:
    """From ``start`` to ``end`` in a straight line, then ``end``.

    Attributes:
        start, end: The values.
        until: The progress at which the end is reached.
    """

    start: float = 0.0
    end: float = 1.0
    until: float = 1.0

    def __post_init__(self) -> None:
        _check_until(self.until)

    def __call__(self, progress: float, /) -> float:
        """Interpolate."""
        share = progress / self.until
        return self.end if share >= 1 else self.start + (self.end - self.start) * share


@dataclass(frozen=True, slots=True)
class Logarithmic:
    """From ``start`` to ``end`` in a straight line of the logarithm, then ``end``; both above 0."""

    start: float = 0.01
    end: float = 1.0
    until: float = 1.0

    def __post_init__(self) -> None:
        _check_until(self.until)
        if not (self.start > 0 and self.end > 0):
            raise PlanError(f"a logarithmic schedule needs values above 0; got {self!r}")

    def __call__(self, progress: float, /) -> float:
        """Interpolate the logarithm."""
        share = progress / self.until
        return self.end if share >= 1 else self.start * (self.end / self.start) ** share


@dataclass(frozen=True, slots=True)
class Cosine:
    """From ``start`` to ``end`` on half a cosine, after a straight rise from 0 over ``warm``.

    Attributes:
        start, end: The values.
        warm: Share of the training over which it first rises from 0 to the cosine.
    """

    start: float = 1.0
    end: float = 0.0
    warm: float = 0.05

    def __call__(self, progress: float, /) -> float:
        """Follow the cosine."""
        rise = min(1.0, progress / self.warm) if self.warm else 1.0
        if progress >= 1:
            return self.end
        return rise * (self.end + (self.start - self.end) * (1 + math.cos(math.pi * progress)) / 2)


@dataclass(frozen=True, slots=True)
class Segments:
    """Schedules one after another, each over its own stretch of the progress.

    Attributes:
        parts: The schedules; each sees the progress of its own stretch, from 0 to 1.
        ends: Where each stretch ends, rising to 1.
    """

    parts: tuple[Fixed | Linear | Logarithmic | Cosine, ...]
    ends: tuple[float, ...]

    def __post_init__(self) -> None:
        whole = (0.0, *self.ends)
        rising = all(a < b for a, b in pairwise(whole))
        if len(self.parts) != len(self.ends) or not rising or whole[-1] != 1:
            raise PlanError(
                f"expected one rising end for each part, the last of them 1; got {len(self.parts)} "
                f"parts and the ends {self.ends}"
            )

    def __call__(self, progress: float, /) -> float:
        """Ask the part that is at work."""
        start = 0.0
        for part, end in zip(self.parts, self.ends, strict=True):
            if progress < end or end == 1:
                return part(min(1.0, (progress - start) / (end - start)))
            start = end
        raise AssertionError("the last stretch ends at 1")


Curve = Fixed | Linear | Logarithmic | Cosine | Segments


def _check_until(until: float) -> None:
    if not 0 < until <= 1:
        raise PlanError(f"until is a share of the training, above 0 and at most 1; got {until}")


__all__ = ["Cosine", "Curve", "Fixed", "Linear", "Logarithmic", "Schedule", "Segments"]
