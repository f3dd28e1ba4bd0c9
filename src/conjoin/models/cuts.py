"""What happens at a cut: a value is put in, or taken out and joined on again.

A batch runs through the module with rows of padding behind its own. A taken value is a value of the
batch's rows alone, and what follows is computed from it (and from the padding, which has no
gradient): so gradients of anything later, with respect to it, exist.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from conjoin.core.slice import OUTPUT, Cut, Side
from conjoin.errors import CutError

TILE = 4
SMALL = 4096  # numbers in an input, up to which a few rows more cost little
Path = tuple[int | str, ...]
Place = tuple[str, Side, int]  # module, side, call


def plainly() -> AbstractContextManager[object]:
    """Compute without the slopes of :mod:`conjoin.models.secant`: what moves rows has none."""
    return torch._C.DisableTorchFunction()


@contextmanager
def one_attention() -> Iterator[None]:
    """Within, let attention of torch go the same way with and without a graph.

    Without one, in evaluation mode, it takes a fused kernel that gives NaN to a position that may look
    at none (padding on the left under a causal mask, an example that is padded all over), where the
    parts give zeros; one layer further every position that looks there is NaN as well.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    if not fused:
        yield
        return
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def pad(value: Tensor, spare: int) -> Tensor:
    """Append ``spare`` copies of the last row, without gradient; never the same memory."""
    if not spare:
        return value.clone()
    return torch.cat([value, value[-1:].detach().expand(spare, *value.shape[1:])])


@lru_cache(maxsize=1)
def fewest() -> int:
    """Return from how many rows on dense kernels of this processor round every row alike.

    It is ``TILE`` on most; processors with tiles of registers take other kernels below 16.
    """
    with torch.no_grad(), torch.autocast("cpu", enabled=False), plainly():
        for terms, units in ((784, 10), (300, 100)):
            weight = torch.arange(units * terms, device="cpu").float().sin().view(units, terms)
            x = torch.arange(64 * terms, device="cpu").float().cos().view(64, terms)
            parts = [functional.linear(part, weight) for part in x.split(TILE)]
            if not torch.equal(torch.cat(parts), functional.linear(x, weight)):
                return 16
    return TILE


def filled(count: int, least: int = TILE) -> int:
    """Return the rows of a pass of ``count`` examples: a multiple of ``TILE``, and ``least``."""
    return max(count + -count % TILE, least) if count else 0


def fillings(count: int) -> frozenset[int]:
    """Return how many rows a pass of ``count`` examples may have, whatever the examples are."""
    return frozenset({filled(count), filled(count, fewest())})


def least_of(x: Tensor) -> int:
    """Return how many rows a pass of such inputs has at least."""
    small = x.device.type == "cpu" and x.shape[1:].numel() <= SMALL
    return fewest() if small else TILE


def padded(x: Tensor, context: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Pad to as many rows as a pass has; copies, since a layer may write into its input."""
    with plainly():
        spare = filled(len(x), least_of(x)) - len(x)
        return pad(x, spare), {name: pad(value, spare) for name, value in context.items()}


def put_in(raw: Any, cut: Cut, path: Path, value: Tensor) -> Any:
    """Return what lies at a cut with a (padded) value in place of the tensor there."""
    with plainly():
        if path or cut.at is not None:
            old = _found(raw, cut, path)
            if cut.at is not None:
                value = old.select_scatter(value, 1, _position(old, cut))
        return replaced(raw, path, value)


def take_out(raw: Any, cut: Cut, path: Path, count: int) -> Tensor:
    """Return the rows of the batch of the tensor at a cut, in memory of their own."""
    with plainly():
        value = _found(raw, cut, path)
        if cut.at is not None:
            value = value.select(1, _position(value, cut))
        if value.ndim == 0 or len(value) not in fillings(count):
            sizes = " or ".join(map(str, sorted(fillings(count))))
            raise CutError(
                f"{cut}: the value there has shape {tuple(value.shape)}, of which the first axis is "
                f"not the batch ({count} examples, padded to {sizes})"
            )
        taken = value[:count].clone()
        if torch.is_grad_enabled() and taken.is_floating_point() and not taken.requires_grad:
            taken.requires_grad_()  # nothing before it does: tokens, and weights that are held
        return taken


def join_on(raw: Any, cut: Cut, path: Path, taken: Tensor) -> Any:
    """Return what lies at a cut with the tensor there made of what was taken, and its padding."""
    with plainly():
        value = _found(raw, cut, path)
        old = value if cut.at is None else value.select(1, _position(value, cut))
        whole = torch.cat([taken, old[len(taken) :].detach()])
        if cut.at is not None:
            whole = value.select_scatter(whole, 1, cut.at)
        return replaced(raw, path, whole)


def _position(value: Tensor, cut: Cut) -> int:
    assert cut.at is not None  # noqa: S101 - asked by the callers
    length = value.shape[1] if value.ndim > 1 else 0
    if not -length <= cut.at < length:
        raise CutError(f"{cut}: the value there has {length} positions along axis 1")
    return cut.at


def _found(raw: Any, cut: Cut, path: Path) -> Tensor:
    value = raw
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError) as error:
            raise CutError(
                f"{cut}: there is no item {step!r} in a {type(value).__name__}; {_items(value)}"
            ) from error
    if not isinstance(value, Tensor):
        raise CutError(
            f"{cut} gives a {type(value).__name__}; say which tensor: "
            f"Cut({cut.module!r}, item=...); {_items(value)}"
        )
    return value


def _items(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"with one of {list(value)}"
    return (
        f"with one of {list(range(len(value)))}"
        if isinstance(value, tuple | list)
        else "it has none"
    )


def replaced(raw: Any, path: Path, value: Any) -> Any:
    """Return nested tuples and dictionaries with one entry replaced."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    new = replaced(raw[step], rest, value)
    if isinstance(raw, Mapping):
        made = copy.copy(raw)  # keeps its type, e.g. OrderedDict
        made[step] = new  # type: ignore[index] # mutable: a copy
        return made
    assert isinstance(step, int)  # noqa: S101 - a position
    items = [*raw]
    items[step] = new
    return type(raw)(*items) if hasattr(raw, "_fields") else type(raw)(items)


@dataclass
class Visit:
    """The cuts of one pass, and what happens when the pass comes by.

    Attributes:
        puts: The values written in, padded.
        takes: The cuts read.
        count: The number of rows of the batch.
        ways: ``put_in``, ``take_out`` and ``join_on``, or the same as nodes of a graph.
    """

    puts: Mapping[Cut, Any]
    takes: tuple[Cut, ...]
    count: Any
    ways: tuple[Callable[..., Any], ...] = (put_in, take_out, join_on)
    taken: dict[Cut, Any] = field(default_factory=dict)
    _calls: dict[tuple[str, Side], int] = field(default_factory=dict)

    def names(self) -> set[str]:
        """Name the modules to watch."""
        return {cut.module for cut in (*self.puts, *self.takes)}

    def come_by(self, name: str, side: Side, raw: Any) -> Any:
        """Return what goes on from one side of a module, of what comes there."""
        call = self._calls.get((name, side), -1) + 1
        self._calls[name, side] = call
        put_in, take_out, join_on = self.ways
        for cut in (c for c in self.puts if _matches(c, name, side, call)):
            raw = put_in(raw, cut, _way(cut, raw), self.puts[cut])
        for cut in (c for c in self.takes if _matches(c, name, side, call)):
            path = _way(cut, raw)
            self.taken[cut] = take_out(raw, cut, path, self.count)
            raw = join_on(raw, cut, path, self.taken[cut])
        return raw

    def entering(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Come by what enters a module: positions first, then keywords by name."""
        raw: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
        new = self.come_by(name, Side.IN, raw)
        return (
            tuple(new[k] for k in range(len(args))),
            {key: value for key, value in new.items() if not isinstance(key, int)},
        )


def _matches(cut: Cut, name: str, side: Side, call: int) -> bool:
    return cut.module == name and cut.side is side and (cut.call or 0) == call and cut != OUTPUT


def _way(cut: Cut, raw: Any) -> Path:
    """Return the path to the tensor; what enters a module is a dictionary by position and name."""
    if cut.side is Side.OUT:
        return cut.path
    path = cut.path or (0,)
    if path[0] not in raw:
        names = [key for key in raw if isinstance(key, str)]
        raise CutError(
            f"{cut}: the module takes no such input; it takes keyword inputs only, say which: "
            f"Cut({cut.module!r}, Side.IN, item=...) with one of {names}"
            if cut.item is None
            else f"{cut}: the module takes no input {path[0]!r}; it takes {list(raw)}"
        )
    return path


class ReachedError(Exception):
    """Raised inside a pass once all that was asked for is there."""


def watched(module: nn.Module, visit: Visit, *, whole: bool) -> list[Any]:
    """Hook a visit to a module; a pass that is not wanted ``whole`` ends when all is taken."""

    def seen(raw: Any) -> Any:
        if not whole and len(visit.taken) == len(visit.takes):
            raise ReachedError
        return raw

    handles = []
    for name in visit.names():
        part = module.get_submodule(name)

        def before(_: Any, args: Any, kwargs: Any, name: str = name) -> Any:
            return seen(visit.entering(name, args, kwargs))

        def after(_: Any, __: Any, out: Any, name: str = name) -> Any:
            return seen(visit.come_by(name, Side.OUT, out))

        handles.append(part.register_forward_pre_hook(before, with_kwargs=True, prepend=True))
        handles.append(part.register_forward_hook(after))
    return handles
