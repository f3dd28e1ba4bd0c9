"""One picture for each kind of result, where nobody says which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from conjoin.core.dataset import Dataset
from conjoin.core.result import AttackResult, Attribution, Certificate, Result, Score
from conjoin.errors import DataError
from conjoin.plots.attacked import attacked
from conjoin.plots.bars import bars
from conjoin.plots.curves import curves
from conjoin.plots.maps import maps

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def show(result: Result, data: Dataset | None = None) -> Figure:
    """Draw a result: what was attacked or explained if ``data`` are given, else its numbers.

    Args:
        result: Of an attack or a certifier (curves over the radius), an attribution (maps, or bars of
            a table), or a score (its distribution).
        data: What it is about: attacked inputs are drawn below it, maps below it, bars named by it.

    Raises:
        DataError: If it is no result, or has no picture without data.
    """
    if isinstance(result, Attribution):
        table = data is not None and bool(data.features)
        return bars(result, data) if data is not None and table else maps(result, data)
    if isinstance(result, AttackResult) and data is not None and not data.features:
        return attacked(result, data)
    if isinstance(result, AttackResult | Certificate):
        return curves(result)
    if isinstance(result, Score):
        return _distribution(result)
    raise DataError(
        f"expected a result of a driver, e.g. of attack(); got a {type(result).__name__}"
    )


def _distribution(result: Score) -> Figure:
    from conjoin.plots import canvas

    values = np.sort(result.values.detach().cpu().double().numpy())
    picture, axes = canvas.single(4.6, 2.8, left=0.65, bottom=0.55)
    axes.plot(values, (np.arange(len(values)) + 1) / len(values), color=canvas.LINES[0], marker=".")
    axes.axvline(float(values.mean()), color=canvas.GREY, linewidth=0.8, linestyle="--")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(f"{result.provenance.method.split('(')[0]} (dashed: mean)", fontsize=8)
    axes.set_ylabel("share of examples at most", fontsize=8)
    axes.tick_params(labelsize=8)
    return picture


__all__ = ["show"]
