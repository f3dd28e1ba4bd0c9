"""What bounds that relax a network have in common: operators read once, sets taken some at a time.

A method bounds the rows of a quantity over a set that boxes and balls hold; asked for no claim, it
does so for the deployed network, and in real arithmetic where that says nothing. Nothing is relaxed
here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from conjoin.certification.backward import Relaxed
from conjoin.certification.box import Boxes, NoRoundingError
from conjoin.certification.head import Asked, Folded, coupled, fold, tail
from conjoin.certification.interval import Head
from conjoin.certification.known import (
    Prepared,
    check_inside,
    enclosed,
    linear_rows,
    prepare,
    still,
)
from conjoin.certification.relaxing import MOST, NUMBERS, Relaxing
from conjoin.certification.rounding import Rounding, rounded_down
from conjoin.core.evidence import Bounds, Claim
from conjoin.core.operator import Elementwise, Given, Step
from conjoin.core.protocols import Batch, Certifier, Model
from conjoin.core.quantity import PiecewiseLinear, Quantity
from conjoin.core.threat import Enclosure, Threat

Bound = Callable[[Boxes, slice, Tensor], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Bounded:
    """A network whose operators are known, ready to be relaxed.

    Attributes:
        model: The operators, and whose they are.
        chain: The places of the last affine maps.
        head: These, folded.
    """

    model: Prepared
    chain: tuple[int, ...]
    head: Folded

    @classmethod
    def of(cls, model: Model, example: Batch, method: object) -> Bounded:
        """Read the operators off a model.

        Raises:
            CapabilityError: If a layer is not known.
        """
        known = prepare(model, example, method)
        with torch.no_grad():
            chain = coupled(known.steps, tail(known.steps))
            return cls(known, chain, fold(known.steps, chain))

    @property
    def steps(self) -> Sequence[Step]:
        """The operators."""
        return self.model.steps

    def relaxed(self, domain: Boxes, outputs: Tensor, *, tighten: bool = True) -> Relaxed:
        """Relax the network over the set of a domain.

        Raises:
            CapabilityError: If the bounds do not hold the network's own outputs.
        """
        known = Relaxing(self.steps, domain, tighten)()
        check_inside(known.boxes[len(self.steps) - 1], outputs, domain.rounding)
        return known

    def start(self, known: Relaxed, domain: Boxes, asked: Asked) -> tuple[Tensor, Tensor]:
        """Return what boxes alone say of the rows, and what the rows themselves lose to rounding."""
        direct = Head(domain, self.steps, self.chain, self.head).bounds(known.boxes, asked)
        last = known.boxes[len(self.steps) - 1].magnitude
        if domain.rounding is None:
            return direct, torch.zeros_like(direct)
        error = domain.rounding.gamma(4) * last + domain.rounding.tiny
        lost = torch.einsum("bkc,bc->bk", asked.rows.abs(), error) * (1 + 1e-9)
        return direct, lost

    @property
    def numbers(self) -> int:
        """How many numbers affine forms of one example have at most, in the widest activation."""
        sizes = [math.prod(step.shape) for step in self.steps]
        bent = [math.prod(s.shape) for s in self.steps if isinstance(s.op, Given | Elementwise)]
        return max(sizes) * min(sum(bent), MOST)

    def examples(self) -> int:
        """How many examples are relaxed at once."""
        widest = max(math.prod(step.shape) for step in self.steps)
        return max(1, NUMBERS // (16 * widest))


class Relaxation(ABC):
    """A method that relaxes the operators of a network over each set: read once, then asked.

    Attributes:
        claim: What the bounds must be true of; ``None`` for the deployed network where that gives
            bounds, else real arithmetic.
    """

    __slots__ = ()
    claim: Claim | None

    def prepare(self, model: Model, example: Batch, /) -> Certifier:
        """Read the operators off the model, once.

        Raises:
            CapabilityError: If a layer is not known.
        """
        return PreparedRelaxation(Bounded.of(model, example, self), self)

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Bounds:
        """Return bounds over S(x), and inputs that win where some were found; prepares first."""
        return self.prepare(model, batch)(model, batch, threat, quantity)

    @abstractmethod
    def rows(
        self, network: Bounded, domain: Boxes, some: Batch, outputs: Tensor, ask: PiecewiseLinear
    ) -> Tensor:
        """Bound each row of the quantity over the set of a domain, ``(batch, k)``."""

    def searched(
        self, network: Bounded, model: Model, batch: Batch, threat: Threat, quantity: Quantity
    ) -> Bounds:
        """Return lower bounds of the quantity over S(x), in its units."""
        ask = linear_rows(quantity, self)

        def bound(domain: Boxes, some: slice, outputs: Tensor) -> Tensor:
            return self.rows(network, domain, batch.rows(some), outputs, ask).amin(1)

        return bounded(network, model, batch, threat, self.claim, bound)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedRelaxation:
    """A method, and the operators of one model.

    Attributes:
        network: The operators.
        method: What it prepares.
    """

    network: Bounded
    method: Relaxation

    @property
    def reference(self) -> str:
        """The paper of the method."""
        return str(self.method.reference)  # type: ignore[attr-defined] # each has one

    def __repr__(self) -> str:
        """Show it as the method it prepares."""
        return repr(self.method)

    def __call__(self, model: Model, batch: Batch, threat: Threat, quantity: Quantity, /) -> Bounds:
        """Return lower bounds of the quantity over S(x), in its units.

        Raises:
            CapabilityError: If the quantity, the threat or an operator is not known to it.
            ModelError: If it was prepared for another model.
        """
        return self.method.searched(self.network, model, batch, threat, quantity)


def bounded(
    network: Bounded,
    model: Model,
    batch: Batch,
    threat: Threat,
    wanted: Claim | None,
    bound: Bound,
    *,
    examples: int | None = None,
) -> Bounds:
    """Bound the quantity for some examples at a time, of the deployed network or in real arithmetic.

    Raises:
        CapabilityError: If the threat or the rounding of an operator is not known.
        ModelError: If the network is another model's.
    """
    given = enclosed(threat, batch.x, network.model.method)
    with torch.no_grad(), still(model):
        network.model.check(model, batch)
        outputs = model(batch)
        parts = torch.arange(len(batch)).split(examples or network.examples())

        def found(rounding: Rounding | None) -> Tensor:
            return torch.cat(
                [
                    bound(Boxes(_some(given, some), rounding), some, outputs[some])
                    for some in (slice(int(part[0]), int(part[-1]) + 1) for part in parts)
                ]
            )

        if wanted is not Claim.SOUND_REAL:
            try:
                lower = found(Rounding.of(outputs.dtype))
                if wanted is not None or bool(lower.isfinite().all()):
                    return Bounds(rounded_down(lower, outputs.dtype), Claim.SOUND_DEPLOYED)
            except NoRoundingError:
                if wanted is not None:
                    raise
        return Bounds(rounded_down(found(None), outputs.dtype), Claim.SOUND_REAL)


def _some(given: Enclosure, rows: slice) -> Enclosure:
    return Enclosure(
        given.low[rows], given.high[rows], given.centre[rows], given.radius[rows], given.order
    )


def void(known: Relaxed, found: Tensor) -> Tensor:
    """Take back what is said of examples whose deployed values may overflow."""
    lost = known.boxes[len(known.steps) - 1].lost
    return found if lost is None else found.masked_fill(lost[:, None], -math.inf)


__all__ = ["Bounded", "PreparedRelaxation", "Relaxation", "bounded", "void"]
