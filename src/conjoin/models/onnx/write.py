"""Operators as an ONNX graph: what :mod:`conjoin.models.trace` read off a network, written down.

What is written is the list of operators, not the module: hooks, patched forwards and folded layers are
in it as what they do. Layers with weights become the operators of their name; pools and moves become a
``Gather`` by places (:mod:`conjoin.models.entries`), which says the same for every kind of them. The
batch is free. Operators that ONNX has no exact form of are refused.

Reference: bai2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conjoin.core.linear import Averages, Convolution, Dense, Diagonal
from conjoin.core.operator import (
    Add,
    Affine,
    Concat,
    Elementwise,
    Given,
    MaxWindows,
    Reshape,
    SortPairs,
    Step,
)
from conjoin.errors import CapabilityError
from conjoin.models.entries import function_of, linear_entries, moved, windows
from conjoin.models.onnx.read import package

OPSET = 17
IR = 8  # the format's version that came with it; later runtimes read it, and earlier ones too
_FUNCTIONS = {
    **{"relu": "Relu", "leaky_relu": "LeakyRelu", "sigmoid": "Sigmoid", "tanh": "Tanh"},
    **{"abs": "Abs", "clip": "Clip"},
}


@dataclass(frozen=True, slots=True)
class Sheet:
    """A graph as it is written.

    Attributes:
        dtype: Of its numbers.
        nodes, constants: What it holds.
    """

    dtype: torch.dtype
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def constant(self, value: Any) -> str:
        """Add numbers: floating ones in the precision of the network; return their name."""
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        if array.dtype.kind == "f":
            array = array.astype(np.float64 if self.dtype == torch.float64 else np.float32)
        name = f"c{len(self.constants)}"
        self.constants.append(package().numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, kind: str, *inputs: str, to: str = "", **said: Any) -> str:
        """Add a node with one output; return its name."""
        to = to or f"v{len(self.nodes)}"
        self.nodes.append(package().helper.make_node(kind, inputs, [to], name=to, **said))
        return to

    def shaped(self, value: str, shape: Sequence[int]) -> str:
        """Give each example a shape."""
        return self.node("Reshape", value, self.constant(np.array([-1, *shape], np.int64)))


def written(sheet: Sheet, steps: Sequence[Step]) -> str:
    """Write a network's steps; return the name of what it gives. The input is called ``x``.

    Raises:
        CapabilityError: If an operator has no form in ONNX here.
    """
    values: list[str] = []
    for step in steps:
        rule = _RULES.get(type(step.op))
        if rule is None:
            raise CapabilityError(
                f"{step.name} ({type(step.op).__name__}) has no form in ONNX here"
            )
        shapes = [steps[source].shape for source in step.sources]
        values.append(rule(sheet, step, [values[source] for source in step.sources], shapes))
    return values[-1]


def model(
    sheet: Sheet, shape: Sequence[int], outputs: dict[str, Sequence[int]], about: str = ""
) -> bytes:
    """Return the file of a graph from ``x``, ``(batch, *shape)``, to outputs by name and shape."""
    onnx = package()
    kind = onnx.TensorProto.DOUBLE if sheet.dtype == torch.float64 else onnx.TensorProto.FLOAT
    info = onnx.helper.make_tensor_value_info
    gives = [info(name, kind, ["batch", *one]) for name, one in outputs.items()]
    graph = onnx.helper.make_graph(
        sheet.nodes, "conjoin", [info("x", kind, ["batch", *shape])], gives, sheet.constants
    )
    made = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR, doc_string=about
    )
    content: bytes = made.SerializeToString()
    return content


Shapes = Sequence[tuple[int, ...]]


def _given(sheet: Sheet, step: Step, sources: list[str], shapes: Shapes) -> str:
    return "x"


def _affine(sheet: Sheet, step: Step, sources: list[str], shapes: Shapes) -> str:
    op: Any = step.op
    if isinstance(op.map, Dense) and len(step.shape) == 1:
        bias = torch.zeros(step.shape) if op.bias is None else op.bias.expand(step.shape)
        weight = sheet.constant(op.map.weight.to(sheet.dtype))
        return sheet.node("Gemm", sources[0], weight, sheet.constant(bias), transB=1)
    if isinstance(op.map, Convolution):
        return _convolution(sheet, op, sources[0])
    if isinstance(op.map, Dense):
        made = sheet.node("MatMul", sources[0], sheet.constant(op.map.weight.T.to(sheet.dtype)))
    elif isinstance(op.map, Diagonal):
        made = sources[0]
        if bool((op.map.scale != 1).any()):
            made = sheet.node("Mul", made, sheet.constant(op.map.scale))
    elif isinstance(op.map, Averages):
        places, factors = linear_entries(op.map, shapes[0], math.prod(step.shape))
        made = _gathered(sheet, sources[0], shapes[0], places, factors, step.shape)
    else:
        raise CapabilityError(f"{step.name} ({type(op.map).__name__}) has no form in ONNX here")
    return made if op.bias is None else sheet.node("Add", made, sheet.constant(op.bias))


def _convolution(sheet: Sheet, op: Any, source: str) -> str:
    map = op.map
    said: dict[str, Any] = {
        "strides": list(map.stride),
        "pads": [*map.padding, *map.padding],
        "dilations": list(map.dilation),
        "group": map.groups,
    }
    if map.backwards and any(map.output_padding):
        said["output_padding"] = list(map.output_padding)
    inputs = [source, sheet.constant(map.weight)]
    kind = "ConvTranspose" if map.backwards else "Conv"
    flat = op.bias is not None and op.bias.numel() == map.target[0]
    if flat:
        inputs.append(sheet.constant(op.bias.flatten()))
    made = sheet.node(kind, *inputs, **said)
    return made if flat or op.bias is None else sheet.node("Add", made, sheet.constant(op.bias))


def _gathered(
    sheet: Sheet, source: str, shape: Sequence[int], places: Any, factors: Any, to: Sequence[int]
) -> str:
    """Sums of factors times elements."""
    flat = sheet.shaped(source, [math.prod(shape)])
    single = places.shape[1] == 1
    index = np.where(places < 0, 0, places)
    taken = sheet.node("Gather", flat, sheet.constant(index[:, 0] if single else index), axis=1)
    if (factors != 1).any():
        taken = sheet.node("Mul", taken, sheet.constant(factors[:, 0] if single else factors))
    if not single:
        axes = sheet.constant(np.array([2], np.int64))
        taken = sheet.node("ReduceSum", taken, axes, keepdims=0)
    return sheet.shaped(taken, to)


def _moved(sheet: Sheet, step: Step, sources: list[str], shapes: Shapes) -> str:
    op: Any = step.op
    places = moved(op)
    if np.array_equal(places[:, 0], np.arange(math.prod(shapes[0]))):
        return sheet.shaped(sources[0], step.shape)
    return _gathered(sheet, sources[0], shapes[0], places, np.ones(places.shape), step.shape)


def _elementwise(sheet: Sheet, step: Step, sources: list[str], shapes: Shapes) -> str:
    op: Any = step.op
    name, ends = function_of(op)
    if name not in _FUNCTIONS:
        raise CapabilityError(f"{step.name} ({name}) has no form in ONNX here")
    if name == "clip":
        limits = (sheet.constant(np.float64(end)) for end in ends)
        return sheet.node("Clip", sources[0], *limits)
    said: dict[str, Any] = {"alpha": ends[0]} if name == "leaky_relu" else {}
    return sheet.node(_FUNCTIONS[name], sources[0], **said)


def _maxima(sheet: Sheet, step: Step, sources: list[str], shapes: Shapes) -> str:
    op: Any = step.op
    if op.pool is not None:
        kernel, stride, padding, dilation = map(list, op.pool)
        said: dict[str, Any] = {"strides": stride, "dilations": dilation, "pads": padding * 2}
        return sheet.node("MaxPool", sources[0], kernel_shape=kernel, **said)
    places = windows(op, shapes[0], math.prod(step.shape))
    places = np.where(places < 0, places[:, :1], places)  # once more is no more
    flat = sheet.shaped(sources[0], [math.prod(shapes[0])])
    taken = sheet.node("Gather", flat, sheet.constant(places), axis=1)
    return sheet.shaped(sheet.node("ReduceMax", taken, axes=[2], keepdims=0), step.shape)


def _sorted(sheet: Sheet, step: Step, sources: list[str], shapes: Shapes) -> str:
    op: Any = step.op
    half = shapes[0][op.axis - 1] // 2
    axis = sheet.constant(np.array([op.axis], np.int64))
    ends = [sheet.constant(np.array([end], np.int64)) for end in (0, half, 2 * half)]
    parts = [sheet.node("Slice", sources[0], ends[k], ends[k + 1], axis) for k in (0, 1)]
    least, most = sheet.node("Min", *parts), sheet.node("Max", *parts)
    return sheet.node("Concat", least, most, axis=op.axis)


def _added(sheet: Sheet, step: Step, sources: list[str], shapes: Shapes) -> str:
    op: Any = step.op
    made = sources[0] if op.signs[0] > 0 else sheet.node("Neg", sources[0])
    for sign, source in zip(op.signs[1:], sources[1:], strict=True):
        made = sheet.node("Add" if sign > 0 else "Sub", made, source)
    return made


def _joined(sheet: Sheet, step: Step, sources: list[str], shapes: Shapes) -> str:
    op: Any = step.op
    return sheet.node("Concat", *sources, axis=op.axis)


_RULES: dict[type, Callable[[Sheet, Step, list[str], Shapes], str]] = {
    Given: _given,
    Affine: _affine,
    Elementwise: _elementwise,
    MaxWindows: _maxima,
    SortPairs: _sorted,
    Reshape: _moved,
    Add: _added,
    Concat: _joined,
}

__all__ = ["Sheet", "model", "written"]
