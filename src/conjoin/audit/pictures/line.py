"""Long vectors as a line, drawn as SVG: thinned to the extremes of so many stretches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup
from torch import Tensor

from conjoin.audit.pictures.image import map_scale

WIDTH, HEIGHT = 200, 60  # units of a picture
STRETCHES = 200  # each is shown by its least and its largest value


@dataclass(frozen=True, slots=True)
class Lines:
    """Shows inputs that are one long vector, or one channel of it."""

    bounds: tuple[float, float]
    coloured: bool = field(default=False, init=False)

    def of_input(self, x: Tensor, words: str, /) -> Markup:
        """Show the input over its range."""
        return _drawn(x, self.bounds, words)

    def of_change(self, z: Tensor, x: Tensor, factor: float, words: str, /) -> Markup:
        """Show the change round the middle."""
        half = (self.bounds[1] - self.bounds[0]) / 2
        return _drawn(factor * (z - x), (-half, half), words)

    def of_map(self, values: Tensor, scale: float, x: Tensor, words: str, /) -> Markup:
        """Show the values round the middle."""
        return _drawn(values, (-max(scale, 1e-30), max(scale, 1e-30)), words)

    def scale(self, maps: Sequence[Tensor], /) -> float:
        """Return a high quantile of the magnitude."""
        return map_scale(maps)


def _drawn(values: Tensor, ends: tuple[float, float], words: str) -> Markup:
    low, high = ends
    line = values.detach().cpu().double().flatten().numpy()
    parts = np.array_split(line, min(STRETCHES, len(line)))
    heights = [(1 - (v - low) / (high - low)) for part in parts for v in (part.min(), part.max())]
    points = " ".join(
        f"{k * WIDTH / max(len(heights) - 1, 1):.1f},{min(max(h, 0.0), 1.0) * HEIGHT:.1f}"
        for k, h in enumerate(heights)
    )
    return Markup(
        '<svg class="line" viewBox="0 0 {} {}" role="img" aria-label="{}"><polyline points="{}"/></svg>'
    ).format(WIDTH, HEIGHT, words, points)


__all__ = ["Lines"]
