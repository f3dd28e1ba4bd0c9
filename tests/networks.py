"""Networks that a certifier must bound rightly or refuse: what it may not believe, in one list.

A network is a function of its layers: ``net(lambda m, x: m.head(m.a(x) * 3), a=..., head=...)``. Every
weight is a pure function of a seed, so a second call of the same maker gives the same network, which
the tests turn into double precision to find what is true of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from conjoin.core.random import Streams

FLAT, IMAGE, COLOUR = (6,), (1, 6, 6), (3, 4, 4)
CLASSES = 3
Maker = Callable[[], nn.Module]


class Expected(Enum):
    """What a certifier owes its user on a network."""

    EITHER = "bounds that hold, or a refusal"
    BOUNDS = "bounds that hold"
    REFUSED = "a refusal"


@dataclass(frozen=True)
class Case:
    """An odd network and what is expected of it.

    Attributes:
        make: Makes the module, with the same weights each time.
        shape: Of one input.
        expected: What a certifier owes.
        outputs: As of :func:`conjoin.wrap`.
        twin: Makes what the module computes in real arithmetic, where its double is not that.
        around: Holds while the network is used (a global hook).
        match: What the refusal must say.
        gain: Factor of the radii at which bounds must not be void.
    """

    name: str
    make: Maker
    shape: tuple[int, ...] = FLAT
    expected: Expected = Expected.EITHER
    outputs: Callable[[Any], Tensor] | None = None
    twin: Maker | None = None
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    match: str = ""
    gain: float = field(default=1.0)

    def truth(self) -> Callable[[Tensor], Tensor]:
        """The network in double precision."""
        module = (self.twin or self.make)().double().eval()
        pick = self.outputs or (lambda out: out)
        return lambda x: pick(module(x))


def seeded(module: nn.Module, seed: int) -> nn.Module:
    """Fill parameters, running statistics and iterates: weights of gain about 1, biases of 0.3."""
    with torch.no_grad():
        for number, (name, value) in enumerate(
            [*module.named_parameters(), *module.named_buffers()]
        ):
            if not value.is_floating_point():
                continue
            rng = Streams.of(1000 * seed + number, torch.arange(1))
            drawn = rng.normal(*value.shape, dtype=torch.float64)[0]
            last = name.rsplit(".", 1)[-1]
            if value.ndim >= 2:
                drawn = drawn / math.sqrt(value[0].numel())
            elif last in {"running_var", "std"}:
                drawn = 1 + drawn.abs()
            elif last == "weight":
                drawn = 1 + 0.5 * drawn
            else:
                drawn = 0.3 * drawn
            value.copy_(drawn)
    return module


class Net(nn.Module):
    """A function of an input and of named layers."""

    def __init__(self, function: Callable[[Any, Tensor], Any], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def net(function: Callable[[Any, Tensor], Any], seed: int = 1, **layers: Maker) -> Maker:
    """Make a maker of a network of layers ``a``, ``b``, ``head`` and whatever is named."""

    def make() -> nn.Module:
        fresh = {
            "a": lambda: nn.Linear(6, 6),
            "b": lambda: nn.Linear(6, 6),
            "head": flat(6),
            **layers,
        }
        return seeded(Net(function, **{name: layer() for name, layer in fresh.items()}), seed)

    return make


def flat(features: int) -> Maker:
    """Make a maker of a dense head."""
    return lambda: nn.Linear(features, CLASSES)


def aligned(make: Maker) -> Maker:
    """Make a maker of the network with a head whose weights have one sign: copies add up in it."""

    def align(module: Any) -> None:
        weight = module.head.weight
        rows = torch.tensor([1.0, -0.5, 0.2], dtype=weight.dtype)
        weight.data = rows[:, None].expand_as(weight) / math.sqrt(weight.shape[1])

    return changed(make, align)


def layer(make: Maker, shape: tuple[int, ...], seed: int = 2) -> Maker:
    """Make a maker of: the layer, an affine map before it where that is flat, a dense head."""

    def chain() -> nn.Module:
        inner = make().eval()
        front = [nn.Linear(shape[-1], shape[-1])]
        seeded(nn.Sequential(*front, inner), seed)
        with torch.no_grad():
            out = nn.Sequential(*front, inner)(torch.zeros(2, *shape))
        head = seeded(nn.Linear(out[0].numel(), CLASSES), seed + 1)
        return nn.Sequential(*front, inner, nn.Flatten(), head).eval()

    return chain


def changed(make: Maker, change: Callable[[Any], object]) -> Maker:
    """Make a maker of the network after a change to it."""

    def make_changed() -> nn.Module:
        module = make()
        change(module)
        return module

    return make_changed


def plain(seed: int = 1) -> Maker:
    """A chain of three dense layers with two activations, named 0 to 4."""
    return lambda: seeded(
        nn.Sequential(
            nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, CLASSES)
        ),
        seed,
    )


class Loud(nn.Linear):
    """A dense layer that gives thirty times what its class promises."""

    def forward(self, x: Tensor) -> Tensor:
        return -30 * super().forward(x)


class Called(nn.Linear):
    """A dense layer whose call does more than its forward."""

    def __call__(self, x: Tensor) -> Tensor:
        return -30 * super().__call__(x)


class LoudFlatten(nn.Flatten):
    def forward(self, x: Tensor) -> Tensor:
        return -30 * super().forward(x)


class Steep(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return 30 * x.abs()


class Backwards(nn.Sequential):
    """Runs its layers in the opposite order."""

    def forward(self, x: Tensor) -> Tensor:
        for part in reversed(list(self)):
            x = part(x)
        return x


def liar(name: str, home: str) -> type[nn.Linear]:
    """A class that says it is another one."""

    class Inner(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return -30 * super().forward(x)

    Inner.__name__ = Inner.__qualname__ = name
    Inner.__module__ = home
    return Inner


class Defaults(nn.Module):
    """A forward with default arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(6, 6), nn.Linear(6, CLASSES)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, *, scale: float = 2.0, deep: bool = True
    ) -> Tensor:
        h = self.a(x) * scale if deep else x
        return self.head(h if mask is None else h * mask)


class Counter(nn.Module):
    """Multiplies by a number that changes with every call, from the call ``after`` on."""

    def __init__(self, after: int = 0) -> None:
        super().__init__()
        self.head, self.calls, self.after = nn.Linear(6, CLASSES), 0, after

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.head(x) * (1 + max(0, self.calls - self.after))


class Buffered(nn.Module):
    """Counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, CLASSES)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return self.head(x) * self.calls


class Doubled(nn.Module):
    """A parametrisation: the weight times -3."""

    def forward(self, weight: Tensor) -> Tensor:
        return -3 * weight


class Redrawn(nn.Module):
    """A parametrisation that draws."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight + torch.rand_like(weight)


class Everywhere:
    """A hook on every module: activations become 30 times as large."""

    def __enter__(self) -> None:
        def hook(module: nn.Module, _: Any, out: Any) -> Any:
            return 30 * out if isinstance(module, nn.ReLU) else None

        self.handle = nn.modules.module.register_module_forward_hook(hook)

    def __exit__(self, *_: object) -> None:
        self.handle.remove()


class EverywhereBefore(Everywhere):
    """A pre-hook on every module."""

    def __enter__(self) -> None:
        def hook(module: nn.Module, args: Any) -> Any:
            return (30 * args[0],) if isinstance(module, nn.ReLU) else None

        self.handle = nn.modules.module.register_module_forward_pre_hook(hook)


def parametrised(kind: str, make: Callable[[], nn.Module], name: str = "weight") -> Maker:
    """A layer under a parametrisation of PyTorch's, with seeded weights and iterates."""

    def build() -> nn.Module:
        inner = seeded(make(), 5)
        wrapped: nn.Module = getattr(nn.utils.parametrizations, kind)(inner, name)
        if kind == "spectral_norm":
            u, _, v = torch.linalg.svd(inner.parametrizations.weight.original.flatten(1))
            norm = inner.parametrizations.weight[0]
            norm._u.copy_(u[:, 0])
            norm._v.copy_(v[0])
        return wrapped

    return build


def chained(*makers: Maker, seed: int = 3) -> Maker:
    """A chain whose parametrised parts keep the weights they were made with."""

    def make() -> nn.Module:
        parts = [part() for part in makers]
        for number, part in enumerate(parts):
            if not nn.utils.parametrize.is_parametrized(part):
                seeded(part, seed + number)
        return nn.Sequential(*parts)

    return make


def names(cases: list[Case]) -> Iterator[str]:
    """Names for pytest."""
    return (case.name for case in cases)
