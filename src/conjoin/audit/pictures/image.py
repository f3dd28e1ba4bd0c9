"""Pictures as PNG or WebP, inlined.

Signed maps use one diverging scale, orange for and purple against, which the colour-blind can tell
apart. A change is grey where there is none, lighter where it adds and darker where it takes away.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image
from torch import Tensor

from conjoin.core.shades import coloured, full_scale

LARGEST_SIDE = 192  # pixels of a stored picture: what a page can show of many side by side
SHEET_SIDE = 140
LOSSLESS_SIDE = 64  # small pictures are stored exactly; browsers enlarge them


@dataclass(frozen=True, slots=True)
class Images:
    """Shows inputs of shape ``(height, width)`` or ``(1 or 3, height, width)``."""

    bounds: tuple[float, float]
    coloured: bool = field(default=True, init=False)

    def of_input(self, x: Tensor, words: str, /) -> Markup:
        """Show the input, its range from black to white."""
        low, high = self.bounds
        return _shown((_planes(x) - low) / (high - low), words)

    def of_change(self, z: Tensor, x: Tensor, factor: float, words: str, /) -> Markup:
        """Show the change round grey."""
        low, high = self.bounds
        return _shown(0.5 + factor * (_planes(z) - _planes(x)) / (high - low), words)

    def of_map(self, values: Tensor, scale: float, x: Tensor, words: str, /) -> Markup:
        """Show the values in colour, those of a pixel's channels added up."""
        total = summed(values)
        return _shown(coloured(total, scale), words) if total.ndim == 2 else Markup("")

    def scale(self, maps: Sequence[Tensor], /) -> float:
        """Return a high quantile of the magnitude."""
        return map_scale(maps)


def planes(x: Tensor) -> np.ndarray | None:
    """Return (height, width) or (height, width, 3) of an image with channels first."""
    array: np.ndarray = x.detach().cpu().double().numpy()
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 2:
        return array
    if array.ndim == 3 and array.shape[0] == 3:
        return array.transpose(1, 2, 0)
    return None


def _planes(x: Tensor) -> np.ndarray:
    found = planes(x)
    assert found is not None  # noqa: S101 - the kind of data was told by its first example
    return found


def map_scale(maps: Iterable[Tensor]) -> float:
    """Return the 99th percentile of the magnitude over some maps."""
    return full_scale(summed(values) for values in maps)


def summed(values: Tensor) -> np.ndarray:
    """Add up the channels of a map."""
    array: np.ndarray = values.detach().cpu().double().numpy()
    return array.sum(0) if array.ndim == 3 else array


def contact_sheet(x: Tensor, values: Tensor, bounds: tuple[float, float]) -> Image.Image | None:
    """Put inputs above their maps, one column an example, one colour scale; ``None`` if no images.

    The scale is the 99th percentile of the magnitude over all maps.
    """
    if not len(x) or planes(x[0]) is None or values.shape != x.shape:
        return None
    low, high = bounds
    scale = map_scale(values)
    columns = [
        (_image((_planes(one) - low) / (high - low)), _image(coloured(summed(row), scale)))
        for one, row in zip(x, values, strict=True)
    ]
    width, height = columns[0][0].size
    factor = max(1, SHEET_SIDE // max(width, height))
    cell = (width * factor, height * factor)
    sheet = Image.new("RGB", ((cell[0] + 6) * len(columns), (cell[1] + 6) * 2), "white")
    for number, column in enumerate(columns):
        for line, part in enumerate(column):
            enlarged = part.convert("RGB").resize(cell, Image.Resampling.NEAREST)
            sheet.paste(enlarged, (number * (cell[0] + 6), line * (cell[1] + 6)))
    return sheet


def _image(shares: np.ndarray) -> Image.Image:
    return Image.fromarray((shares.clip(0, 1) * 255).round().astype(np.uint8))


def encoded(shares: np.ndarray) -> tuple[str, tuple[int, int]]:
    """Return a picture of shares between black and white as a ``data:`` address, and its size."""
    picture = _image(shares)
    kind = "PNG"
    options: dict[str, Any] = {"optimize": True}
    if max(picture.size) > LOSSLESS_SIDE:  # a photograph would be 150 kB as PNG
        picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
        kind, options = "WEBP", {"quality": 70}
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    code = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{code}", picture.size


def _shown(shares: np.ndarray, words: str) -> Markup:
    source, (width, height) = encoded(shares)
    return Markup('<img src="{}" width="{}" height="{}" alt="{}">').format(
        source, width, height, words
    )


__all__ = ["Images", "coloured", "contact_sheet", "encoded", "map_scale", "planes", "summed"]
