"""What units of a layer see, as channel masks: the image where a unit responds, faded elsewhere.

The first row explains the answer, the second has what each unit sees as a map over the image, the third
what is left of the image by that map. Each row has one scale of colours, stated at its left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from conjoin.core.dataset import Dataset
from conjoin.core.result import Attribution
from conjoin.metrics.seen import Directed
from conjoin.plots.compared import LETTER, check_explained
from conjoin.plots.looks import Look, Mask, Overlay

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def units(
    found: Directed,
    data: Dataset,
    explained: Attribution,
    *,
    example: int = 0,
    title: str = "",
    bounds: tuple[float, float] = (0.0, 1.0),
    overlay: Overlay = Overlay(),  # noqa: B008 - frozen
    mask: Mask = Mask(),  # noqa: B008 - frozen
) -> Figure:
    """Draw the most influential units of a layer with what each sees in an example.

    Args:
        found: The units, of :func:`~conjoin.metrics.seen.directed`.
        data: The images it was found on.
        explained: Of the answer itself, by the input.
        example: Its position.
        title: What is explained, e.g. "tabby rather than tiger cat".
        bounds: What is black and what is white in an image, in input units.
        overlay, mask: How maps and masks are drawn.

    Raises:
        DataError: If these are not of the same inputs, or there is no such example.
    """
    from conjoin.plots import canvas

    for one in (explained, *found.seen.values()):
        check_explained(one, data, example)
    count = len(found.units)
    left = 0.35 + LETTER * max(len(found.cut.name), len("what units of"))
    picture, axes = canvas.grid(3, max(3, count), (1.3, 1.3), left, between=0.3)
    for place in axes.ravel():
        place.set_axis_off()
    x, answer = data.x[example], explained.values[example]
    seen = [found.seen[unit].values[example] for unit in found.units]
    canvas.draw_input(axes[0, 0], x, bounds)
    scale = _row(axes[0, 1:], [answer], overlay, x, bounds)
    _row(axes[0, 2:], [answer], mask, x, bounds)
    canvas.label(axes[0, 0], f"the answer\n{overlay.says(scale)}")
    axes[0, 0].set_title(title, fontsize=8, loc="left")
    scale = _row(axes[1], seen, overlay, x, bounds)
    canvas.label(axes[1, 0], f"what units of\n{found.cut.name}\nsee\n{overlay.says(scale)}")
    canvas.label(axes[2, 0], mask.says(_row(axes[2], seen, mask, x, bounds)))
    for place, unit in zip(axes[1], found.units, strict=False):
        place.set_title(f"unit {unit}: {float(found.influences[unit]):+.2g}", fontsize=7)
    for place in (*axes[0, :3], *axes[1:, :count].ravel()):
        place.set_axis_on()
    return picture


def _row(
    axes: Any, values: Sequence[Tensor], look: Look, x: Tensor, bounds: tuple[float, float]
) -> float:
    """Draw maps side by side; return the number of full colour."""
    from conjoin.plots import canvas

    maps = [look.of(one) for one in values]
    scale = canvas.full_colour(maps)
    for place, shown in zip(axes, maps, strict=False):
        look.draw(place, shown, scale, x, bounds)
    return scale


__all__ = ["units"]
