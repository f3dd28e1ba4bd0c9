"""Layers as operators: the small set of functions that every reasoner works on.

A traced network is a list of :class:`Step`: an operator applied to the results of earlier steps.
Bounds, propagation rules and secants are *domains* (:class:`~conjoin.core.protocols.Domain`): one
rule per operator, so a layer is understood once, here, and never by its class. An operator acts on
batches ``(batch, *shape)`` in whatever precision its input has; its parameters are kept in double
precision. It is *not* a layer: it has no state, no mode and no gradient in its parameters.

Linear maps state what a reasoner needs beside their action: the adjoint, the map with the magnitudes
of its entries, and how many entries a row has (for rounding errors).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

Shape = tuple[int, ...]  # of one example, without the batch


def flat(values: Tensor, axis: int = 1) -> Tensor:
    """Join all axes from one on, also where there is none: a number per example is one column."""
    return values[..., None].flatten(axis)


class Linear(ABC):
    """A linear map from ``(batch, *source)`` to ``(batch, *target)``.

    Attributes:
        source: Shape of one input.
    """

    source: Shape

    @abstractmethod
    def __call__(self, x: Tensor, /) -> Tensor:
        """Return A x, computed in the precision of ``x``."""

    @property
    @abstractmethod
    def terms(self) -> int:
        """The number of non-zero entries that a row of A has at most."""

    @abstractmethod
    def absolute(self) -> Linear:
        """Return ``|A|``, the map with the magnitudes of the entries."""

    def transposed(self, y: Tensor, /) -> Tensor:
        """Return Aᵀ y for ``y`` of shape ``(batch, *target)``."""
        followed = torch.is_grad_enabled() and y.requires_grad
        with torch.enable_grad():
            zero = y.new_zeros(len(y), *self.source).requires_grad_()
            (back,) = torch.autograd.grad(self(zero), zero, y, create_graph=followed)
        return back

    @cached_property
    def target(self) -> Shape:
        """Shape of one output."""
        return tuple(
            self(torch.zeros(1, *self.source, dtype=torch.float64, device=self.device)).shape[1:]
        )

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Dense(Linear):
    """A matrix ``weight`` of shape (outputs, inputs) on the last axis."""

    weight: Tensor
    source: Shape

    def __call__(self, x: Tensor, /) -> Tensor:
        """Multiply."""
        return functional.linear(x, self.weight.to(x.dtype))

    def transposed(self, y: Tensor, /) -> Tensor:
        """Multiply by the transposed matrix."""
        return y @ self.weight.to(y.dtype)

    @property
    def terms(self) -> int:
        """The inputs."""
        return self.weight.shape[1]

    def absolute(self) -> Dense:
        """Take the magnitudes of the weights."""
        return Dense(self.weight.abs(), self.source)

    @property
    def device(self) -> torch.device:
        """Where the weight lies."""
        return self.weight.device


@dataclass(frozen=True, eq=False)
class Convolution(Linear):
    """A 1-, 2- or 3-dimensional convolution with zero padding, or its transposed form.

    ``weight`` is laid out as PyTorch does: ``(outputs, inputs / groups, *kernel)``, or
    ``(inputs, outputs / groups, *kernel)`` if ``backwards``; the other numbers are one per axis.
    """

    weight: Tensor
    source: Shape
    stride: Shape
    padding: Shape
    dilation: Shape
    groups: int = 1
    backwards: bool = False  # a transposed convolution
    output_padding: Shape = ()

    def __call__(self, x: Tensor, /) -> Tensor:
        """Convolve."""
        return torch.convolution(
            x,
            self.weight.to(x.dtype),
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.backwards,
            self.output_padding or (0,) * len(self.stride),
            self.groups,
        )

    def transposed(self, y: Tensor, /) -> Tensor:
        """Convolve backwards, without a pass forwards."""
        back: Tensor = torch.ops.aten.convolution_backward(
            y,
            y.new_empty(1).expand(len(y), *self.source),
            self.weight.to(y.dtype),
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.backwards,
            self.output_padding or (0,) * len(self.stride),
            self.groups,
            (True, False, False),
        )[0]
        return back

    @property
    def terms(self) -> int:
        """The kernel times the channels that it sums."""
        axis = 0 if self.backwards else 1
        channels = self.weight.shape[axis] // (self.groups if self.backwards else 1)
        return channels * math.prod(self.weight.shape[2:])

    def absolute(self) -> Convolution:
        """Take the magnitudes of the weights."""
        return Convolution(
            self.weight.abs(),
            self.source,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.backwards,
            self.output_padding,
        )

    @property
    def device(self) -> torch.device:
        """Where the weight lies."""
        return self.weight.device


@dataclass(frozen=True, eq=False)
class Diagonal(Linear):
    """Multiply element by element with ``scale``, which broadcasts to one example's shape."""

    scale: Tensor
    source: Shape

    def __call__(self, x: Tensor, /) -> Tensor:
        """Multiply."""
        return x * self.scale.to(x.dtype)

    @property
    def terms(self) -> int:
        """One."""
        return 1

    def absolute(self) -> Diagonal:
        """Take the magnitudes of the factors."""
        return Diagonal(self.scale.abs(), self.source)

    @property
    def device(self) -> torch.device:
        """Where the factors lie."""
        return self.scale.device


@dataclass(frozen=True, eq=False)
class Averages(Linear):
    """A linear map without negative entries: pools, means, sums, padding, interpolation, copies.

    Attributes:
        name: What it is.
        function: Linear, from ``(batch, *source)`` to ``(batch, *target)``, in any precision.
        row: The number of non-zero entries that a row has at most.
    """

    name: str
    function: Callable[[Tensor], Tensor] = field(repr=False)
    source: Shape
    row: int

    def __call__(self, x: Tensor, /) -> Tensor:
        """Apply the function."""
        return self.function(x)

    @property
    def terms(self) -> int:
        """The entries of a row."""
        return self.row

    def absolute(self) -> Averages:
        """Return itself: no entry is negative."""
        return self


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
    "Averages",
    "Concat",
    "Convolution",
    "Dense",
    "Diagonal",
    "Elementwise",
    "Fixed",
    "Given",
    "Linear",
    "MaxWindows",
    "Operator",
    "Reshape",
    "RootMeanSquare",
    "Shape",
    "Sort",
    "SortPairs",
    "Step",
    "evaluate",
    "flat",
]
