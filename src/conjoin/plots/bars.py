"""Attributions of tables as named bars: of one example with its values, or of all by their mean size.

The inputs that one categorical column became are one bar: their attributions are added up, which keeps
the sum, and so completeness. An attribution is in the units of the explained quantity, whatever a
column's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from conjoin.core.dataset import Dataset, grouped, valued
from conjoin.core.result import Attribution
from conjoin.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def bars(
    explained: Attribution, data: Dataset, *, example: int | None = None, count: int = 12
) -> Figure:
    """Draw the largest attributions of a table, the largest on top.

    Args:
        explained: Of a table's rows.
        data: What was explained; its ``features`` name the bars.
        example: Position of the example whose signed attributions and values are drawn; ``None`` for
            the mean magnitude of each column over the data.
        count: How many bars, at most.

    Raises:
        DataError: If the data are no table, not those that were explained, or there is no such example.
    """
    from conjoin.plots import canvas

    features = canvas.columns_of(data)
    canvas.first(count, data, len(explained.values))
    if tuple(explained.values.shape[1:]) != (len(features),):
        raise DataError(
            f"attributions of shape {tuple(explained.values.shape[1:])} are none of the table's "
            f"{len(features)} columns; explain its inputs"
        )
    groups = grouped(features)
    sums = torch.stack(
        [explained.values[:, places].sum(1) for places in groups.values()], 1
    ).double()
    if example is None:
        sizes, names = sums.abs().mean(0), list(groups)
        words = "mean magnitude of the attribution"
    else:
        if not 0 <= example < len(data):
            raise DataError(f"no example {example}; there are {len(data)}, from 0")
        sizes = sums[example]
        names = [valued(name, places, features, data.x[example]) for name, places in groups.items()]
        words = "attribution"
    order = sizes.abs().argsort(descending=True, stable=True)[:count].flip(0).tolist()
    longest = max(len(names[place]) for place in order)
    height = 0.24 * len(order)
    picture, axes = canvas.single(3.6 + longest * 0.075, height + 1.0, 0.25 + longest * 0.075, 0.5)
    shown = [float(sizes[place]) for place in order]
    colours = [canvas.FOR if size >= 0 else canvas.AGAINST for size in shown]
    axes.barh(range(len(order)), shown, color=colours if example is not None else canvas.GREY)
    axes.axvline(0, color="black", linewidth=0.6)
    axes.set_yticks(range(len(order)), [names[place] for place in order], fontsize=8)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel(words, fontsize=8)
    return picture


__all__ = ["bars"]
