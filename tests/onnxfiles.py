"""ONNX files made by hand, and what onnxruntime makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor


def node(kind: str, inputs: str, outputs: str, **said: Any) -> Any:
    """A node; inputs and outputs are words."""
    return helper.make_node(kind, inputs.split(" ") if inputs else [], outputs.split(), **said)


def model(
    nodes: Sequence[Any],
    shape: Sequence[int | str],
    constants: Mapping[str, Any],
    *,
    opset: int = 17,
    outputs: Sequence[str] = ("y",),
    kind: int = TensorProto.FLOAT,
) -> Any:
    """A model from ``x`` to ``y``."""
    given = helper.make_tensor_value_info("x", kind, list(shape))
    gives = [helper.make_tensor_value_info(name, kind, None) for name in outputs]
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "graph", [given], gives, held)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=min(8, onnx.IR_VERSION)
    )


def saved(made: Any, folder: Path) -> Path:
    """Write a model."""
    path = folder / "net.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def answers(path: Path, x: Tensor, output: str | None = None) -> Tensor:
    """What onnxruntime gives for each example alone; the file's batch of one is put in front."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    batched = len(given.shape) > x.ndim - 1
    rows = [
        session.run(output and [output], {given.name: (row[None] if batched else row).numpy()})[0]
        for row in x
    ]
    return torch.from_numpy(np.stack([np.asarray(row).reshape(-1) for row in rows]))
