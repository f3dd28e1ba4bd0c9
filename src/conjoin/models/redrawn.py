"""A copy of a network with other weights: what an explanation must notice.

Layers are the modules that have parameters of their own, in the order in which the network lists them;
the last is the top. Each parameter is drawn anew, from the normal distribution with the mean and the
deviation that it has, so that the copy's activations are of the same size; a parameter all of whose
elements are equal stays. The model itself is never written to: it may be held meanwhile.

Reference: adebayo2018 (the model parameter randomisation test).
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from conjoin.core.meter import Count, Meter, metered
from conjoin.core.protocols import Model
from conjoin.core.random import Streams
from conjoin.errors import CapabilityError, PlanError
from conjoin.models.torch import TorchModel


def network_of(model: Model) -> tuple[TorchModel, Count]:
    """Return the network behind a driver's meter, and what counts its passes.

    Raises:
        CapabilityError: If the model is no ``torch.nn.Module``.
    """
    count = model.count if isinstance(model, Meter) else Count()
    network = model.model if isinstance(model, Meter) else model
    if not isinstance(network, TorchModel):
        raise CapabilityError(
            f"only the weights of a torch.nn.Module can be drawn anew; got {type(network).__name__}. "
            "Wrap one with conjoin.wrap, or score by RandomLogit(), which needs outputs only"
        )
    return network, count


def layers(module: nn.Module) -> list[str]:
    """Name the modules that have parameters of their own, from the bottom to the top."""
    return [name for name, m in module.named_modules() if [*m.parameters(recurse=False)]]


def redrawn(
    model: Model, seed: int, top: int | None = None, *, only: bool = False
) -> tuple[TorchModel, Model]:
    """Return a copy with the ``top`` uppermost layers drawn anew, and the same with its passes counted.

    ``None`` is all layers; ``only`` leaves all above the lowest of them as they are.

    Raises:
        CapabilityError: If the model is no ``torch.nn.Module``, or cannot be copied.
        PlanError: If it has no such number of layers.
    """
    network, count = network_of(model)
    names = layers(network.module)
    if top is not None and not 1 <= top <= len(names):
        raise PlanError(f"{network!r} has {len(names)} layers with weights; {top} is none of them")
    try:
        module = copy.deepcopy(network.module)
    except Exception as error:  # whatever a module of somebody else's raises
        raise CapabilityError(f"{network!r} cannot be copied: {error}") from error
    chosen = names[len(names) - (len(names) if top is None else top) :]
    for name in chosen[:1] if only else chosen:
        _redraw(module.get_submodule(name), Streams.of(seed, torch.tensor([0])).fold(name))
    made = TorchModel(module, outputs=network._outputs)
    made.dtype = network.dtype  # of a module without parameters it was said, not seen
    return made, metered(made, count)


def _redraw(layer: nn.Module, rng: Streams) -> None:
    """Draw a layer's own parameters; the numbers are the same on every device."""
    with torch.no_grad():
        for name, value in layer.named_parameters(recurse=False):
            if value.is_floating_point():
                drawn = rng.fold(name).normal(*value.shape, dtype=torch.float64)[0]
                old = value.detach().double().cpu()
                value.copy_(old.mean() + old.std(correction=0) * drawn)


__all__ = ["layers", "network_of", "redrawn"]
