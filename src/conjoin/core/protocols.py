"""The contracts that methods and models meet, by structure.

A ladder of capabilities, not of frameworks: ``Model`` (outputs only) < ``Sliceable`` (inner
activations and gradients) < ``Layered`` (a known graph of layers, for bounds). Methods are frozen
dataclasses with one ``__call__``, or functions that return one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, fx

from conjoin.core.quantity import Quantity
from conjoin.core.random import Streams
from conjoin.core.slice import Cut, Slice
from conjoin.core.threat import Ball
from conjoin.typing import Hidden, Inputs, Labels


@dataclass(frozen=True, slots=True)
class Batch:
    """The unit of work: inputs, labels, and one random stream per example."""

    x: Inputs
    y: Labels
    rng: Streams

    def rows(self, keep: Tensor) -> Batch:
        """Select examples by a mask or by positions."""
        return Batch(self.x[keep], self.y[keep], self.rng.rows(keep))


@runtime_checkable
class Model(Protocol):
    """A classifier in evaluation mode whose examples are independent within a batch."""

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        ...

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return the outputs (logits), shape ``(batch, classes)``."""
        ...


@runtime_checkable
class Sliceable(Model, Protocol):
    """A model that can be cut: f = g ∘ h."""

    def read(self, x: Tensor, cut: Cut, /) -> Tensor:
        """Return h(x), the activation at the cut, shape ``(batch, *hidden)``."""
        ...

    def resume(self, z: Tensor, x: Tensor, where: Slice, /) -> Tensor:
        """Return the value at ``where.stop`` with ``z`` put in at ``where.start``."""
        ...


@runtime_checkable
class Layered(Model, Protocol):
    """A model whose graph of layers is known."""

    def graph(self) -> fx.GraphModule:
        """Return the traced graph, leaves being the modules of ``torch.nn`` and ``conjoin.nn``."""
        ...


@runtime_checkable
class Held(Protocol):
    """A model with state that must be frozen while a driver uses it."""

    def held(self) -> AbstractContextManager[None]:
        """Freeze mode, gradients and parameters; restore all three, also after an exception."""
        ...

    def digest(self) -> str:
        """Return a SHA-256 of the weights."""
        ...


@dataclass(frozen=True, slots=True)
class Probe:
    """One point of a distribution of interest.

    Its contribution is ``weight * gradient(at) * along``. If ``panel`` is given, this probe also
    closes a straight panel from the previous probe, of that displacement: the mean of both end
    gradients times the panel, corrected so that it adds up to the true change of the quantity.
    """

    at: Hidden
    weight: float = 1.0
    along: Hidden | None = None
    panel: Hidden | None = None


@runtime_checkable
class Distribution(Protocol):
    """A distribution of interest, streamed, so that memory does not grow with its size."""

    def __call__(self, model: Sliceable, batch: Batch, cut: Cut, /) -> Iterator[Probe]:
        """Yield the probes at the cut."""
        ...

    def ends(self, model: Sliceable, batch: Batch, cut: Cut, /) -> tuple[Tensor, Tensor] | None:
        """Return (from, to) at the cut if attributions must sum to Q(to) - Q(from)."""
        ...


@runtime_checkable
class Attack(Protocol):
    """Search S(x) for an input with a small quantity."""

    def __call__(self, model: Model, batch: Batch, threat: Ball, quantity: Quantity, /) -> Tensor:
        """Return one candidate per example, inside S(x)."""
        ...


@runtime_checkable
class Certifier(Protocol):
    """Bound a quantity from below over S(x)."""

    def __call__(self, model: Model, batch: Batch, threat: Ball, quantity: Quantity, /) -> Tensor:
        """Return a lower bound per example of the minimum over S(x)."""
        ...


@runtime_checkable
class Preparable(Protocol):
    """A certifier part of whose work depends on the model alone."""

    def prepare(self, model: Model, example: Tensor, /) -> Certifier:
        """Do that part once; ``example`` shows the input's shape."""
        ...


@runtime_checkable
class Attributor(Protocol):
    """Explain a quantity by the elements at a cut."""

    def __call__(self, model: Sliceable, batch: Batch, /) -> Tensor:
        """Return the attribution, shaped like the activation at the cut."""
        ...


@runtime_checkable
class Metric(Protocol):
    """Score an explanation; gets its values and the means to explain again."""

    def __call__(
        self, model: Sliceable, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return one score per example."""
        ...


@dataclass(frozen=True, slots=True)
class Event:
    """Progress of a driver: ``done`` of ``total`` examples of ``act`` are finished."""

    act: str
    done: int
    total: int


Observer = Callable[[Event], None]

__all__ = [
    "Attack",
    "Attributor",
    "Batch",
    "Certifier",
    "Distribution",
    "Event",
    "Held",
    "Layered",
    "Metric",
    "Model",
    "Observer",
    "Preparable",
    "Probe",
    "Sliceable",
]
