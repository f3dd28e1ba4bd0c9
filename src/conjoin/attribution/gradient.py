"""Gradient attributions as presets of the one estimator.

Each is a distribution of interest and a bibliography key; every preset takes the slice and the
quantity, so each also explains inner units, comparisons of classes, and so on.
"""

from __future__ import annotations

from dataclasses import replace

from conjoin.attribution.influence import Influence
from conjoin.core.distribution import (
    Gaussian,
    Panels,
    Path,
    Point,
    Quadrature,
    Reference,
    zeros,
)
from conjoin.core.quantity import Question, logit
from conjoin.core.slice import Slice


def saliency(quantity: Question = logit, where: Slice = Slice()) -> Influence:  # noqa: B008
    """Take the gradient at the example, signed; units of the quantity per input unit.

    Reference: simonyan2014, section 3 (there in absolute value).
    """
    title, meaning = "saliency (gradient)", "the gradient at the example"
    return Influence(Point(), quantity, where, "simonyan2014", title, meaning)


def gradient_times_input(quantity: Question = logit, where: Slice = Slice()) -> Influence:  # noqa: B008
    """Take the gradient times the activation; units of the quantity.

    Reference: shrikumar2016, section 2.
    """
    title, meaning = "gradient × input", "the gradient at the example times its values"
    return Influence(Point(times_input=True), quantity, where, "shrikumar2016", title, meaning)


def integrated_gradients(
    baseline: Reference = zeros,
    quadrature: Quadrature = Panels(),  # noqa: B008 - frozen
    *,
    nodes: int | None = None,
    quantity: Question = logit,
    where: Slice = Slice(),  # noqa: B008 - frozen
) -> Influence:
    """Average the gradient on the segment from a baseline, times the displacement.

    The values sum to Q(x) - Q(baseline); the driver returns the gap. ``nodes`` stands for the
    number that the quadrature has of itself.

    Reference: sundararajan2017, equation 1.
    """
    rule = quadrature if nodes is None else replace(quadrature, nodes=nodes)
    title = "integrated gradients"
    meaning = "the gradient averaged on the way from a baseline, times the way"
    return Influence(Path(baseline, rule), quantity, where, "sundararajan2017", title, meaning)


def smoothgrad(
    scale: float = 0.15,
    draws: int = 32,
    *,
    quantity: Question = logit,
    where: Slice = Slice(),  # noqa: B008 - frozen
) -> Influence:
    """Average the gradient over Gaussian noise of ``scale`` times the example's range.

    Reference: smilkov2017, section 2.
    """
    title, meaning = "SmoothGrad", "the gradient averaged over noisy copies of the example"
    return Influence(Gaussian(scale, draws), quantity, where, "smilkov2017", title, meaning)
