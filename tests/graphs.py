"""Random networks of all operators: sums, differences, slices, pools, norms, in 1 to 3 dimensions.

A network is a pure function of its seed, also its weights. :data:`OPERATIONS` names what can occur;
each takes a builder and the position of a value, and adds one operation on it, or fails where the
value's shape does not allow it: the builder then throws again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from networks import CLASSES, seeded
from torch import Tensor, nn
from torch.nn import functional

from conjoin.core.random import Streams
from conjoin.nn import MinMax, Normalise

T = TypeVar("T")
Function = Callable[..., Tensor]
LARGEST = 160  # elements of a value
SHAPES = ((6,), (2, 6), (2, 5, 4), (1, 3, 4, 3))
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky": lambda: nn.LeakyReLU(0.3),
    "steep": lambda: nn.LeakyReLU(1.7),
    "turned": lambda: nn.LeakyReLU(-0.4),
    "relu6": nn.ReLU6,
    "hardtanh": lambda: nn.Hardtanh(-0.4, 0.6),
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "mish": nn.Mish,
    "selu": nn.SELU,
    "celu": lambda: nn.CELU(0.7),
    "elu": lambda: nn.ELU(1.3),
    "prelu": nn.PReLU,
    "gelu": nn.GELU,
    "gelu tanh": lambda: nn.GELU("tanh"),
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "log sigmoid": nn.LogSigmoid,
    "tanh": nn.Tanh,
    "softplus": lambda: nn.Softplus(2.0),
    "softplus jump": lambda: nn.Softplus(2.0, 1.0),
    "softsign": nn.Softsign,
    "tanhshrink": nn.Tanhshrink,
    "softshrink": lambda: nn.Softshrink(0.2),
}


class Dice:
    """Choices that are a pure function of a seed."""

    def __init__(self, seed: int) -> None:
        self.values = (
            Streams.of(seed, torch.arange(1)).uniform(8192, dtype=torch.float64)[0].tolist()
        )
        self.place = 0

    def unit(self) -> float:
        self.place += 1
        return float(self.values[self.place % len(self.values)])

    def between(self, low: int, high: int) -> int:
        """Both ends included."""
        return low + int(self.unit() * (high - low + 1))

    def pick(self, options: Sequence[T]) -> T:
        return options[self.between(0, len(options) - 1)]


@dataclass(frozen=True)
class Node:
    """A function of the network and of earlier values."""

    name: str
    function: Function
    sources: tuple[int, ...]


class Graph(nn.Module):
    """Evaluates a plan; value 0 is the input."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList()
        self.plan: list[Node] = []

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for node in self.plan:
            values.append(node.function(self, *(values[source] for source in node.sources)))
        return values[-1]

    def extra_repr(self) -> str:
        return "; ".join(f"{i + 1}={n.name}{list(n.sources)}" for i, n in enumerate(self.plan))

    @property
    def used(self) -> set[str]:
        """Names of the operations in it."""
        return {node.name for node in self.plan}


class Builder:
    """A network under construction, with the values of two examples."""

    def __init__(self, seed: int, shape: tuple[int, ...]) -> None:
        self.seed, self.dice, self.graph = seed, Dice(seed), Graph()
        self.values = [Streams.of(seed, torch.arange(2)).uniform(*shape, dtype=torch.float64)]

    def add(self, name: str, function: Function, *sources: int) -> int:
        """Add an operation.

        Raises:
            ValueError: If its value is too large, degenerate or not one row per example.
        """
        with torch.no_grad():
            value = function(self.graph.double(), *(self.values[source] for source in sources))
        if value.ndim < 2 or len(value) != 2 or not 2 <= value[0].numel() <= LARGEST:
            raise ValueError(f"{name} gives {tuple(value.shape)}")
        if not bool(value.isfinite().all()) or float(value.abs().max()) > 1e3:
            raise ValueError(f"{name} grows too large")
        self.graph.plan.append(Node(name, function, sources))
        self.values.append(value)
        return len(self.values) - 1

    def layer(self, name: str, made: nn.Module, *sources: int) -> int:
        """Add a layer with seeded weights."""
        number = len(self.graph.parts)
        self.graph.parts.append(seeded(made, 97 * self.seed + number).eval())
        try:
            return self.add(name, lambda m, *v: m.parts[number](*v), *sources)
        except Exception:
            del self.graph.parts[number]
            raise

    def shape(self, place: int) -> tuple[int, ...]:
        return tuple(self.values[place].shape[1:])

    def fellow(self, place: int, free: int | None = None) -> int:
        """A value of the same shape (but for the axis ``free``); the same one if there is no other."""

        def frame(other: int) -> list[int]:
            return [n for axis, n in enumerate(self.shape(other), 1) if axis != free]

        alike = [i for i in range(len(self.values)) if frame(i) == frame(place)]
        alike = [i for i in alike if len(self.shape(i)) == len(self.shape(place))]
        others = [i for i in alike if i != place]
        return self.dice.pick(others or alike)

    def axis(self, place: int) -> int:
        """An axis of the batch, from 1."""
        return self.dice.between(1, len(self.shape(place)))


def _dense(b: Builder, s: int) -> int:
    return b.layer("dense", nn.Linear(b.shape(s)[-1], b.dice.between(2, 7)), s)


def _same(b: Builder, s: int) -> int:
    """A dense layer that keeps the shape, so that sums have something to add."""
    return b.layer("dense, same", nn.Linear(b.shape(s)[-1], b.shape(s)[-1]), s)


def _convolution(b: Builder, s: int) -> int:
    d, channels, axes = b.dice, b.shape(s)[0], len(b.shape(s)) - 1
    kind: Any = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[axes]
    groups = d.pick([g for g in (1, 2, 3) if channels % g == 0])
    kernel, dilation = d.between(1, 3), d.between(1, 2)
    mode = d.pick(("zeros", "zeros", "reflect", "replicate", "circular"))
    same = d.unit() < 0.3 and (kernel - 1) * dilation % 2 == 0  # PyTorch warns of the others
    made = kind(
        channels,
        channels if same and d.unit() < 0.7 else groups * d.between(1, 3),
        kernel,
        1 if same else d.between(1, 2),
        "same" if same else d.between(0, 2),
        dilation,
        groups,
        d.unit() < 0.8,
        mode,
    )
    return b.layer(f"convolution, {mode}", made, s)


def _transposed(b: Builder, s: int) -> int:
    d, channels, axes = b.dice, b.shape(s)[0], len(b.shape(s)) - 1
    kind: Any = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[axes]
    groups, stride = d.pick([g for g in (1, 2, 3) if channels % g == 0]), d.between(1, 2)
    made = kind(
        channels,
        groups * d.between(1, 2),
        d.between(1, 3),
        stride,
        d.between(0, 1),
        d.between(0, stride - 1),
        groups,
        d.unit() < 0.8,
        d.between(1, 2),
    )
    return b.layer("transposed convolution", made, s)


def _activation(b: Builder, s: int) -> int:
    name = b.dice.pick(list(ACTIVATIONS))
    made = ACTIVATIONS[name]()
    if name == "prelu" and b.dice.unit() < 0.5:
        made = nn.PReLU(b.shape(s)[0])
    return b.layer(name, made, s)


def _minmax(b: Builder, s: int) -> int:
    if b.shape(s)[0] % 2:
        raise ValueError("MinMax pairs channels")
    return b.layer("minmax", MinMax(), s)


def _normalisation(b: Builder, s: int) -> int:
    channels, axes = b.shape(s)[0], len(b.shape(s)) - 1
    if b.dice.unit() < 0.3:
        return b.layer("normalise", Normalise([0.1] * channels, [0.7] * channels), s)
    kind: Any = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[axes]
    return b.layer("batch norm", kind(channels, affine=b.dice.unit() < 0.8), s)


def _layer_norm(b: Builder, s: int) -> int:
    return b.layer("layer norm", nn.LayerNorm(b.shape(s)[-b.dice.between(1, len(b.shape(s))) :]), s)


def _average(b: Builder, s: int) -> int:
    d, axes = b.dice, len(b.shape(s)) - 1
    kernel = d.between(2, 3)
    options: dict[str, Any] = {
        "padding": d.between(0, kernel // 2),
        "ceil_mode": d.unit() < 0.5,
        "count_include_pad": d.unit() < 0.5,
    }
    if axes > 1 and d.unit() < 0.4:
        options["divisor_override"] = d.pick((1, 3, 5))
    kind: Any = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}[axes]
    return b.layer("average pool", kind(kernel, d.between(1, 3), **options), s)


def _largest(b: Builder, s: int) -> int:
    d, axes = b.dice, len(b.shape(s)) - 1
    kernel = d.between(2, 3)
    kind: Any = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}[axes]
    made = kind(
        kernel,
        d.between(1, 3),
        d.between(0, kernel // 2),
        d.between(1, 2),
        ceil_mode=d.unit() < 0.5,
    )
    return b.layer("max pool", made, s)


def _adaptive(b: Builder, s: int) -> int:
    d, axes = b.dice, len(b.shape(s)) - 1
    kinds: Any = {
        1: (nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d),
        2: (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
        3: (nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d),
    }[axes]
    return b.layer("adaptive pool", d.pick(kinds)(d.between(1, 3)), s)


def _sum(b: Builder, s: int) -> int:
    other, factor = b.fellow(s), b.dice.pick((1.0, 0.7, -2.0))
    kinds: dict[str, Function] = {
        "sum": lambda m, x, y: x + y,
        "difference": lambda m, x, y: x - y,
        "sum, alpha": lambda m, x, y: torch.add(x, y, alpha=factor),
        "difference, alpha": lambda m, x, y: x.sub(y, alpha=factor),
        "sum in place": lambda m, x, y: (x * 1.0).add_(y),
        "sum of three": lambda m, x, y: x + y + x,
    }
    name = b.dice.pick(list(kinds))
    return b.add(name, kinds[name], s, other)


def _broadcast(b: Builder, s: int) -> int:
    axis = b.axis(s)
    kinds: dict[str, Function] = {
        "broadcast sum": lambda m, x: x + x.mean(axis, keepdim=True),
        "broadcast difference": lambda m, x: x.narrow(axis, 0, 1) - x,
        "expand": lambda m, x: x.narrow(axis, 0, 1).expand(x.shape),
        "centre": lambda m, x: x - x.mean(tuple(range(1, x.ndim)), keepdim=True),
    }
    name = b.dice.pick(list(kinds))
    return b.add(name, kinds[name], s)


def _scalar(b: Builder, s: int) -> int:
    c = b.dice.pick((-1.5, 0.3, 2.0))
    kinds: dict[str, Function] = {
        "multiple": lambda m, x: x * c,
        "quotient": lambda m, x: x / c,
        "shift": lambda m, x: x + c,
        "turned shift": lambda m, x: c - x,
        "negative": lambda m, x: -x,
        "multiple in place": lambda m, x: (x + 0.0).mul_(c),
    }
    name = b.dice.pick(list(kinds))
    return b.add(name, kinds[name], s)


def _buffer(b: Builder, s: int) -> int:
    held = nn.Module()
    shape = b.shape(s) if b.dice.unit() < 0.5 else (b.shape(s)[0], *[1] * (len(b.shape(s)) - 1))
    held.register_buffer("value", torch.zeros(shape))
    seeded(held, b.seed)
    number = len(b.graph.parts)
    b.graph.parts.append(held)
    if b.dice.unit() < 0.5:
        return b.add("buffer multiple", lambda m, x: x * m.parts[number].value, s)
    return b.add("buffer sum", lambda m, x: m.parts[number].value - x, s)


def _concat(b: Builder, s: int) -> int:
    axis = b.axis(s)
    return b.add("concat", lambda m, x, y: torch.cat((x, y), axis), s, b.fellow(s, axis))


def _slice(b: Builder, s: int) -> int:
    axis = b.axis(s)
    size, step = b.shape(s)[axis - 1], b.dice.between(1, 2)
    start = b.dice.between(0, size - 2)
    cut = (*[slice(None)] * axis, slice(start, b.dice.between(start + 1, size), step))
    return b.add("slice", lambda m, x: x[cut], s)


def _pieces(b: Builder, s: int) -> int:
    axis = b.axis(s)
    if b.shape(s)[axis - 1] % 2:
        raise ValueError("no halves")
    kinds: dict[str, Function] = {
        "halves turned": lambda m, x: torch.cat(x.chunk(2, axis)[::-1], axis),
        "halves' difference": lambda m, x: x.chunk(2, axis)[0] - x.chunk(2, axis)[1],
        "stacked": lambda m, x: torch.stack(x.unbind(axis)[::-1], axis),
        "split": lambda m, x: torch.cat(x.split([1, x.shape[axis] - 1], axis)[::-1], axis),
    }
    name = b.dice.pick(list(kinds))
    return b.add(name, kinds[name], s)


def _moved(b: Builder, s: int) -> int:
    axes = list(range(1, len(b.shape(s)) + 1))
    turned = (0, *sorted(axes, key=lambda _: b.dice.unit()))
    axis, features = b.axis(s), math.prod(b.shape(s))
    divisor = b.dice.pick([n for n in range(1, features + 1) if features % n == 0])
    kinds: dict[str, Function] = {
        "permute": lambda m, x: x.permute(turned),
        "transpose": lambda m, x: x.transpose(1, axis),
        "flatten": lambda m, x: x.flatten(1),
        "reshape": lambda m, x: x.reshape(x.shape[0], divisor, -1),
        "flip": lambda m, x: x.flip(axis),
        "unsqueeze": lambda m, x: x.unsqueeze(axis),
    }
    name = b.dice.pick(list(kinds))
    return b.add(name, kinds[name], s)


def _reduced(b: Builder, s: int) -> int:
    axis = b.axis(s)
    kinds: dict[str, Function] = {
        "mean": lambda m, x: x.mean(axis),
        "mean, kept": lambda m, x: (
            x.mean((axis, -1), keepdim=True) if x.ndim > 2 else x.mean(1, True)
        ),
        "total": lambda m, x: x.sum(axis),
        "amax": lambda m, x: x.amax(axis),
        "amin": lambda m, x: x.amin(axis),
        "max values": lambda m, x: x.max(axis).values,
    }
    name = b.dice.pick(list(kinds))
    return b.add(name, kinds[name], s)


def _larger(b: Builder, s: int) -> int:
    kinds: dict[str, Function] = {
        "maximum": lambda m, x, y: torch.maximum(x, y),
        "minimum": lambda m, x, y: torch.minimum(x, y),
    }
    name = b.dice.pick(list(kinds))
    return b.add(name, kinds[name], s, b.fellow(s))


def _padded(b: Builder, s: int) -> int:
    axes = len(b.shape(s)) - 1
    mode = b.dice.pick(("constant", "reflect", "replicate", "circular"))
    width = tuple(b.dice.between(0, 2) for _ in range(2 * axes))
    return b.add(f"pad, {mode}", lambda m, x: functional.pad(x, width, mode), s)


def _idle(b: Builder, s: int) -> int:
    axes = len(b.shape(s)) - 1
    kind: Any = {1: nn.Dropout1d, 2: nn.Dropout2d, 3: nn.Dropout3d}.get(axes, nn.Dropout)
    return b.layer("dropout", b.dice.pick((kind, nn.Identity))(), s)


OPERATIONS: tuple[Callable[[Builder, int], int], ...] = (
    _dense,
    _same,
    _convolution,
    _convolution,
    _transposed,
    _activation,
    _activation,
    _activation,
    _minmax,
    _normalisation,
    _layer_norm,
    _average,
    _largest,
    _adaptive,
    _sum,
    _sum,
    _broadcast,
    _scalar,
    _buffer,
    _concat,
    _slice,
    _pieces,
    _moved,
    _reduced,
    _larger,
    _padded,
    _idle,
)


def random_graph(
    seed: int, *, layer_norm: bool = True, length: tuple[int, int] = (3, 9)
) -> tuple[Graph, tuple[int, ...]]:
    """Make a random network of ``length`` operations and a head; return it and its input's shape.

    The network is in single precision and evaluation mode; its outputs are ``CLASSES`` logits.
    """
    dice = Dice(seed)
    shape = SHAPES[seed % len(SHAPES)]
    b = Builder(seed, shape)
    wanted, place = dice.between(*length), 0
    for _ in range(40 * wanted):
        if len(b.graph.plan) >= wanted:
            break
        operation = dice.pick(OPERATIONS)
        if operation is _layer_norm and not layer_norm:
            continue
        source = place if dice.unit() < 0.75 else dice.between(0, len(b.values) - 1)
        try:
            place = operation(b, source)
        except (ValueError, RuntimeError, IndexError, KeyError, AssertionError):
            continue  # the shape does not allow it
    heads = []
    for end in _ends(b):
        h = b.add("flatten", lambda m, x: x.flatten(1), end)
        heads.append(b.layer("head", nn.Linear(b.shape(h)[0], CLASSES), h))
    total = heads[0]
    for head in heads[1:]:
        total = b.add("difference of heads", lambda m, x, y: x - y, total, head)
    return b.graph.float().eval(), shape


def _ends(b: Builder) -> list[int]:
    """The values that nothing uses: all of them count in the output."""
    used = {source for node in b.graph.plan for source in node.sources}
    free = [i for i in range(len(b.values)) if i not in used]
    return free[-3:]
