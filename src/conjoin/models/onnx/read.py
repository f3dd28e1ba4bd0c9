"""An ONNX file as data: parsed, checked, and brought to constants and nodes.

Nothing of a stranger's is run and no other file is opened: weights beside the file, functions of its
own, sub-graphs and operators of other domains are refused. Sizes are checked before anything is made of
them. The package ``onnx`` (extra ``onnx``) parses the bytes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conjoin.errors import CapabilityError, DataError, ModelError
from conjoin.models.onnx.arithmetic import TYPES

BIGGEST = 2**31 - 1  # bytes; the format itself allows no more
OLDEST = 7  # operator set: earlier ones broadcast otherwise
BROKEN = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError),
    *(RuntimeError, TypeError, ValueError),
)  # what a file that is not as it should be makes of the code that reads it
_EXTERNAL = 1
_TYPE_NAMES = {10: "float16", 16: "bfloat16"}


@dataclass(frozen=True, slots=True)
class Said:
    """A node as the file says it."""

    kind: str
    name: str
    attributes: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """A file as data.

    Attributes:
        origin: SHA-256 of the file.
        version: Of the operator set.
        input: The name of the network's input.
        shape: Of one example with its batch of one, as the file has it.
        free: Whether the file leaves the number of examples open.
        output: The name of the output that is taken.
        constants: Weights and other constants by name.
        nodes: In order.
    """

    origin: str
    version: int
    input: str
    shape: tuple[int, ...]
    free: bool
    output: str
    constants: Mapping[str, Tensor]
    nodes: tuple[Said, ...]


def graph(path: Path) -> Graph:
    """Read a file.

    Raises:
        DataError: If it is no ONNX file, or is broken.
        CapabilityError: If it needs what is not read: several inputs, other files, sub-graphs.
        ModelError: If the package ``onnx`` is not installed.
    """
    try:
        if path.stat().st_size > BIGGEST:
            raise DataError(f"{path} is larger than 2 GiB, which no ONNX file is; check the file")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check the path") from error
    onnx = package()
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # of protobuf, which has several
        raise DataError(f"{path} is no ONNX file: {error}; export it again") from error
    try:
        return _graph(model, hashlib.sha256(content).hexdigest())
    except CapabilityError as error:
        raise CapabilityError(f"{path}: {error}") from error
    except (DataError, *BROKEN) as error:
        raise DataError(f"{path} is a broken ONNX file: {error}; export it again") from error


def package() -> Any:
    """Return the package ``onnx``.

    Raises:
        ModelError: If it is not installed.
    """
    try:
        return import_module("onnx")
    except ImportError as error:
        raise ModelError(
            "ONNX files need the package onnx; install it: pip install 'conjoin[onnx]'"
        ) from error


def _graph(model: Any, origin: str) -> Graph:
    versions = {one.domain: one.version for one in model.opset_import}
    version = versions.get("", versions.get("ai.onnx", 0))
    graph = model.graph
    if not graph.node or not graph.output:
        raise DataError("it holds no graph")
    if version < OLDEST:
        raise CapabilityError(f"its operator set is {version}; expected {OLDEST} or later")
    if graph.sparse_initializer:
        raise CapabilityError("it holds sparse weights, which are not read")
    constants = {one.name: tensor(one) for one in graph.initializer}
    given = [one for one in graph.input if one.name not in constants]
    if len(given) != 1:
        names = ", ".join(one.name for one in given)
        raise CapabilityError(f"it takes {len(given)} inputs ({names}); expected one tensor")
    shape, free = _shape(given[0])
    return Graph(
        origin,
        version,
        given[0].name,
        shape,
        free,
        _output([one.name for one in graph.output]),
        constants,
        tuple(_said(node, number) for number, node in enumerate(graph.node)),
    )


def _shape(given: Any) -> tuple[tuple[int, ...], bool]:
    """Return the shape of one example with its batch of one, and whether the batch is free."""
    kind = given.type.tensor_type
    if not given.type.HasField("tensor_type") or TYPES.get(kind.elem_type) not in (
        *(torch.float32, torch.float64),
    ):
        raise CapabilityError(f"its input {given.name} is no tensor of float32 or float64")
    if not kind.HasField("shape"):
        raise CapabilityError(
            f"the shape of its input {given.name} is not said; export it with one"
        )
    sizes = [d.dim_value if d.HasField("dim_value") else 0 for d in kind.shape.dim]
    free = bool(sizes) and sizes[0] <= 0  # 0 or less stands for "any"
    sizes[:1] = [1] if free else sizes[:1]
    if any(size <= 0 for size in sizes):
        raise CapabilityError(
            f"its input has the shape {sizes}, where 0 is any size; expected a fixed size of each "
            "example: export it for one"
        )
    if len(sizes) > 1 and sizes[0] != 1:
        raise CapabilityError(
            f"it was exported for batches of {sizes[0]} examples; expected one, or any number "
            "(dynamic_axes)"
        )
    if math.prod(sizes) > 2**28:
        raise DataError(f"its input has the shape {sizes}, which is too large")
    return tuple(sizes), free


def _output(names: Sequence[str]) -> str:
    if len(names) == 1 or "logits" in names:
        return "logits" if "logits" in names else names[0]
    raise CapabilityError(
        f"it gives several outputs ({', '.join(names)}); expected one, or one that is called logits"
    )


def _said(node: Any, number: int) -> Said:
    name = node.name or f"{node.op_type}_{number}"
    if node.domain not in ("", "ai.onnx"):
        raise CapabilityError(
            f"{node.op_type} {name!r} is of the domain {node.domain!r}; not known"
        )
    attributes = {one.name: _attribute(one, node.op_type, name) for one in node.attribute}
    return Said(node.op_type, name, attributes, tuple(node.input), tuple(node.output))


def _attribute(one: Any, kind: str, name: str) -> Any:
    """Read an attribute: numbers, words, a tensor, or lists of these."""
    simple = {1: "f", 2: "i", 3: "s"}
    lists = {6: "floats", 7: "ints", 8: "strings"}
    if one.type in simple:
        return getattr(one, simple[one.type])
    if one.type in lists:
        return list(getattr(one, lists[one.type]))
    if one.type == 4:
        return tensor(one.t)
    raise CapabilityError(
        f"{kind} {name!r} holds a graph of its own ({one.name}), which is not read"
    )


def tensor(one: Any) -> Tensor:
    """Read a tensor.

    Raises:
        DataError: If its numbers are not there.
        CapabilityError: If they are in another file, or in a type that is not read.
    """
    if one.data_location == _EXTERNAL or one.external_data:
        raise DataError(
            f"the numbers of {one.name} are in another file, which is not opened; save it as one file: "
            "onnx.save(model, path, save_as_external_data=False)"
        )
    if one.data_type not in TYPES:
        kind = _TYPE_NAMES.get(one.data_type, f"type {one.data_type}")
        raise CapabilityError(f"{one.name} is of {kind}; expected float32, float64 or integers")
    count, size = math.prod(one.dims), TYPES[one.data_type].itemsize
    held = sum(len(getattr(one, name)) for name in _NUMBERS)
    if any(d < 0 for d in one.dims) or not (
        len(one.raw_data) == count * size if one.HasField("raw_data") else held == count
    ):
        raise DataError(f"{one.name} of shape {list(one.dims)} does not hold as many numbers")
    array = import_module("onnx.numpy_helper").to_array(one)
    return torch.from_numpy(array.copy()).reshape(tuple(one.dims))


_NUMBERS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")

__all__ = ["BROKEN", "Graph", "Said", "graph", "package", "tensor"]
