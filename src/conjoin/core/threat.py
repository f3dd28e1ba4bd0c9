"""Threat sets as a ladder: what an adversary may do to an input, and what a method may ask of it.

S(x) is a set of inputs round x that holds x itself. ``Threat`` (membership, samples, distances)
< ``Projectable`` (nearest points, steepest steps) < ``Graded`` (one radius that scales it); beside
them ``Enclosed``, which is all that a certifier asks: a box and a ball that hold S(x), and
``Enumerable``, a set of sequences that can be listed place by place. The rungs are
met by structure, as models are. :class:`~conjoin.core.ball.Ball` is one family; what is no ball in
x is a ball in the parameters of a lifted model (:mod:`conjoin.models.lifted`), *not* a new threat.

All are batch-first: row i of every argument and result is about example i. ``rows`` and ``to``
keep whatever differs per example beside the examples. Floats are meant exactly: a point lies in
S(x) iff its stored numbers do, in real arithmetic, so no rung knows a tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from conjoin.core.random import Streams
from conjoin.typing import Flags, Inputs, PerExample

S = TypeVar("S")


@runtime_checkable
class Threat(Protocol):
    """A set of inputs round each input: membership, samples and distances."""

    def contains(self, z: Inputs, x: Inputs) -> Flags:
        """Tell which ``z`` lie in S(x), exactly; x lies in its own set."""
        ...

    def sample(self, x: Inputs, rng: Streams) -> Inputs:
        """Draw a point of S(x) for each example, from that example's stream alone."""
        ...

    def distance(self, z: Inputs, x: Inputs) -> PerExample:
        """Measure how far ``z`` is from ``x``, in the set's own units and in double precision."""
        ...

    def rows(self: S, keep: Tensor) -> S:
        """Select examples by a mask or by positions, where the set differs per example.

        Raises:
            ThreatError: If there is no such row.
        """
        ...

    def to(self: S, device: torch.device) -> S:
        """Return the same set with its tensors on a device."""
        ...

    def check(self, x: Inputs) -> None:
        """Refuse inputs that do not fit, before any work.

        Raises:
            ThreatError: If what differs per example has another number or shape of rows.
            DataError: If an input does not lie in its own set.
        """
        ...


@runtime_checkable
class Projectable(Threat, Protocol):
    """A set that can be searched by gradients."""

    def project(self, z: Inputs, x: Inputs) -> Inputs:
        """Return the point of S(x) nearest to ``z``; a point already inside comes back as it is."""
        ...

    def steepest(self, gradient: Inputs, z: Inputs) -> Inputs:
        """Return the step of unit length from ``z`` that ascends most along ``gradient``."""
        ...


@runtime_checkable
class Graded(Threat, Protocol):
    """A set that one number makes larger or smaller."""

    def radius(self, x: Inputs) -> PerExample:
        """Return the radius of each example's set in double precision; ``distance`` stays below."""
        ...

    def at(self: S, eps: float | Tensor) -> S:
        """Return the same set with another radius: one number, or one per example."""
        ...


@runtime_checkable
class Enumerable(Graded, Protocol):
    """A set of sequences that differ from x in few places, each in one of a list of ways.

    S(x) = {z : z_i = x_i in all but ``radius`` places at most, where z_i is one of the options of x_i}.
    """

    def options(self, x: Inputs) -> Tensor:
        """Return what may stand at each place of ``x`` instead, ``(batch, length, k)``; -1 fills up."""
        ...


class Enclosure:
    """A box and a ball, in double precision, each of which holds S(x): rounded outwards.

    The box costs many times what a small network does; it may be given as a function, which is
    called when somebody asks for it.

    Attributes:
        low, high: The box, shaped like x; may be infinite.
        centre: Centre of the ball, shaped like x.
        radius: Its radius, one per example; may be infinite.
        order: The p of the ball's norm: 1, 2 or infinity.
        whole: Whether the box is known to reach as far as the ball, in l2.
    """

    def __init__(
        self, low: Tensor, high: Tensor, centre: Tensor, radius: Tensor, order: float
    ) -> None:
        self.radius, self.order, self.whole = radius, order, False
        self._box: Callable[[], tuple[Tensor, Tensor, Tensor]] = lambda: (low, high, centre)

    @classmethod
    def later(
        cls,
        box: Callable[[], tuple[Tensor, Tensor, Tensor]],
        radius: Tensor,
        order: float,
        *,
        whole: bool,
    ) -> Enclosure:
        """Make one whose (low, high, centre) are computed when they are asked for."""
        made = cls.__new__(cls)
        made.radius, made.order, made.whole, made._box = radius, order, whole, box
        return made

    @cached_property
    def _sides(self) -> tuple[Tensor, Tensor, Tensor]:
        return self._box()

    @property
    def low(self) -> Tensor:
        """The lower corner of the box."""
        return self._sides[0]

    @property
    def high(self) -> Tensor:
        """The upper corner of the box."""
        return self._sides[1]

    @property
    def centre(self) -> Tensor:
        """The centre of the ball."""
        return self._sides[2]


@runtime_checkable
class Enclosed(Threat, Protocol):
    """A set whose extent is known: what certifiers need."""

    def enclosure(self, x: Inputs) -> Enclosure:
        """Return a box and a ball that both hold S(x)."""
        ...


__all__ = ["Enclosed", "Enclosure", "Enumerable", "Graded", "Projectable", "Threat"]
