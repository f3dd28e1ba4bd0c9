"""Explanations side by side: a row for each method, a column for each model, of one example.

A row has one scale of colours, stated at its left, so that models can be compared in it. Values of two
methods have units of their own and are not to be compared by their size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from conjoin.core.dataset import Dataset
from conjoin.core.result import Attribution
from conjoin.errors import DataError
from conjoin.plots.looks import Heat, Look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LETTER = 0.07  # inches, in the size of the words


def compared(
    explained: Mapping[str, Mapping[str, Attribution]],
    data: Dataset,
    *,
    example: int = 0,
    bounds: tuple[float, float] = (0.0, 1.0),
    look: Look = Heat(),  # noqa: B008 - frozen
) -> Figure:
    """Draw one example's explanations as a grid, the example itself in the first column.

    Args:
        explained: By method, then by model (or by whatever rows and columns are); a cell that is not
            there stays empty.
        data: What was explained: images, or waveforms.
        example: Its position.
        bounds: What is black and what is white in an image, in input units.
        look: How each is drawn.

    Raises:
        DataError: If there is nothing to be drawn, no such example, or the data are not those that
            were explained.
    """
    from conjoin.plots import canvas

    names = list(dict.fromkeys(name for row in explained.values() for name in row))
    if not names or not all(explained.values()):
        raise DataError("expected an explanation in every row, e.g. {'saliency': {'plain': found}}")
    for row in explained.values():
        for found in row.values():
            check_explained(found, data, example)
    flat = canvas.array(data.x[example]).ndim == 1
    cell = (2.4, 0.9) if flat else (1.3, 1.3)
    left = 0.35 + LETTER * max(len(name) for name in explained)
    picture, axes = canvas.grid(len(explained), 1 + len(names), cell, left)
    for line, (method, row) in zip(axes, explained.items(), strict=True):
        shown = {name: look.of(found.values[example]) for name, found in row.items()}
        scale = canvas.full_colour(list(shown.values()))
        canvas.draw_input(line[0], data.x[example], bounds)
        canvas.label(line[0], f"{method}\n{look.says(scale)}")
        for place, name in zip(line[1:], names, strict=True):
            if name in shown:
                look.draw(place, shown[name], scale, data.x[example], bounds)
            else:
                place.set_axis_off()
    for place, name in zip(axes[0], ["", *names], strict=True):
        place.set_title(name, fontsize=8)
    return picture


def check_explained(found: Attribution, data: Dataset, example: int) -> None:
    """Refuse an explanation that is not of the inputs of these data.

    Raises:
        DataError: Saying what it is of.
    """
    if found.values.shape != data.x.shape:
        raise DataError(
            f"attributions of shape {tuple(found.values.shape)} are not of inputs of shape "
            f"{tuple(data.x.shape)}; explain the input of these data"
        )
    if not 0 <= example < len(data):
        raise DataError(f"no example {example}; there are {len(data)}, from 0")


__all__ = ["compared"]
