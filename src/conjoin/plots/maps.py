"""Attributions as maps under the inputs that they explain, on one scale of colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conjoin.core.dataset import Dataset
from conjoin.core.result import Attribution
from conjoin.errors import DataError
from conjoin.plots.looks import Heat, Look

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def maps(
    explained: Attribution,
    data: Dataset | None = None,
    *,
    count: int = 6,
    bounds: tuple[float, float] = (0.0, 1.0),
    look: Look = Heat(),  # noqa: B008 - frozen
) -> Figure:
    """Draw the first explanations, below their inputs: orange speaks for the class, purple against.

    Args:
        explained: Of images, or of waveforms.
        data: What was explained; without it the maps stand alone.
        count: How many examples, at most.
        bounds: What is black and what is white in an image, in input units.
        look: How: the map alone (``Heat()``), over the image (``Overlay()``), or what it leaves of the
            image (``Mask()``). The last two need the data.

    Raises:
        DataError: If there is nothing to be drawn, or the data are not those that were explained.
    """
    from conjoin.plots import canvas

    rows = canvas.first(count, data, len(explained.values))
    values = [explained.values[row] for row in rows]
    for value in values:
        canvas.array(value)  # refused here if it has no picture
    if data is None and not isinstance(look, Heat):
        raise DataError(f"{look!r} looks through the input; give the data that were explained")
    shown = [look.of(value) for value in values]
    scale = canvas.full_colour(shown)
    flat = shown[0].ndim == 1
    cell = (2.4, 0.9) if flat else (1.3, 1.3)
    picture, axes = canvas.grid(1 if data is None else 2, len(rows), cell)
    for column, row in enumerate(rows):
        x = values[column] if data is None else data.x[row]
        look.draw(axes[-1, column], shown[column], scale, x, bounds)
        if data is not None:
            canvas.draw_input(axes[0, column], data.x[row], bounds)
        place = int(explained.target[row]) if explained.target.ndim == 1 else None
        if place is not None:
            named = data is not None and place < len(data.classes)
            name = data.classes[place] if data is not None and named else f"class {place}"
            axes[0, column].set_title(name, fontsize=8)
    canvas.label(axes[-1, 0], look.says(scale))
    return picture


__all__ = ["maps"]
