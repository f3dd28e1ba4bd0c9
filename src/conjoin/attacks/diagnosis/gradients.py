"""Indicators: is there a gradient to follow, and does it lead anywhere?"""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
from torch import Tensor

from conjoin.attacks.diagnosis.case import Case, excess, positions, where
from conjoin.attacks.diagnosis.indicator import ANY, Indicator
from conjoin.core.gradient import value_and_gradient
from conjoin.core.protocols import Batch, Held, Model
from conjoin.core.quantity import Question, log_likelihood, margin
from conjoin.errors import CapabilityError

DRAWS = 10  # of points round x, for the landscape
NEAR = 0.25  # of the radius, the reach of these
APART = 0.3  # of the change: what the gradient may be wrong by


def _slopes(case: Case, quantity: Question, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return values and gradients at all examples, in the driver's passes."""
    batch, found = case.batch(x), []
    size = case.run.rows(case.data.x.shape)
    with case.model.held() if isinstance(case.model, Held) else torch.enable_grad():
        for start in range(0, len(batch), size):
            part = batch.rows(slice(start, start + size))
            found.append(value_and_gradient(case.model, quantity, part))
    values, gradients = zip(*found, strict=True)
    return torch.cat(values).detach(), torch.cat(gradients)


def reaches(model: Model, batch: Batch) -> bool:
    """Tell whether a gradient of the margin reaches the inputs, from the first example."""
    with model.held() if isinstance(model, Held) else nullcontext():
        try:
            value_and_gradient(model, margin, batch.rows(slice(0, 1)))
        except CapabilityError:
            return False
    return True


def absent(case: Case) -> Indicator:
    """Ask whether there is a gradient at all: without one a model is attacked by queries alone."""
    points = () if reaches(case.model, case.batch()) else positions(case.standing)
    return Indicator(
        "no gradients",
        len(points) / max(1, len(case.standing)),
        ANY,
        math.inf,
        points,
        f"No gradient reaches the inputs: what {len(points)} of {len(case.standing)} examples that "
        "stand withstood were queries alone, which find less: this upper bound is weak",
    )


def _drawn(case: Case, number: int) -> Tensor:
    """Return a random point near each example."""
    batch = case.batch()
    return (
        case.smaller(NEAR).to(batch.x.device).sample(batch.x, batch.rng.fold("near").fold(number))
    )


def _flat(case: Case, quantity: Question, name: str, red: float) -> Indicator:
    """Look for gradients that are nothing at x and at a random point, or no numbers."""
    at_x, near = (_slopes(case, quantity, x)[1].flatten(1) for x in (None, _drawn(case, 0)))
    flat = torch.ones(len(at_x), dtype=torch.bool, device=at_x.device)
    for slope in (at_x, near):
        flat &= ~(slope.abs().amax(1) > 0)  # also where it is NaN
    points = where(flat & case.right.to(flat.device))
    return Indicator(
        name,
        len(points) / max(1, case.count),
        0.05,
        red,
        points,
        f"The gradient of {name.removeprefix('zero gradients of ')} is zero or no number on "
        f"{len(points)} of {case.count} examples, at x and near it: descent is blind there",
        least=2,
    )


def flat_margin(case: Case) -> Indicator:
    """Look for zero gradients of the margin."""
    return _flat(case, margin, "zero gradients of the margin", 0.05)


def flat_likelihood(case: Case) -> Indicator:
    """Look for zero gradients of the cross-entropy."""
    return _flat(case, log_likelihood, "zero gradients of the cross-entropy", 0.5)


def saturation(case: Case) -> Indicator:
    """Count examples whose largest probability is 1 in single precision, or outputs that are some."""
    outputs = case.outputs()
    full = outputs.float().softmax(1).amax(1) == 1
    sums = (outputs.double().sum(1) - 1).abs() < 1e-4
    already = bool((sums & (outputs.amin(1) >= 0)).all())
    points = where(full & case.right.to(full.device))
    said = f"The largest probability is 1 to the last bit on {len(points)} of {case.count} examples"
    if already:
        points = where(case.right)
        said = "The outputs are probabilities already, not logits"
    return Indicator(
        "saturated outputs",
        len(points) / max(1, case.count),
        0.6,
        math.inf,
        points,
        f"{said}: the cross-entropy has hardly any gradient; attack the margin or the logit ratio",
        least=2,
    )


def losses(case: Case) -> Indicator:
    """Compare twenty steps on the cross-entropy with twenty on the margin."""
    left, right = case.by_likelihood.success, case.by_margin.success
    points = where(right & ~left & case.right)
    other = len(where(left & ~right & case.right))
    more = excess(len(points), other, case.count)
    return Indicator(
        "choice of loss",
        more,
        0.05,
        0.15,
        points,
        f"At the same budget the margin breaks {len(points)} examples that the cross-entropy does not, "
        f"and {other} the other way: the cross-entropy saturates",
        least=2,
    )


def landscape(case: Case) -> Indicator:
    """Measure how much the margin changes within a quarter of the radius, relative to itself."""
    clean, worst = case.found.clean.abs(), torch.zeros_like(case.found.clean)
    for number in range(DRAWS):
        moved = case.margin(_drawn(case, number))
        worst += ((moved - case.found.clean).abs() / clean).clamp(max=1) / DRAWS
    points = where((worst > 0.5) & case.stands)
    return Indicator(
        "unstable landscape",
        len(points) / max(1, len(case.standing)),
        0.2,
        math.inf,
        points,
        f"Random changes of a quarter of the radius move the margin of {len(points)} of "
        f"{len(case.standing)} examples that stand by half of itself or more: descent follows noise",
        least=2,
    )


def differences(case: Case) -> Indicator:
    """Hold the gradient against differences of the outputs, between x and points near it.

    Where Q is smooth Q(z) - Q(x) is <(∇Q(x) + ∇Q(z)) / 2, z - x> up to the third order. A model that
    hands back another gradient than its own (a masked one, say) misleads every descent, and no zero
    shows it.
    """
    value, slope = _slopes(case, margin)
    off, size = torch.zeros_like(value), torch.zeros_like(value)
    x = case.batch().x
    for number in range(DRAWS):
        z = _drawn(case, number)
        there, other = _slopes(case, margin, z)
        told = ((slope + other) / 2 * (z - x)).flatten(1).sum(1)
        off += (there - value - told).abs()
        size += (there - value).abs() + told.abs()
    wrong = (off > APART * size) & (size > 0) & case.stands.to(off.device)
    points = where(wrong)
    return Indicator(
        "gradient against differences",
        len(points) / max(1, len(case.standing)),
        0.2,
        0.5,
        points,
        f"Near {len(points)} of {len(case.standing)} examples that stand the outputs do not change as "
        "the gradient says: it is not the gradient of what the model computes",
        least=2,
    )


def curvature(case: Case) -> Indicator:
    """Measure the cosine between the gradient at x and near it; weak by itself."""
    here, there = (_slopes(case, margin, x)[1].flatten(1).double() for x in (None, _drawn(case, 0)))
    cosine = torch.nn.functional.cosine_similarity(here, there, dim=1, eps=1e-30)
    points = where((cosine < 0.1) & (here.abs().amax(1) > 0) & case.stands.to(cosine.device))
    return Indicator(
        "curved landscape",
        len(points) / max(1, len(case.standing)),
        0.5,
        math.inf,
        points,
        f"The gradient points elsewhere a quarter of the radius away (cosine below 0.1) on "
        f"{len(points)} of {len(case.standing)} examples that stand",
        least=2,
    )


__all__ = [
    "curvature",
    "differences",
    "flat_likelihood",
    "flat_margin",
    "landscape",
    "losses",
    "saturation",
]
