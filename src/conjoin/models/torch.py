"""Any ``torch.nn.Module`` as a model that can be cut.

The module is only ever *looked at*: hooks live inside one call, evaluation mode and frozen
parameters inside :meth:`TorchModel.held`. Where ``torch.fx`` can trace the module, reading or
resuming at a cut computes only what the cut needs; elsewhere hooks on a full pass give the same
values. Batches are padded to a multiple of four rows, since matrix kernels round the last odd rows
of a batch differently: with it an example's outputs do not depend on the batch it came in.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from conjoin.core.slice import INPUT, OUTPUT, Cut, Side, Slice
from conjoin.errors import CutError, ModelError, PostconditionError
from conjoin.models.graph import UntraceableError, carve, trace

TILE = 4


class TorchModel:
    """A classifier held in a ``torch.nn.Module``; see :func:`conjoin.wrap`.

    Args:
        module: Takes one tensor, gives logits ``(batch, classes)``.
        outputs: Picks the logits when the module gives a tuple or a dictionary.

    Raises:
        ModelError: If parameters are in half precision, on several devices, or not finite, or if
            the module takes several inputs.
    """

    def __init__(
        self, module: nn.Module, *, outputs: Callable[[Any], Tensor] | None = None
    ) -> None:
        _check_signature(module)
        self.module = module
        self._outputs = outputs
        self._carved: dict[Slice, fx.GraphModule | None] = {}
        self._calls: dict[str, int] = {}
        self._writes: bool | None = None
        self._digest: tuple[object, str] = (None, "")
        self.dtype, self._device = _precision_and_place(module)

    def __repr__(self) -> str:
        """Show the wrapped class and its size."""
        count = sum(p.numel() for p in self.module.parameters())
        return f"TorchModel({type(self.module).__name__}, {count} parameters)"

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return self._device

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return the logits, shape ``(batch, classes)``."""
        self._check_input(x)
        x = x.clone() if self._writes_input(x) else x
        logits: Tensor = _tiled(lambda padded: self._logits(self.module(padded)), x)
        return logits

    def read(self, x: Tensor, cut: Cut, /) -> Tensor:
        """Return the activation at the cut; what lies after it is not computed."""
        return x if cut == INPUT else self.resume(x, x, Slice(INPUT, cut))

    def resume(self, z: Tensor, x: Tensor, where: Slice, /) -> Tensor:
        """Return the value at ``where.stop`` with ``z`` in place of the one at ``where.start``.

        ``x`` is the input for whatever by-passes the cut (skip connections).

        Raises:
            CutError: If a cut names no module, or one that runs several times without saying which.
        """
        self._check_input(x)
        if where == Slice():
            return self(z)
        for cut in (where.start, where.stop):
            self._check_cut(cut, x)
        carved = self._part(where)
        if carved is not None:
            out = _tiled(lambda a, b: carved(b, a), z.clone(), x.clone())
            return self._logits(out) if where.stop == OUTPUT else _pick(out, where.stop)
        value: Tensor = _tiled(lambda a, b: self._hooked(a, b, where), z.clone(), x.clone())
        return value

    def graph(self) -> fx.GraphModule:
        """Return the graph of layers.

        Raises:
            CapabilityError: If ``torch.fx`` cannot trace the module.
        """
        with self.held():
            return trace(self.module)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Freeze the module in evaluation mode; restore modes and gradients, also on an exception.

        Raises:
            PostconditionError: If a parameter or buffer was written to meanwhile.
        """
        modes = [(m, m.training) for m in self.module.modules()]
        wanted = [(p, p.requires_grad) for p in self.module.parameters()]
        before = self._state()
        self.module.eval()
        for p, _ in wanted:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for m, training in modes:
                m.training = training
            for p, flag in wanted:
                p.requires_grad_(flag)
        if self._state() != before:
            raise PostconditionError(
                f"weights or buffers of {self!r} were changed while it was being evaluated; "
                "load the model again"
            )

    def digest(self) -> str:
        """Return the SHA-256 of names and values of all parameters and buffers."""
        state = self._state()
        if self._digest[0] != state:
            digest = hashlib.sha256()
            for name, value in sorted(self.module.state_dict().items()):
                digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
            self._digest = (state, digest.hexdigest())
        return self._digest[1]

    def cuts(self) -> list[str]:
        """List the names of the modules that can be cut."""
        return [name for name, _ in self.module.named_modules() if name]

    def _state(self) -> object:
        """Identify the weights cheaply: storage and version counter of every tensor."""
        tensors = [*self.module.parameters(), *self.module.buffers()]
        return tuple((t.data_ptr(), t._version) for t in tensors)

    def _logits(self, raw: Any) -> Tensor:
        out = raw if self._outputs is None else self._outputs(raw)
        if not isinstance(out, Tensor):
            raise ModelError(
                f"the module returned a {type(out).__name__}; expected a tensor of logits. Say "
                "which one: wrap(module, outputs=lambda out: out['logits'])"
            )
        return out

    def _check_input(self, x: Tensor) -> None:
        if x.dtype != self.dtype or x.device != self._device:
            raise ModelError(
                f"inputs are {x.dtype} on {x.device}, the model is {self.dtype} on "
                f"{self._device}; convert one to the other, e.g. x.to(model.dtype)"
            )

    def _writes_input(self, x: Tensor) -> bool:
        """Tell, once, whether a pass writes into its input: an in-place first layer does."""
        if self._writes is None:
            probe = x[:1].detach().clone()
            before = probe._version
            with self.held(), torch.no_grad():
                self.module(probe)
            self._writes = probe._version != before
        return self._writes

    def _check_cut(self, cut: Cut, x: Tensor) -> None:
        if not cut.module:
            return
        names = dict(self.module.named_modules())
        if cut.module not in names:
            raise CutError(
                f"the network has no module {cut.module!r}; {_near(cut.module, self.cuts())}"
            )
        calls = self._count_calls(cut.module, x)
        if calls == 0:
            raise CutError(f"module {cut.module!r} does not run in a pass; cut at another")
        if cut.call is None and calls > 1:
            raise CutError(
                f"module {cut.module!r} runs {calls} times in a pass; say which: "
                f"Cut({cut.module!r}, call=0)"
            )
        if cut.call is not None and cut.call >= calls:
            raise CutError(f"module {cut.module!r} runs {calls} times; there is no call {cut.call}")

    def _count_calls(self, name: str, x: Tensor) -> int:
        if name not in self._calls:
            seen: list[None] = []
            handle = self.module.get_submodule(name).register_forward_hook(
                lambda *_: seen.append(None)
            )
            try:
                with self.held(), torch.no_grad():
                    _tiled(lambda padded: self._logits(self.module(padded)), x[:1])
            finally:
                handle.remove()
            self._calls[name] = len(seen)
        return self._calls[name]

    def _part(self, where: Slice) -> fx.GraphModule | None:
        if where not in self._carved:
            try:
                self._carved[where] = carve(self.module, where)
            except UntraceableError:
                self._carved[where] = None
        return self._carved[where]

    def _hooked(self, z: Tensor, x: Tensor, where: Slice) -> Tensor:
        """Do a full pass with ``z`` put in at the start; stop as soon as the stop is reached."""
        start = z if where.start == INPUT else x
        with _Tap(self.module, where, z) as tap:
            try:
                out = self.module(start)
            except _Reached:
                return _pick(tap.taken, where.stop)
        if where.stop != OUTPUT:
            raise CutError(f"the pass ended before it reached {where.stop}")
        return self._logits(out)


class _Reached(Exception):  # noqa: N818 - control flow, not an error
    """Raised inside a pass once the wanted activation is there."""


class _Tap:
    """Hooks that put a value in at one cut and take one out at another."""

    def __init__(self, module: nn.Module, where: Slice, value: Tensor) -> None:
        self.module, self.where, self.value = module, where, value
        self.taken: Any = None
        self._handles: list[Any] = []
        self._seen = {where.start: -1, where.stop: -1}

    def __enter__(self) -> _Tap:
        if self.where.start.module:
            self._hook(self.where.start, self._put)
        if self.where.stop.module:
            self._hook(self.where.stop, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, cut: Cut, act: Callable[[Any], Any]) -> None:
        def at(raw: Any) -> Any:
            self._seen[cut] += 1
            return act(raw) if self._seen[cut] == (cut.call or 0) else None

        module = self.module.get_submodule(cut.module)
        if cut.side is Side.IN:
            handle = module.register_forward_pre_hook(lambda _, args: _replaced(args, at))
        else:
            handle = module.register_forward_hook(lambda _, __, out: at(out))
        self._handles.append(handle)

    def _put(self, raw: Any) -> Any:
        item = self.where.start.item
        if item is None:
            return self.value.clone()
        if isinstance(raw, dict):
            return {**raw, item: self.value.clone()}
        assert isinstance(item, int)  # noqa: S101 - a tuple's position
        return (*raw[:item], self.value.clone(), *raw[item + 1 :])

    def _take(self, raw: Any) -> None:
        self.taken = raw.clone() if isinstance(raw, Tensor) else raw
        raise _Reached


def _replaced(args: tuple[Any, ...], at: Callable[[Any], Any]) -> tuple[Any, ...] | None:
    if not args:
        raise CutError("the module takes keyword inputs only; cut at the output of the one before")
    new = at(args[0])
    return None if new is None else (new, *args[1:])


def _pick(raw: Any, cut: Cut) -> Tensor:
    value = raw if cut.item is None else raw[cut.item]
    if not isinstance(value, Tensor):
        kind = type(value).__name__
        items = list(value) if isinstance(value, dict) else list(range(len(value)))
        raise CutError(
            f"{cut} gives a {kind}; say which tensor: Cut({cut.module!r}, item=...) with one of "
            f"{items}"
        )
    return value


def _tiled(forward: Callable[..., Any], *tensors: Tensor) -> Any:
    """Pad the batch to a multiple of ``TILE`` rows, pass forward, cut the padding off."""
    count = len(tensors[0])
    spare = -count % TILE
    if not spare or not count:
        return forward(*tensors)
    out = forward(*(torch.cat([t, t[-1:].expand(spare, *t.shape[1:])]) for t in tensors))
    return _rows(out, count)


def _rows(out: Any, count: int) -> Any:
    if isinstance(out, Tensor):
        return out[:count]
    if isinstance(out, dict):
        return {key: _rows(value, count) for key, value in out.items()}
    return tuple(_rows(value, count) for value in out) if isinstance(out, tuple | list) else out


def _near(name: str, names: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[:6]
    return "near names: " + ", ".join(close) if close else "it has no named modules"


def _check_signature(module: nn.Module) -> None:
    needed = [
        p.name
        for p in inspect.signature(module.forward).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if len(needed) > 1:
        raise ModelError(
            f"{type(module).__name__} takes {len(needed)} inputs ({', '.join(needed)}); expected "
            "one tensor. Bind the others in a module of your own: its forward(x) calls this one"
        )


def _precision_and_place(module: nn.Module) -> tuple[torch.dtype, torch.device]:
    floats = [
        (name, t)
        for name, t in [*module.named_parameters(), *module.named_buffers()]
        if t.is_floating_point()
    ]
    if not floats:
        return torch.float32, torch.device("cpu")
    for name, value in floats:
        if value.dtype not in (torch.float32, torch.float64):
            raise ModelError(
                f"{name} is {value.dtype}; expected float32 or float64, since gradients and "
                "bounds in half precision measure rounding. Convert it: module.float()"
            )
        if not bool(value.isfinite().all()):
            raise ModelError(
                f"{name} holds NaN or infinity; the weights are broken, load a good checkpoint"
            )
    places = {(value.dtype, value.device) for _, value in floats}
    if len(places) > 1:
        raise ModelError(
            f"parameters lie in several precisions or places, {sorted(map(str, places))}; expected "
            "one: module.to(device, dtype)"
        )
    return places.pop()
