"""onnxruntime, asked for only where a file is held against it (extra ``onnx``)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from conjoin.errors import ModelError


def session(content: bytes) -> Any:
    """Return what runs a file on one thread.

    Raises:
        ModelError: If onnxruntime is not installed, or cannot run the file.
    """
    try:
        runtime: Any = import_module("onnxruntime")
    except ImportError as error:
        raise ModelError(
            "ONNX files are checked in onnxruntime; install it: pip install 'conjoin[onnx]'"
        ) from error
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of its own kinds
        raise ModelError(f"onnxruntime cannot run it: {error}") from error


__all__ = ["session"]
