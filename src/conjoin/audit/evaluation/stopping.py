"""Less than everything, and how much is known all the same: fewer examples, or fewer dear attacks.

``Stop`` looks at the examples in a random order, at 64, 128, 256, ... of them, and stops as soon as the
interval of robust accuracy is narrow enough. Every look may be the last, so each has its part of alpha:
the interval that is given holds however often it was looked. ``Sampled`` runs the dear attacks on a
sample of what the cheap ones left, and bounds how many more of the others would have fallen. Neither
says anything about attacks that were not run at all.
"""

from __future__ import annotations

from dataclasses import dataclass

from conjoin.audit.statistics import clopper_pearson, most_marked
from conjoin.core.counted import check_numbers
from conjoin.errors import PlanError

FIRST = 64  # examples at the first look


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop when the interval of robust accuracy is narrower than ``width``.

    Attributes:
        width: As a share of the examples, e.g. 0.02 for two points.
        alpha: With which probability the interval may fail.

    Raises:
        PlanError: If either is not between 0 and 1.
    """

    width: float
    alpha: float = 0.05

    def __post_init__(self) -> None:
        check_numbers(self)
        if not (0 < self.width < 1 and 0 < self.alpha < 1):
            raise PlanError(f"width and alpha must lie between 0 and 1; got {self!r}")

    def looks(self, count: int) -> tuple[int, ...]:
        """Return after how many of ``count`` examples it is looked; the last is all of them."""
        sizes = []
        size = FIRST
        while size < count:
            sizes.append(size)
            size *= 2
        return (*sizes, count)

    def interval(self, standing: int, seen: int, count: int) -> tuple[float, float]:
        """Return the interval at a look; all of them hold at once with probability 1 - alpha."""
        return clopper_pearson(standing, seen, self.alpha / len(self.looks(count)))


@dataclass(frozen=True, slots=True)
class Sampled:
    """Run the attacks from the one at place ``after`` on a sample of what is left by then.

    Attributes:
        size: Of the sample.
        after: How many attacks, the cheap ones, are run on everything.
        alpha: With which probability the bound on the others may fail.

    Raises:
        PlanError: If there is no sample, or alpha is not between 0 and 1.
    """

    size: int
    after: int
    alpha: float = 0.05

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.size < 1 or self.after < 1 or not 0 < self.alpha < 1:
            raise PlanError(f"size and after must be positive, alpha between 0 and 1; got {self!r}")


@dataclass(frozen=True, slots=True)
class Stopped:
    """That only some of the examples were looked at.

    Attributes:
        seen: How many, in a random order.
        available: Of how many.
        interval: Of the share that these attacks leave standing, in the population.
        rule: What was asked.
        reached: Whether the interval is as narrow as that.
    """

    seen: int
    available: int
    interval: tuple[float, float]
    rule: Stop
    reached: bool

    def __str__(self) -> str:
        """Say it in a sentence."""
        low, high = self.interval
        why = "narrow enough" if self.reached else f"not as narrow as {self.rule.width:.1%}"
        return (
            f"{self.seen} of {self.available} examples were looked at, in a random order: these "
            f"attacks leave between {low:.1%} and {high:.1%} of the population standing, with "
            f"confidence {1 - self.rule.alpha:.0%} ({why})"
        )


@dataclass(frozen=True, slots=True)
class Extrapolated:
    """That the dear attacks were run on a sample of what the cheap ones left.

    Attributes:
        sampled: How many points.
        left: Of how many that the cheap attacks left.
        fell: How many of the sample fell.
        more: At most so many of the others would have fallen, with confidence 1 - alpha.
        floor: The robust accuracy that would then have been left.
        rule: What was asked.
    """

    sampled: int
    left: int
    fell: int
    more: int
    floor: float
    rule: Sampled

    @classmethod
    def of(
        cls, sampled: int, left: int, fell: int, robust: int, count: int, rule: Sampled
    ) -> Extrapolated:
        """Bound what was not looked at; ``robust`` of ``count`` examples are not known to fall."""
        more = most_marked(fell, sampled, left, rule.alpha) - fell
        return cls(sampled, left, fell, more, (robust - more) / count, rule)

    def __str__(self) -> str:
        """Say it in a sentence."""
        return (
            f"the attacks from place {self.rule.after} on were run on a sample of {self.sampled} of "
            f"{self.left} points that the others left; {self.fell} fell. On all of them at most "
            f"{self.more} more would have fallen, leaving {self.floor:.1%} at least, with confidence "
            f"{1 - self.rule.alpha:.0%}"
        )


Economy = Stopped | Extrapolated

__all__ = ["FIRST", "Economy", "Extrapolated", "Sampled", "Stop", "Stopped"]
