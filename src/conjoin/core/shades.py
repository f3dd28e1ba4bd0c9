"""Signed numbers as colours: orange for, purple against, which the colour-blind can tell apart.

    colour(v) = PuOr(v / s),    s the 99th percentile of |v| over all that share a scale

Numbers beyond s have the colour of s, so that a few outliers do not bleach the rest. Nothing is
written to what is given. It is no measure: what the colours stand for is said beside them.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor

# Purple to orange: ColorBrewer's PuOr in eleven colours, by Cynthia Brewer, read backwards.
SIGNED = bytes.fromhex(
    "2d004b 542788 8073ac b2abd2 d8daeb f7f7f7 fee0b6 fdb863 e08214 b35806 7f3b08"
)
PERCENTILE = 99.0
SHOWN, SIDE, GAP = (
    6,
    96,
    4,
)  # maps of a strip, pixels of each one's longer side, pixels between them


def coloured(values: np.ndarray, scale: float) -> np.ndarray:
    """Return the colours of signed numbers, between 0 and 1, ``(*shape, 3)``; ``scale`` is full."""
    unit = (values / max(scale, 1e-30)).clip(-1, 1)
    colours = np.frombuffer(SIGNED, np.uint8).reshape(-1, 3) / 255
    places = np.linspace(-1, 1, len(colours))
    return np.stack([np.interp(unit, places, channel) for channel in colours.T], axis=-1)


def full_scale(maps: Iterable[np.ndarray]) -> float:
    """Return the number of full colour that some maps share; 0 if there are none."""
    sizes = [np.abs(values).ravel() for values in maps]
    return float(np.percentile(np.concatenate(sizes), PERCENTILE)) if sizes else 0.0


def strip(values: Tensor) -> tuple[str, float] | None:
    """Return the first maps side by side as a ``data:`` address, and the number of full colour.

    ``None`` unless they are ``(batch, 1 or 3, height, width)``; a pixel's channels are added up.
    """
    if values.ndim != 4 or values.shape[1] not in (1, 3):
        return None
    maps = values[:SHOWN].detach().cpu().double().sum(1).numpy()
    scale = full_scale(maps) or float(np.abs(maps).max()) or 1.0
    return _sheet([coloured(one, scale) for one in maps]), scale


def _sheet(pictures: Sequence[np.ndarray]) -> str:
    from PIL import Image

    height, width = pictures[0].shape[:2]
    factor = SIDE / max(height, width)
    cell = max(1, round(width * factor)), max(1, round(height * factor))
    sheet = Image.new("RGB", ((cell[0] + GAP) * len(pictures) - GAP, cell[1]), "white")
    way = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
    for place, shares in enumerate(pictures):
        one = Image.fromarray((shares * 255).round().astype(np.uint8)).resize(cell, way)
        sheet.paste(one, (place * (cell[0] + GAP), 0))
    content = io.BytesIO()
    sheet.save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


__all__ = ["SIGNED", "coloured", "full_scale", "strip"]
