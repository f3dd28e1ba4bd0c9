"""Curves of two bounds and the band between them, as the paths of an SVG."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 260, 150  # units of a chart's frame


def band(eps: Sequence[float], upper: Sequence[float], lower: Sequence[float]) -> dict[str, str]:
    """Return the paths of both bounds and of the band between, shares being heights."""
    top = eps[-1] or 1.0

    def points(values: Sequence[float]) -> list[str]:
        return [
            f"{e / top * WIDTH:.1f},{(1 - v) * HEIGHT:.1f}"
            for e, v in zip(eps, values, strict=True)
        ]

    above, below = points(upper), points(lower)
    return {
        "upper": "M" + " L".join(above),
        "lower": "M" + " L".join(below),
        "band": "M" + " L".join([*above, *reversed(below)]) + " Z",
    }


__all__ = ["HEIGHT", "WIDTH", "band"]
