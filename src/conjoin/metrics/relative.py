"""Relative stability: does an explanation change more than what it explains?

    max_z  ‖ (a(x) - a(z)) / a(x) ‖ / max(‖ change ‖, ε)

over inputs z near x that keep the predicted class, quotients element by element, in l2. The change is
that of the input, (x - z) / x; of a representation, (h(x) - h(z)) / h(x); or of the outputs,
f(x) - f(z). The last two do *not* blame an explanation for a model that moves as fast. An element of
less than 1e-6 of the largest counts as that much, so maps with exact zeros (of ReLU networks, say)
have large scores: compare methods on one model, never a score with a threshold.

Reference: agarwal2022 (relative input, representation and output stability).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from conjoin.core.counted import check_numbers
from conjoin.core.naming import Better
from conjoin.core.protocols import Attributor, Batch, Model, Sliceable
from conjoin.core.rung import meets
from conjoin.core.slice import OUTPUT, Cut
from conjoin.core.threat import Threat
from conjoin.errors import CapabilityError
from conjoin.metrics.stability import SMALL, around, check_draws, length

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class RelativeInputStability:
    """Change of the map per relative change of the input: >= 0, **lower** is stabler.

    Attributes:
        threat: Where the inputs are sampled.
        draws: Number of samples.
    """

    reference: ClassVar[str] = "agarwal2022"
    title: ClassVar[str] = "relative input stability"
    meaning: ClassVar[str] = "largest relative change of the map per that of the input"
    better: ClassVar[Better] = Better.LOWER
    threat: Threat
    draws: int = 10

    def __post_init__(self) -> None:
        check_numbers(self)
        check_draws(self.draws)

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the largest quotient seen, per example."""

        def change(z: Tensor) -> Tensor:
            return length(quotients(batch.x, z))

        return _most(model, batch, values, attributor, self.threat, self.draws, change)


@dataclass(frozen=True, slots=True)
class RelativeOutputStability:
    """Change of the map per change of the outputs: >= 0, **lower** is stabler.

    Attributes:
        threat: Where the inputs are sampled.
        draws: Number of samples.
    """

    reference: ClassVar[str] = "agarwal2022"
    title: ClassVar[str] = "relative output stability"
    meaning: ClassVar[str] = "largest relative change of the map per change of the outputs"
    better: ClassVar[Better] = Better.LOWER
    threat: Threat
    draws: int = 10

    def __post_init__(self) -> None:
        check_numbers(self)
        check_draws(self.draws)

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the largest quotient seen, per example."""
        clean = _outputs(model, batch)

        def change(z: Tensor) -> Tensor:
            return length(_outputs(model, batch.at(z)) - clean)

        return _most(model, batch, values, attributor, self.threat, self.draws, change)


@dataclass(frozen=True, slots=True)
class RelativeRepresentationStability:
    """Change of the map per relative change of a representation: >= 0, **lower** is stabler.

    Attributes:
        threat: Where the inputs are sampled.
        draws: Number of samples.
        where: The representation; by default the outputs, so name an inner layer.
    """

    reference: ClassVar[str] = "agarwal2022"
    title: ClassVar[str] = "relative representation stability"
    meaning: ClassVar[str] = "largest relative change of the map per that of a representation"
    better: ClassVar[Better] = Better.LOWER
    threat: Threat
    draws: int = 10
    where: Cut = OUTPUT

    def __post_init__(self) -> None:
        check_numbers(self)
        check_draws(self.draws)

    def __call__(
        self, model: Model, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return the largest quotient seen, per example.

        Raises:
            CapabilityError: If the model gives outputs only.
        """
        if not meets(model, Sliceable):
            raise CapabilityError(
                f"{self!r} reads the activations at {self.where}; {type(model).__name__} gives outputs "
                "only. Score by RelativeOutputStability(threat)"
            )
        inner, clean = model, self._seen(model, batch)

        def change(z: Tensor) -> Tensor:
            return length(quotients(clean, self._seen(inner, batch.at(z))))

        return _most(model, batch, values, attributor, self.threat, self.draws, change)

    def _seen(self, model: Sliceable, batch: Batch) -> Tensor:
        with torch.no_grad():
            return model.run(batch, take=(self.where,))[0]


def quotients(before: Tensor, after: Tensor) -> Tensor:
    """Return ``(before - after) / before``, small elements counted as 1e-6 of the largest."""
    was, now = before.flatten(1).double(), after.flatten(1).double()
    size = was.abs()
    floor = (SMALL * size.amax(1, keepdim=True)).clamp(min=SMALL**2)
    return (was - now) / torch.maximum(size, floor)


def _most(
    model: Model,
    batch: Batch,
    values: Tensor,
    attributor: Attributor,
    threat: Threat,
    draws: int,
    change: Change,
) -> Tensor:
    """Take the largest quotient over the draws that keep the class; over all where none does."""
    label = _outputs(model, batch).argmax(1)
    kept = torch.full_like(length(values), -torch.inf)
    every = kept.clone()
    for z, other in around(model, batch, attributor, threat, draws):
        found = length(quotients(values, other)) / change(z).clamp(min=SMALL)
        every = torch.maximum(every, found)
        same = _outputs(model, batch.at(z)).argmax(1) == label
        kept = torch.where(same, torch.maximum(kept, found), kept)
    return torch.where(kept.isfinite(), kept, every).to(values.dtype)


def _outputs(model: Model, batch: Batch) -> Tensor:
    with torch.no_grad():
        return model(batch)


__all__ = [
    "RelativeInputStability",
    "RelativeOutputStability",
    "RelativeRepresentationStability",
    "quotients",
]
