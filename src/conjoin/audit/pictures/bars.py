"""Rows of a table as named bars, drawn as SVG: at most so many as a page can show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from torch import Tensor

from conjoin.audit.pictures.image import map_scale

MOST = 64  # elements of a vector without names that are still shown one by one
SHOWN = 12  # bars of one picture
LETTERS = 22  # of a name with its value
NAME, BAR, LINE = 122, 96, 16  # units of a picture: the names' width, the bars', a line's height


@dataclass(frozen=True, slots=True)
class Bars:
    """Shows the columns of a row: those that matter most in the picture, with their values."""

    bounds: tuple[float, float]
    names: tuple[str, ...] = ()

    def of_input(self, x: Tensor, words: str, /) -> Markup:
        """Show the first columns with their values."""
        low, high = self.bounds
        rows = list(range(min(SHOWN, len(x))))
        return self._drawn(rows, ((x - low) / (high - low)).tolist(), x.tolist(), words)

    def of_change(self, z: Tensor, x: Tensor, factor: float, words: str, /) -> Markup:
        """Show the columns that changed most, with the change."""
        low, high = self.bounds
        change = z - x
        bars = (factor * change / (high - low)).tolist()
        return self._drawn(_largest(change), bars, change.tolist(), words)

    def of_map(self, values: Tensor, scale: float, x: Tensor, words: str, /) -> Markup:
        """Show the columns that weigh most, with the input's values."""
        bars = (values / max(scale, 1e-30)).tolist()
        return self._drawn(_largest(values), bars, x.tolist(), words)

    def full(self, maps: Iterable[Tensor], /) -> float:
        """Return a high quantile over all columns."""
        return map_scale(maps)

    def _drawn(
        self, rows: Sequence[int], bars: Sequence[float], told: Sequence[float], words: str
    ) -> Markup:
        middle = NAME + (BAR / 2 if any(bars[k] < 0 for k in rows) else 0)
        reach = NAME + BAR - middle
        parts = []
        for line, k in enumerate(rows):
            length = min(abs(bars[k]), 1.0) * reach
            name = self.names[k] if k < len(self.names) else f"x{k}"
            value = f" = {told[k]:.3g}"
            room = LETTERS - len(value)
            text = (name if len(name) <= room else name[: room - 1] + "…") + value
            parts.append(
                Markup(
                    '<text x="{}" y="{}" text-anchor="end">{}</text>'
                    '<rect class="{}" x="{:.1f}" y="{}" width="{:.1f}" height="{}"/>'
                ).format(
                    NAME - 4,
                    LINE * line + 12,
                    text,
                    "for" if bars[k] >= 0 else "against",
                    middle if bars[k] >= 0 else middle - length,
                    LINE * line + 2,
                    length,
                    LINE - 4,
                )
            )
        return Markup(
            '<svg class="bars" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
        ).format(NAME + BAR, LINE * max(len(rows), 1), words, Markup("").join(parts))


def _largest(values: Tensor) -> list[int]:
    order = values.abs().argsort(descending=True, stable=True)
    return [int(k) for k in order[:SHOWN]]


__all__ = ["MOST", "Bars"]
