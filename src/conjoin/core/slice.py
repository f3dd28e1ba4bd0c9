"""Cuts and slices: places in a network, as values.

A cut names one side of one module by the module's dotted name; the root module's name is empty, so
its two sides are the model's :data:`INPUT` and :data:`OUTPUT`. A slice (h, g) with f = g ∘ h is a
pair of cuts: h runs from the input to ``start``, g from ``start`` to ``stop``.

Reference: leino2018, section 3 (slice, quantity and distribution of interest).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from conjoin.errors import PlanError


class Side(Enum):
    """Which side of a module: what enters it or what leaves it."""

    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class Cut:
    """A place in the network.

    Attributes:
        module: Dotted name as in ``module.named_modules()``; empty for the whole network.
        side: The module's input or its output.
        call: Which call, from 0, when the module runs more than once in a pass; ``None`` demands
            that it runs exactly once.
        item: Position or key of the tensor, when the module gives a tuple or a dictionary, or the
            positions and keys on the way to it when these are nested. Of what enters a module:
            the position, or the name of a keyword input; ``None`` for the first.
        at: One position along axis 1, e.g. a time step or a token; ``None`` for all.
    """

    module: str
    side: Side = Side.OUT
    call: int | None = None
    item: int | str | tuple[int | str, ...] | None = None
    at: int | None = None

    @property
    def path(self) -> tuple[int | str, ...]:
        """The positions and keys on the way to the tensor."""
        if self.item is None:
            return ()
        return self.item if isinstance(self.item, tuple) else (self.item,)

    @property
    def name(self) -> str:
        """The module's dotted name, for what leaves it; all of the cut where that says too little."""
        plain = Cut(self.module) == self and bool(self.module)
        return self.module if plain else str(self)

    def __str__(self) -> str:
        """Show the cut as ``name.out``, ``input`` or ``output``."""
        call = "" if self.call is None else f"#{self.call}"
        item = "".join(f"[{step!r}]" for step in self.path)
        at = "" if self.at is None else f" at {self.at}"
        end = "input" if self.side is Side.IN else "output"
        place = f"{self.module}{call}.{self.side.value}" if self.module else f"{end}{call}"
        return f"{place}{item}{at}"


INPUT = Cut("", Side.IN)
OUTPUT = Cut("", Side.OUT)

Cuts = Cut | str | Sequence[Cut | str]  # a name is a module's: the cut of what leaves it


def cuts_of(said: Cuts) -> tuple[Cut, ...]:
    """Return cuts, each said by itself or by the dotted name of a module.

    Raises:
        PlanError: If there is none, one stands twice, or something is neither.
    """
    several = (said,) if isinstance(said, Cut | str) else tuple(said)
    found = tuple(Cut(one) if isinstance(one, str) else one for one in several)
    if strange := [one for one in found if not isinstance(one, Cut)]:
        raise PlanError(
            f"expected a cut or the name of a module, e.g. Cut('3'); got {strange[0]!r}"
        )
    if not found or len(set(found)) < len(found):
        raise PlanError(f"expected cuts, each once; got {[str(cut) for cut in found]}")
    return found


@dataclass(frozen=True, slots=True)
class Slice:
    """The part g of the network between two cuts; the default is the whole network."""

    start: Cut = INPUT
    stop: Cut = OUTPUT


__all__ = ["INPUT", "OUTPUT", "Cut", "Cuts", "Side", "Slice", "cuts_of"]
