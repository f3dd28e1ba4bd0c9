"""What classes or units look for, model by model: one row of images each, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from conjoin.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def features(
    images: Mapping[str, Tensor],
    names: Sequence[str] = (),
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Figure:
    """Draw the images that :func:`conjoin.attribution.visualise.visualise` made.

    Args:
        images: By the name of the model, ``(count, channels, height, width)`` each; as many of each.
        names: Of the classes or units, above the columns.
        bounds: What is black and what is white, in input units.

    Raises:
        DataError: If there is nothing to draw, or the rows differ in length.
    """
    from conjoin.plots import canvas

    lengths = {len(rows) for rows in images.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise DataError(f"expected as many images of each model; got {sorted(lengths)}")
    (count,) = lengths
    picture, axes = canvas.grid(len(images), count, (1.3, 1.3))
    for row, (model, drawn) in enumerate(images.items()):
        for column in range(count):
            canvas.draw_input(axes[row, column], drawn[column], bounds)
            if row == 0 and column < len(names):
                axes[row, column].set_title(names[column], fontsize=8)
        canvas.label(axes[row, 0], model)
    return picture


__all__ = ["features"]
