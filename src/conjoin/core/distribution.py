"""Distributions of interest: over which points a gradient is averaged, and what it is credited to.

A distribution is a generator: it yields probes, is told what was seen there, and concludes with an
estimate at each cut. With the one estimator of ``attribution.influence`` this gives saliency
(:class:`Point`), SmoothGrad (:class:`Gaussian`), the uniform gradient (:class:`Within`), the influence
over a class (:class:`Instances`), and integrated gradients (:class:`~conjoin.core.path.Path`), at the
input or at any inner cuts. Mixtures (:class:`Mixture`) and products (:class:`Noisy`) are others. Since
it sees what came of its probes, a distribution may place the next ones by it.

Reference: leino2018, equation 1 (distributional influence).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import torch
from torch import Tensor

from conjoin.core.baseline import (
    Blurred,
    Constant,
    Drawn,
    Mean,
    Noise,
    Reference,
    Row,
    zeros,
)
from conjoin.core.counted import check_numbers
from conjoin.core.path import Filled, Image, Path, Straight
from conjoin.core.probing import Sum, chunks, per_pass
from conjoin.core.protocols import (
    Batch,
    Distribution,
    Ends,
    Estimate,
    Probe,
    Probes,
    Sliceable,
)
from conjoin.core.quadrature import GaussLegendre, Midpoint, Panels, Quadrature, Trapezoid
from conjoin.core.rung import meets
from conjoin.core.slice import INPUT, Cut
from conjoin.core.threat import Threat
from conjoin.errors import PlanError
from conjoin.typing import Inputs

DRAWN = 1 << 20  # numbers drawn at a time


class Moment(Enum):
    """What is taken of the gradients of noisy copies."""

    MEAN = "mean"  # SmoothGrad
    SQUARE = "square"  # SmoothGrad², the mean of the squares
    VARIANCE = "variance"  # VarGrad


@dataclass(frozen=True, slots=True)
class Point:
    """The example itself; the gradient is credited as it is, or times the activation."""

    times_input: bool = False

    def __call__(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Probes:
        """Yield one probe."""
        (seen,) = yield (Probe({INPUT: batch.x}),)
        if not self.times_input:
            return Estimate(seen.gradients)
        return Estimate(tuple(g * z for g, z in zip(seen.gradients, seen.at, strict=True)))

    def ends(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> None:
        """Promise no completeness."""


@dataclass(frozen=True, slots=True)
class Gaussian:
    """The activation plus Gaussian noise.

    At several cuts at once each has noise of its own, and the cuts after the first noisy one see
    that noise as well.

    Attributes:
        scale: Standard deviation: as a share of each example's range (largest - smallest value), or in
            units of the activation.
        draws: Number of samples.
        relative: Whether it is a share.
        moment: Of the gradients; VarGrad takes the variance over the draws (divided by their number).
    """

    scale: float = 0.15
    draws: int = 32
    relative: bool = True
    moment: Moment = Moment.MEAN

    def __post_init__(self) -> None:
        check_numbers(self)
        _check_draws(self.draws, self.scale)

    def __call__(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Probes:
        """Yield ``draws`` probes; draw k of an example is the same in every batch."""
        cuts = tuple(dict.fromkeys(cuts))
        with torch.no_grad():
            still = model.run(batch, take=cuts)
        total, size = _MOMENTS[self.moment](self.draws), per_pass(*still)
        at_once = max(size, DRAWN // sum(z.numel() for z in still) // size * size)
        for drawn in chunks(range(self.draws), at_once):
            noisy = list(zip(*self._drawn(batch, still, drawn), strict=True))
            for chunk in chunks(range(len(drawn)), size):
                probes = [Probe(dict(zip(cuts, noisy[k], strict=True))) for k in chunk]
                for seen in (yield probes):
                    total.see(seen.gradients)
        return total.estimate()

    def _drawn(
        self, batch: Batch, still: tuple[Tensor, ...], draws: range
    ) -> list[tuple[Tensor, ...]]:
        """Return the points of several draws, for each cut."""
        points = []
        for place, z in enumerate(still):
            rng = batch.rng.fold("noise").fold(place).each(draws)
            noise = rng.normal(*z.shape[1:], dtype=z.dtype).reshape(len(draws), *z.shape)
            width = _width(z, self.scale, relative=self.relative)
            points.append(z.addcmul(width, noise).unbind())
        return points

    def ends(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> None:
        """Promise no completeness."""


@dataclass(frozen=True, slots=True)
class Within:
    """Points drawn from a threat set round the example, as the threat draws them.

    Attributes:
        threat: E.g. ``Linf(0.1)``: the uniform gradient.
        draws: Number of samples.

    Reference: wang2020, section 4 (uniform gradient).
    """

    threat: Threat
    draws: int = 32

    def __post_init__(self) -> None:
        check_numbers(self)
        _check_draws(self.draws)
        if not meets(self.threat, Threat):
            raise PlanError(f"expected a threat, e.g. Linf(0.1); got {self.threat!r}")

    def __call__(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Probes:
        """Yield ``draws`` probes at the input."""
        total, threat = Sum(), self.threat.to(batch.x.device)
        for chunk in chunks(range(self.draws), per_pass(batch.x)):
            points = [threat.sample(batch.x, batch.rng.fold("within").fold(k)) for k in chunk]
            for seen in (yield [Probe({INPUT: z}) for z in points]):
                total.add(seen.gradients, 1 / self.draws)
        return total.estimate()

    def ends(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> None:
        """Promise no completeness."""


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """Given instances in place of the example, e.g. those of a class: its average influence.

    The values are the same for every example that asks about the same class.

    Attributes:
        inputs: The instances, ``(instances, *input)``.
        times_input: Credit each gradient with the activation of its instance.

    Reference: leino2018, section 3 (a distribution over the instances of a class).
    """

    inputs: Inputs
    times_input: bool = False

    def __repr__(self) -> str:
        """Show the number of instances, not their elements."""
        return f"Instances({len(self.inputs)} of shape {tuple(self.inputs.shape[1:])})"

    def __call__(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Probes:
        """Yield a probe at each instance."""
        x, total = self.inputs.to(batch.x), Sum()
        if x.shape[1:] != batch.x.shape[1:] or not len(x):
            raise PlanError(
                f"{self!r} do not fit inputs of shape {tuple(batch.x.shape[1:])}; expected at least "
                "one instance of that shape"
            )
        for chunk in chunks(range(len(x)), per_pass(batch.x)):
            probes = [Probe({INPUT: x[k].expand_as(batch.x).contiguous()}) for k in chunk]
            for seen in (yield probes):
                shares = seen.gradients
                if self.times_input:
                    shares = tuple(g * z for g, z in zip(shares, seen.at, strict=True))
                total.add(shares, 1 / len(x))
        return total.estimate()

    def ends(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> None:
        """Promise no completeness."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """Several distributions, with weights; their probes share passes.

    Attributes:
        parts: The distributions.
        weights: One for each, that add up to 1; equal ones if there are none.
    """

    parts: tuple[Distribution, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.parts or (self.weights and len(self.weights) != len(self.parts)):
            raise PlanError(
                f"a mixture needs at least one part, and a weight for each or none; got "
                f"{len(self.parts)} and {len(self.weights)}"
            )
        if self.weights and not math.isclose(sum(self.weights), 1, rel_tol=1e-6):
            raise PlanError(f"the weights of a mixture must add up to 1; got {sum(self.weights)}")

    def __call__(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Probes:
        """Yield the parts' probes."""
        weights = self.weights or (1 / len(self.parts),) * len(self.parts)

        def part(k: int) -> Probes:
            return self.parts[k](model, batch, cuts)

        return (yield from _together(part, weights, per_pass(batch.x)))

    def ends(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Ends | None:
        """Promise what its one part promises; several ends cannot be told."""
        return self.parts[0].ends(model, batch, cuts) if len(self.parts) == 1 else None


@dataclass(frozen=True, slots=True)
class Noisy:
    """Another distribution round noisy copies of the example: the product with a Gaussian.

    Of a path it is smoothed integrated gradients; of the point alone, SmoothGrad.

    Attributes:
        inner: The distribution round each copy.
        scale: Standard deviation of the noise, as a share of each example's range or in input units.
        draws: Number of copies.
        relative: Whether it is a share.

    Reference: smilkov2017, section 3.
    """

    inner: Distribution
    scale: float = 0.15
    draws: int = 8
    relative: bool = True

    def __post_init__(self) -> None:
        check_numbers(self)
        _check_draws(self.draws, self.scale)

    def __call__(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Probes:
        """Yield the probes round each copy."""
        width = _width(batch.x, self.scale, relative=self.relative)

        def part(k: int) -> Probes:
            rng = batch.rng.fold("copy").fold(k)
            noise = rng.normal(*batch.x.shape[1:], dtype=batch.x.dtype)
            copy = replace(batch, x=batch.x.addcmul(width, noise), rng=rng)
            return self.inner(model, copy, cuts)

        equal = (1 / self.draws,) * self.draws
        return (yield from _together(part, equal, per_pass(batch.x)))

    def ends(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> None:
        """Promise no completeness."""


def _together(part: Callable[[int], Probes], weights: Sequence[float], size: int) -> Probes:
    """Run generators side by side, about ``size`` probes to a pass; average what they conclude."""
    total, places = Sum(), range(len(weights))
    while places:
        running: dict[int, tuple[Probes, Sequence[Probe]]] = {}
        ended: dict[int, Estimate] = {}
        while places and sum(len(asked) for _, asked in running.values()) < size:
            one = part(places[0])
            running[places[0]], places = (one, next(one)), places[1:]
        while running:
            told = iter((yield [probe for _, asked in running.values() for probe in asked]))
            for k, (one, asked) in list(running.items()):
                try:
                    running[k] = one, one.send([next(told) for _ in asked])
                except StopIteration as concluded:
                    ended[k] = concluded.value
                    del running[k]
        for k in sorted(ended):
            total.add(ended[k].values, weights[k])
    return total.estimate()


class _Moments:
    """The mean of the gradients of a number of draws."""

    def __init__(self, draws: int) -> None:
        self.draws, self.sum = draws, Sum()

    def see(self, gradients: tuple[Tensor, ...]) -> None:
        """Take the gradients of one draw."""
        self.sum.add(gradients, 1 / self.draws)

    def estimate(self) -> Estimate:
        """Conclude."""
        return self.sum.estimate()


class _Squares(_Moments):
    """The mean of their squares."""

    def see(self, gradients: tuple[Tensor, ...]) -> None:
        super().see(tuple(g * g for g in gradients))


class _Variance(_Moments):
    """Their variance: E (g - g_0)² - (E (g - g_0))², which does not cancel as without g_0."""

    def __init__(self, draws: int) -> None:
        super().__init__(draws)
        self.first: tuple[Tensor, ...] = ()
        self.squares = Sum()

    def see(self, gradients: tuple[Tensor, ...]) -> None:
        self.first = self.first or tuple(g.clone() for g in gradients)
        apart = tuple(g - f for g, f in zip(gradients, self.first, strict=True))
        super().see(apart)
        self.squares.add(tuple(d * d for d in apart), 1 / self.draws)

    def estimate(self) -> Estimate:
        pairs = zip(self.squares.estimate().values, self.sum.estimate().values, strict=True)
        return Estimate(tuple((square - mean * mean).clamp(min=0) for square, mean in pairs))


_MOMENTS = {Moment.MEAN: _Moments, Moment.SQUARE: _Squares, Moment.VARIANCE: _Variance}


def _width(z: Tensor, scale: float, *, relative: bool) -> Tensor:
    """Return the standard deviation of the noise for each example, to broadcast."""
    flat = z.flatten(1)
    width = (flat.amax(1) - flat.amin(1)) * scale if relative else flat.new_full((len(z),), scale)
    return width.reshape(-1, *[1] * (z.ndim - 1))


def _check_draws(draws: int, scale: float = 0.0) -> None:
    if draws < 1 or not 0 <= scale < math.inf:
        raise PlanError(
            f"noise needs at least one draw and a scale >= 0; got {draws!r} and {scale!r}"
        )


__all__ = [
    "Blurred",
    "Constant",
    "Drawn",
    "Filled",
    "GaussLegendre",
    "Gaussian",
    "Image",
    "Instances",
    "Mean",
    "Midpoint",
    "Mixture",
    "Moment",
    "Noise",
    "Noisy",
    "Panels",
    "Path",
    "Point",
    "Quadrature",
    "Reference",
    "Row",
    "Straight",
    "Trapezoid",
    "Within",
    "per_pass",
    "zeros",
]
