"""On which pieces of a piecewise linear network do the rows of a pass lie?

While :class:`Switches` is entered, every operation with kinks is looked at: on which side of each kink
an element lies (ReLU, leaky ReLU, clamp, ...), or which entry is the largest (max pooling, maxima).
Neighbouring blocks of rows are compared, and the share of elements that differ is added up over the
operations. Forward passes alone; smooth activations have no pieces and add nothing, but the gates of
recurrent layers, which switch where their arguments change sign. It sees what goes through the
functions of ``torch``. Where none of them had pieces the network is smooth.

It tells where a path crosses the pieces of a network, *not* how much the gradient changes there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from conjoin.models.call import Call, name_of
from conjoin.models.recurrent import RECURRENT, sides

Named = dict[str, Any]
_CARRIED = 255  # the largest sum that a byte holds


class Switches(TorchFunctionMode):
    """The mode; see the module.

    Args:
        rows: Of the batch; it may be padded with more.
        blocks: The whole batches among them.
        sizes: To how many rows the batch may be padded.
    """

    def __init__(self, rows: int, blocks: int, sizes: Collection[int] = ()) -> None:
        super().__init__()
        self.sizes = {rows, *sizes}
        self.rows, self.blocks = rows, blocks
        self.total: Tensor | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Look, then do one operation."""
        named = dict(kwargs or {})
        name = name_of(func)
        if name in RECURRENT:
            call = Call(func, args, named)
            call.name = name  # which it does not look up where no graph is
            for side in sides(call):
                if len(side) in self.sizes:
                    self._compare(side)
        look = _LOOKS.get(name)
        if look is not None:
            names, seen = look
            bound = {**dict(zip(names.split(), args, strict=False)), **named}
            first = bound.get("input")
            if isinstance(first, Tensor) and self._second(first):
                bound["input"], first = first.transpose(0, 1), first.transpose(0, 1)
            if isinstance(first, Tensor) and first.ndim and len(first) >= self.rows:
                for pieces in seen(bound):
                    self._compare(pieces)
        return func(*args, **named)

    def _second(self, value: Tensor) -> bool:
        """Tell by its size whether the batch stands second, as between the layers of a sequence."""
        return value.ndim > 2 and len(value) not in self.sizes and value.shape[1] in self.sizes

    def _compare(self, pieces: Tensor) -> None:
        """Add the share of elements in which neighbouring blocks differ."""
        blocks = pieces[: self.rows].reshape(self.blocks, self.rows // self.blocks, -1)
        share = _changes(blocks).double() / max(1, blocks.shape[2])
        self.total = share if self.total is None else self.total + share

    def shares(self, device: torch.device) -> Tensor:
        """Return the sums, ``(blocks - 1, batch)``; NaN if nothing had pieces."""
        shape = self.blocks - 1, self.rows // self.blocks
        nothing = torch.full(shape, torch.nan, dtype=torch.float64, device=device)
        return nothing if self.total is None else self.total


def _changes(blocks: Tensor) -> Tensor:
    """Count the elements in which neighbouring blocks ``(blocks, rows, elements)`` differ.

    Flags are bytes, so eight of them are added at once as one number, as long as no byte of it can
    carry into the next: counting them one by one is slow.
    """
    flags = blocks[1:] != blocks[:-1]
    if flags.shape[2] % 8 or not flags.numel():
        return flags.sum(2, dtype=torch.int32)
    eights = flags.view(torch.int64)
    whole = eights.shape[2] // _CARRIED * _CARRIED
    sums = eights[:, :, :whole].unflatten(2, (-1, _CARRIED)).sum(3)
    sums = torch.cat([sums, eights[:, :, whole:].sum(2, keepdim=True)], 2)
    return sums.view(torch.uint8).sum(2, dtype=torch.int32)


def _sides(*kinks: float) -> Callable[[Named], list[Tensor]]:
    return lambda bound: [bound["input"] > kink for kink in kinks]


def _between(low: str, high: str, least: float | None, most: float | None) -> Any:
    """Look at the sides of two bounds that are arguments."""

    def seen(bound: Named) -> list[Tensor]:
        ends = bound.get(low, least), bound.get(high, most)
        return [bound["input"] > end for end in ends if isinstance(end, int | float)]

    return seen


def _shrunk(bound: Named) -> list[Tensor]:
    width = bound.get("lambd", 0.5)
    return [bound["input"] > width, bound["input"] > -width]


def _winners(sign: int) -> Callable[[Named], list[Tensor]]:
    """Look at which of two values, or of the entries along axes, is the largest."""

    def seen(bound: Named) -> list[Tensor]:
        z, other = bound["input"], bound.get("other", bound.get("dim"))
        if isinstance(other, Tensor):
            return [z > other]
        axes = [other] if isinstance(other, int) else list(other or ())
        if not axes or any(axis % z.ndim == 0 for axis in axes):
            return []
        best = z.amax(axes, keepdim=True) if sign > 0 else z.amin(axes, keepdim=True)
        return [z == best]

    return seen


def _compared(bound: Named) -> list[Tensor]:
    """Look at a comparison, of which a module makes a mask or a branch of values."""
    other = bound.get("other")
    return [] if other is None else [bound["input"] > other]


def _pooled(pool: Callable[..., tuple[Tensor, Tensor]], names: str) -> Any:
    def seen(bound: Named) -> list[Tensor]:
        known = {name: bound[name] for name in names.split() if name in bound}
        return [pool(bound["input"].detach(), **known)[1]]

    return seen


_WINDOWS = "kernel_size stride padding dilation ceil_mode"
_LOOKS: dict[str, tuple[str, Callable[[Named], list[Tensor]]]] = {
    **{
        name: ("input", _sides(0.0))
        for name in (
            "relu",
            "leaky_relu",
            "prelu",
            "rrelu",
            "abs",
            "absolute",
            "elu",
            "celu",
            "selu",
        )
    },
    "relu6": ("input", _sides(0.0, 6.0)),
    "hardsigmoid": ("input", _sides(-3.0, 3.0)),
    "hardswish": ("input", _sides(-3.0, 3.0)),
    "hardtanh": ("input min_val max_val", _between("min_val", "max_val", -1.0, 1.0)),
    "softshrink": ("input lambd", _shrunk),
    **{name: ("input min max", _between("min", "max", None, None)) for name in ("clamp", "clip")},
    "clamp_min": ("input min", _between("min", "max", None, None)),
    "clamp_max": ("input max", _between("min", "max", None, None)),
    **{name: ("input other", _winners(1)) for name in ("maximum", "fmax", "max", "amax")},
    **{name: ("input other", _winners(-1)) for name in ("minimum", "fmin", "min", "amin")},
    **{name: ("input other", _compared) for name in ("gt", "ge", "lt", "le", "greater", "less")},
    "threshold": ("input threshold", lambda bound: [bound["input"] > bound["threshold"]]),
    **{
        f"max_pool{axes}d": (
            f"input {_WINDOWS}",
            _pooled(getattr(functional, f"max_pool{axes}d_with_indices"), _WINDOWS),
        )
        for axes in (1, 2, 3)
    },
    **{
        f"adaptive_max_pool{axes}d": (
            "input output_size",
            _pooled(getattr(functional, f"adaptive_max_pool{axes}d_with_indices"), "output_size"),
        )
        for axes in (1, 2, 3)
    },
}

__all__ = ["Switches"]
