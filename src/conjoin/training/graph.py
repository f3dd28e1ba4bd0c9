"""Which parameter feeds which operator: the graph of a network whose weights are being trained.

The operators are read off the module as certifiers read them (:mod:`conjoin.models.trace`), twice:
with the weights as they are, and with every parameter moved. What stays is fixed. What differs is
*live*: its numbers are looked for, by value at both readings, among the parameters of the module and
the ``weight`` of the layer it belongs to, so that no class is believed for its name. A live map is
then the traced operator with today's numbers in it, differentiable in them. What is found nowhere is
refused: a bound that left it out would be wrong.

It is *not* a certificate: that is computed from the finished weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from conjoin.core.linear import Convolution, Dense, Diagonal, Linear
from conjoin.core.operator import Affine, Elementwise, MaxWindows, RootMeanSquare, Step
from conjoin.core.protocols import Batch
from conjoin.core.random import Streams
from conjoin.errors import CapabilityError
from conjoin.models.torch import TorchModel
from conjoin.nn.residual import Centring

Weighed = Dense | Convolution | Diagonal
Source = Callable[[], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Live:
    """An affine map whose numbers are trained.

    Attributes:
        op: As it was read.
        weight: Gives today's weight, in the shape of the operator's.
    """

    op: Affine
    weight: Source

    def map(self) -> Weighed:
        """Return the linear part with today's weight."""
        return with_weight(self.op.map, self.weight())


@dataclass(frozen=True, slots=True, eq=False)
class TrainingGraph:
    """The operators of a network in training.

    Attributes:
        steps: As they were read; of a live map only the shape is to be believed.
        live: The maps that are trained, by place.
        shifts: Gives today's bias where it is trained, by place; ``None`` where it is not known what
            does: constants do not depend on it.
    """

    steps: tuple[Step, ...]
    live: Mapping[int, Live]
    shifts: Mapping[int, Source | None]


def weight_of(map: Linear) -> Tensor:
    """Return the numbers of a map that has some."""
    assert isinstance(map, Weighed)  # noqa: S101 - a live map
    return map.scale if isinstance(map, Diagonal) else map.weight


def with_weight(map: Linear, weight: Tensor) -> Weighed:
    """Return the map with other numbers."""
    if isinstance(map, Diagonal):
        return replace(map, scale=weight)
    assert isinstance(map, Dense | Convolution)  # noqa: S101 - a live map
    return replace(map, weight=weight)


def read_graph(network: nn.Module, example: Tensor) -> TrainingGraph:
    """Read the graph of a network for inputs shaped like the example, ``(1, *input)``.

    Raises:
        CapabilityError: If an operator is not known, or its numbers are found nowhere.
    """
    with evaluated(network), torch.no_grad():
        steps = _steps(network, example)
        candidates = [_candidates(network, step) for step in steps]
        found = [_matching(step, sources) for step, sources in zip(steps, candidates, strict=True)]
        with moved(network):
            again = _steps(network, example)
            if [type(s.op) for s in again] != [type(s.op) for s in steps]:
                raise CapabilityError("the network has another graph when its weights differ")
            pairs = [(place, steps[place], other) for place, other in enumerate(again)]
            live = {
                place: _live(one, other, found[place][0])
                for place, one, other in pairs
                if _differs(one, other, example)
            }
            shifts = {
                place: _shift_of(other, found[place][1])
                for place, one, other in pairs
                if _is_shifted(one, other)
            }
    return TrainingGraph(steps, live, shifts)


@contextmanager
def evaluated(network: nn.Module) -> Iterator[None]:
    """Hold a module in evaluation mode, without gradients in the weights."""
    modes = [(m, m.training) for m in network.modules()]
    wanted = [(p, p.requires_grad) for p in network.parameters()]
    network.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for p, flag in wanted:
            p.requires_grad_(flag)


@contextmanager
def moved(network: nn.Module) -> Iterator[None]:
    """Move every parameter, and what batch normalisation remembers; put all back in the end."""
    remembered = [
        m.running_var if isinstance(m, _BatchNorm) else m.mean
        for m in network.modules()
        if isinstance(m, Centring) or (isinstance(m, _BatchNorm) and m.running_var is not None)
    ]
    values: list[Tensor] = [p for p in network.parameters() if p.is_floating_point()]
    values += [value for value in remembered if value is not None]
    kept = [value.detach().clone() for value in values]
    try:
        for number, value in enumerate(values):
            rng = Streams.of(number, torch.arange(1)).fold("moved")
            noise = rng.uniform(*value.shape)[0].to(value)
            value.data.add_(0.1 * (0.1 + value.abs().mean()) * noise)
        yield
    finally:
        for value, before in zip(values, kept, strict=True):
            value.data.copy_(before)


def _steps(network: nn.Module, example: Tensor) -> tuple[Step, ...]:
    rng = Streams.of(0, torch.arange(len(example), device=example.device))
    aim = torch.zeros(len(example), dtype=torch.int64, device=example.device)
    return TorchModel(network).steps(Batch(example, aim, rng))


def _differs(one: Step, other: Step, example: Tensor) -> bool:
    """Tell whether the numbers of an operator depend on the weights.

    Raises:
        CapabilityError: If what differs is no affine map.
    """
    a, b = one.op, other.op
    if isinstance(a, Affine) and isinstance(b, Affine):
        if isinstance(a.map, Weighed) and isinstance(b.map, Weighed):
            return not torch.equal(weight_of(a.map), weight_of(b.map))
        rng = Streams.of(0, torch.arange(1)).fold("differs")
        x = rng.normal(*a.map.source, dtype=torch.float64).to(example.device)
        same = torch.equal(a.map(x), b.map(x))
    elif isinstance(a, Elementwise) and isinstance(b, Elementwise):
        same = a.slopes == b.slopes
    elif isinstance(a, MaxWindows | RootMeanSquare):
        same = getattr(a, "eps", 0) == getattr(b, "eps", 0)
    else:
        same = True
    if not same:
        raise CapabilityError(
            f"{one.name} has trained numbers that are no weights of an affine map; its constant in "
            "training is not known. Fix them, or leave the layer out"
        )
    return False


def _candidates(network: nn.Module, step: Step) -> list[Source]:
    """Return where the numbers of an affine map may come from, the likeliest first."""
    if not isinstance(step.op, Affine):
        return []
    name = step.name.rpartition(".")[0].partition("#")[0]
    layers = dict(network.named_modules())
    layer = layers.get(name, network)
    if isinstance(layer, _BatchNorm):
        return [partial(_scale, layer), partial(_shift, layer)]
    if isinstance(layer, Centring):
        return [partial(_minus_mean, layer)]
    sources: list[Source] = [
        partial(getattr, layer, part)
        for part in ("weight", "bias")
        if isinstance(getattr(layer, part, None), Tensor)
    ]
    for module in network.modules():
        sources += [partial(getattr, module, n) for n, _ in module.named_parameters(recurse=False)]
    return sources


def _scale(layer: _BatchNorm) -> Tensor:
    assert layer.running_var is not None  # noqa: S101 - else the trace refuses it
    scale = (layer.running_var + layer.eps).rsqrt()
    return scale if layer.weight is None else scale * layer.weight


def _shift(layer: _BatchNorm) -> Tensor:
    assert layer.running_mean is not None  # noqa: S101 - else the trace refuses it
    shift = -layer.running_mean * _scale(layer)
    return shift if layer.bias is None else shift + layer.bias


def _minus_mean(layer: Centring) -> Tensor:
    return -layer.mean


def _shaped(source: Source, shape: torch.Size, turned: bool) -> Tensor:
    value = source()
    return (value.mT if turned else value).reshape(shape)


def _matching(step: Step, sources: list[Source]) -> tuple[list[Source], list[Source]]:
    """Return what gives the weight, and what gives the bias, of an affine map."""
    if not isinstance(step.op, Affine):
        return [], []
    bias, weighed = step.op.bias, isinstance(step.op.map, Weighed)
    return (
        _equal_to(weight_of(step.op.map), sources) if weighed else [],
        [] if bias is None else _equal_to(bias, sources),
    )


def _equal_to(value: Tensor, sources: list[Source]) -> list[Source]:
    found: list[Source] = []
    for source in sources:
        numbers = source()
        if numbers.numel() != value.numel():
            continue
        for turned in (False, True) if numbers.ndim == 2 else (False,):
            shaped = partial(_shaped, source, value.shape, turned)
            if _near(shaped(), value):
                found.append(shaped)
    return found


def _near(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one.double(), other, rtol=1e-5, atol=1e-7 * float(other.abs().max()))


def _is_shifted(one: Step, other: Step) -> bool:
    """Tell whether the bias of an affine map depends on the weights."""
    if not isinstance(one.op, Affine) or not isinstance(other.op, Affine):
        return False
    a, b = one.op.bias, other.op.bias
    return a is not None and b is not None and not torch.equal(a, b)


def _shift_of(other: Step, biases: list[Source]) -> Source | None:
    """Return the first source that still gives the bias after all weights were moved."""
    assert isinstance(other.op, Affine) and other.op.bias is not None  # noqa: S101, PT018 - it is shifted
    bias = other.op.bias
    return next((source for source in biases if _near(source(), bias)), None)


def _live(one: Step, other: Step, weights: list[Source]) -> Live:
    """Keep the sources that still give the numbers after all weights were moved.

    Raises:
        CapabilityError: If there is none.
    """
    assert isinstance(one.op, Affine) and isinstance(other.op, Affine)  # noqa: S101, PT018 - they differ
    value = weight_of(other.op.map)
    kept = [source for source in weights if _near(source(), value)]
    if not kept:
        raise CapabilityError(
            f"{one.name} is computed from trained numbers in a way that is not known; its bound is "
            "never assumed. Give the layer an attribute `weight` that is the weight it applies, or "
            "use a layer of torch.nn or conjoin.nn"
        )
    return Live(one.op, kept[0])


__all__ = ["Live", "TrainingGraph", "evaluated", "moved", "read_graph", "weight_of", "with_weight"]
