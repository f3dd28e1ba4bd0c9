"""Pictures of a report: maps as PNG or WebP, curves as SVG, all inlined.

Signed maps use one diverging scale, orange for and purple against, which the colour-blind can tell
apart and which also differ in a table; each row of maps states its scale.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import matplotlib as mpl
import numpy as np
from PIL import Image
from torch import Tensor

from conjoin.report.schema import Curve

LARGEST_SIDE = 168  # pixels of a stored picture, as large as the report shows it
LOSSLESS_SIDE = 64  # small pictures are stored exactly; browsers enlarge them


def as_picture(x: Tensor, low: float, high: float) -> str | None:
    """Return an input as a data URI, or ``None`` if it is no image."""
    plane = _planes(x)
    if plane is None:
        return None
    scaled = ((plane - low) / (high - low)).clip(0, 1) * 255
    return _inlined(scaled.round().astype(np.uint8))


def as_map(values: Tensor, scale: float) -> str | None:
    """Return a signed map as a data URI; ``scale`` is the value of full colour."""
    total = _summed(values)
    return _inlined(_coloured(total, scale)) if total.ndim == 2 else None


def _coloured(total: np.ndarray, scale: float) -> np.ndarray:
    unit = (total / max(scale, 1e-30)).clip(-1, 1)
    colours = mpl.colormaps["PuOr_r"]((unit + 1) / 2)[..., :3]
    return (colours * 255).round().astype(np.uint8)


def map_scale(maps: list[Tensor]) -> float:
    """Return the 99th percentile of the magnitude over a row of maps."""
    sizes = np.concatenate([_summed(m).ravel() for m in maps]) if maps else np.zeros(1)
    return float(np.quantile(np.abs(sizes), 0.99))


def _summed(values: Tensor) -> np.ndarray:
    array = values.detach().cpu().double().numpy()
    return array.sum(0) if array.ndim == 3 else array


def _planes(x: Tensor) -> np.ndarray | None:
    """Return (height, width) or (height, width, 3) of an image with channels first."""
    array: np.ndarray = x.detach().cpu().double().numpy()
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 2:
        return array
    if array.ndim == 3 and array.shape[0] == 3:
        return array.transpose(1, 2, 0)
    return None


def _inlined(pixels: np.ndarray) -> str:
    picture = Image.fromarray(pixels)
    kind = "PNG"
    options: dict[str, Any] = {"optimize": True}
    if max(picture.size) > LOSSLESS_SIDE:  # a photograph would be 150 kB as PNG
        picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
        kind, options = "WEBP", {"quality": 60}
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode()


def curve_paths(curve: Curve, width: float, height: float) -> dict[str, str]:
    """Return SVG paths of both bounds and the band between, in a ``width`` × ``height`` frame."""
    top = curve.eps[-1] or 1.0

    def points(values: tuple[float, ...]) -> list[str]:
        return [
            f"{e / top * width:.1f},{(1 - v) * height:.1f}"
            for e, v in zip(curve.eps, values, strict=True)
        ]

    upper, lower = points(curve.attacked), points(curve.certified)
    return {
        "attacked": "M" + " L".join(upper),
        "certified": "M" + " L".join(lower),
        "band": "M" + " L".join([*upper, *reversed(lower)]) + " Z",
    }


def contact_sheet(x: Tensor, values: Tensor, bounds: tuple[float, float]) -> Image.Image | None:
    """Put inputs above their maps, one column an example, one colour scale; ``None`` if no images.

    The scale is the 99th percentile of the magnitude over all maps.
    """
    columns, scale = [], map_scale(list(values))
    for picture, row in zip(x, values, strict=True):
        plane = _planes(picture)
        if plane is None:
            return None
        grey = ((plane - bounds[0]) / (bounds[1] - bounds[0])).clip(0, 1) * 255
        above = Image.fromarray(grey.round().astype(np.uint8)).convert("RGB")
        below = Image.fromarray(_coloured(_summed(row), scale))
        columns.append((above, below))
    width, height = columns[0][0].size
    factor = max(1, 140 // max(width, height))
    cell = (width * factor, height * factor)
    sheet = Image.new("RGB", ((cell[0] + 6) * len(columns), (cell[1] + 6) * 2), "white")
    for number, column in enumerate(columns):
        for line, part in enumerate(column):
            enlarged = part.resize(cell, Image.Resampling.NEAREST)
            sheet.paste(enlarged, (number * (cell[0] + 6), line * (cell[1] + 6)))
    return sheet
