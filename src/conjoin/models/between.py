"""Passes between cuts of a module in one state: by a carved graph where that is faithful, or by hooks.

A graph is used only if it gives what hooks give on the first rows that it meets; for modules with
hooks round other modules (they may keep what they see) and under global hooks it is never used.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from conjoin.core.protocols import Batch
from conjoin.core.slice import OUTPUT, Cut
from conjoin.errors import CutError
from conjoin.models.cuts import (
    TILE,
    ReachedError,
    Visit,
    filled,
    least_of,
    pad,
    padded,
    plainly,
    watched,
)
from conjoin.models.graph import Part, UntraceableError, carve
from conjoin.models.held import hooked
from conjoin.models.secant import paused

Values = Mapping[Cut, Tensor]


class Passes:
    """Passes between cuts, and what was found out about them.

    Args:
        state: Of the module; for another state make another.
        module: Is cut.
        raw: Calls it with the input and the context.
        logits: Picks the logits of what it gives.
    """

    def __init__(
        self,
        state: object,
        module: nn.Module,
        raw: Callable[[Tensor, Mapping[str, Tensor]], Any],
        logits: Callable[[Any], Tensor],
    ) -> None:
        self.state, self.module, self.raw, self.logits = state, module, raw, logits
        self.parts: dict[object, Part | None] = {}
        self._calls: dict[object, dict[int, int]] = {}
        self._names = dict(module.named_modules(remove_duplicate=False))

    def __call__(
        self, batch: Batch, written: Values, wanted: tuple[Cut, ...]
    ) -> tuple[Tensor, ...]:
        """Do a pass with values written in and read at inner cuts."""
        for cut in (*written, *wanted):
            self._check_cut(cut, batch)
        for cut, value in written.items():
            if len(value) != len(batch):
                raise CutError(
                    f"{len(value)} rows were put in at {cut} for {len(batch)} examples; give one each"
                )
        part = self._part(batch, written, wanted)
        if part is None:
            return self._hooked(batch, written, wanted)
        x, context = padded(batch.x, batch.context)
        return part(x, context, tuple(_put(z, batch) for z in written.values()), len(batch))

    def parted(self, batch: Batch, wanted: tuple[Cut, ...]) -> bool:
        """Tell whether the last cut is known to depend on the input through the others alone."""
        for cut in wanted:
            self._check_cut(cut, batch)
        part = self._part(batch, {}, wanted)
        return part is not None and part.parted

    def _part(self, batch: Batch, written: Values, wanted: tuple[Cut, ...]) -> Part | None:
        """Return the carved graph, carved once."""
        key = (tuple(written), wanted, tuple(batch.context))
        if key not in self.parts:
            with paused():
                self._check_rows(batch, written, wanted)
                self.parts[key] = self._carved(batch, written, wanted)
        return self.parts[key]

    def _check_rows(self, batch: Batch, written: Values, wanted: tuple[Cut, ...]) -> None:
        """Pass a few examples in two sizes: an axis that is as long as one of them is not the batch.

        Raises:
            CutError: If what lies at a cut has no row for each example of both.
        """
        few = min(len(batch), TILE)
        size = filled(few, least_of(batch.x))
        for count in (few, size + TILE) if few else ():
            keep = torch.arange(count, device=batch.x.device) % few
            rows = {cut: z.detach()[keep] for cut, z in written.items()}
            try:
                with torch.no_grad():
                    self._hooked(batch.rows(keep), rows, wanted)
            except CutError:
                raise
            except (LookupError, RuntimeError, TypeError, ValueError):
                return  # the pass itself says why, of the examples as they came

    def _carved(self, batch: Batch, written: Values, wanted: tuple[Cut, ...]) -> Part | None:
        """Return the carved graph if there is one, and if it gives what hooks give."""
        if hooked(self.module):
            return None
        names = tuple(batch.context)
        try:
            part = carve(self.module, self.logits, tuple(written), wanted, names)
        except UntraceableError:
            return None
        few = batch.rows(torch.arange(min(len(batch), TILE), device=batch.x.device))
        rows = {cut: z[: len(few)].detach() for cut, z in written.items()}
        with torch.no_grad():
            by_hooks = self._hooked(few, rows, wanted)
            x, context = padded(few.x, few.context)
            try:
                by_graph = part(x, context, tuple(_put(z, few) for z in rows.values()), len(few))
            except (AttributeError, LookupError, RuntimeError, TypeError, ValueError):
                return None  # it took a branch that the module does not, e.g. by what is None
        return part if all(map(_same, by_graph, by_hooks)) else None

    def _hooked(self, batch: Batch, written: Values, wanted: tuple[Cut, ...]) -> tuple[Tensor, ...]:
        """Do a full pass with hooks; stop as soon as all is there."""
        inner = tuple(cut for cut in wanted if cut != OUTPUT)
        visit = Visit({cut: _put(z, batch) for cut, z in written.items()}, inner, len(batch))
        handles = watched(self.module, visit, whole=OUTPUT in wanted)
        found: dict[Cut, Tensor] = {}
        try:
            raw = self.raw(*padded(batch.x, batch.context))
            found[OUTPUT] = self.logits(raw)[: len(batch)] if OUTPUT in wanted else batch.x
        except ReachedError:
            pass
        finally:
            for handle in handles:
                handle.remove()
        missing = set(inner) - set(visit.taken)
        if missing:
            raise CutError(f"the pass ended before it reached {missing.pop()}")
        found.update(visit.taken)
        return tuple(found[cut] for cut in wanted)

    def _check_cut(self, cut: Cut, batch: Batch) -> None:
        if not cut.module:
            return
        if cut.module not in self._names:
            raise CutError(
                f"the network has no module {cut.module!r}; {_near(cut.module, [*self._names])}"
            )
        calls = self._count(batch).get(id(self._names[cut.module]), 0)
        if calls == 0:
            raise CutError(f"module {cut.module!r} does not run in a pass; cut at another")
        if cut.call is None and calls > 1:
            raise CutError(
                f"module {cut.module!r} runs {calls} times in a pass; say which: "
                f"Cut({cut.module!r}, call=0)"
            )
        if cut.call is not None and cut.call >= calls:
            raise CutError(f"module {cut.module!r} runs {calls} times; there is no call {cut.call}")

    def _count(self, batch: Batch) -> dict[int, int]:
        """Count the calls of every module in a pass of an input of this shape."""
        shape = batch.x.shape[1:]
        if shape not in self._calls:
            seen: dict[int, int] = {}

            def count(module: nn.Module, _: Any) -> None:
                seen[id(module)] = seen.get(id(module), 0) + 1

            handles = [m.register_forward_pre_hook(count) for m in self.module.modules()]
            try:
                with torch.no_grad(), paused():
                    first = batch.rows(slice(0, 1))
                    self.raw(*padded(first.x, first.context))
            finally:
                for handle in handles:
                    handle.remove()
            self._calls[shape] = seen
        return self._calls[shape]


def _put(value: Tensor, batch: Batch) -> Tensor:
    with plainly():
        return pad(value, filled(len(value), least_of(batch.x)) - len(value))


def _same(one: Tensor, two: Tensor) -> bool:
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    if not one.is_floating_point():
        return torch.equal(one, two)
    room = 64 * torch.finfo(one.dtype).eps
    scale = float(two.abs().nan_to_num(0, 0, 0).max()) if two.numel() else 0.0
    return torch.allclose(one, two, rtol=room, atol=room * scale, equal_nan=True)


def _near(name: str, names: list[str]) -> str:
    named = [n for n in names if n]
    close = difflib.get_close_matches(name, named, n=3, cutoff=0.4) or named[:6]
    return "near names: " + ", ".join(close) if close else "it has no named modules"
