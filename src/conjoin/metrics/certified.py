"""Certified stability of explanations: SmoothGrad within a radius, proved from the Lipschitz constant.

    for all z with ‖z - x‖ <= r:    ‖∇F(z) - m(x)‖ <= B(r) + e,     F = f * N(0, σ² I),

m(x) the average of n gradients at x and e its sampling error; see
:mod:`conjoin.certification.drift`. From it follow the least cosine of m(x) and of the smoothed
explanation anywhere near, and the least share of top patches that stay. The same constant certifies
the prediction, so one number says of how many examples *both* stand. It holds for the true smoothed
gradient there, with probability 1 - α in the draws at x, in real arithmetic. It is vacuous (cosine -1,
overlap 0) where B(r) + e reaches the length of the map: for radii that are large against σ, few draws,
or a constant that is far above the gradients that occur.

Reference: levine2019; leino2021, equation 3 (the prediction).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.attribution.gradient import saliency, smoothgrad
from conjoin.certification.drift import (
    drift,
    least_cosine,
    least_overlap,
    pooled,
    sampling_error,
    steepness,
)
from conjoin.certification.lipschitz import Lipschitz, PreparedLipschitz
from conjoin.core.ball import L2
from conjoin.core.counted import check_numbers
from conjoin.core.drive import Run, prepared
from conjoin.core.evidence import Evidence
from conjoin.core.quantity import Quantity, Target, logit, predicted
from conjoin.core.result import Result
from conjoin.drivers import Labelled, Network, attribute, certify, data_from, model_from
from conjoin.errors import PlanError, SoundnessError
from conjoin.typing import Flags, Hidden, PerExample

REFERENCES = ("levine2019", "leino2021")


@dataclass(frozen=True, slots=True)
class Smoothing:
    """How explanations are smoothed, and how surely they are known.

    Attributes:
        scale: σ, in input units.
        draws: Gradients that are averaged.
        alpha: The probability, at most, that the sampling error of an example is larger.
        patch: Side of the patches whose ranks are certified.
        top: Which share of the patches is the top.
    """

    scale: float = 0.5
    draws: int = 1000
    alpha: float = 0.001
    patch: int = 7
    top: float = 0.25

    def __post_init__(self) -> None:
        check_numbers(self)
        if not (0 < self.scale < math.inf and self.draws >= 1 and 0 < self.alpha < 1):
            raise PlanError(
                f"expected a positive scale, draws >= 1 and 0 < alpha < 1; got {self!r}"
            )
        if self.patch < 1 or not 0 < self.top < 1:
            raise PlanError(f"expected patch >= 1 and 0 < top < 1; got {self!r}")


@dataclass(frozen=True, eq=False, repr=False)
class CertifiedExplanation(Result):
    """Explanations, and how far they are proved to stand.

    Attributes:
        values: m(x), the averages of noisy gradients.
        constant: K, an upper bound of the l2 Lipschitz constant of what is explained.
        drift: B(r).
        error: e, the sampling error of m(x) but with probability alpha.
        cosine: Least cosine of m(x) and of the smoothed gradient within the radius; -1 where nothing
            is proved.
        overlap: Least share of the top patches that stay on top; NaN for explanations of no image.
        certified: Where the prediction is proved not to change within the radius.
        joint: Where it is, and the least cosine is above 0.
        alpha: The probability with which an example's numbers may fail.
    """

    values: Hidden
    constant: PerExample
    drift: PerExample
    error: PerExample
    cosine: PerExample
    overlap: PerExample
    certified: Flags
    joint: Flags
    alpha: PerExample

    @property
    def evidence(self) -> Evidence:
        """Statistical: it fails with probability alpha, in the draws."""
        return Evidence.statistical(float(self.alpha[0]))

    def _outcome(self) -> str:
        return f"{int(self.joint.sum())} of {len(self.joint)} with prediction and explanation"


def certified_explanation(
    model: Network,
    data: Labelled,
    radius: float,
    *,
    seed: int,
    smoothing: Smoothing = Smoothing(),
    quantity: Quantity = logit,
    target: Target = predicted,
    run: Run = Run(),
) -> CertifiedExplanation:
    """Certify SmoothGrad within an l2 radius, together with the prediction.

    Args:
        model: Its layers' constants must be known.
        data: The examples.
        radius: r, in l2 and input units.
        seed: Of the noise.
        smoothing: σ, draws and alpha.
        quantity: What is explained: a minimum of linear functions of the outputs.
        target: What it is about.
        run: Batch size and observer.

    Raises:
        CapabilityError: If a constant is not known, or the quantity does not tell its rows.
        SoundnessError: If a gradient is longer than the constant allows.
        PlanError: If the radius is negative.
    """
    model, data = model_from(model), data_from(data)
    method = smoothgrad(smoothing.scale, smoothing.draws, relative=False, quantity=quantity)
    shown = attribute(model, data, method, seed=seed, target=target, run=run)
    ready = prepared(Lipschitz(), model, data)
    assert isinstance(ready, PreparedLipschitz)  # noqa: S101 - what Lipschitz prepares
    constant = steepness(ready, quantity, shown.target.to(model.device)).to(data.x.device)
    slopes = attribute(model, data, saliency(quantity), seed=seed, target=target, run=run).values
    _check(constant, slopes, shown.values)
    away = drift(constant, radius, smoothing.scale)
    error = sampling_error(constant, smoothing.draws, smoothing.alpha)
    ball = L2(radius, (-math.inf, math.inf))
    stands = certify(model, data, ready, ball, target=predicted, run=run).certified
    cosine = least_cosine(shown.values, away + error)
    return CertifiedExplanation(
        shown.provenance,
        shown.values,
        constant,
        away,
        error,
        cosine,
        _overlap(shown.values, away + error, smoothing),
        stands,
        stands & (cosine > 0),
        torch.full_like(constant, smoothing.alpha),
    )


def _check(constant: Tensor, *gradients: Tensor) -> None:
    """Refuse gradients that are longer than the constant, up to rounding: they are another function's.

    Raises:
        SoundnessError: Saying by how much.
    """
    for one in gradients:
        length = torch.linalg.vector_norm(one.flatten(1).double(), dim=1)
        if bool((length > constant * (1 + 1e-4)).any()):
            worst = int((length - constant).argmax())
            raise SoundnessError(
                f"a gradient has the length {float(length[worst]):.4g} where the network's constant "
                f"is {float(constant[worst]):.4g}: its backward pass is not the derivative of its "
                "forward pass (a gradient of its own?), so nothing is certified"
            )


def _overlap(values: Tensor, distance: Tensor, smoothing: Smoothing) -> Tensor:
    """Return the least overlap of top patches; NaN where there are none."""
    if values.ndim != 4:
        return torch.full_like(distance, math.nan)
    patches = pooled(values, smoothing.patch)
    if patches.shape[1] < 2:
        return torch.full_like(distance, math.nan)
    top = min(max(1, round(smoothing.top * patches.shape[1])), patches.shape[1] - 1)
    return least_overlap(patches, distance, top)


__all__ = ["REFERENCES", "CertifiedExplanation", "Smoothing", "certified_explanation"]
