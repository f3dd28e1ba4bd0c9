"""Rows of a table as named bars, drawn as SVG: at most so many as a page can show.

The inputs that one categorical attribute became are one bar: what they weigh is added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from markupsafe import Markup
from torch import Tensor

from conjoin.core.dataset import Feature, grouped, valued

MOST = 64  # elements of a vector without names that are still shown one by one
SHOWN = 12  # bars of one picture
LETTERS = 44  # of a line
WIDTH, LINE, BAR = 218, 25, 9  # units of a picture: its width, the height of a line and of its bar

Line = tuple[str, float]  # what stands above a bar, and its length as a share of a whole one


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """Shows the attributes of a row: those that matter most, with their values.

    Attributes:
        bounds: The range of every element, or of each.
        features: The columns of a table.
    """

    bounds: tuple[float | Tensor, float | Tensor]
    features: tuple[Feature, ...] = ()
    coloured: bool = field(default=False, init=False)

    def of_input(self, x: Tensor, words: str, /) -> Markup:
        """Show the first attributes with their values; a category has no length."""
        low, high = self.bounds
        shares = ((x - low) / (high - low)).tolist()
        lines = [
            (self._told(name, places, x), shares[places[0]] if self._number(places) else 0.0)
            for name, places in list(self._places(x).items())[:SHOWN]
        ]
        return drawn(lines, words, signed=False)

    def of_change(self, z: Tensor, x: Tensor, factor: float, words: str, /) -> Markup:
        """Show the attributes that changed most, from what to what."""
        low, high = self.bounds
        shares = (z - x) / (high - low)
        names = {places[0]: name for name, places in self._places(x).items()}
        lines = [
            (
                f"{names.get(k, self._name(k))}: {float(x[k]):.4g} → {float(z[k]):.4g}",
                float(shares[k]) * factor,
            )
            for k in _largest(shares)
            if float(z[k]) != float(x[k])
        ]
        return drawn(lines, words) if lines else Markup("")

    def of_map(self, values: Tensor, scale: float, x: Tensor, words: str, /) -> Markup:
        """Show the attributes that weigh most, with the input's values."""
        groups = list(self._places(x).items())
        sums = self._sums(values)
        lines = [
            (self._told(*groups[k], x), float(sums[k]) / max(scale, 1e-30)) for k in _largest(sums)
        ]
        return drawn(lines, words)

    def scale(self, maps: Sequence[Tensor], /) -> float:
        """Return the largest weight of an attribute over some maps."""
        return max((float(self._sums(values).abs().max()) for values in maps), default=0.0)

    def _places(self, x: Tensor) -> dict[str, list[int]]:
        return grouped(self.features) if self.features else {f"x{k}": [k] for k in range(len(x))}

    def _sums(self, values: Tensor) -> Tensor:
        return torch.stack([values[own].double().sum() for own in self._places(values).values()])

    def _number(self, places: Sequence[int]) -> bool:
        return not self.features or "=" not in self.features[places[0]].name

    def _name(self, place: int) -> str:
        return self.features[place].name if self.features else f"x{place}"

    def _told(self, name: str, places: Sequence[int], x: Tensor) -> str:
        if not self.features:
            return f"{name} = {float(x[places[0]]):.4g}"
        return valued(name, places, self.features, x)


def drawn(lines: Sequence[Line], words: str, *, signed: bool = True) -> Markup:
    """Draw lines of words with a bar below each; negative ones run to the left of the middle.

    Bars that are ``signed`` are coloured by their sign.
    """
    middle = WIDTH / 2 if any(share < 0 for _, share in lines) else 0.0
    parts = []
    for row, (text, share) in enumerate(lines):
        length = min(abs(share), 1.0) * (WIDTH - middle)
        parts.append(
            Markup(
                '<text x="0" y="{}">{}</text><rect class="{}" x="{:.1f}" y="{}" width="{:.1f}" '
                'height="{}"/>'
            ).format(
                LINE * row + 11,
                text if len(text) <= LETTERS else text[: LETTERS - 1] + "…",
                ("for" if share >= 0 else "against") if signed else "size",
                middle if share >= 0 else middle - length,
                LINE * row + 14,
                length,
                BAR,
            )
        )
    return Markup(
        '<svg class="bars" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(WIDTH, LINE * max(len(lines), 1), words, Markup("").join(parts))


def _largest(values: Tensor) -> list[int]:
    order = values.abs().argsort(descending=True, stable=True)
    return [int(k) for k in order[:SHOWN]]


__all__ = ["MOST", "SHOWN", "Bars", "drawn"]
