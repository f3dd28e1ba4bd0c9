"""Boundary attributions: explanations by the nearest decision boundary.

    BSM(x) = ∇Q(x'),    BIG(x) = (x - x') ⊙ ∫ ∇Q(x' + t (x - x')) dt

with x' the nearest point at which another class takes over: presets of the estimator whose baseline is
found by a search. Any other search serves: a function (model, batch) -> inputs. An example near which
none is found gets an all-zero map: never the map of a point that is no boundary. How near x' is depends
on the search, and so does what is explained.

Smoothed, both are averaged over noise that moves x and x' together: the boundary is searched once, that
of the network itself, and is not that of a network smoothed by noise. Of several classes, the maps from
the boundary of each are averaged, those of near boundaries more.

Reference: wang2022, section 3 (there over all inputs whose class is another).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from conjoin.attribution.deeplift import DeepLift, deeplift
from conjoin.attribution.influence import Influence
from conjoin.core.ball import L2, Ball
from conjoin.core.baseline import Reference, zeros
from conjoin.core.boundary import Boundary
from conjoin.core.counted import check_numbers, whole
from conjoin.core.distribution import Noisy
from conjoin.core.naming import name_of
from conjoin.core.path import Path
from conjoin.core.probing import Sum
from conjoin.core.projection import column
from conjoin.core.protocols import Batch, Estimate, Probe, Probes, Sliceable
from conjoin.core.quadrature import Panels, Quadrature, of_nodes
from conjoin.core.quantity import Avoid, Question, logit
from conjoin.core.slice import INPUT, Cut, Slice
from conjoin.core.threat import Threat
from conjoin.errors import DataError, PlanError
from conjoin.typing import Inputs


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The point that a search finds for each example; no gradient where it gives the example back."""

    baseline: Reference

    def __repr__(self) -> str:
        """Show the search, the same in every process."""
        return f"Elsewhere({name_of(self.baseline)})"

    def __call__(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Probes:
        """Yield one probe."""
        z = self.baseline(model, batch)
        found = (z != batch.x).flatten(1).any(1)
        (seen,) = yield (Probe({INPUT: z}),)
        return Estimate(tuple(torch.where(column(found, g), g, 0) for g in seen.gradients))

    def ends(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> None:
        """Promise no completeness."""


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """Points that were found round the examples, and move with them."""

    x: Inputs
    points: Inputs

    def __call__(self, model: Sliceable, batch: Batch) -> Tensor:
        moved = batch.x + (self.points - self.x)  # the example itself, where none was found
        return torch.where(batch.x == self.x, self.points, moved)  # and as found, where x stands


@dataclass(frozen=True, slots=True)
class Smoothed:
    """Another distribution, averaged over Gaussian noise that moves the example and its baseline alike.

    Attributes:
        inner: What is averaged. Its baseline is searched once, from the example without noise.
        scale: Standard deviation of the noise, as a share of each example's range or in input units.
        draws: Number of copies.
        relative: Whether it is a share.

    Reference: wang2022, section 3 (SmoothGrad at the boundary).
    """

    inner: Elsewhere | Path
    scale: float = 0.15
    draws: int = 8
    relative: bool = True

    def __post_init__(self) -> None:
        Noisy(self.inner, self.scale, self.draws, self.relative)  # refuses what it cannot draw

    def __call__(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Probes:
        """Yield the probes round each copy."""
        known = _Known(batch.x, self.inner.baseline(model, batch))
        noisy = Noisy(replace(self.inner, baseline=known), self.scale, self.draws, self.relative)
        return (yield from noisy(model, batch, cuts))

    def ends(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> None:
        """Promise no completeness: the ends are many."""


@dataclass(frozen=True, slots=True)
class Several:
    """Another distribution, averaged over baselines on the boundaries of several classes.

    The classes are those with the largest outputs at the example, beside the one that is explained. A
    boundary at distance d_k weighs

        w_k = (1 / d_k) / Σ_j (1 / d_j)

    over those that are found: the others weigh nothing, and without any the map is zero.

    Attributes:
        inner: What is averaged; its baseline is replaced.
        threat: A ball: its norm and its box measure; the radius plays no part.
        count: Of the classes; all others where there are fewer.
    """

    inner: Elsewhere | Path
    threat: Threat = L2(torch.inf)  # noqa: RUF009 - frozen
    count: int = 3

    def __post_init__(self) -> None:
        check_numbers(self)
        whole(self.count, 1, "boundaries")
        if not isinstance(self.threat, Ball):
            raise PlanError(f"boundaries are near in the norm of a ball; got {self.threat!r}")

    def __call__(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Probes:
        """Yield the probes from each boundary."""
        assert isinstance(self.threat, Ball)  # noqa: S101 - see __post_init__
        search, total = Boundary(self.threat, Avoid()), Sum()
        rivals = _rivals(model, batch, self.count)
        met = [search(model, replace(batch, aim=rival)) for rival in rivals]
        threat = search.threat.to(batch.x.device)
        nearness = torch.stack([threat.distance(z, batch.x).double().reciprocal() for z in met])
        nearness = torch.where(nearness.isfinite(), nearness, 0)  # 1 / 0: none was found
        weights = nearness / torch.where(nearness.sum(0) > 0, nearness.sum(0), 1)
        for z, weight in zip(met, weights, strict=True):
            inner = replace(self.inner, baseline=_Known(batch.x, z))
            total.add((yield from inner(model, batch, cuts)).values, weight)
        return total.estimate()

    def ends(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> None:
        """Promise no completeness: the ends are many."""


def _rivals(model: Sliceable, batch: Batch, count: int) -> tuple[Tensor, ...]:
    """Return the classes with the largest outputs, beside what is aimed at, the largest first."""
    with torch.no_grad():
        outputs = model(batch)
    if outputs.ndim != 2 or batch.aim.ndim != 1:
        raise DataError(
            f"boundaries of several classes need one output per class and one class per example; "
            f"got outputs of shape {tuple(outputs.shape)} and aims of {tuple(batch.aim.shape)}"
        )
    others = outputs.scatter(1, batch.aim[:, None], -torch.inf)
    return others.topk(min(count, outputs.shape[1] - 1), dim=1).indices.unbind(1)


def boundary_saliency(
    search: Reference = Boundary(),  # noqa: B008 - frozen
    *,
    quantity: Question = logit,
    where: Slice = Slice(),  # noqa: B008 - frozen
) -> Influence:
    """Take the gradient at the nearest boundary point: of the margin, the normal of the boundary there.

    Reference: wang2022, section 3 (boundary-based saliency map).
    """
    title, meaning = "boundary saliency (BSM)", "the gradient at the nearest boundary point"
    return Influence(Elsewhere(search), quantity, where, "wang2022", title, meaning)


def boundary_integrated_gradients(
    search: Reference = Boundary(),  # noqa: B008 - frozen
    quadrature: Quadrature = Panels(),  # noqa: B008 - frozen
    *,
    nodes: int | None = None,
    quantity: Question = logit,
    where: Slice = Slice(),  # noqa: B008 - frozen
) -> Influence:
    """Take integrated gradients from the nearest boundary point.

    The values sum to Q(x) less Q at the boundary.

    Reference: wang2022, equation 3.
    """
    title = "boundary integrated gradients (BIG)"
    meaning = "the gradient averaged on the way from the nearest boundary, times the way"
    path = Path(search, of_nodes(quadrature, nodes))
    return Influence(path, quantity, where, "wang2022", title, meaning)


def boundary_deeplift(
    search: Reference = Boundary(),  # noqa: B008 - frozen
    *,
    quantity: Question = logit,
    where: Slice = Slice(),  # noqa: B008 - frozen
) -> DeepLift:
    """Take DeepLIFT from the nearest boundary point; zero where none is found.

    Reference: shrikumar2017, section 3.5.1; wang2022 for the baseline.
    """
    return deeplift(search, quantity=quantity, where=where)


def smoothed_boundary_saliency(
    search: Reference = Boundary(),  # noqa: B008 - frozen
    scale: float = 0.15,
    draws: int = 32,
    *,
    quantity: Question = logit,
    where: Slice = Slice(),  # noqa: B008 - frozen
) -> Influence:
    """Average the gradient over Gaussian noise round the nearest boundary point: SmoothGrad there.

    ``scale`` is a share of the example's range. Units of the quantity per input unit.

    Reference: wang2022, section 3, with smilkov2017 for the noise.
    """
    title = "smoothed boundary saliency (BSG)"
    meaning = "the gradient averaged over noise round the nearest boundary point"
    smoothed = Smoothed(Elsewhere(search), scale, draws)
    return Influence(smoothed, quantity, where, "wang2022", title, meaning)


def smoothed_boundary_integrated_gradients(
    search: Reference = Boundary(),  # noqa: B008 - frozen
    scale: float = 0.15,
    draws: int = 8,
    quadrature: Quadrature = Panels(9),  # noqa: B008 - frozen
    *,
    quantity: Question = logit,
    where: Slice = Slice(),  # noqa: B008 - frozen
) -> Influence:
    """Average integrated gradients from the nearest boundary over noise that moves both ends alike.

    At the input the values sum to the mean over the copies of what Q changes between the ends.

    Reference: wang2022, equation 3, with smilkov2017 for the noise.
    """
    title = "smoothed boundary integrated gradients"
    meaning = "integrated gradients from the nearest boundary, averaged over noise"
    smoothed = Smoothed(Path(search, quadrature), scale, draws)
    return Influence(smoothed, quantity, where, "wang2022", title, meaning)


def multi_boundary_saliency(
    count: int = 3,
    threat: Threat = L2(torch.inf),  # noqa: B008 - frozen
    *,
    quantity: Question = logit,
    where: Slice = Slice(),  # noqa: B008 - frozen
) -> Influence:
    """Average the gradient at the boundaries of ``count`` classes, weighted by their nearness 1/d.

    Reference: wang2022, section 3, for each boundary.
    """
    title = "saliency at several boundaries"
    meaning = "the gradient at the boundaries of several classes, the nearer the more"
    several = Several(Elsewhere(zeros), threat, count)
    return Influence(several, quantity, where, "wang2022", title, meaning)


def multi_boundary_integrated_gradients(
    count: int = 3,
    threat: Threat = L2(torch.inf),  # noqa: B008 - frozen
    quadrature: Quadrature = Panels(9),  # noqa: B008 - frozen
    *,
    quantity: Question = logit,
    where: Slice = Slice(),  # noqa: B008 - frozen
) -> Influence:
    """Average integrated gradients from the boundaries of ``count`` classes, weighted by 1/d.

    The values sum to Q(x) less the same mean of Q over the boundary points.

    Reference: wang2022, equation 3, for each boundary.
    """
    title = "integrated gradients from several boundaries"
    meaning = "integrated gradients from the boundaries of several classes, the nearer the more"
    several = Several(Path(zeros, quadrature), threat, count)
    return Influence(several, quantity, where, "wang2022", title, meaning)


__all__ = [
    "boundary_deeplift",
    "boundary_integrated_gradients",
    "boundary_saliency",
    "multi_boundary_integrated_gradients",
    "multi_boundary_saliency",
    "smoothed_boundary_integrated_gradients",
    "smoothed_boundary_saliency",
]
