"""What came of the axioms of attribution, for a person and for a program."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Axiom:
    """What came of an axiom.

    Attributes:
        name: Of the axiom.
        held: Whether it is held; ``None`` where it could not be put to the method.
        off: By how much it is missed, as a share of the values' size; of sensitivity, the smallest
            share that a column got of what it did.
        said: In words, where there is more to say.
    """

    name: str
    held: bool | None
    off: float
    said: str = ""

    def __str__(self) -> str:
        """Say it in a word and a number."""
        if self.held is None:
            return "-"
        return "yes" if self.held else f"no ({self.off:.2g})"


@dataclass(frozen=True, slots=True)
class Axioms:
    """What came of all axioms, in order.

    Attributes:
        method: That was asked.
        rows: One for each axiom.
    """

    method: str
    rows: tuple[Axiom, ...]

    def __getitem__(self, name: str) -> Axiom:
        """Return what came of the axiom of this name."""
        return {row.name: row for row in self.rows}[name]

    def __str__(self) -> str:
        """Show an axiom a line."""
        lines = [f"{row.name:28}{row!s:12}{row.said}".rstrip() for row in self.rows]
        return "\n".join([self.method, *lines])


__all__ = ["Axiom", "Axioms"]
