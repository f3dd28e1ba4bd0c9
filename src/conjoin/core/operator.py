"""Layers as operators: the small set of functions that every reasoner works on.

A traced network is a list of :class:`Step`: an operator applied to the results of earlier steps.
Bounds, propagation rules and secants are *domains* (:class:`~conjoin.core.protocols.Domain`): one
rule per operator, so a layer is understood once, here, and never by its class. An operator acts on
batches ``(batch, *shape)`` in whatever precision its input has; its parameters are kept in double
precision. It is *not* a layer: it has no state, no mode and no gradient in its parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from conjoin.core.linear import Averages, Linear, Shape


@dataclass(frozen=True, eq=False)
class Affine:
    """A x + b.

    Attributes:
        map: The linear part A.
        bias: b, broadcasting to one output; ``None`` for 0.
        size: The sum of the magnitudes of what ``bias`` was computed from, where that is more than
            its own: rounding errors of the deployed network are relative to it.
        uncertainty: Relative error of the entries of A and b as the deployed network has them, where
            it computes them (1/std) instead of storing them; in units of its precision's roundoff.
    """

    map: Linear
    bias: Tensor | None = None
    size: Tensor | None = None
    uncertainty: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether no arithmetic is done: elements are copied."""
        return isinstance(self.map, Averages) and self.map.terms == 1 and self.bias is None

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return A x + b."""
        out = self.map(x)
        return out if self.bias is None else out + self.bias.to(x.dtype)


@dataclass(frozen=True, eq=False)
class Elementwise:
    """A function of one number, applied to every element.

    Attributes:
        name: The function's name.
        function: In any precision; smooth or with kinks, and continuous up to ``jump``.
        slopes: The least and the largest slope anywhere; infinite where there is none.
        turns: Where it turns from falling to rising or back, in order: between two neighbours, and
            beyond the last, it is monotone. Each is (lowest, highest) position of the turn.
        jump: It differs by at most this from a function that has these slopes and turns.
        rounding: Error of its evaluation, in units in the last place of the larger of its value
            and its argument (0 where it is exact).
        kinks: Where its slope jumps, for piecewise linear functions; ``None`` for others.
    """

    name: str
    function: Callable[[Tensor], Tensor] = field(repr=False)
    slopes: tuple[float, float]
    turns: tuple[tuple[float, float], ...] = ()
    jump: float = 0.0
    rounding: float = 4.0
    kinks: tuple[float, ...] | None = None

    def __call__(self, x: Tensor, /) -> Tensor:
        """Apply the function."""
        return self.function(x)


@dataclass(frozen=True, eq=False)
class MaxWindows:
    """The largest element of each window: max pooling, maxima over axes, the larger of two values.

    Attributes:
        name: What it is.
        function: In any precision.
        overlap: The number of windows that an element is in at most.
        pool: Kernel, stride, padding and dilation of windows over the last axes, one number for each
            axis; ``None`` of other windows.
    """

    name: str
    function: Callable[[Tensor], Tensor] = field(repr=False)
    overlap: int
    pool: tuple[Shape, Shape, Shape, Shape] | None = field(default=None, repr=False)

    def __call__(self, x: Tensor, /) -> Tensor:
        """Take the maxima."""
        return self.function(x)


@dataclass(frozen=True, eq=False)
class SortPairs:
    """Replace the halves (a, b) of an axis by (min(a, b), max(a, b)), element by element.

    Attributes:
        axis: Of the batch, from 1.
    """

    axis: int = 1

    def __call__(self, x: Tensor, /) -> Tensor:
        """Sort."""
        a, b = x.chunk(2, dim=self.axis)
        return torch.cat([torch.minimum(a, b), torch.maximum(a, b)], dim=self.axis)


@dataclass(frozen=True, eq=False)
class Sort:
    """Sort the elements along an axis, the least first, place by place of the others.

    Attributes:
        axis: Of the batch, from 1.
    """

    axis: int = 1

    def __call__(self, x: Tensor, /) -> Tensor:
        """Sort."""
        return x.sort(dim=self.axis).values


@dataclass(frozen=True, eq=False)
class RootMeanSquare:
    """x / √(mean x² + eps) over the last ``axes`` axes: the part of layer norm that is not affine."""

    axes: int
    eps: float

    def __call__(self, x: Tensor, /) -> Tensor:
        """Scale."""
        over = tuple(range(-self.axes, 0))
        return x / (x.square().mean(over, keepdim=True) + self.eps).sqrt()


@dataclass(frozen=True, eq=False)
class Add:
    """Σ ± x_i over sources of one shape.

    Attributes:
        signs: 1.0 or -1.0 per source.
    """

    signs: tuple[float, ...]

    def __call__(self, *values: Tensor) -> Tensor:
        """Add, from left to right."""
        total = values[0] * self.signs[0]
        for sign, value in zip(self.signs[1:], values[1:], strict=True):
            total = total + value if sign > 0 else total - value
        return total


@dataclass(frozen=True, eq=False)
class Concat:
    """Join sources along an axis of the batch, from 1."""

    axis: int

    def __call__(self, *values: Tensor) -> Tensor:
        """Join."""
        return torch.cat(values, dim=self.axis)


@dataclass(frozen=True, eq=False)
class Reshape:
    """Move elements: every output element is an input element, and none is used twice.

    Views, transpositions, slices.

    Attributes:
        name: What it is.
        function: From ``(batch, *source)`` to ``(batch, *target)``, for any batch.
        source: Shape of one input.
    """

    name: str
    function: Callable[[Tensor], Tensor] = field(repr=False)
    source: Shape

    def __call__(self, x: Tensor, /) -> Tensor:
        """Move."""
        return self.function(x)

    def transposed(self, y: Tensor, /) -> Tensor:
        """Put the elements back; those that were left out are zero."""
        return Averages(self.name, self.function, self.source, 1).transposed(y)


@dataclass(frozen=True, eq=False)
class Given:
    """The network's input; it has no source."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return it."""
        return x


@dataclass(frozen=True, eq=False)
class Fixed:
    """A value that does not depend on the input, ``(1, *shape)``; it has no source."""

    value: Tensor


Operator = (
    Affine
    | Elementwise
    | MaxWindows
    | SortPairs
    | Sort
    | RootMeanSquare
    | Add
    | Concat
    | Reshape
    | Given
    | Fixed
)


@dataclass(frozen=True, eq=False)
class Step:
    """One operator of a network.

    Attributes:
        name: The module it comes from, by its dotted name, with ``#call`` from the second call on,
            and what was called in it.
        op: The operator.
        sources: Positions of its arguments among the steps; each is smaller than its own.
        shape: Of one output, without the batch.
    """

    name: str
    op: Operator
    sources: tuple[int, ...]
    shape: Shape


def evaluate(steps: Sequence[Step], x: Tensor) -> list[Tensor]:
    """Return the values of all steps at ``x``, in its precision; the last is the output."""
    values: list[Tensor] = []
    for step in steps:
        if isinstance(step.op, Given):
            values.append(x)
        elif isinstance(step.op, Fixed):
            values.append(step.op.value.to(x.dtype).expand(len(x), *step.shape))
        else:
            values.append(step.op(*(values[source] for source in step.sources)))
    return values


__all__ = [
    "Add",
    "Affine",
    "Concat",
    "Elementwise",
    "Fixed",
    "Given",
    "MaxWindows",
    "Operator",
    "Reshape",
    "RootMeanSquare",
    "Sort",
    "SortPairs",
    "Step",
    "evaluate",
]
