"""Pick the adapter for a model by its type, without importing any framework but torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from conjoin.core.protocols import Model
from conjoin.errors import ModelError
from conjoin.models.torch import TorchModel


def wrap(model: object, *, outputs: Callable[[Any], Tensor] | None = None) -> TorchModel:
    """Make a model of a ``torch.nn.Module`` that takes one tensor and gives logits.

    ``outputs`` picks the logits when the module gives a tuple or a dictionary. The module is not
    changed; every driver evaluates it in evaluation mode and restores what it found.

    Raises:
        ModelError: If it is not a module, is in half precision, or has non-finite weights.
    """
    if isinstance(model, TorchModel):
        return model
    if isinstance(model, nn.Module):
        return TorchModel(model, outputs=outputs)
    kinds = [kind.__module__.split(".")[0] for kind in type(model).__mro__]
    advice = (
        "it already is a model: pass it to the drivers as it is"
        if isinstance(model, Model)
        else "give its forward pass and vector-Jacobian product to conjoin.models.bridge.Bridge"
    )
    raise ModelError(
        f"expected a torch.nn.Module; got {type(model).__name__} of {kinds[0]}; {advice}"
    )
