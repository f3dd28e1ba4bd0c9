"""Gradient attributions as presets of the one estimator.

Each is a distribution of interest and a bibliography key; every preset takes the slice and the
quantity, so each also explains inner units, comparisons of classes, and so on.
"""

from __future__ import annotations

from conjoin.attribution.influence import Influence
from conjoin.core.baseline import Drawn, Reference, zeros
from conjoin.core.counted import whole
from conjoin.core.distribution import Gaussian, Mixture, Moment, Noisy, Point, Within
from conjoin.core.path import Image, Path, Start, Straight
from conjoin.core.protocols import Distribution
from conjoin.core.quadrature import Panels, Quadrature, of_nodes
from conjoin.core.quantity import Question, logit
from conjoin.core.slice import OUTPUT, Cut, Cuts, Slice, cuts_of
from conjoin.core.threat import Threat
from conjoin.errors import PlanError
from conjoin.typing import Inputs


def saliency(quantity: Question = logit, where: Slice = Slice()) -> Influence:  # noqa: B008
    """Take the gradient at the example, signed; units of the quantity per input unit.

    Reference: simonyan2014, section 3 (there in absolute value).
    """
    title, meaning = "saliency (gradient)", "the gradient at the example"
    return Influence(Point(), quantity, where, "simonyan2014", title, meaning)


def gradient_times_input(quantity: Question = logit, where: Slice = Slice()) -> Influence:  # noqa: B008
    """Take the gradient times the activation; units of the quantity.

    Of a rectifier network without biases it is the first-order Taylor expansion at zero, and complete.

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
    title = "integrated gradients"
    meaning = "the gradient averaged on the way from a baseline, times the way"
    path = Path(baseline, of_nodes(quadrature, nodes))
    return Influence(path, quantity, where, "sundararajan2017", title, meaning)


def conductance(
    cuts: Cuts,
    baseline: Reference = zeros,
    quadrature: Quadrature = Panels(),  # noqa: B008 - frozen
    *,
    nodes: int | None = None,
    quantity: Question = logit,
    stop: Cut = OUTPUT,
) -> Influence:
    """Credit inner activations with what flows through them from a baseline input to the example.

    The integral of ∂Q/∂z · dz along the image of the segment; at every cut the values sum to
    Q(x) - Q(baseline), but for what by-passes it. All cuts are read from one sweep.

    Reference: dhamdhere2019, equation 2.
    """
    first, *more = cuts_of(cuts)
    title, path = "conductance", Path(baseline, of_nodes(quadrature, nodes))
    meaning = "what flows through each unit on the way from a baseline input"
    where = Slice(first, stop)
    return Influence(path, quantity, where, "dhamdhere2019", title, meaning, tuple(more))


def layer_integrated_gradients(
    cut: Cut | str,
    start: Start = Image(),  # noqa: B008 - frozen
    quadrature: Quadrature = Panels(),  # noqa: B008 - frozen
    *,
    nodes: int | None = None,
    quantity: Question = logit,
    stop: Cut = OUTPUT,
) -> Influence:
    """Take integrated gradients of the part of the network after a cut, on the straight way there.

    The values sum to the change of Q from the start to the activation, what by-passes the cut standing
    still. By default the way starts at the image of the all-zero input.

    Reference: sundararajan2017, equation 1, with the activation for the input.
    """
    first, *more = cuts_of(cut)
    if more:
        raise PlanError(f"a straight way leads at one layer; got {len(more) + 1} cuts")
    title, path = "layer integrated gradients", Straight(start, of_nodes(quadrature, nodes))
    meaning = "the gradient averaged on the straight way at the layer, times the way"
    return Influence(path, quantity, Slice(first, stop), "sundararajan2017", title, meaning)


def internal_influence(
    cuts: Cuts,
    distribution: Distribution = Path(displaced=False),  # noqa: B008 - frozen
    *,
    quantity: Question = logit,
    stop: Cut = OUTPUT,
) -> Influence:
    """Average the gradient at inner activations over a distribution of interest.

    By default over the segment from the all-zero input to the example; ``Point()`` is the gradient
    there, ``Instances(x)`` the average over a class. Units of the quantity per unit of activation.

    Reference: leino2018, equation 1.
    """
    first, *more = cuts_of(cuts)
    title, meaning = (
        "internal influence",
        "the gradient at inner units, averaged over a distribution",
    )
    where = Slice(first, stop)
    return Influence(distribution, quantity, where, "leino2018", title, meaning, tuple(more))


def expected_gradients(
    background: Inputs,
    draws: int = 16,
    quadrature: Quadrature = Panels(9),  # noqa: B008 - frozen
    *,
    quantity: Question = logit,
    where: Slice = Slice(),  # noqa: B008 - frozen
) -> Influence:
    """Average integrated gradients over baselines drawn from ``background``, ``(instances, *input)``.

    In expectation the values sum to Q(x) less the mean of Q over the background.

    Reference: erion2021, equation 2.
    """
    title = "expected gradients"
    meaning = "integrated gradients, averaged over baselines from the data"
    count = whole(draws, 1, "draws of expected gradients")
    parts = tuple(Path(Drawn(background, k), quadrature) for k in range(count))
    return Influence(Mixture(parts), quantity, where, "erion2021", title, meaning)


def smoothgrad(
    scale: float = 0.15,
    draws: int = 32,
    *,
    relative: bool = True,
    quantity: Question = logit,
    where: Slice = Slice(),  # noqa: B008 - frozen
) -> Influence:
    """Average the gradient over Gaussian noise of ``scale`` times the example's range.

    ``relative=False``: of ``scale`` in units of the activation.

    Reference: smilkov2017, section 2.
    """
    title, meaning = "SmoothGrad", "the gradient averaged over noisy copies of the example"
    noise = Gaussian(scale, draws, relative)
    return Influence(noise, quantity, where, "smilkov2017", title, meaning)


def squared_smoothgrad(
    scale: float = 0.15,
    draws: int = 32,
    *,
    quantity: Question = logit,
    where: Slice = Slice(),  # noqa: B008 - frozen
) -> Influence:
    """Average the squared gradient over Gaussian noise: SmoothGrad², at least 0.

    Reference: hooker2019, section 3.
    """
    title, meaning = "SmoothGrad²", "the squared gradient averaged over noisy copies"
    noise = Gaussian(scale, draws, moment=Moment.SQUARE)
    return Influence(noise, quantity, where, "hooker2019", title, meaning)


def vargrad(
    scale: float = 0.15,
    draws: int = 32,
    *,
    quantity: Question = logit,
    where: Slice = Slice(),  # noqa: B008 - frozen
) -> Influence:
    """Take the variance of the gradient over Gaussian noise, at least 0.

    Reference: adebayo2018, section 2.
    """
    title, meaning = "VarGrad", "the variance of the gradient over noisy copies"
    noise = Gaussian(scale, draws, moment=Moment.VARIANCE)
    return Influence(noise, quantity, where, "adebayo2018", title, meaning)


def uniform_gradient(
    threat: Threat,
    draws: int = 32,
    *,
    quantity: Question = logit,
    where: Slice = Slice(),  # noqa: B008 - frozen
) -> Influence:
    """Average the gradient over points drawn from a threat set round the example.

    Reference: wang2020, section 4.
    """
    title, meaning = "uniform gradient", "the gradient averaged over a set round the example"
    return Influence(Within(threat, draws), quantity, where, "wang2020", title, meaning)


def smoothed_integrated_gradients(
    scale: float = 0.15,
    draws: int = 8,
    baseline: Reference = zeros,
    quadrature: Quadrature = Panels(9),  # noqa: B008 - frozen
    *,
    quantity: Question = logit,
    where: Slice = Slice(),  # noqa: B008 - frozen
) -> Influence:
    """Average integrated gradients over noisy copies of the example.

    Reference: smilkov2017, section 3.
    """
    title = "smoothed integrated gradients"
    meaning = "integrated gradients averaged over noisy copies of the example"
    noisy = Noisy(Path(baseline, quadrature), scale, draws)
    return Influence(noisy, quantity, where, "smilkov2017", title, meaning)


__all__ = [
    "conductance",
    "expected_gradients",
    "gradient_times_input",
    "integrated_gradients",
    "internal_influence",
    "layer_integrated_gradients",
    "saliency",
    "smoothed_integrated_gradients",
    "smoothgrad",
    "squared_smoothgrad",
    "uniform_gradient",
    "vargrad",
]
