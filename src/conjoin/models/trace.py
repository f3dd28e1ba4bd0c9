"""A module as operators: what it computes, recorded while it runs.

The module is run on two examples near a given one and on seventeen far from it, and every call
that reaches PyTorch's own kernels (ATen) is written down: hooks, patched or overridden
``forward``, ``outputs=``, functional and in-place forms are followed for what they do, and no
class is believed for its name. What does not depend on the input is a constant, taken with the
value it has. It is *not* a tracer of Python: a branch or a number that depends on the values is
refused, and so is what differs between the two runs (random numbers, counters, the size of the
batch).

A call without a rule (:mod:`conjoin.models.rules`) makes its result unknown; only if the output
depends on it the network is refused, naming the layer and the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from conjoin.core.linear import Shape
from conjoin.core.operator import Given, Step
from conjoin.errors import CapabilityError
from conjoin.models.rules import Call, Graph, Known, apply

SIZES = (2, 17)  # of the two runs; what differs between them is no function of one example

# Calls that take values out of the graph without passing through a kernel.
_LEAKS = frozenset(
    {
        *("numpy", "tolist", "__array__", "__dlpack__", "data_ptr", "untyped_storage", "storage"),
        *("apply_", "map_", "map2_", "__set__", "set_"),
    }
)

# Calls whose result's shape, or that itself as a Python number, depends on values.
_BY_VALUE = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}

# Calls that take no more than the shape of a value.
_SHAPE_ONLY = frozenset(
    f"{kind}{form}"
    for kind, form in (
        *((k, "_like") for k in ("empty", "zeros", "ones", "full")),
        *(("new_", k) for k in ("empty", "zeros", "ones", "full", "empty_strided")),
    )
)


def operators(
    module: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Step, ...]:
    """Return the operators of ``forward`` in order, for inputs shaped like a row of ``x``.

    Args:
        module: Gives the layers their names; in evaluation mode, and held.
        forward: Runs the module on ``(batch, *input)`` and gives the logits.
        x: An example at least; further examples are made from it.

    Raises:
        CapabilityError: If what the output depends on is not known, naming the layer and the reason.
    """
    near, far = _rows(x, SIZES[0], 0.01), _rows(x, SIZES[1], 1.0)
    first, second = _recorded(module, forward, near), _recorded(module, forward, far)
    output = first.output
    if isinstance(output, str) or output != second.output:
        output = output if isinstance(output, str) else second.output
        raise CapabilityError(
            f"{output}. Nothing is assumed in its place; attacks need gradients only"
        )
    if len(first.story) != len(second.story):
        raise CapabilityError(
            "the network computes something else for another batch; it has no graph"
        )
    pairs = zip_longest(first.foreign, second.foreign, fillvalue=("the network", None))
    for (where, made), (_, again) in pairs:
        if made is not again:
            raise CapabilityError(
                f"{where}: uses a tensor that was made anew outside the sight of the recorder (in "
                "another thread, or by another library); a certificate cannot tell what it depends on"
            )
    for one, other in zip(first.story, second.story, strict=True):
        if not _alike(one, other):
            raise CapabilityError(
                f"{one[0]}: a number or a constant differs between two passes: it is random, counts "
                "calls, or depends on the values or the size of the batch. A certificate needs a "
                "network that is a function of one example"
            )
    return _needed(first.graph.steps, output)


def _rows(x: Tensor, count: int, spread: float) -> Tensor:
    """Make examples round the first of ``x``, every element different in each of them.

    What depends on the values must differ between the runs: the second spreads them beyond the range
    of the example, so that what happens for some values only happens there.
    """
    row = x[:1].detach()
    place = torch.arange(1, count * row.numel() + 1, device=row.device, dtype=torch.float64)
    wave = place.mul(12.9898).sin().reshape(count, *row.shape[1:]).to(row.dtype)
    return row + spread * (1 + row.abs().max()) * wave


@dataclass
class _Recording:
    """What was seen in one pass.

    Attributes:
        graph: The steps.
        story: The calls, for comparison.
        foreign: Constants that no recorded call made, with where they were used.
        output: The place of the output, or why it is not known.
    """

    graph: Graph
    story: list[tuple[str, Any]]
    foreign: list[tuple[str, Tensor]]
    output: int | str


def _recorded(module: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> _Recording:
    recorder = _Recorder(x, {id(m): name for name, m in module.named_modules()})
    try:
        with torch.no_grad(), recorder.layers(), _NoLeaks(recorder), recorder:
            out = forward(x)
    except CapabilityError:
        raise
    except Exception as error:  # a module may raise anything
        raise CapabilityError(
            f"{recorder.where}: the pass failed while it was recorded: {error}. Bounds need a "
            "network without branches on values that takes any number of examples"
        ) from error
    found = recorder.known(out)
    if found is None:
        output: int | str = "the output does not depend on the input"
    elif isinstance(found.index, int) and (out.ndim != 2 or len(out) != len(x)):
        output = f"the output has shape {tuple(out.shape)}; expected logits (batch, classes)"
    else:
        output = found.index
    return _Recording(recorder.graph, recorder.story, recorder.foreign, output)


class _Recorder(TorchDispatchMode):
    """Follows the tensors that depend on the input through every kernel call."""

    def __init__(self, x: Tensor, names: Mapping[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch leaves it untyped
        self.graph = Graph(len(x), x.dtype)
        self.story: list[tuple[str, Any]] = []
        self.names, self.stack = names, [""]
        self.calls: dict[str, int] = {}
        self._known: dict[int, tuple[Tensor, Known, int, tuple[int, Tensor]]] = {}
        self._written: dict[int, int] = {}  # storage -> how often it was overwritten
        self._keep: list[Any] = []
        self._made: dict[int, Tensor] = {}  # constants made by calls that were seen
        self.foreign: list[tuple[str, Tensor]] = []
        given = self.graph.add("input", Given(), (), tuple(x.shape[1:]))
        self._note(x, Known(given))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Tell torch not to load its compiler, which takes a second, to keep it away from here."""
        return False

    @property
    def where(self) -> str:
        """The module that runs, by its dotted name and call."""
        name = self.stack[-1]
        calls = self.calls.get(name, 1)
        return (name or "the network") + (f"#{calls - 1}" if calls > 1 else "")

    def known(self, value: object) -> Known | None:
        """Return what is known of a tensor that depends on the input; ``None`` for a constant."""
        if not isinstance(value, Tensor):
            return None
        storage = _storage(value)
        entry = self._known.get(id(value))
        if entry is not None:
            if entry[2] != self._written.get(storage) or not _as_it_was(value, entry[3]):
                return Known(
                    f"{self.where}: uses a value that an in-place operation has overwritten"
                )
            return entry[1]
        if storage is not None and storage in self._written:
            return Known(f"{self.where}: shares memory with a value that was overwritten in place")
        return None

    def _note(self, value: Tensor, known: Known) -> None:
        """Remember a tensor; strong references keep identities and storages from being reused."""
        storage = _storage(value)
        self._written.setdefault(storage, 0)
        contents = storage, value.detach().clone()
        self._known[id(value)] = (value, known, self._written[storage], contents)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a kernel; if something that depends on the input enters it, write the call down."""
        arguments, mutated = _arguments(func, args, kwargs or {})
        entering = {id(t): self.known(t) for t in tree_leaves(arguments) if isinstance(t, Tensor)}
        random = torch.Tag.nondeterministic_seeded in func.tags
        shape_only = func._schema.name.split("::")[-1] in _SHAPE_ONLY
        if shape_only or all(k is None for k in entering.values()):
            if "lift" not in str(func):  # what torch.tensor makes of Python numbers
                self._look_at(args, kwargs)
            out = func(*args, **(kwargs or {}))
            self.made(out)
            self._refuse_random(func, out, random)
            return out
        seen = tree_map(lambda v: self._seen(v, entering), arguments)
        chosen = arguments.get("indices")
        fixed = chosen is not None and all(entering.get(id(place)) is None for place in chosen)
        if _BY_VALUE & set(func.tags) and not fixed:
            raise CapabilityError(
                f"{self.where}: {func} makes a number or a shape of values that depend on the input "
                "(item(), a branch, a selection); a certificate needs a fixed graph of layers"
            )
        out = func(*args, **(kwargs or {}))
        outs = [out] if isinstance(out, Tensor) else list(out) if out is not None else []
        shapes = [tuple(o.shape) if isinstance(o, Tensor) else () for o in outs]
        dtypes = [o.dtype if isinstance(o, Tensor) else None for o in outs]
        call = Call(func, seen, shapes, dtypes, self.where, self.graph)
        results = apply(call)
        self.story.append((self.where, (str(func), _signature(seen, len(outs), self.graph.batch))))
        self._keep.append((args, kwargs, out))
        for tensor in mutated:  # what shares its memory is stale from here on
            self._written[_storage(tensor)] = self._written.get(_storage(tensor), 0) + 1
        for tensor, known in zip(outs, results, strict=True):
            if isinstance(tensor, Tensor) and known is not None:
                self._note(tensor, known)
        for tensor in mutated:
            self._note(tensor, results[0] or Known(f"{self.where}: {func} writes in place"))
        return out

    def _seen(self, value: Any, entering: Mapping[int, Known | None]) -> Any:
        if not isinstance(value, Tensor):
            return value
        known = entering[id(value)]
        if known is not None:
            return known
        self._look_at(value)
        return value.detach().clone()

    def _look_at(self, *values: Any) -> None:
        """Write down constants that no call in sight has made: both passes must have the same."""
        for tensor in tree_leaves(values):
            if not isinstance(tensor, Tensor) or id(tensor) in self._made:
                continue
            if self.known(tensor) is None:
                self.foreign.append((self.where, tensor))

    def made(self, out: Any) -> None:
        """Remember constants that a call made in sight."""
        self._made |= {id(t): t for t in tree_leaves(out) if isinstance(t, Tensor)}

    def _refuse_random(self, func: Any, out: Any, random: bool) -> None:
        for tensor in tree_leaves(out) if random else ():
            if isinstance(tensor, Tensor):
                self._keep.append(tensor)
                self._note(tensor, Known(f"{self.where}: {func} draws random numbers"))

    @contextmanager
    def layers(self) -> Iterator[None]:
        """Know which module runs."""

        def enter(layer: nn.Module, _: object) -> None:
            name = self.names.get(id(layer), self.stack[-1])
            self.stack.append(name)
            self.calls[name] = self.calls.get(name, 0) + 1

        def leave(layer: nn.Module, _: object, __: object) -> None:
            self.stack.pop()

        handles = [
            hooks.register_module_forward_pre_hook(enter),
            hooks.register_module_forward_hook(leave),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _NoLeaks(TorchFunctionMode):
    """Refuse what reads values behind the recorder's back; write circular padding as copies."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in _LEAKS and args and self.recorder.known(args[0]) is not None:
            raise CapabilityError(
                f"{self.recorder.where}: {name} takes values that depend on the input out of the "
                "graph; write the forward pass in torch operations"
            )
        if name == "pad" and "circular" in (*args, *(kwargs or {}).values()):
            return _circular(*args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        if not isinstance(out, Tensor) or self.recorder.known(out) is None:
            self.recorder.made(out)
        return out


def _circular(input: Tensor, pad: Sequence[int], mode: str = "", value: object = None) -> Tensor:
    """Pad each of the last axes with the other end, as copies: in place, PyTorch hides them."""
    for place in range(len(pad) // 2):
        axis, size = input.ndim - 1 - place, input.shape[input.ndim - 1 - place]
        before, after = pad[2 * place], pad[2 * place + 1]
        if min(before, after) < 0:
            raise CapabilityError("circular padding by a negative number is not known")
        parts = [input.narrow(axis, size - before, before), input, input.narrow(axis, 0, after)]
        input = torch.cat(parts, dim=axis)
    return input


def _as_it_was(value: Tensor, contents: tuple[int, Tensor]) -> bool:
    """Tell whether a value is the one that was seen, also if it was written to out of sight."""
    storage, copy = contents
    if _storage(value) != storage or value.shape != copy.shape:
        return False
    with _disable_current_modes():
        return value.dtype == copy.dtype and _equal(value, copy)


def _equal(one: Tensor, two: Tensor) -> bool:
    """Compare values; what is not a number equals itself."""
    if one.is_floating_point():
        one, two = one.nan_to_num(7.0, 8.0, 9.0), two.nan_to_num(7.0, 8.0, 9.0)
    return torch.equal(one, two)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _arguments(
    func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Tensor]]:
    """Name the arguments of a kernel call, defaults filled in; list the tensors it writes to."""
    named, mutated = {}, []
    for place, argument in enumerate(func._schema.arguments):
        given = place < len(args)
        value = args[place] if given else kwargs.get(argument.name, argument.default_value)
        writes = argument.alias_info is not None and argument.alias_info.is_write
        if writes:
            mutated += [t for t in tree_leaves(value) if isinstance(t, Tensor)]
        if argument.name not in ("out", "noise"):  # written to, never read
            named[argument.name] = value
    return named, mutated


def _signature(arguments: Mapping[str, Any], outs: int, batch: int) -> tuple[int, int, list[Any]]:
    return batch, outs, tree_leaves(dict(arguments))


def _alike(one: tuple[str, Any], other: tuple[str, Any]) -> bool:
    """Compare two calls; whole numbers in a list of sizes may grow with the batch."""
    (func, (n, outs, a)), (gunc, (m, puts, b)) = one[1], other[1]
    if func != gunc or outs != puts or len(a) != len(b):
        return False
    sizes = any(word in func for word in ("view", "reshape", "expand", "new_", "repeat"))
    return all(_same(u, v, n, m, sizes) for u, v in zip(a, b, strict=True))


def _same(u: Any, v: Any, n: int, m: int, sizes: bool) -> bool:
    if isinstance(u, Tensor) and isinstance(v, Tensor):
        if u.ndim and v.ndim and len(u) and len(u) * m == len(v) * n and len(u) != len(v):
            # The rules refuse it unless all its rows are equal.
            if not _equal(v, v[:1].expand_as(v)):
                return False
            u, v = u[:1], v[:1]
        return u.dtype == v.dtype and u.shape == v.shape and _equal(u, v)
    if isinstance(u, Known) and isinstance(v, Known):
        return isinstance(u.index, str) == isinstance(v.index, str) and (
            isinstance(u.index, str) or u.index == v.index
        )
    if type(u) is not type(v):
        return False
    if u == v:
        return True
    return sizes and isinstance(u, int) and u % n == 0 and v % m == 0 and u // n == v // m


def _needed(steps: list[Step], output: int) -> tuple[Step, ...]:
    """Keep the steps that the output depends on."""
    wanted = {output}
    for place in range(output, -1, -1):
        if place in wanted:
            wanted.update(steps[place].sources)
    wanted.add(0)  # the input is always first
    order = sorted(wanted)
    place_of = {old: new for new, old in enumerate(order)}
    return tuple(
        Step(s.name, s.op, tuple(place_of[p] for p in s.sources), s.shape)
        for s in (steps[old] for old in order)
    )


__all__ = ["Shape", "operators"]
