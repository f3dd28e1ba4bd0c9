"""A faster network that computes the same: batch normalisation folded into the layer before it.

    γ (W x + b - μ) / sqrt(v + ε) + β  =  W' x + b',    W' = γ W / sqrt(v + ε)

A copy of the module is changed, never the module itself, and only where a traced graph shows that a
batch normalisation reads what one convolution or dense layer gives, and nothing else does. The fold
rounds, so it is another network by some units in the last place: how far its outputs are from those of
the first is measured on the data given, reported, and refused where it is more than rounding.
Explanations and attacks are those of the *folded* network; certificates must be made of the one that is
deployed.

Reference: ioffe2015, section 3.1 (at inference the normalisation is linear).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.nn.utils.parametrize import is_parametrized

from conjoin.core.dataset import Dataset
from conjoin.core.drive import Run
from conjoin.core.run import predict
from conjoin.errors import CapabilityError, PlanError
from conjoin.models.torch import TorchModel

ROUNDINGS = 1e4  # units in the last place that a fold may change
_LAYERS = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
_NORMS = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


@dataclass(frozen=True, slots=True, eq=False)
class Optimised:
    """A folded network.

    Attributes:
        model: The network, to be used like the first.
        folded: The dotted names of the normalisations that are gone.
        deviation: Largest difference of an output on the data, in units of the largest output.
    """

    model: TorchModel
    folded: tuple[str, ...]
    deviation: float


def optimised(model: TorchModel, data: Dataset, *, run: Run = Run()) -> Optimised:
    """Fold batch normalisations into the layers before them.

    Args:
        model: A wrapped module whose forward can be traced.
        data: Examples on which the deviation is measured.
        run: Batch size and observer.

    Raises:
        CapabilityError: If the module cannot be traced or has hooks, nothing can be folded, or the
            folded network computes something else.
        PlanError: If it is no wrapped module.
    """
    if not isinstance(model, TorchModel):
        raise PlanError(f"expected a wrapped torch.nn.Module; got {type(model).__name__}")
    if any(part._forward_hooks or part._forward_pre_hooks for part in model.module.modules()):
        raise CapabilityError("a module with hooks is not folded: they may read what would be gone")
    module = copy.deepcopy(model.module).eval()
    try:
        graph = fx.Tracer().trace(module)
    except Exception as error:  # fx raises many kinds
        raise CapabilityError(f"torch.fx cannot trace the module: {error}") from error
    folded = _fold(module, graph)
    if not folded:
        raise CapabilityError("no batch normalisation reads a convolution or dense layer alone")
    made = TorchModel(module, outputs=model._outputs)
    before, after = (predict(one, data, run=run) for one in (model, made))
    size = before.abs().max().clamp(min=torch.finfo(before.dtype).tiny)
    deviation = float((before - after).abs().max() / size)
    if not deviation <= ROUNDINGS * torch.finfo(before.dtype).eps:
        raise CapabilityError(
            f"without {', '.join(folded)} the network gives something else, by {deviation:.1e} of its "
            "largest output: a normalisation does not go over the channels of the layer before it"
        )
    return Optimised(made, folded, deviation)


def _fold(module: nn.Module, graph: fx.Graph) -> tuple[str, ...]:
    """Fold in the module, layer by layer; return what is gone."""
    calls: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls[str(node.target)] = calls.get(str(node.target), 0) + 1
    names = [name for name, _ in module.named_modules(remove_duplicate=False)]
    parts = {id(part) for _, part in module.named_modules()}
    single = len(names) == len(parts)
    found = []
    for node in graph.nodes:
        source = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(source, fx.Node):
            continue
        norm = module.get_submodule(str(node.target))
        if source.op != "call_module" or not isinstance(norm, _NORMS) or not single:
            continue
        layer = module.get_submodule(str(source.target))
        once = calls[str(node.target)] == calls[str(source.target)] == 1
        if not once or not isinstance(layer, _LAYERS) or len(source.users) > 1:
            continue
        if is_parametrized(layer) or is_parametrized(norm):
            continue
        if norm.running_mean is None or norm.running_var is None:
            continue
        _scale(layer, norm)
        _put(module, str(node.target), nn.Identity())
        found.append(str(node.target))
    return tuple(found)


def _scale(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear, norm: nn.Module) -> None:
    """Let a layer compute what it and a normalisation do; in double precision."""
    assert isinstance(norm, _NORMS)  # noqa: S101 - by the caller
    assert norm.running_mean is not None  # noqa: S101 - by the caller
    assert norm.running_var is not None  # noqa: S101 - by the caller
    dtype = layer.weight.dtype
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    factor = factor if norm.weight is None else factor * norm.weight.detach().double()
    bias = -norm.running_mean.double()
    bias = bias if layer.bias is None else bias + layer.bias.detach().double()
    bias = bias * factor
    bias = bias if norm.bias is None else bias + norm.bias.detach().double()
    weight = layer.weight.detach().double() * factor.reshape(-1, *[1] * (layer.weight.ndim - 1))
    layer.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    layer.bias = nn.Parameter(bias.to(dtype), requires_grad=False)


def _put(module: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(module.get_submodule(parent), own, part)


__all__ = ["Optimised", "optimised"]
