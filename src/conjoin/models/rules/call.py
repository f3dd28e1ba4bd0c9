"""A kernel call, what is known of its arguments, and the graph that its steps go into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from conjoin.core.linear import Averages, Diagonal, Shape
from conjoin.core.operator import Affine, Operator, Step
from conjoin.errors import CapabilityError


@dataclass(frozen=True, slots=True)
class Known:
    """A value that depends on the input: the step that makes it, or why it is not known."""

    index: int | str


@dataclass
class Graph:
    """Steps as they are added.

    Attributes:
        batch: Examples in the pass that is recorded.
        dtype: The precision of the network.
        pieces: The steps that slice another, by (source, axis, start, stop), axis of the batch.
        extremes: Which are the minimum or maximum of two steps.
        folded: Which have (batch * rows) as their value's first axis.
    """

    batch: int
    dtype: torch.dtype
    steps: list[Step] = field(default_factory=list)
    pieces: dict[tuple[int, int, int, int], int] = field(default_factory=dict)
    extremes: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    folded: set[int] = field(default_factory=set)

    def add(self, name: str, op: Operator, sources: Sequence[int], shape: Shape) -> int:
        """Add a step; return its position."""
        self.steps.append(Step(name, op, tuple(sources), shape))
        return len(self.steps) - 1


@dataclass
class Call:
    """One kernel call: the function, its arguments by name, what it returned was like."""

    func: Any
    arguments: dict[str, Any]
    shapes: list[tuple[int, ...]]
    dtypes: list[torch.dtype | None]
    where: str
    graph: Graph

    @property
    def name(self) -> str:
        """The function's name, that of the in-place form included."""
        name = str(self.func._schema.name).split("::")[-1]
        return name[:-1] if name.endswith("_") and not name.startswith("__") else name

    @property
    def n(self) -> int:
        """The examples in the pass."""
        return self.graph.batch

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def add(self, op: Operator, *sources: int, shape: Shape | None = None) -> int:
        """Add a step, of the shape of the first source if none is given."""
        shape = self.shape(sources[0]) if shape is None else shape
        return self.graph.add(f"{self.where}.{self.name}", op, sources, shape)

    def shape(self, index: int) -> Shape:
        """The shape of a step, for one example."""
        return self.graph.steps[index].shape

    def step(self, value: Any) -> int:
        """Return the position of a value that depends on the input.

        Raises:
            CapabilityError: If it is a constant, or not known.
        """
        if not isinstance(value, Known):
            raise CapabilityError("a constant stands where the input was expected")
        if isinstance(value.index, str):
            raise UnknownError(value.index)
        return value.index

    def source(self, name: str = "self") -> int:
        """Return the position of an argument that depends on the input."""
        return self.step(self.arguments[name])

    def plain(self, name: str = "self") -> int:
        """Return a source whose batch is not folded."""
        index = self.source(name)
        if index in self.graph.folded:
            raise CapabilityError("rows of different examples are mixed on the first axis")
        return index

    def constant(self, value: Any, ndim: int) -> Tensor:
        """Return a constant in double precision, without batch, for a value of ``ndim`` axes.

        Raises:
            CapabilityError: If it depends on the input, or differs from example to example.
        """
        if isinstance(value, Known):
            if isinstance(value.index, str):
                raise UnknownError(value.index)
            raise CapabilityError("a product of two values that depend on the input has no bound")
        given = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
        fixed = given.detach().double()
        if fixed.is_complex() or not bool(fixed.isfinite().all()):
            raise CapabilityError("a constant is not finite")
        if fixed.ndim > ndim:
            raise CapabilityError("a constant has more axes than the value, so that it adds some")
        if fixed.ndim == ndim and ndim and fixed.shape[0] != 1:
            if fixed.shape[0] != self.n or not bool((fixed == fixed[:1]).all()):
                raise CapabilityError("a constant differs from example to example of a batch")
            fixed = fixed[:1]
        return fixed[0] if fixed.ndim == ndim and ndim else fixed


class UnknownError(Exception):
    """An argument was not known already."""


Rule = Callable[[Call], int | list[int | None]]


def matrix(call: Call, value: Any) -> Tensor:
    """Return a constant factor in double precision.

    Raises:
        CapabilityError: If it depends on the input.
    """
    if isinstance(value, Known):
        raise CapabilityError("a product of two values that depend on the input has no bound")
    return value.detach().double()  # type: ignore[no-any-return]


def broadcast(c: Call, index: int, shape: tuple[int, ...]) -> int:
    """Copy the elements of a step so that it gets the shape of the whole value ``shape``."""
    here = c.shape(index)
    target = _one(c, shape, index in c.graph.folded)
    if here == target:
        return index
    if len(here) != len(target) or index in c.graph.folded:
        raise CapabilityError(f"broadcasting {here} to {target} does not keep the examples apart")
    copies = Averages("expand", lambda x: x.expand(len(x), *target), here, 1)
    return c.add(Affine(copies), index, shape=target)


def _one(c: Call, shape: tuple[int, ...], folded: bool) -> Shape:
    if not folded:
        return shape[1:]
    if shape[0] % c.n:
        raise CapabilityError(f"a value of shape {shape} does not hold whole examples")
    return (shape[0] // c.n, *shape[1:])


def axes_of(dims: Any, ndim: int) -> tuple[int, ...]:
    """Return axes of the batch from 1; the batch itself is refused."""
    if dims is None or (isinstance(dims, list | tuple) and not dims):
        raise CapabilityError("it runs over all examples of the batch")
    found = tuple(int(d) % ndim for d in (dims if isinstance(dims, list | tuple) else (dims,)))
    if 0 in found:
        raise CapabilityError("it runs over the examples of the batch, which must not mix")
    return found


def negated(c: Call, index: int) -> int:
    """Add a step with the sign turned."""
    minus = torch.tensor(-1.0, dtype=torch.float64)
    return c.add(Affine(Diagonal(minus, c.shape(index))), index)


__all__ = [
    "Call",
    "Graph",
    "Known",
    "Rule",
    "UnknownError",
    "axes_of",
    "broadcast",
    "matrix",
    "negated",
]
