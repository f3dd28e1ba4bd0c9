"""What all plots share: figures without windows, pictures of inputs, one scale of colours.

Orange speaks for, purple against, which the colour-blind can tell apart. Places are computed from
numbers of characters, never from the extents of fonts: a figure looks alike on every machine.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from conjoin.core.dataset import Dataset, Feature
from conjoin.core.shades import full_scale
from conjoin.errors import DataError

try:
    from matplotlib.figure import Figure
except ImportError as error:  # pragma: no cover - the tests have it
    raise ImportError(
        "conjoin.plots draws with matplotlib; install it by pip install 'conjoin[plots]'"
    ) from error

FOR, AGAINST, GREY = "#b35806", "#542788", "#555555"
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
SIGNED = "PuOr_r"


class Picture(Figure):
    """A figure that belongs to no window and to no backend; a notebook shows it as it is."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png", dpi=90)
        return content.getvalue()


def grid(
    rows: int, columns: int, cell: tuple[float, float], left: float = 0.9, between: float = 0.12
) -> tuple[Picture, Any]:
    """Return a figure of ``rows`` × ``columns`` axes of ``cell`` inches, and the axes as an array.

    ``between`` rows there are so many inches: more where they have titles of their own.
    """
    gap, top, bottom, right = 0.12, 0.55, 0.25, 0.15
    width = left + columns * (cell[0] + gap) + right
    height = top + rows * (cell[1] + between) + bottom
    picture = Picture(figsize=(width, height))
    axes = picture.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={
            "left": left / width,
            "right": 1 - right / width,
            "bottom": bottom / height,
            "top": 1 - top / height,
            "wspace": gap / cell[0],
            "hspace": between / cell[1],
        },
    )
    return picture, axes


def single(width: float, height: float, left: float, bottom: float) -> tuple[Picture, Any]:
    """Return a figure with one pair of axes; the margins are in inches."""
    picture = Picture(figsize=(width, height))
    frame = (left / width, bottom / height, 1 - (left + 0.2) / width, 1 - (bottom + 0.45) / height)
    axes = picture.add_axes(frame)
    axes.spines[["top", "right"]].set_visible(False)
    return picture, axes


def draw_input(axes: Any, x: Tensor, bounds: tuple[float, float]) -> None:
    """Draw an image in grey or colour, or a waveform as a line."""
    values = array(x)
    if values.ndim == 1:
        draw_line(axes, values, GREY)
    else:
        low, high = bounds
        axes.imshow(((values - low) / (high - low)).clip(0, 1), cmap="gray", vmin=0, vmax=1)
        bare(axes)


def draw_map(axes: Any, total: np.ndarray, scale: float) -> None:
    """Draw signed values in colour, or along time."""
    if total.ndim == 1:
        places = np.arange(len(total))
        axes.fill_between(places, total.clip(min=0), color=FOR, linewidth=0)
        axes.fill_between(places, total.clip(max=0), color=AGAINST, linewidth=0)
        axes.set_ylim(-1.1 * scale, 1.1 * scale)
    else:
        axes.imshow(total, cmap=SIGNED, vmin=-scale, vmax=scale)
    bare(axes)


def draw_line(axes: Any, values: np.ndarray, colour: str) -> None:
    """Draw a waveform."""
    axes.plot(values, color=colour, linewidth=0.6)
    bare(axes)


def bare(axes: Any) -> None:
    """Take away ticks and frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def array(x: Tensor) -> np.ndarray:
    """Return (samples,), (height, width) or (height, width, 3).

    Raises:
        DataError: If it is neither a waveform nor an image.
    """
    values: np.ndarray = x.detach().cpu().double().numpy()
    if values.ndim > 1 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 3 and values.shape[0] == 3:
        return values.transpose(1, 2, 0)
    if values.ndim not in (1, 2):
        raise DataError(
            f"inputs of shape {tuple(x.shape)} have no picture; expected (1 or 3, height, width), "
            "(height, width) or (1, samples)"
        )
    return values


def summed(values: Tensor) -> np.ndarray:
    """Return a map with the channels of each pixel added up."""
    total: np.ndarray = values.detach().cpu().double().numpy()
    return total.sum(0) if total.ndim > 1 and total.shape[0] in (1, 3) else total


def full_colour(maps: Sequence[np.ndarray]) -> float:
    """Return the 99th percentile of the magnitude over some maps, above 0."""
    return full_scale(maps) or max(float(np.abs(one).max()) for one in maps) or 1.0


def label(axes: Any, words: str) -> None:
    """Say left of a row what it holds."""
    axes.set_ylabel(words, fontsize=8, rotation=0, ha="right", va="center")


def first(count: int, data: Dataset | None, length: int) -> range:
    """Return the places of the examples to show.

    Raises:
        DataError: If the data are not those of the result, or none is to be shown.
    """
    if data is not None and len(data) != length:
        raise DataError(
            f"the result is of {length} examples, the data hold {len(data)}; give its own"
        )
    if count < 1:
        raise DataError(f"count must be at least 1; got {count}")
    return range(min(count, length))


def columns_of(data: Dataset) -> tuple[Feature, ...]:
    """Return the columns of a table.

    Raises:
        DataError: If it is none.
    """
    if not data.features:
        raise DataError(
            f"{data.name} names no columns; bars are for tables: conjoin.data.table, or "
            "Dataset(features=...)"
        )
    return data.features
