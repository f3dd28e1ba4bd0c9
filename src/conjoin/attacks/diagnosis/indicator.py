"""What an indicator says, and what all of them say together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

from conjoin.core.result import AttackResult

ANY = 1e-12  # the threshold that any point at all reaches


class Level(IntEnum):
    """How far a robust accuracy can be believed, by one indicator or by all."""

    GREEN = 0
    AMBER = 1
    RED = 2

    @property
    def word(self) -> str:
        """Say it in lower case."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Indicator:
    """One answer.

    Attributes:
        name: What was asked, in two to five words.
        value: What was measured: a share, unless the sentence says otherwise.
        amber, red: From these on it is an alarm; infinite where it never is.
        points: The examples that it is about, as positions in the data.
        least: Fewer points than these are no alarm, whatever their share.
        sentence: What was measured, and what it means.
    """

    name: str
    value: float
    amber: float
    red: float
    points: tuple[int, ...]
    sentence: str
    least: int = 1

    @property
    def level(self) -> Level:
        """Hold the value against the thresholds."""
        if len(self.points) < self.least or not self.value >= self.amber:
            return Level.GREEN if not self.value >= self.red else self._red
        return self._red if self.value >= self.red else Level.AMBER

    @property
    def _red(self) -> Level:
        return Level.RED if len(self.points) >= self.least else Level.GREEN


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the indicators say of a robust accuracy.

    Attributes:
        found: What was diagnosed: the attack's result on the examples looked at.
        indicators: In order of what they cost.
        silent: Names of those that do not apply, with the reason.
    """

    found: AttackResult
    indicators: tuple[Indicator, ...]
    silent: tuple[tuple[str, str], ...]

    @property
    def verdict(self) -> Level:
        """The worst of all."""
        return max((one.level for one in self.indicators), default=Level.AMBER)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The sentences of those that raise an alarm, the worst first."""
        loud = sorted(self._loud(), key=lambda one: -one.level)
        return tuple(one.sentence for one in loud)

    @property
    def robust_accuracy(self) -> float:
        """What the attack left standing: an upper bound, to be read with the verdict."""
        return float((~self.found.success).double().mean())

    def stated(self) -> Diagnosis:
        """Return the same with the verdict and its reasons in the provenance of what was found."""
        story = replace(self.found.provenance, verdict=self.verdict.word, reasons=self.reasons)
        return replace(self, found=replace(self.found, provenance=story))

    def __str__(self) -> str:
        """Say number, verdict and reasons together."""
        said = f"robust accuracy <= {self.robust_accuracy:.1%} ({self.verdict.word})"
        return "; ".join([said, *self.reasons])

    def __getitem__(self, name: str) -> Indicator:
        """Return an indicator by its name."""
        return next(one for one in self.indicators if one.name == name)

    def _loud(self) -> Iterator[Indicator]:
        return (one for one in self.indicators if one.level > Level.GREEN)


__all__ = ["ANY", "Diagnosis", "Indicator", "Level"]
