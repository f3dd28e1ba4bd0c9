"""Boundary attributions: explanations by the nearest decision boundary.

    BSM(x) = ∇Q(x'),    BIG(x) = (x - x') ⊙ ∫ ∇Q(x' + t (x - x')) dt

with x' the nearest point at which another class takes over: presets of the estimator whose baseline is
found by a search. Any other search serves: a function (model, batch) -> inputs. An example near which
none is found gets an all-zero map: never the map of a point that is no boundary. How near x' is depends
on the search, and so does what is explained.

Reference: wang2022, section 3 (there over all inputs whose class is another).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from conjoin.attribution.deeplift import DeepLift, deeplift
from conjoin.attribution.influence import Influence
from conjoin.core.baseline import Reference
from conjoin.core.boundary import Boundary
from conjoin.core.naming import name_of
from conjoin.core.path import Path
from conjoin.core.projection import column
from conjoin.core.protocols import Batch, Estimate, Probe, Probes, Sliceable
from conjoin.core.quadrature import Panels, Quadrature, of_nodes
from conjoin.core.quantity import Question, logit
from conjoin.core.slice import INPUT, Cut, Slice


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The point that a search finds for each example; no gradient where it gives the example back."""

    search: Reference

    def __repr__(self) -> str:
        """Show the search, the same in every process."""
        return f"Elsewhere({name_of(self.search)})"

    def __call__(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Probes:
        """Yield one probe."""
        z = self.search(model, batch)
        found = (z != batch.x).flatten(1).any(1)
        (seen,) = yield (Probe({INPUT: z}),)
        return Estimate(tuple(torch.where(column(found, g), g, 0) for g in seen.gradients))

    def ends(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> None:
        """Promise no completeness."""


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


__all__ = ["boundary_deeplift", "boundary_integrated_gradients", "boundary_saliency"]
