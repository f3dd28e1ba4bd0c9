"""What an attack found: the input, the input attacked, and the change, made visible."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor

from conjoin.core.dataset import Dataset
from conjoin.core.result import AttackResult
from conjoin.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def attacked(
    found: AttackResult,
    data: Dataset,
    *,
    count: int = 6,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Figure:
    """Draw original, attacked input and change for the first examples that fell.

    The change is drawn round grey and amplified by the factor that stands beside it. Above each example
    stand the quantity before and after, and the distance in the threat's norm. Where nothing fell, the
    first examples are drawn, and it is said that nothing was found, or that no attack was needed.

    Args:
        found: Of images, or of waveforms; see :func:`~conjoin.plots.bars` for tables.
        data: What was attacked.
        count: How many examples, at most.
        bounds: What is black and what is white in an image, in input units.

    Raises:
        DataError: If there is nothing to be drawn, or the data are not those that were attacked.
    """
    from conjoin.plots import canvas

    canvas.first(count, data, len(found.inputs))
    if data.x.shape != found.inputs.shape:
        raise DataError(
            f"the attacked inputs have shape {tuple(found.inputs.shape)}, the data "
            f"{tuple(data.x.shape)}; give the data that were attacked"
        )
    fell = found.success & (found.clean > found.provenance.goal)  # not those lost without an attack
    rows = (fell.nonzero()[:, 0].tolist() or list(range(len(data))))[:count]
    change = found.inputs[rows] - data.x[rows]
    factor = amplified(change, bounds)
    line = canvas.array(data.x[0]).ndim == 1
    picture, axes = canvas.grid(3, len(rows), (2.4, 0.9) if line else (1.3, 1.3))
    for column, row in enumerate(rows):
        middle = 0.0 if line else (bounds[0] + bounds[1]) / 2
        for place, x in zip(
            axes[:, column],
            (data.x[row], found.inputs[row], middle + factor * change[column]),
            strict=True,
        ):
            canvas.draw_input(place, x, bounds)
            if line:
                place.set_ylim(-1.05, 1.05)
        axes[0, column].set_title(told(found, row), fontsize=7)
    for place, words in zip(
        axes[:, 0], ("original", "attacked", f"change ×{factor:g}"), strict=True
    ):
        canvas.label(place, words)
    return picture


def told(found: AttackResult, row: int) -> str:
    """Say what became of an example, in two lines."""
    before, after = float(found.clean[row]), float(found.value[row])
    if before <= found.provenance.goal:
        return f"lost without attack\n{before:.2g}"
    if not bool(found.success[row]):
        return f"nothing found\n{before:.2g} → {after:.2g}"
    return f"{before:.2g} → {after:.2g}\nat {float(found.distance[row]):.3g}"


def amplified(change: Tensor, bounds: tuple[float, float]) -> float:
    """Return the factor that lets the largest change reach black or white: 1, 2, 5, 10, 20, ..."""
    largest = float(change.abs().max())
    if largest == 0:
        return 1.0
    room = max(1.0, 1.001 * (bounds[1] - bounds[0]) / 2 / largest)  # a change was rounded
    power = 10.0 ** math.floor(math.log10(room))
    return max(step * power for step in (1, 2, 5) if step * power <= room)


__all__ = ["attacked"]
