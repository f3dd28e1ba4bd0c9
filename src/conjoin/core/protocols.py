"""The contracts that methods and models meet, by structure.

A ladder of capabilities, not of frameworks: ``Model`` (outputs only) < ``Sliceable`` (inner
activations and gradients) < ``Layered`` (a known list of operators, for bounds and propagation).
Methods are frozen dataclasses with one ``__call__``, or functions that return one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from conjoin.core.evidence import Bounds
from conjoin.core.operator import Step
from conjoin.core.quantity import Quantity, Question
from conjoin.core.random import Streams
from conjoin.core.slice import OUTPUT, Cut, Slice
from conjoin.core.threat import Threat
from conjoin.typing import Aims, Inputs, PerExample, PerQuantity

B = TypeVar("B")
NOTHING: Mapping[str, Tensor] = MappingProxyType({})
NO_VALUES: Mapping[Cut, Tensor] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Batch:
    """The unit of work.

    Attributes:
        x: The inputs, ``(batch, *input)``; floating point, or integer tokens.
        aim: What a quantity is about, per example: a label, a target, a pair of classes.
        rng: One random stream per example.
        context: Named tensors with one row per example that stand still while ``x`` moves; models
            get them as keyword inputs.
    """

    x: Inputs
    aim: Aims
    rng: Streams
    context: Mapping[str, Tensor] = field(default_factory=lambda: NOTHING)

    def __len__(self) -> int:
        """Count the examples."""
        return len(self.x)

    def rows(self, keep: Tensor | slice) -> Batch:
        """Select examples by a mask, by positions or as a slice, which copies nothing."""
        context = {name: value[keep] for name, value in self.context.items()}
        return Batch(self.x[keep], self.aim[keep], self.rng.rows(keep), context)

    def at(self, x: Inputs) -> Batch:
        """Return the same examples with other inputs."""
        return replace(self, x=x)

    def copied(self) -> Batch:
        """Return the same examples in memory of their own: what a method gets it may write to."""
        context = {name: value.clone() for name, value in self.context.items()}
        return Batch(self.x.clone(), self.aim.clone(), self.rng.copied(), context)

    def repeated(self, times: int) -> Batch:
        """Return the examples ``times`` times, one whole batch after another."""
        if times == 1:
            return self
        context = {name: tiled(value, times) for name, value in self.context.items()}
        return Batch(
            tiled(self.x, times),
            tiled(self.aim, times),
            self.rng.repeated(times),
            context,
        )


def tiled(value: Tensor, times: int) -> Tensor:
    """Repeat a tensor along its first axis, one whole batch after another."""
    return value.repeat(times, *[1] * (value.ndim - 1))


@runtime_checkable
class Model(Protocol):
    """A classifier in evaluation mode whose examples are independent within a batch."""

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        ...

    def __call__(self, batch: Batch, /) -> Tensor:
        """Return the outputs (logits), shape ``(batch, classes)``."""
        ...


@runtime_checkable
class Sliceable(Model, Protocol):
    """A model that can be read and written at any number of cuts in one pass."""

    def run(
        self,
        batch: Batch,
        /,
        *,
        put: Mapping[Cut, Tensor] = NO_VALUES,
        take: tuple[Cut, ...] = (OUTPUT,),
    ) -> tuple[Tensor, ...]:
        """Return the values at the cuts ``take`` with the values ``put`` written in.

        The values belong to one autograd graph: those taken later depend on those taken earlier.
        """
        ...


@runtime_checkable
class Layered(Model, Protocol):
    """A model whose operators are known."""

    def steps(self, example: Batch, /) -> tuple[Step, ...]:
        """Return the operators in order, for inputs shaped like ``example``; the last is the output.

        Raises:
            CapabilityError: If a part of the network is not known, naming it and why.
        """
        ...


@runtime_checkable
class Secant(Sliceable, Protocol):
    """A model whose backward passes can take secants in place of derivatives."""

    def secants(self, partner: Tensor, /) -> AbstractContextManager[None]:
        """Within the context, let row i of a pass have slopes between itself and row ``partner[i]``.

        Every elementwise derivative of the backward pass becomes the quotient of differences
        between the two rows; a row that is its own partner keeps its derivative.

        Raises:
            CapabilityError: In the pass, at an operation without a secant, naming it.
        """
        ...

    def switched(
        self, batch: Batch, blocks: int, /, *, put: Mapping[Cut, Tensor] = NO_VALUES
    ) -> Tensor:
        """Return in what share of the network's pieces neighbouring blocks of rows differ.

        ``batch`` holds ``blocks`` whole batches, one after another, as :meth:`Batch.repeated` lays out.
        A piece is the side of a kink on which an activation lies, or the winner of a maximum; the
        shares of all operations add up. Shape ``(blocks - 1, batch)``, in double precision; NaN where
        no operation has pieces.
        """
        ...


@runtime_checkable
class Parted(Protocol):
    """A model that knows whether cuts part it in two."""

    def parted(self, batch: Batch, cuts: tuple[Cut, ...], stop: Cut, /) -> bool:
        """Tell whether it is known that every way from the input to ``stop`` leads through ``cuts``."""
        ...


@runtime_checkable
class Held(Protocol):
    """A model with state that must be frozen while a driver uses it."""

    def held(self) -> AbstractContextManager[None]:
        """Freeze mode, gradients, hooks and parameters; restore them, also after an exception."""
        ...

    def digest(self) -> str:
        """Return a SHA-256 of the weights; empty if they cannot be told."""
        ...


@runtime_checkable
class Domain(Protocol[B]):
    """A way to reason about operators: intervals, Lipschitz constants, relevances."""

    def apply(self, step: Step, /, *sources: B) -> B:
        """Return the value of a step from the values of its sources.

        Raises:
            CapabilityError: If the domain has no rule for the operator.
        """
        ...


def carried(domain: Domain[B], steps: Sequence[Step], keep: Collection[int]) -> dict[int, B]:
    """Carry a domain through a network; return its values at the places asked for.

    Other values are dropped as soon as no later step needs them.
    """
    last = {source: place for place, step in enumerate(steps) for source in step.sources}
    values: dict[int, B] = {}
    for place, step in enumerate(steps):
        values[place] = domain.apply(step, *(values[source] for source in step.sources))
        for source in set(step.sources):
            if last[source] == place and source not in keep:
                del values[source]
    return {place: values[place] for place in keep}


def forwards(domain: Domain[B], steps: Sequence[Step]) -> B:
    """Carry a domain through a network; return its value at the output."""
    last = len(steps) - 1
    return carried(domain, steps, (last,))[last]


@dataclass(frozen=True, slots=True)
class Probe:
    """A point of a distribution of interest, or a straight panel between two points.

    Attributes:
        put: The point, as values at cuts.
        to: The other end of the panel; its gradient is then the secant gradient between the two.
    """

    put: Mapping[Cut, Tensor]
    to: Mapping[Cut, Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen at a probe.

    Attributes:
        value: The quantity at the point; of several a column each.
        at: The activations at the cuts asked for, at the point.
        gradients: The quantity's gradients (or secant gradients) at these cuts.
        end: Value and activations at the other end of a panel.
    """

    value: PerQuantity
    at: tuple[Tensor, ...]
    gradients: tuple[Tensor, ...]
    end: tuple[PerQuantity, tuple[Tensor, ...]] | None = None


Ends = tuple[Mapping[Cut, Tensor], Mapping[Cut, Tensor]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a distribution concludes.

    Attributes:
        values: The attribution at each cut, shaped like the activation there.
        error: How far it is estimated to be from its limit, relative to its norm, per example.
        ends: The points (from, to) that were used, if the values at each cut must sum to
            Q(to) - Q(from): so that a costly baseline is not looked for again.
    """

    values: tuple[Tensor, ...]
    error: PerExample | None = None
    ends: Ends | None = None


Probes = Generator[Sequence[Probe], Sequence[Seen], Estimate]


@dataclass(frozen=True, slots=True)
class Promise:
    """That the values of an attribution sum to Q at ``stop`` less Q at ``start``.

    It says what is to be evaluated; whoever is promised it does so.

    Attributes:
        quantity: Q, of the value at the stop of the attribution's slice.
        start, stop: The two points, as values at cuts.
    """

    quantity: Question
    start: Mapping[Cut, Tensor]
    stop: Mapping[Cut, Tensor]


@runtime_checkable
class Distribution(Protocol):
    """A distribution of interest: it asks for probes, is told what was seen, and concludes.

    Where several quantities are explained from the same passes, the cuts follow one another once for
    each: gradients and what is concluded are laid out so, and the value seen has a column for each.
    """

    def __call__(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Probes:
        """Yield probes, some at a time; memory must not grow with their number."""
        ...

    def ends(self, model: Sliceable, batch: Batch, cuts: tuple[Cut, ...], /) -> Ends | None:
        """Return (from, to) if attributions at each cut must sum to Q(to) - Q(from)."""
        ...


@runtime_checkable
class Joint(Protocol):
    """A distribution whose probes share points, and are cheapest in one pass."""

    @property
    def points(self) -> int:
        """The points of an example that are best seen together; 1 if it does not matter."""
        ...


@runtime_checkable
class Attack(Protocol):
    """Search S(x) for an input with a small quantity."""

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Tensor:
        """Return one candidate per example, inside S(x)."""
        ...


@runtime_checkable
class Certifier(Protocol):
    """Bound a quantity from below over S(x)."""

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Bounds:
        """Return a lower bound per example of the minimum over S(x), and what it claims."""
        ...


@runtime_checkable
class Frugal(Certifier, Protocol):
    """A certifier whose work is as small as the outputs, so that it takes many passes' at once."""

    @property
    def at_once(self) -> int:
        """The examples that it takes in one call, however few go into a pass."""
        ...


@runtime_checkable
class Preparable(Protocol):
    """A certifier part of whose work depends on the model alone."""

    def prepare(self, model: Model, example: Batch, /) -> Certifier:
        """Do that part once, for this model as it is; ``example`` shows the input's shape."""
        ...


@runtime_checkable
class Attributor(Protocol):
    """Explain a quantity by the elements at a cut."""

    @property
    def needs(self) -> type:
        """The rung of the ladder that it needs, from :class:`Model` to :class:`Layered`."""
        ...

    @property
    def where(self) -> Slice:
        """The slice; values are shaped like the activation at its start."""
        ...

    def __call__(self, model: Sliceable, batch: Batch, /) -> Tensor:
        """Return the attribution."""
        ...

    def ends(self, model: Sliceable, batch: Batch, /) -> Promise | None:
        """Return between which two points a quantity must change by the sum of the values."""
        ...


@runtime_checkable
class Sweeping(Attributor, Protocol):
    """An attributor that explains several cuts from the same passes."""

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """The cuts, that of :attr:`where` first."""
        ...

    def estimate(self, model: Sliceable, batch: Batch, /) -> Estimate:
        """Return the attributions at the cuts, how far they may be off, and the ends that were used."""
        ...

    def promise(self, ends: Ends, /) -> Promise:
        """Return what the sum of the values is said to be, of the ends that were used."""
        ...


@runtime_checkable
class Sharing(Sweeping, Protocol):
    """An attributor that explains several quantities from the same passes."""

    def each(
        self, model: Sliceable, batch: Batch, quantities: Sequence[Question], /
    ) -> tuple[Estimate, ...]:
        """Return what :meth:`estimate` does, for each quantity in place of the method's own."""
        ...

    def asking(self, quantity: Question, /) -> Attributor:
        """Return the method of another quantity alone."""
        ...


@runtime_checkable
class Metric(Protocol):
    """Score an explanation; gets its values and the means to explain again."""

    def __call__(
        self, model: Sliceable, batch: Batch, values: Tensor, attributor: Attributor, /
    ) -> Tensor:
        """Return one score per example."""
        ...


@runtime_checkable
class Rowed(Metric, Protocol):
    """A metric that holds something for each example of the data."""

    def rows(self, keep: Tensor, count: int, /) -> Metric:
        """Return the metric of some of ``count`` examples, by their positions.

        Raises:
            DataError: If it is of another number of examples.
        """
        ...


@dataclass(frozen=True, slots=True)
class Event:
    """Progress of a driver: ``done`` of ``total`` examples of ``act`` are finished."""

    act: str
    done: int
    total: int


Observer = Callable[[Event], None]
Witness = Callable[[Tensor, Batch, Tensor], None]  # of a pass: rows of the data, batch, outputs

__all__ = [
    "Attack",
    "Attributor",
    "Batch",
    "Certifier",
    "Distribution",
    "Domain",
    "Ends",
    "Estimate",
    "Event",
    "Frugal",
    "Held",
    "Layered",
    "Metric",
    "Model",
    "Observer",
    "Preparable",
    "Probe",
    "Probes",
    "Promise",
    "Rowed",
    "Secant",
    "Seen",
    "Sharing",
    "Sliceable",
    "Sweeping",
    "Witness",
    "carried",
    "forwards",
    "tiled",
]
