"""The last convolution of a pass, whatever the network calls it.

While :class:`LastConvolution` is entered, every convolution is looked at whose result depends on the
input, has a row for each example and still has several places; the last such result is kept, in the
graph of the pass. It sees what goes through the functions of ``torch``, so layers and functional forms
alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from conjoin.models.call import Call
from conjoin.models.cuts import fillings

_NAMES = frozenset({"conv1d", "conv2d", "conv3d", "convolution"})


class LastConvolution(TorchFunctionMode):
    """The mode; see the module.

    Args:
        count: The examples of the batch, which may be padded.

    Attributes:
        output: What the last convolution gave; ``None`` if there was none.
    """

    output: Tensor | None

    def __init__(self, count: int) -> None:
        super().__init__()
        self.sizes, self.output = {count, *fillings(count)}, None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do one operation."""
        call = Call(func, args, dict(kwargs or {}))
        out = call.made()
        if not (call.name in _NAMES and torch.is_grad_enabled() and isinstance(out, Tensor)):
            return out
        if len(out) not in self.sizes or out.ndim < 3 or out[0, 0].numel() < 2:
            return out
        self.output = out
        return out.clone()  # what follows may write into it


__all__ = ["LastConvolution"]
