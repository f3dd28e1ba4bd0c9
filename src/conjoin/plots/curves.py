"""Robust accuracy by radius: what is proved from below, what attacks left standing from above.

A certificate of radius r proves its example for all eps <= r, so the share of examples with r >= eps is
a *lower* bound of the robust accuracy at eps. An input that wins at distance d breaks its example for
all eps >= d, so the share without one is an *upper* bound. Neither is the accuracy itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from conjoin.core.result import AttackResult, Certificate
from conjoin.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EPS = re.compile(r"eps=(?:tensor\([^)]*\)|[^,)]*)")  # in the repr of a threat


def curves(*results: AttackResult | Certificate, names: Sequence[str] = ()) -> Figure:
    """Draw the share of examples that hold against the radius: attacks dashed, certificates solid.

    Args:
        results: Under threats of one kind, of any radius; each is a curve.
        names: What to call each; default: its method.

    Raises:
        DataError: If there is none, it is no attack or certificate, or their radii are in other units.
    """
    from conjoin.plots import canvas

    if not results or (names and len(names) != len(results)):
        raise DataError(f"{len(results)} results came with {len(names)} names; give one for each")
    for result in results:
        if not isinstance(result, AttackResult | Certificate):
            raise DataError(f"expected results of attack() or certify(); got {result!r}")
    sets = {EPS.sub("eps", result.provenance.threat) for result in results}
    if len(sets) > 1:
        raise DataError(
            f"radii of {' and '.join(sorted(sets))} cannot share an axis; draw them apart"
        )
    ends = [_ends(result) for result in results]
    finite = np.concatenate([end[np.isfinite(end)] for end in ends])
    widest = 1.05 * float(finite.max(initial=0.0)) or 1.0
    picture, axes = canvas.single(5.6, 3.4, left=0.65, bottom=0.55)
    for number, (result, end) in enumerate(zip(results, ends, strict=True)):
        at = np.concatenate([[0.0], np.sort(end[np.isfinite(end)]), [widest]])
        name = names[number] if names else result.provenance.method.split("(")[0]
        axes.step(
            at,
            [(end > eps).mean() for eps in at],
            where="post",
            color=canvas.LINES[number % len(canvas.LINES)],
            linestyle="-" if isinstance(result, Certificate) else "--",
            label=f"{name}: {_said(result)}",
        )
    axes.set_xlim(0, widest)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(f"radius of {results[0].provenance.threat.split('(')[0]}", fontsize=8)
    axes.set_ylabel("share of examples", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8, frameon=False, loc="lower left")
    return picture


def _said(result: AttackResult | Certificate) -> str:
    """Say what a curve is; what an attack left, with the verdict on it."""
    if isinstance(result, Certificate):
        return "proved"
    return f"left standing ({result.verdict})"


def _ends(result: AttackResult | Certificate) -> np.ndarray:
    """Return the radius up to which each example is proved, or is left standing."""
    if isinstance(result, Certificate):
        ends = result.radius.double()
    else:
        ends = torch.where(result.success, result.distance.double(), torch.inf)
    found: np.ndarray = ends.cpu().numpy()
    return found


__all__ = ["curves"]
