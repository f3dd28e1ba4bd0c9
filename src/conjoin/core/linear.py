"""Linear maps as values: what affine steps of a network are made of.

A map has its action, its adjoint, the map with the magnitudes of its entries and how many entries a row
has (for rounding errors): all that bounds, propagation rules and secants ask for. Parameters are kept
in double precision; a map acts in whatever precision its input has. It is *not* a layer, and adds no
bias: that is :class:`~conjoin.core.operator.Affine`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
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


__all__ = [
    "Averages",
    "Convolution",
    "Dense",
    "Diagonal",
    "Linear",
    "Shape",
    "flat",
]
