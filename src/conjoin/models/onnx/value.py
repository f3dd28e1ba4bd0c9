"""What flows through the graph of an ONNX file, and where the batch is in it.

A file says what happens to *one* batch; its shapes are taken for a batch of one example, so that
every number that it computes of shapes is a constant. A value is then run for N examples at once, as
``(N, ...)``: where its first axis has the size 1, the batch takes the place of that axis; where the
file has folded it away (``(1, 784) -> (784,)``), the batch is put in front. So row i of what comes out
is what the file gives for example i alone. It is *not* what a file of a free batch gives that mixes its
examples: where that would show, it is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

from conjoin.errors import CapabilityError, DataError

Shape = tuple[int, ...]
LARGEST = 2**31  # elements of one value of one example


@dataclass(frozen=True, slots=True)
class Value:
    """A value of one example.

    Attributes:
        shape: In the file, for a batch of one.
        batch: Whether the batch takes the place of the first axis, which has the size 1.
        fixed: The value itself, if it does not depend on the input; shaped as in the file.
    """

    shape: Shape
    batch: bool = False
    fixed: Tensor | None = None

    @property
    def rest(self) -> Shape:
        """The shape of a row of the batch."""
        return self.shape[1:] if self.batch else self.shape


@dataclass(frozen=True, slots=True)
class Made:
    """What a node does.

    Attributes:
        run: Takes the tensors of the inputs ``takes``, ``(N, ...)`` each, or as in the file if fixed.
        takes: Places among the node's inputs.
        batch: Whether the batch takes the place of the first axis of what it makes.
        statistics: Places of constants that are no weights: they are never trained.
    """

    run: Callable[..., Any]
    takes: tuple[int, ...] = (0,)
    batch: bool = True
    statistics: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the graph, with what is known of its inputs.

    Attributes:
        kind, name: Its operator, and what it is called.
        said: Its attributes.
        inputs: Its inputs; ``None`` where one is left out.
        version: Of the operator set.
        free: Whether the file leaves the number of examples open.
        outputs: How many outputs are asked for.
    """

    kind: str
    name: str
    said: Mapping[str, Any]
    inputs: tuple[Value | None, ...]
    version: int
    free: bool
    outputs: int = 1

    def refuse(self, why: str) -> NoReturn:
        """Say why it is not covered.

        Raises:
            CapabilityError: Always.
        """
        raise CapabilityError(f"{self.kind} {self.name!r} is not covered: {why}")

    def value(self, place: int = 0) -> Value:
        """Return an input that must be there.

        Raises:
            DataError: If it is not.
        """
        value = self.inputs[place] if place < len(self.inputs) else None
        if value is None:
            raise DataError(f"{self.kind} {self.name!r} has no input {place}")
        return value

    def has(self, place: int) -> bool:
        """Tell whether an optional input is there."""
        return place < len(self.inputs) and self.inputs[place] is not None

    def constant(self, place: int) -> Tensor:
        """Return an input that must be a constant.

        Raises:
            CapabilityError: If it depends on the network's input.
        """
        value = self.value(place)
        if value.fixed is None:
            self.refuse(f"its input {place} depends on the network's input")
        return value.fixed

    def numbers(self, place: int, name: str = "") -> list[int] | None:
        """Return whole numbers that are an attribute, or a constant input in later versions."""
        if self.has(place):
            return [int(v) for v in self.constant(place).flatten().tolist()]
        said = self.said.get(name)
        return None if said is None else [int(v) for v in said]

    def images(self, axes: int | None = None) -> int:
        """Return the number of axes of an image; the input must be ``(batch, channels, ...)``."""
        value = self.value()
        if not value.batch or len(value.shape) < 3:
            self.refuse(f"a value of shape {value.shape} is no batch of one image")
        if axes is not None and axes != len(value.shape) - 2:
            raise DataError(f"{self.kind} {self.name!r} has {axes} axes; got {value.shape}")
        return len(value.shape) - 2

    def axes(self, given: list[int] | None, ndim: int | None = None) -> tuple[Shape, bool]:
        """Return axes of the running value, and whether its batch must be opened first.

        Of a value in which the batch has the place of the first axis, and for an operation along that
        axis, the place is opened: ``x[:, None]``.

        Raises:
            CapabilityError: If the file leaves the batch open, and this would mix its examples.
        """
        value = self.value()
        ndim = len(value.shape) if ndim is None else ndim
        wanted = sorted({place(axis, ndim, self) for axis in given or ()})
        if value.batch and 0 in wanted:
            if self.free:
                self.refuse("it works along the batch, so that examples are not independent")
            return tuple(axis + 1 for axis in wanted), True
        return tuple(axis if value.batch else axis + 1 for axis in wanted), False


Rule = Callable[[Node], Made]


def place(axis: int, ndim: int, node: Node) -> int:
    """Return an axis counted from the front.

    Raises:
        DataError: If there is none such.
    """
    if not -ndim <= axis < max(ndim, 1):
        raise DataError(f"{node.kind} {node.name!r} names axis {axis} of {ndim}")
    return axis % ndim if ndim else 0


def opened(x: Tensor, now: bool) -> Tensor:
    """Put an axis of size 1 behind the batch, where it has taken the place of one."""
    return x[:, None] if now else x


def reshaped(shape: Shape) -> Made:
    """Return the node that gives its input a shape of the file."""
    batch = bool(shape) and shape[0] == 1
    rest = shape[1:] if batch else shape
    return Made(lambda x: x.reshape(x.shape[0], *rest), batch=batch)


def checked(shape: Shape, node: Node) -> None:
    """Refuse what would fill the memory.

    Raises:
        DataError: If a value is too large.
    """
    if math.prod(shape) > LARGEST:
        raise DataError(
            f"{node.kind} {node.name!r} makes a value of shape {shape}, which is too large"
        )


def meta(value: Value, rows: int) -> Tensor:
    """Return a stand-in without data, as the value is run."""
    if value.fixed is not None:
        return value.fixed.to("meta")
    return torch.empty(rows, *value.rest, device="meta")


__all__ = [
    "Made",
    "Node",
    "Rule",
    "Shape",
    "Value",
    "checked",
    "meta",
    "opened",
    "place",
    "reshaped",
]
