"""Stability: does the explanation survive a small change of the input?

Inputs are sampled in a small threat set and explained again, for the same class. The score is the
*least* similarity seen, or the *largest* change: a bound on the true one from the harmless side, since
an attack would find worse. Low stability is no fault of a method whose model is unstable there.

Reference: ghorbani2019, section 3 (top-k intersection and rank correlation); yeh2019
(max-sensitivity); alvarez2018 (local Lipschitz estimate).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from conjoin.attribution.perturbed import chunks
from conjoin.core.counted import check_numbers
from conjoin.core.distribution import per_pass
from conjoin.core.naming import Better
from conjoin.core.protocols import Attributor, Batch, Model, Sliceable
from conjoin.core.threat import Threat
from conjoin.errors import PlanError
from conjoin.metrics.ordering import ranks

SMALL = 1e-6  # what a length of zero counts as


@dataclass(frozen=True, slots=True)
class RankStability:
    """Spearman's rank correlation of the maps, least over the draws: -1..1, higher is stabler.

    Attributes:
        threat: Where the inputs are sampled.
        draws: Number of samples.
    """

    reference: ClassVar[str] = "ghorbani2019"
    title: ClassVar[str] = "rank stability"
    meaning: ClassVar[str] = "least rank correlation under small random changes"
    better: ClassVar[Better] = Better.HIGHER
    between: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    threat: Threat
    draws: int = 4

    def __post_init__(self) -> None:
        check_numbers(self)

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the least correlation seen, per example."""
        return _least(model, batch, values, attributor, self.threat, self.draws, spearman)


@dataclass(frozen=True, slots=True)
class TopStability:
    """Share of the top features kept, least over the draws: 0..1, higher is stabler.

    Attributes:
        threat: Where the inputs are sampled.
        draws: Number of samples.
        share: Which share of the features, by magnitude, is the top.
    """

    reference: ClassVar[str] = "ghorbani2019"
    title: ClassVar[str] = "top stability"
    meaning: ClassVar[str] = "least share of the top features kept under small random changes"
    better: ClassVar[Better] = Better.HIGHER
    between: ClassVar[tuple[float, float]] = (0.0, 1.0)
    threat: Threat
    draws: int = 4
    share: float = 0.1

    def __post_init__(self) -> None:
        check_numbers(self)
        if not 0 < self.share <= 1:
            raise PlanError(f"expected a share of the features in (0, 1]; got {self.share!r}")

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the least intersection seen, per example."""

        def kept(a: Tensor, b: Tensor) -> Tensor:
            return top_intersection(a, b, self.share)

        return _least(model, batch, values, attributor, self.threat, self.draws, kept)


@dataclass(frozen=True, slots=True)
class MaxSensitivity:
    """Largest ``|a(z) - a(x)| / |a(x)|`` over the draws, in l2: >= 0, **lower** is stabler.

    Attributes:
        threat: Where the inputs are sampled.
        draws: Number of samples.
    """

    reference: ClassVar[str] = "yeh2019"
    title: ClassVar[str] = "max-sensitivity"
    meaning: ClassVar[str] = "largest relative change of the map under small random changes"
    better: ClassVar[Better] = Better.LOWER
    threat: Threat
    draws: int = 10

    def __post_init__(self) -> None:
        check_numbers(self)
        check_draws(self.draws)

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the largest relative change seen, per example; a zero map's length counts as 1e-6."""
        size, most = length(values).clamp(min=SMALL), torch.zeros_like(length(values))
        for _, other in around(model, batch, attributor, self.threat, self.draws):
            most = torch.maximum(most, length(other - values) / size)
        return most.to(values.dtype)


@dataclass(frozen=True, slots=True)
class LocalLipschitz:
    """Largest ``|a(z) - a(x)| / |z - x|`` over the draws, in l2: >= 0, **lower** is stabler.

    In units of the explanation per input unit: it compares methods only where their values have the
    same units. A lower bound of the explanation's local Lipschitz constant.

    Attributes:
        threat: Where the inputs are sampled.
        draws: Number of samples.
    """

    reference: ClassVar[str] = "alvarez2018"
    title: ClassVar[str] = "local Lipschitz estimate"
    meaning: ClassVar[str] = "largest change of the map per change of the input"
    better: ClassVar[Better] = Better.LOWER
    threat: Threat
    draws: int = 10

    def __post_init__(self) -> None:
        check_numbers(self)
        check_draws(self.draws)

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the largest quotient seen, per example; 0 where no draw moves the input."""
        most = torch.zeros_like(length(values))
        for z, other in around(model, batch, attributor, self.threat, self.draws):
            away = length((z - batch.x).to(values.dtype))
            slope = torch.where(away > 0, length(other - values) / away.clamp(min=1e-300), 0.0)
            most = torch.maximum(most, slope)
        return most.to(values.dtype)


def check_draws(draws: int) -> None:
    """Refuse a score of no sample.

    Raises:
        PlanError: If there is none.
    """
    if draws < 1:
        raise PlanError(f"a stability needs one draw at least; got {draws}")


def length(values: Tensor) -> Tensor:
    """Return the l2 length of each example's values, in double precision."""
    found: Tensor = torch.linalg.vector_norm(values.flatten(1).double(), dim=1)
    return found


def around(
    model: Model, batch: Batch, attributor: Attributor, threat: Threat, draws: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs drawn near by and their explanations, a draw at a time; several go into a pass."""
    rng = batch.rng.fold("stability")
    for chunk in chunks(draws, per_pass(batch.x)):
        near = [threat.sample(batch.x, rng.fold(draw)) for draw in chunk]
        several = batch.repeated(len(chunk)).at(torch.cat(near))
        found = attributor(cast(Sliceable, model), several)  # the driver saw that it can
        yield from zip(near, found.chunk(len(chunk)), strict=True)


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Correlate the ranks of two maps, per example; 0 where a map is constant."""
    left, right = ranks(a.flatten(1).double()), ranks(b.flatten(1).double())
    left = left - left.mean(1, keepdim=True)
    right = right - right.mean(1, keepdim=True)
    length = left.square().sum(1).sqrt() * right.square().sum(1).sqrt()
    return torch.where(length > 0, (left * right).sum(1) / length.clamp(min=1e-300), 0).to(a.dtype)


def top_intersection(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Return which share of the top features of ``a``, by magnitude, is in the top of ``b``."""
    left, right = a.flatten(1).abs(), b.flatten(1).abs()
    count = max(1, round(share * left.shape[1]))
    top = torch.zeros_like(left, dtype=torch.bool).scatter(1, left.topk(count).indices, True)
    return top.gather(1, right.topk(count).indices).to(a.dtype).mean(1)


def _least(
    model: Model,
    batch: Batch,
    values: Tensor,
    attributor: Attributor,
    threat: Threat,
    draws: int,
    similarity: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    least = torch.full_like(values.flatten(1)[:, 0], torch.inf)
    for _, other in around(model, batch, attributor, threat, draws):
        least = torch.minimum(least, similarity(values, other))
    return least
